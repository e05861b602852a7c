"""
Put an authenticated connection to a server into the selected state that a record tells: ENABLE, SELECT or EXAMINE, and the map
from sequence numbers to UIDs.  What a gateway does for GRAFT on a connection that its client has not used yet.

Invariants: one command at a time, so no answer can be taken for another's; what the server says untagged meanwhile is kept in its
order, for the client is told all of it or, when the mailbox is not the one it had, nothing; a mailbox that is not wanted is left
without expunging anything (EXAMINE, then CLOSE: RFC 9051 section 6.4.1); memory is bounded by C{most}; what is done does not
depend on how the octets arrive.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from mem_continuity.imap.lexer import astring
from mem_continuity.imap.responses import ResponseStream, status_of
from mem_continuity.imap.sequence import uid_ranges

_UID_VALIDITY = re.compile(rb"\* OK \[UIDVALIDITY ([0-9]{1,20})\]", re.IGNORECASE)
_CLOSED = re.compile(rb"\* OK \[CLOSED\]", re.IGNORECASE)
_READ_ONLY = re.compile(rb"[^ ]+ OK \[READ-ONLY\]", re.IGNORECASE)
_CODE = re.compile(rb"[^ ]+ NO \[([A-Za-z-]+)")
_SEARCH = re.compile(rb"\* SEARCH((?: [0-9]{1,19})*) *\r\n", re.IGNORECASE)
_BYE = re.compile(rb"\* BYE(?: |\r)", re.IGNORECASE)

#: Response codes of a NO to SELECT that do not mean that there is no such mailbox (RFC 5530).
_NOT_NOW = frozenset(
    (b"UNAVAILABLE", b"INUSE", b"LIMIT", b"SERVERBUG", b"CONTACTADMIN", b"NOPERM", b"CORRUPTION", b"EXPIRED", b"CLIENTBUG")
)


class Outcome(Enum):
    """
    How it ended.
    """

    SELECTED = "the mailbox is selected"
    MISSING = "there is no such mailbox"
    CHANGED = "the mailbox has another UIDVALIDITY"
    UNABLE = "the server would not, or cannot be understood"


@dataclass(frozen=True, slots=True)
class Result:
    """
    @ivar untagged: responses for the client, whole lines; empty unless selected, but for a BYE.
    @ivar uid_validity: as the server told it; C{None} when it did not.
    @ivar enabled: extensions that it says are enabled now, in upper case.
    """

    outcome: Outcome
    untagged: bytes = b""
    read_only: bool = False
    uid_validity: int | None = None
    enabled: frozenset[bytes] = frozenset()


class _Step(Enum):
    ENABLE = "ENABLE"
    SELECT = "SELECT or EXAMINE"
    SEARCH = "UID SEARCH RETURN (ALL) ALL"
    PLAIN_SEARCH = "UID SEARCH ALL"
    EXAMINE = "EXAMINE, to leave"
    CLOSE = "CLOSE, to leave"


class Reselection:
    """
    One attempt.  The caller sends what L{begin} and L{receive} give, until L{result} is there.

    @ivar result: C{None} while it goes on.
    @ivar torn: it was given up in the middle of what the server says, so the connection is of no use any more.
    @ivar rest: octets of the server behind the last answer, when there is a result.
    """

    def __init__(
        self,
        name: bytes,
        *,
        read_only: bool,
        uid_validity: int | None,
        enabled: frozenset[bytes],
        tag: bytes,
        has_esearch: bool,
        line_bound: int,
        most: int,
    ) -> None:
        """
        @param name: the mailbox, in the encoding of the wire, without quotes.
        @param uid_validity: what it has to be; C{None} when nobody knows.
        @param enabled: extensions to ENABLE first (RFC 5161).
        @param tag: of the client's command; the search has it, so that its answer can be shown as it is.
        @param has_esearch: whether the server is known to have ESEARCH (RFC 4731), which tells the map in few octets.
        @param line_bound: the longest first line that is looked at whole, in octets.
        @param most: octets of all responses together.
        """
        self._name = name
        self._read_only = read_only
        self._expected = uid_validity
        self._to_enable = sorted(enabled)
        self._tag = tag
        self._search = _Step.SEARCH if has_esearch else _Step.PLAIN_SEARCH
        self._most = most
        self._stream = ResponseStream(line_bound)
        self._open = bytearray()
        self._untagged: list[bytes] = []
        self._octets = 0
        self._step = _Step.ENABLE
        self._literal = b""
        self._uid_validity: int | None = None
        self._enabled: frozenset[bytes] = frozenset()
        self._uids: list[int] | None = None
        self._leaves_as = Outcome.CHANGED
        self.result: Result | None = None
        self.torn = False

    def begin(self) -> bytes:
        """
        The first octets to send.
        """
        if self._to_enable:
            return b"%b ENABLE %b\r\n" % (self._tag, b" ".join(self._to_enable))
        return self._select(_Step.SELECT)

    @property
    def rest(self) -> bytes:
        """
        What was fed and not used; to be read once.
        """
        return self._stream.take_rest()

    def receive(self, octets: bytes) -> bytes:
        """
        Take octets of the server.

        @return: octets to send now.
        """
        if self.result is None:
            self._stream.feed(octets)
        send = b""
        while self.result is None:
            piece = self._stream.next_piece()
            if piece is None:
                break
            self._octets += len(piece.octets)
            if self._octets > self._most:
                self.torn = True
                self._stream.take_rest()
                self._end(Outcome.UNABLE)
                break
            self._open += piece.octets
            if self._stream.between:
                response = bytes(self._open)
                self._open.clear()
                send += self._response(response)
        return send

    # Responses

    def _response(self, response: bytes) -> bytes:
        if response.startswith(b"+"):
            literal, self._literal = self._literal, b""
            return literal
        status = status_of(response)
        if status is not None and status[0] == self._tag:
            return self._answered(status[1], response)
        self._note(response)
        return b""

    def _note(self, response: bytes) -> None:
        validity = _UID_VALIDITY.match(response)
        if validity is not None:
            self._uid_validity = int(validity.group(1))
        if response[:10].upper() == b"* ENABLED ":
            self._enabled |= {word.upper() for word in response[10:].split()}
        found = _SEARCH.fullmatch(response)
        if found is not None and self._step is _Step.PLAIN_SEARCH:
            self._uids = (self._uids or []) + [int(one) for one in found.group(1).split()]
        elif _CLOSED.match(response) is None:
            self._untagged.append(response)

    def _answered(self, condition: bytes, line: bytes) -> bytes:
        step, good = self._step, condition == b"OK"
        if step is _Step.ENABLE:
            return self._select(_Step.SELECT)
        if step is _Step.SELECT:
            return self._selected(line) if good else self._not_selected(condition, line)
        if step is _Step.EXAMINE:
            self._step = _Step.CLOSE
            return b"%b CLOSE\r\n" % self._tag if good else self._end(self._leaves_as)
        if step is _Step.CLOSE:
            return self._end(self._leaves_as)
        if good:
            return self._searched()
        if step is _Step.SEARCH:
            return self._look(_Step.PLAIN_SEARCH)
        self._leaves_as = Outcome.UNABLE
        return self._select(_Step.EXAMINE)

    # Steps

    def _select(self, step: _Step) -> bytes:
        self._step = step
        word = b"EXAMINE" if self._read_only or step is _Step.EXAMINE else b"SELECT"
        if all(0x20 <= octet <= 0x7E for octet in self._name):
            return b"%b %b %b\r\n" % (self._tag, word, astring(self._name))
        # A literal can have any octet but NUL, and needs no extension when the server is waited for.
        self._literal = self._name + b"\r\n"
        return b"%b %b {%d}\r\n" % (self._tag, word, len(self._name))

    def _selected(self, line: bytes) -> bytes:
        if self._expected is not None and self._uid_validity not in (None, self._expected):
            return self._select(_Step.EXAMINE)
        self._read_only = self._read_only or _READ_ONLY.match(line) is not None
        return self._look(self._search)

    def _look(self, step: _Step) -> bytes:
        self._step = step
        return b"%b %b\r\n" % (self._tag, step.value.encode("ascii"))

    def _not_selected(self, condition: bytes, line: bytes) -> bytes:
        code = _CODE.match(line)
        if condition != b"NO" or (code is not None and code.group(1).upper() in _NOT_NOW):
            return self._end(Outcome.UNABLE)
        return self._end(Outcome.MISSING)

    def _searched(self) -> bytes:
        if self._step is _Step.PLAIN_SEARCH and self._uids is not None:
            uids = uid_ranges(sorted(self._uids))
            self._untagged.append(b'* ESEARCH (TAG "%b") UID%b\r\n' % (self._tag, b" ALL " + uids if uids else b""))
        return self._end(Outcome.SELECTED)

    def _end(self, outcome: Outcome) -> bytes:
        shown = self._untagged if outcome is Outcome.SELECTED else [one for one in self._untagged if _BYE.match(one)]
        self.result = Result(outcome, b"".join(shown), self._read_only, self._uid_validity, self._enabled)
        return b""
