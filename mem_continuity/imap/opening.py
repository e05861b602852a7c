"""
The opening on the client's side: what stands between a mail program that knows nothing of continuity and a link to
its server, until the server has begun the continuity layer or it is clear that it will not.

The mail program's commands are streamed to the server one at a time (see L{mem_continuity.imap.relay}).  Two commands
of our own are put in between, and their answers kept back: CLIENTID in front of the first login, C{XCONTINUITY START}
behind it.

Invariants, beyond those of the relay: our commands stand at a command boundary only, and at most one of each is ever
sent; the mail program never sees their tags, nor the capability words CLIENTID and XCONTINUITY; what a server sent
before TLS is not used after it.
"""

from __future__ import annotations

import re

from mem_continuity.core.policy import RoamingPolicy
from mem_continuity.imap.actions import Action, Failed, Plain, Started, StartTLS, ToClient, ToServer
from mem_continuity.imap.lexer import CommandLine, astring
from mem_continuity.imap.relay import CommandRelay, State
from mem_continuity.imap.responses import capability_words, rewrite_capability, status_of

__all__ = ["Action", "ClientOpening", "Failed", "Plain", "StartTLS", "Started", "ToClient", "ToServer"]

_OURS = re.compile(rb"(?:XCONTINUITY|CLIENTID)(?:=.*)?\Z", re.IGNORECASE | re.DOTALL)
_STARTED = re.compile(rb"[^ ]+ OK \[XCONTINUITY ([^\] ]+) ([^\] ]+) ([0-9]{1,9}(?:\.[0-9]{1,9})?) ([0-9]{1,15})\]", re.IGNORECASE)


def _is_ours(word: bytes) -> bool:
    return _OURS.match(word) is not None


def _nothing() -> tuple[bytes, ...]:
    return ()


class ClientOpening(CommandRelay):
    """
    The machine of the opening.  Called by the roaming client's side, which carries out what L{next_action} gives.

    After L{Started}, the L{ToServer} and L{ToClient} that still come belong into the new layer, as does what the mail
    program sends.

    @ivar secure: the link is under TLS: set by the constructor, or when the mail program's STARTTLS was accepted.
    """

    def __init__(self, policy: RoamingPolicy, client_id: tuple[bytes, bytes] | None = None, secure: bool = False) -> None:
        """
        @param client_id: type and value to name oneself by, if at all.
        @param secure: the link is under TLS; CLIENTID is sent under TLS only.
        @raise ValueError: the client ID cannot be sent: it is not plain ASCII, or it is empty.
        """
        super().__init__(policy.preamble_line)
        self._naming: bytes | None = None
        if client_id is not None:
            words = [astring(word) for word in client_id]
            if not all(client_id) or any(b"\n" in word for word in words):
                raise ValueError("A client ID must be of ASCII characters without CR, LF and NUL, and not be empty")
            self._naming = b" CLIENTID %b %b\r\n" % (words[0], words[1])
        self._announced: frozenset[bytes] | None = None
        self._counter = 0
        self._naming_tag: bytes | None = None
        self._start_tag: bytes | None = None
        self._swallowing = False
        self.secure = secure

    @property
    def held(self) -> int:
        """
        Octets of the mail program that wait for the server; to be read when L{next_action} gave C{None}.  Above
        C{policy.preamble_buffer} the caller pauses the mail program.
        """
        return self._held()

    # The mail program's side

    def _begin(self, command: CommandLine | None, line: bytes) -> None:
        before = b""
        if command is not None and command.name in (b"LOGIN", b"AUTHENTICATE"):
            announced = self._announced is not None and b"CLIENTID" in self._announced
            if self._naming is not None and announced and self.secure:
                self._naming_tag = self._own_tag(command.tag)
                before = self._naming_tag + self._naming
                self._naming = None
        self._forward(command, line, before)

    def _too_long(self) -> None:
        """
        Nothing is refused here: the server will say what it thinks of the line.
        """
        self._plain()

    def _own_tag(self, taken: bytes) -> bytes:
        """
        A tag that no command in flight has.
        """
        while True:
            tag = b"mc%d" % self._counter
            self._counter += 1
            if tag != taken:
                return tag

    def _start(self, taken: bytes) -> None:
        offered = self._announced is None or b"XCONTINUITY" in self._announced
        if not offered or self._state not in (State.COMMAND, State.ANSWER):
            self._plain()  # in any other state a command of ours would stand in the middle of another
            return
        self._start_tag = self._own_tag(taken)
        self._state = State.STOPPED
        self._push(ToServer(self._start_tag + b" XCONTINUITY START\r\n"))

    def _plain(self) -> None:
        rest = self._end()
        self._push(Plain())
        if rest:
            self._push(ToServer(rest))

    # The server's side

    def _untagged(self, line: bytes) -> None:
        status = status_of(line)
        tag = None if status is None else status[0]
        self._swallowing = tag is not None and tag in (self._naming_tag, self._start_tag)
        if not self._swallowing:
            self._show_learned(line)
            if not self._greeted and status == (b"*", b"PREAUTH"):
                self._start(self.current_tag or b"*")
        elif tag == self._naming_tag:
            self._naming_tag = None
        else:
            self._start_answered(line)

    def _answered(self, tag: bytes, name: bytes, condition: bytes, line: bytes) -> None:
        self._swallowing = False
        if condition == b"OK" and name == b"STARTTLS":
            self._push(StartTLS())
            self._responses.take_rest()  # sent in the clear: not to be taken for an answer under TLS
            self._announced = None
            self.secure = True
            self._show(rewrite_capability(line, _nothing, _is_ours))
            return
        self._show_learned(line)
        if condition == b"OK" and name in (b"LOGIN", b"AUTHENTICATE"):
            self._start(tag)

    def _continues(self, octets: bytes) -> None:
        if not self._swallowing:
            self._show(octets)

    def _show_learned(self, line: bytes) -> None:
        words = capability_words(line)
        if words is not None:
            self._announced = frozenset(word.upper() for word in words)
        self._show(rewrite_capability(line, _nothing, _is_ours))

    def _start_answered(self, line: bytes) -> None:
        status = status_of(line)
        if status is None or status[1] != b"OK":
            self._plain()
            return
        found = _STARTED.match(line)
        self._over = True
        if found is None or not line.endswith(b"\r\n"):
            self._push(Failed("the server's answer to XCONTINUITY START cannot be read"))
            return
        session_id, key, grace, window = found.groups()
        rest = self._responses.take_rest()
        self._push(Started(session_id, key, float(grace), int(window), rest))
        held = self._end()
        if held:
            self._push(ToServer(held))
