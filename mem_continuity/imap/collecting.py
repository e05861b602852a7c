"""
A command that is not streamed but kept until it is whole, literals and all.

Invariants: memory is bounded by the two bounds; what comes out does not depend on how the octets were split; nothing
is taken from the client beyond the command's end; a literal that has to be asked for is not waited for until
L{Collected.invitation} was called.
"""

from __future__ import annotations

from enum import Enum

from mem_continuity.imap.lexer import CommandLine, literal_suffix, split_arguments
from mem_continuity.imap.relay import LineBuffer, LineTooLong


class Progress(Enum):
    """
    What became of the client's octets.
    """

    STARVED = "more are needed"
    MOVED = "some were taken"
    WHOLE = "the command is whole"


class LiteralTooLong(Exception):
    """
    The literals of a command would be longer than the bound.  The text is fit to be sent to the client.

    @ivar size: octets of the literal that is too much.
    @ivar without_asking: they are on their way.
    """

    def __init__(self, text: bytes, size: int, without_asking: bool) -> None:
        super().__init__(text)
        self.text = text
        self.size = size
        self.without_asking = without_asking


class Collected:
    """
    One command, as far as it has arrived.  What is in it may be secret.

    @ivar first: its first line.
    @ivar pieces: see L{split_arguments}.
    @ivar invite: the literal waits to be asked for, see L{invitation}.
    """

    def __init__(self, first: CommandLine, line_bound: int, literal_bound: int) -> None:
        """
        @param first: the first line, to be given to L{add_line} as well.
        @param line_bound: of all its lines together, in octets without the last CRLF.
        @param literal_bound: of all its literals together, in octets.
        """
        self.first = first
        self.pieces: list[bytes] = []
        self.invite = False
        self._literal = bytearray()
        self._remaining: int | None = None
        self._line_octets = 0
        self._literal_octets = 0
        self._line_bound = line_bound
        self._literal_bound = literal_bound

    def arguments(self) -> list[bytes]:
        """
        @raise CommandSyntaxError: it is not well-formed.
        """
        return split_arguments(self.pieces)

    def invitation(self) -> bytes:
        """
        What to say to the client for the literal that it announced.
        """
        self.invite = False
        return b"+ Ready for %d octets\r\n" % (self._remaining or 0)

    def step(self, client: LineBuffer) -> Progress:
        """
        Take octets of the client, unless L{invite} is set.

        @raise LineTooLong: the lines are.
        @raise LiteralTooLong: the literals are.
        """
        if self._remaining is not None:
            return self._take_literal(client, self._remaining)
        line = client.take_line()
        return Progress.STARVED if line is None else self.add_line(line[:-2], len(line))

    def add_line(self, line: bytes, octets: int) -> Progress:
        """
        Add a line.

        @param line: without its CRLF; of the first line what stands behind the command's name.
        @param octets: the size of the line as it was received.
        @raise LineTooLong: the lines are.
        @raise LiteralTooLong: the literals are.
        """
        self.pieces.append(line)
        self._line_octets += octets
        if self._line_octets > self._line_bound + 2:
            raise LineTooLong
        literal = literal_suffix(line)
        if literal is None:
            return Progress.WHOLE
        size, without_asking = literal
        self._literal_octets += size
        if self._literal_octets > self._literal_bound:
            text = b"Literals of %b are limited to %d octets" % (self.first.name, self._literal_bound)
            raise LiteralTooLong(text, size, without_asking)
        self._remaining, self.invite = size, not without_asking
        return Progress.MOVED

    def _take_literal(self, client: LineBuffer, remaining: int) -> Progress:
        octets = client.take(remaining)
        if remaining and not octets:
            return Progress.STARVED
        self._literal += octets
        self._remaining = remaining - len(octets)
        if not self._remaining:
            self.pieces.append(bytes(self._literal))
            self._literal.clear()
            self._remaining = None
        return Progress.MOVED
