"""
A client in the clear, over real sockets: what it sends, and when, is the test's to say.

Invariants: it never does anything by itself; every wait is bounded; all its connections, silent ones too, are gone after
L{PlainClient.close}.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from tests.interop.servers import HOST
from tests.interop.tls_wire import SECONDS, Lost, Wire

HOME, TRAIN = "127.0.0.2", "127.0.0.3"
"""Two addresses of one client."""
CLIENT_ID = b"UUID 23bf83be-aad8-46aa-9f0b-39191ccd402f"


def quoted(text: str) -> bytes:
    """
    As an argument of IMAP.
    """
    return b'"' + text.encode().replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def tagged(tag: bytes, octets: bytes | bytearray, begin: int = 0) -> re.Match[bytes] | None:
    """
    The tagged response to a command, if it is there whole.
    """
    return re.compile(rb"(?m)^" + tag + rb" (?:OK|NO|BAD)\b[^\r\n]*\r\n").search(octets, begin)


class PlainClient:
    """
    One client.

    @ivar wires: all its links so far; the last one is in use.
    """

    def __init__(
        self, port: int, authority: Path | None, user: str, password: str, *, client_id: bytes | None = CLIENT_ID
    ) -> None:
        """
        @param authority: trusted for TLS; None for a port without.
        @param client_id: what it calls itself; None when it does not.
        """
        self.user, self.password, self.client_id = user, password, client_id
        self.wires: list[Wire] = []
        self._place = (port, authority)
        self._tags = 0

    @property
    def wire(self) -> Wire:
        assert self.wires, "the client is not connected"
        return self.wires[-1]

    def close(self) -> None:
        """
        Let go of all connections.
        """
        for wire in self.wires:
            wire.close()

    def connect(self, source: str = HOME, *, greet: bool = True) -> Wire:
        """
        A new link.

        @param greet: read the greeting.
        """
        port, authority = self._place
        self.wires.append(Wire(HOST, port, authority, source))
        if greet:
            self.read_line()
        return self.wire

    def read_line(self, wire: Wire | None = None) -> bytes:
        """
        The next line in the clear.
        """
        return self.read_until(lambda octets: re.search(rb"\n", octets), wire)

    def read_until(self, find: Callable[[bytes], re.Match[bytes] | None], wire: Wire | None = None) -> bytes:
        """
        Read in the clear up to the end of what is looked for; what follows is left on the wire.

        @param find: is given all that has come.
        """
        wire = self.wire if wire is None else wire
        octets = b""
        until = time.monotonic() + SECONDS
        while (found := find(octets)) is None:
            try:
                octets += wire.receive(until - time.monotonic())
            except (Lost, TimeoutError) as error:
                raise type(error)(f"{error}, after {octets[-500:]!r}") from None
        wire.push_back(octets[found.end() :])
        return octets[: found.end()]

    def new_tag(self) -> bytes:
        self._tags += 1
        return b"t%d" % self._tags

    def begin_tags(self, number: int) -> None:
        """
        Have the same tags again.
        """
        self._tags = number

    def command(self, *parts: bytes, wire: Wire | None = None) -> bytes:
        """
        A command in the clear.

        @param parts: each one but the first is sent when the server asks to go on.
        @return: all that came back since the last part was sent, the tagged response last.
        """
        wire = self.wire if wire is None else wire
        tag = self.new_tag()
        wire.send(tag + b" " + parts[0] + b"\r\n")
        for part in parts[1:]:
            said = self.read_until(lambda octets: re.search(rb"(?m)^\+[^\n]*\n", octets) or tagged(tag, octets), wire)
            assert b"\n+" in b"\n" + said, f"{parts[0]!r} is answered {said!r}"
            wire.send(part + b"\r\n")
        return self.read_until(lambda octets: tagged(tag, octets), wire)

    def authenticate(self, mechanism: str, first: bytes | None, answers: Sequence[Callable[[bytes], bytes]] = ()) -> bytes:
        """
        A login by SASL.

        @param first: the initial response.
        @param answers: what to say to each challenge.
        @return: the tagged response.
        """
        tag = self.new_tag()
        initial = b"" if first is None else b" " + base64.b64encode(first)
        self.wire.send(b"%b AUTHENTICATE %b%b\r\n" % (tag, mechanism.encode(), initial))
        pending = list(answers)
        while True:
            said = self.read_until(lambda octets: re.search(rb"(?m)^\+[^\n]*\n", octets) or tagged(tag, octets))
            challenge = re.search(rb"(?m)^\+ ?([^\r\n]*)\r\n", said)
            if challenge is None:
                return said
            self.wire.send(base64.b64encode(pending.pop(0)(base64.b64decode(challenge[1]))) + b"\r\n")

    def name_itself(self) -> None:
        """
        CLIENTID, when the client has one.
        """
        if self.client_id is not None:
            said = self.command(b"CLIENTID " + self.client_id)
            assert b" OK " in said, said

    def login(self) -> bytes:
        """
        CLIENTID and LOGIN on the present wire.
        """
        self.name_itself()
        return self.command(b"LOGIN %b %b" % (quoted(self.user), quoted(self.password)))

    def logged_in(self, source: str = HOME) -> Self:
        """
        Connect and log in.
        """
        self.connect(source)
        said = self.login()
        assert b" OK " in said, said
        return self

    def graft(self, session_id: bytes = b"") -> bytes:
        """
        XCONTINUITY GRAFT.

        @return: the whole answer.
        """
        return self.command(b"XCONTINUITY GRAFT" + (b" " + session_id if session_id else b""))
