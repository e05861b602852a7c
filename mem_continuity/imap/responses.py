"""
A server's octets, cut into the pieces that matter: first lines of responses, and all the rest.

Invariants: the pieces joined are the octets fed; memory is bounded by one line of the length C{bound}, because
literals and what follows them stream through, and of a longer line only the beginning is shown for examination; the
pieces' meaning does not depend on how the octets arrived; work is linear in them.

A line ends in an announcement of a literal (C{{n}}) only if it is not human-readable text: C{a1 BAD unexpected {5}}
is no more than it says.  In a status response (RFC 9051 section 7.1) a literal can stand inside an unfinished
response code only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from mem_continuity.imap.lexer import CRLF, SUFFIX_OCTETS, literal_suffix

_STATUS = re.compile(rb"([^ \r\n]+) (OK|NO|BAD|BYE|PREAUTH)(?: |\r?\Z|\r\n)", re.IGNORECASE)
_CAPABILITY = re.compile(rb"(?:\* CAPABILITY|[^ \r\n]+ (?:OK|NO|BAD|BYE|PREAUTH) (\[)CAPABILITY)(?=[ \]]|\r\n)", re.IGNORECASE)


class Piece(NamedTuple):
    """
    Some octets of a server.

    @ivar first: they begin a response.
    @ivar whole: they are a whole line, with its CRLF.  A first piece that is not whole is the beginning of a line
        longer than the bound.
    """

    octets: bytes
    first: bool
    whole: bool


def status_of(line: bytes) -> tuple[bytes, bytes] | None:
    """
    Tag (or C{*}) and condition, in upper case, of a status response; C{None} for all other lines.
    """
    found = _STATUS.match(line)
    return None if found is None else (found.group(1), found.group(2).upper())


def announces_literal(head: bytes, tail: bytes) -> int | None:
    """
    The size of the literal that follows the first line of a response.

    @param head: the beginning of the line.
    @param tail: its last octets, at least L{SUFFIX_OCTETS} if there are so many, without CRLF.
    @return: octets; C{None} when no literal follows.
    """
    if not tail.endswith(b"}") or head.startswith(b"+"):
        return None
    status = _STATUS.match(head)
    if status is not None and (head[status.end() : status.end() + 1] != b"[" or b"]" in head):
        return None
    suffix = literal_suffix(tail)
    return None if suffix is None else suffix[0]


def capability_words(line: bytes) -> list[bytes] | None:
    """
    The words of a capability response or response code (RFC 9051 sections 7.1 and 7.2.2) as they stand there.

    @return: C{None} when the line carries no capability data.
    """
    place = _capability_place(line)
    return None if place is None else line[place[0] : place[1]].split()


def rewrite_capability(line: bytes, announce: Callable[[], tuple[bytes, ...]], remove: Callable[[bytes], bool]) -> bytes:
    """
    Take words out of capability data and append others; every other line is given back as it is.

    @param line: the first line of a response with its CRLF.
    @param announce: the words to append unless they are there.  Asked only if the line carries capability data.
    @param remove: is this a word to take out?
    """
    place = _capability_place(line)
    if place is None:
        return line
    start, end = place
    body = line[start:end]
    words = body.split()
    kept = [word for word in words if not remove(word)]
    present = {word.upper() for word in kept}
    missing = [word for word in announce() if word.upper() not in present]
    if len(kept) == len(words):
        if not missing:
            return line
        body = body.rstrip()
    else:
        body = b"".join(b" " + word for word in kept)
    return line[:start] + body + b"".join(b" " + word for word in missing) + line[end:]


def _capability_place(line: bytes) -> tuple[int, int] | None:
    found = _CAPABILITY.match(line) if line.endswith(CRLF) else None
    if found is None:
        return None
    end = len(line) - 2 if found.group(1) is None else line.find(b"]", found.end())
    return None if end < 0 else (found.end(), end)


class ResponseStream:
    """
    Cuts a server's octets into pieces.

    @ivar between: nothing of an unfinished response has been handed out, so other octets may be put in here.
    """

    def __init__(self, bound: int) -> None:
        """
        @param bound: the longest first line that is shown whole, in octets without its CRLF.
        """
        self._bound = bound
        self._buffer = bytearray()
        self._scanned = 0
        self._literal = 0
        self._flowing = False
        self._head = b""
        self._tail = b""

    @property
    def between(self) -> bool:
        return not (self._literal or self._flowing)

    @property
    def waiting(self) -> bool:
        """
        Some of what was fed has not been handed out.
        """
        return bool(self._buffer)

    def feed(self, octets: bytes) -> None:
        """
        Take octets of the server.
        """
        self._buffer += octets

    def next_piece(self) -> Piece | None:
        """
        The next piece; C{None} when more octets are needed.
        """
        if not self._buffer:
            return None
        if self._literal:
            octets = self._take(min(self._literal, len(self._buffer)))
            self._literal -= len(octets)
            return Piece(octets, False, False)
        return self._flow() if self._flowing else self._first_line()

    def take_rest(self) -> bytes:
        """
        Stop: what was fed and not handed out.
        """
        return self._take(len(self._buffer))

    def _take(self, count: int) -> bytes:
        octets = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._scanned = 0
        return octets

    def _first_line(self) -> Piece | None:
        end = self._buffer.find(CRLF, self._scanned, self._bound + len(CRLF))
        if end >= 0:
            line = self._take(end + len(CRLF))
            self._line_ended(line, line[:end])
            return Piece(line, True, True)
        if len(self._buffer) > self._bound + 1 or (len(self._buffer) > self._bound and not self._buffer.endswith(b"\r")):
            self._head = self._tail = self._take(self._bound)
            self._flowing = True
            return Piece(self._head, True, False)
        self._scanned = max(len(self._buffer) - 1, 0)
        return None

    def _flow(self) -> Piece | None:
        """
        The rest of a line that is too long, or of one behind a literal.
        """
        end = self._buffer.find(CRLF)
        if end < 0:
            count = len(self._buffer) - self._buffer.endswith(b"\r")
            if not count:
                return None
            octets = self._take(count)
            self._tail = (self._tail + octets[-SUFFIX_OCTETS:])[-SUFFIX_OCTETS:]
            return Piece(octets, False, False)
        octets = self._take(end + len(CRLF))
        self._line_ended(self._head, (self._tail + octets[:end][-SUFFIX_OCTETS:])[-SUFFIX_OCTETS:])
        return Piece(octets, False, False)

    def _line_ended(self, head: bytes, tail: bytes) -> None:
        size = announces_literal(head, tail)
        self._flowing = size is not None
        if size is None:
            self._head = b""
        else:
            self._head, self._tail, self._literal = head, b"", size
