"""
What an IMAP connection is in the middle of, and which mailbox it has selected: the state that a record keeps (RFC
8437 section 4.1), learned by watching an authenticated connection pass by.

Invariants: nothing is changed or delayed; literals are skipped by their size without a look; memory is bounded by two
lines' beginnings and a table of commands in flight; when the watcher cannot follow (compression, a client that does
not wait where it must, too much in flight), it says so by C{blind} and never guesses: a wrong mailbox in a record
would be worse than none.

Octets of the client are fed before the answers of the server to them, as they happen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mem_continuity.core.policy import Policy
from mem_continuity.imap.lexer import (
    CRLF,
    SUFFIX_OCTETS,
    CommandSyntaxError,
    literal_suffix,
    parse_astring,
    parse_command,
)
from mem_continuity.imap.responses import announces_literal, status_of

_UID_VALIDITY = re.compile(rb"\* OK \[UIDVALIDITY ([0-9]{1,20})\]", re.IGNORECASE)
_CLOSED = re.compile(rb"\* OK \[CLOSED\]", re.IGNORECASE)
_ENABLED = re.compile(rb"\* ENABLED(?: (.*))?\Z", re.IGNORECASE | re.DOTALL)
_READ_ONLY = re.compile(rb"[^ ]+ OK \[READ-ONLY\]", re.IGNORECASE)
# The end of a line behind which none of the many messages of a mailbox follows.
_NOTABLE = re.compile(rb"\r\n(?!\* [0-9])")

_SELECTING = frozenset((b"SELECT", b"EXAMINE"))
_CLOSING = frozenset((b"CLOSE", b"UNSELECT"))
_BLINDING = frozenset((b"COMPRESS", b"STARTTLS", b"UNAUTHENTICATE"))
_WATCHED = _SELECTING | _CLOSING | _BLINDING | {b"LOGOUT", b"IDLE"}


@dataclass(frozen=True, slots=True)
class SelectedMailbox:
    """
    @ivar name: as the client gave it, without quotes, escapes or literal; in the encoding of the wire.
    @ivar read_only: EXAMINEd, or the server said so.
    @ivar uid_validity: C{None} when the server did not tell.
    """

    name: bytes
    read_only: bool
    uid_validity: int | None


class _Command:
    """
    A command in flight.
    """

    __slots__ = ("mailbox", "name", "uid_validity")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.mailbox: bytes | None = None
        self.uid_validity: int | None = None


class _OpenLine:
    """
    A line whose end has not arrived: its beginning, and enough of its end to see a literal announced.
    """

    __slots__ = ("bound", "head", "tail")

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.head = b""
        self.tail = b""

    def add(self, octets: bytes) -> None:
        if len(self.head) < self.bound:
            self.head += octets[: self.bound - len(self.head)]
        # one more, for a CR that belongs to the line's end
        self.tail = (self.tail + octets[-SUFFIX_OCTETS - 1 :])[-SUFFIX_OCTETS - 1 :]

    def close(self, octets: bytes) -> tuple[bytes, bytes]:
        """
        @param octets: the rest of the line, its CRLF included, of which CR may have been added before.
        @return: beginning and end of the line without CRLF; the line is empty again.
        """
        self.add(octets)
        head, tail = self.head, self.tail[:-2]
        if head.endswith(CRLF):
            head = head[:-2]
        elif len(head) == self.bound and head.endswith(b"\r"):
            head = head[:-1]
        self.head = self.tail = b""
        return head, tail


class StateObserver:
    """
    Watches one connection from a command boundary behind the login on.  Called by the session for every chunk that
    passes.

    @ivar mailbox: what is selected, if anything.
    @ivar enabled: the extensions that the server said are enabled, in upper case.
    @ivar blind: the state cannot be followed any more; C{mailbox} is C{None} from then on.
    @ivar changed: one of the above changed; set here, cleared by the caller.
    """

    def __init__(self, policy: Policy) -> None:
        """
        @param policy: for C{preamble_line}, the octets kept of one line, for C{outstanding}, the commands in flight,
            and for C{preamble_buffer}, the octets of their tags.
        """
        self._bound = policy.preamble_line
        self._most_outstanding = policy.outstanding
        self._most_octets = policy.preamble_buffer
        self._tag_octets = 0
        self._outstanding: dict[bytes, _Command] = {}
        # The client's side
        self._client_line = _OpenLine(self._bound)
        self._client_literal = 0
        self._uninvited = False
        self._tag: bytes | None = None  # the command that has begun and not ended
        self._name_octets: bytearray | None = None
        # The server's side
        self._server_line = _OpenLine(self._bound)
        self._server_literal = 0
        self._server_head: bytes | None = None  # the response whose literal has begun
        self.mailbox: SelectedMailbox | None = None
        self.enabled: frozenset[bytes] = frozenset()
        self.blind = False
        self.changed = False

    @property
    def client_in_literal(self) -> bool:
        """
        The client has announced a literal that has not wholly passed, nor been refused: what anybody else sent now
        would become part of it.  Also true when blind, for then it may be so.
        """
        return self._client_literal > 0 or self._uninvited or self.blind

    @property
    def mid_command(self) -> bool:
        """
        A command has not wholly passed, or awaits its answer.  Also true when blind.
        """
        return bool(self._tag is not None or self._client_line.tail or self._outstanding or self.blind)

    @property
    def between_responses(self) -> bool:
        """
        No response of the server has begun and not ended.  Not to be asked when blind.
        """
        return not (self._server_literal or self._server_head is not None or self._server_line.tail)

    @property
    def at_rest(self) -> bool:
        """
        Nothing is in progress but IDLE, and nobody has said DONE.  Not true when blind.
        """
        if not self.mid_command:
            return True
        if self.blind or self._tag is not None or self._client_line.tail or len(self._outstanding) != 1:
            return False
        return next(iter(self._outstanding.values())).name == b"IDLE"

    def client_data(self, octets: bytes) -> None:
        """
        Watch octets of the client.  Never raises.
        """
        place, end = 0, len(octets)
        while place < end and not self.blind:
            if self._uninvited:
                self._lose()  # the client did not wait: nobody knows whether this is a literal
            elif self._client_literal:
                place = self._client_literal_passes(octets, place)
            else:
                place = self._client_line_passes(octets, place)

    def server_data(self, octets: bytes) -> None:
        """
        Watch octets of the server.  Never raises.
        """
        place, end = 0, len(octets)
        while place < end and not self.blind:
            if self._server_literal:
                step = min(self._server_literal, end - place)
                self._server_literal -= step
                place += step
            elif self._server_head is not None or self._server_line.tail:
                place = self._server_line_passes(octets, place)
            else:
                place = self._server_lines_pass(octets, place)

    # The client's side

    def _client_literal_passes(self, octets: bytes, place: int) -> int:
        step = min(self._client_literal, len(octets) - place)
        self._client_literal -= step
        if self._name_octets is not None:
            self._name_octets += octets[place : place + step]
            if not self._client_literal:
                self._named(bytes(self._name_octets))
        return place + step

    def _client_line_passes(self, octets: bytes, place: int) -> int:
        if self._client_line.tail:
            ended = _line_end(self._client_line.tail, octets, place)
            if ended < 0:
                self._client_line.add(octets[place:])
                return len(octets)
            head, tail = self._client_line.close(octets[place:ended])
        else:
            found = octets.find(CRLF, place)
            if found < 0:
                self._client_line.add(octets[place:])
                return len(octets)
            head = octets[place : min(found, place + self._bound)]
            tail = octets[max(place, found - SUFFIX_OCTETS) : found]
            ended = found + len(CRLF)
        self._client_line_ended(head, tail)
        return ended

    def _client_line_ended(self, head: bytes, tail: bytes) -> None:
        literal = literal_suffix(tail)
        if self._tag is None:
            command = parse_command(head)
            if command is None:
                # DONE, a line that the server asked for, or nonsense
                if literal is not None:
                    self._lose()
                elif head.upper() == b"DONE":
                    self._idle_ends()
                return
            if not self._begins(command.tag, command.name):
                self._lose()
                return
            if command.name in _SELECTING and len(head) < self._bound:
                self._mailbox_begins(command.rest, literal)
        if literal is None:
            self._tag = None
        else:
            size, without_asking = literal
            self._client_literal = size
            self._uninvited = not without_asking
            if not size and without_asking and self._name_octets is not None:
                self._named(b"")

    def _idle_ends(self) -> None:
        # RFC 2177: from here on IDLE is a command like any other that awaits its answer.
        for command in self._outstanding.values():
            if command.name == b"IDLE":
                command.name = b""

    def _begins(self, tag: bytes, name: bytes) -> bool:
        """
        @return: C{False} when the command cannot be told from others in flight, or there are too many.
        """
        too_many = len(self._outstanding) >= self._most_outstanding or self._tag_octets + len(tag) > self._most_octets
        if too_many or tag in self._outstanding:
            return False
        self._tag = tag
        self._tag_octets += len(tag)
        self._outstanding[tag] = _Command(name if name in _WATCHED else b"")
        return True

    def _mailbox_begins(self, rest: bytes, literal: tuple[int, bool] | None) -> None:
        if literal is not None and rest.startswith(b" {") and rest.count(b" ") == 1:
            if literal[0] <= self._bound:
                self._name_octets = bytearray()
            return
        try:
            name, end = parse_astring(rest, 1)
        except CommandSyntaxError:
            return
        if rest[end : end + 1] in (b"", b" "):
            self._named(name)

    def _named(self, name: bytes) -> None:
        self._name_octets = None
        command = None if self._tag is None else self._outstanding.get(self._tag)
        if command is not None:
            command.mailbox = name

    # The server's side

    def _server_line_passes(self, octets: bytes, place: int) -> int:
        """
        The rest of a line that began in an earlier chunk or behind a literal.
        """
        ended = _line_end(self._server_line.tail, octets, place)
        if ended < 0:
            self._server_line.add(octets[place:])
            return len(octets)
        head, tail = self._server_line.close(octets[place:ended])
        if self._server_head is None:
            self._server_line_ended(head, tail)
        else:
            self._literal_follows(self._server_head, tail)
        return ended

    def _server_lines_pass(self, octets: bytes, place: int) -> int:
        """
        Whole lines, up to the first that ends like a literal's announcement; only the notable ones are looked at.
        """
        mark = octets.find(b"}\r\n", place)
        stop = mark + 3 if mark >= 0 else octets.rfind(CRLF, place) + 2
        if stop < place + 2:
            self._server_line.add(octets[place:])
            return len(octets)
        last = octets.rfind(CRLF, place, stop - 2) + 2 if mark >= 0 else stop
        if last < place + 2:
            last = place
        start = place
        while start < last and not self.blind:
            found = octets.find(CRLF, start, last)
            if not _is_message_data(octets, start):
                self._server_line_ended(octets[start : min(found, start + self._bound)], b"")
            notable = _NOTABLE.search(octets, found, last)
            start = last if notable is None else notable.end()
        if mark >= 0 and not self.blind:
            tail = octets[max(last, mark + 1 - SUFFIX_OCTETS) : mark + 1]
            self._server_line_ended(octets[last : min(mark + 1, last + self._bound)], tail)
        return stop

    def _server_line_ended(self, head: bytes, tail: bytes) -> None:
        if self._literal_follows(head, tail):
            return
        if head.startswith(b"+"):
            self._uninvited = False
            if not self._client_literal and self._name_octets is not None:
                self._named(b"")
            return
        status = status_of(head)
        if status is not None and status[0] != b"*":
            self._answered(status[0], status[1], head)
        elif not _is_message_data(head, 0):
            self._untagged(head)

    def _literal_follows(self, head: bytes, tail: bytes) -> bool:
        size = announces_literal(head, tail)
        self._server_head = None if size is None else head
        self._server_literal = size or 0
        return size is not None

    def _untagged(self, head: bytes) -> None:
        uid_validity = _UID_VALIDITY.match(head)
        if uid_validity is not None:
            for command in self._outstanding.values():
                if command.name in _SELECTING:
                    command.uid_validity = int(uid_validity.group(1))
                    break
            return
        if _CLOSED.match(head) is not None:
            self._select(None)
            return
        enabled = _ENABLED.match(head)
        if enabled is not None:
            words = self.enabled | {word.upper() for word in (enabled.group(1) or b"").split()}
            if words != self.enabled:
                self.enabled, self.changed = words, True

    def _answered(self, tag: bytes, condition: bytes, head: bytes) -> None:
        command = self._outstanding.pop(tag, None)
        if command is None:
            return
        self._tag_octets -= len(tag)
        if tag == self._tag and self._uninvited:
            # The literal is refused and will not come: what comes next is a new command.
            self._uninvited = False
            self._client_literal = 0
            self._name_octets = None
            self._tag = None
        if command.name in _SELECTING:
            if condition != b"OK":
                self._select(None)
            elif command.mailbox is None:
                self._lose()
            else:
                read_only = command.name == b"EXAMINE" or _READ_ONLY.match(head) is not None
                self._select(SelectedMailbox(command.mailbox, read_only, command.uid_validity))
        elif condition == b"OK" and command.name in _BLINDING:
            self._lose()
        elif condition == b"OK" and command.name not in (b"", b"IDLE"):
            self._select(None)  # closed or logged out

    def _select(self, mailbox: SelectedMailbox | None) -> None:
        if mailbox != self.mailbox:
            self.mailbox, self.changed = mailbox, True

    def _lose(self) -> None:
        self.blind = self.changed = True
        self.mailbox = None
        self._outstanding.clear()
        self._name_octets = None


def _is_message_data(octets: bytes, place: int) -> bool:
    """
    Does a line begin here that starts with C{*} and a number?
    """
    return octets.startswith(b"* ", place) and octets[place + 2 : place + 3].isdigit()


def _line_end(open_tail: bytes, octets: bytes, place: int) -> int:
    """
    The place behind the CRLF that ends an open line; -1 when it is not there.
    """
    if open_tail.endswith(b"\r") and octets.startswith(b"\n", place):
        return place + 1
    found = octets.find(CRLF, place)
    return found + len(CRLF) if found >= 0 else -1
