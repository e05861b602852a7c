"""
Tests of L{mem_continuity.imap}, and what they share: a server small enough to be obviously right, and a way to let it talk
with a machine while octets arrive in pieces of any size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from hypothesis import strategies as st

from mem_continuity.imap.actions import Action, Over, ToClient, ToServer
from mem_continuity.imap.lexer import literal_suffix


def cut(octets: bytes, places: Iterable[int]) -> Iterator[bytes]:
    """
    The octets in pieces, cut at the given places.
    """
    start = 0
    for place in sorted({place % (len(octets) + 1) for place in places}):
        yield octets[start:place]
        start = place
    yield octets[start:]


def single(octets: bytes) -> Iterator[bytes]:
    """
    The octets, each on its own.
    """
    return (octets[place : place + 1] for place in range(len(octets)))


cuts = st.lists(st.integers(0, 4000), max_size=40)


class Machine(Protocol):
    """
    What all machines of the package can do.
    """

    def client_data(self, octets: bytes) -> None: ...

    def server_data(self, octets: bytes) -> None: ...

    def next_action(self) -> Action | None: ...


class ToyServer:
    """
    An IMAP server that answers OK to everything, or what C{answers} says for a command; it invites literals, and asks
    one line of AUTHENTICATE, or as many responses as C{responses} says for a mechanism, an initial one included.
    C{commands} is what it understood: whole commands, literals in place.
    """

    def __init__(self, answers: dict[bytes, bytes] | None = None) -> None:
        self.answers = answers or {}
        self.commands: list[bytes] = []
        self._buffer = b""
        self._command = b""
        self._literal = 0
        self.responses: dict[bytes, int] = {}
        self._asked = 0

    def _asks(self, words: list[bytes]) -> int:
        """
        How many lines it asks in this command.
        """
        if len(words) < 2 or words[1].upper() != b"AUTHENTICATE":
            return 0
        responses = self.responses.get(words[2]) if len(words) > 2 else None
        return 1 if responses is None else responses - (len(words) > 3)

    def receive(self, octets: bytes) -> Iterator[bytes]:
        """
        Take octets; what is answered comes line by line.
        """
        self._buffer += octets
        while True:
            if self._literal:
                if len(self._buffer) < self._literal:
                    return
                self._command += self._buffer[: self._literal]
                self._buffer, self._literal = self._buffer[self._literal :], 0
            line, end, rest = self._buffer.partition(b"\r\n")
            if not end:
                return
            self._buffer = rest
            self._command += line + end
            suffix = literal_suffix(line)
            if suffix is not None:
                self._literal = suffix[0]
                if not suffix[1]:
                    yield b"+ go\r\n"
                continue
            words = self._command.split()
            if self._asked < self._asks(self._command.partition(b"\r\n")[0].split()):
                self._asked += 1
                yield b"+ \r\n"
                continue
            self._asked = 0
            self.commands.append(self._command)
            self._command = b""
            if len(words) < 2:
                yield b"* BAD what?\r\n"
            else:
                yield self.answers.get(words[1].upper(), b"TAG OK done\r\n").replace(b"TAG", words[0])


@dataclass
class Transcript:
    """
    What came out of a machine.  C{events} are the other actions, each with the octets that had gone to the client before.
    """

    to_server: bytes = b""
    to_client: bytes = b""
    events: list[tuple[Action, int]] = field(default_factory=list)

    def actions(self) -> list[Action]:
        return [event for event, _ in self.events]


def pull(
    machine: Machine,
    transcript: Transcript,
    server: ToyServer | None = None,
    handle: Callable[[Action], bytes | None] | None = None,
    split: Callable[[bytes], Iterable[bytes]] = lambda octets: [octets],
) -> None:
    """
    Carry out all actions.  The server answers at once, while C{ToServer} is still being carried out.

    @param handle: carries out other actions; what it gives back is written to the client.
    """
    while (action := machine.next_action()) is not None:
        if isinstance(action, (ToServer, Over)):
            transcript.to_server += action.octets
            for answer in server.receive(action.octets) if server is not None else ():
                for part in split(answer):
                    machine.server_data(part)
        elif isinstance(action, ToClient):
            transcript.to_client += action.octets
        if not isinstance(action, (ToServer, ToClient)):
            transcript.events.append((action, len(transcript.to_client)))
            if handle is not None:
                transcript.to_client += handle(action) or b""
