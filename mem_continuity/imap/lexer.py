"""
The words of an IMAP command: tags, atoms, quoted strings, literals (RFC 9051 section 9, RFC 7888).

Invariants: every function here is pure; none looks at more octets than it is given; bad syntax is told by C{None}
where a caller has to go on in any case, and by L{CommandSyntaxError} where a client has to be told what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

CRLF = b"\r\n"

#: The longest literal announcement: a tilde, braces, 20 digits and a sign, rounded up.  The last so many octets of a
#: line are enough for L{literal_suffix}.
SUFFIX_OCTETS = 32

_MOST_DIGITS = 2**63 - 1
_SUFFIX = re.compile(rb"~?\{([0-9]{1,20})([+-]?)\}\Z")
# ATOM-CHAR without CTL, SP and the specials ( ) { % * " \ ; ASTRING-CHAR allows "]" as well.
_ASTRING = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
_TAG = re.compile(rb"[!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+\Z")
_PLAIN_RUN = re.compile(rb"[^\"\\]*")
_NOT_QUOTABLE = re.compile(rb"[\x00\r\n\x80-\xff]")
_NOT_IN_QUOTED = re.compile(rb"[\x00\r\n]")
_SPECIALS = re.compile(rb"([\"\\])")


class CommandSyntaxError(ValueError):
    """
    A command cannot be parsed; the text is fit to be sent to the client behind C{BAD}.
    """


class CommandLine(NamedTuple):
    """
    The first line of a command, made by L{parse_command}.

    @ivar tag: as received.
    @ivar name: the command's name in upper case.
    @ivar rest: what stands behind the name, its leading space included; empty when there is nothing.
    """

    tag: bytes
    name: bytes
    rest: bytes


def is_tag(word: bytes) -> bool:
    """
    Is this a tag: one or more ASTRING-CHAR except C{+} (RFC 9051 section 9)?
    """
    return _TAG.match(word) is not None


def literal_suffix(line: bytes) -> tuple[int, bool] | None:
    """
    The literal that a line announces.

    @param line: a line without its CRLF, or at least its last L{SUFFIX_OCTETS} octets.
    @return: the literal's size in octets, and whether it comes without waiting for the other side (C{{n+}}, and
        C{{n-}} as some programs write it; RFC 7888); C{None} when the line announces none or one of an absurd size.
    """
    found = _SUFFIX.search(line[-SUFFIX_OCTETS:])
    if found is None:
        return None
    size = int(found.group(1))
    return (size, found.group(2) != b"") if size <= _MOST_DIGITS else None


def quote(value: bytes) -> bytes:
    """
    A value as a quoted string when it fits into one, otherwise as a synchronizing literal.
    """
    if _NOT_QUOTABLE.search(value) is not None:
        return b"{%d}\r\n%b" % (len(value), value)
    return b'"' + _SPECIALS.sub(rb"\\\1", value) + b'"'


def astring(value: bytes) -> bytes:
    """
    A value in the shortest form that says it: as it is when it is an atom, otherwise like L{quote}.
    """
    return value if _ASTRING.fullmatch(value) is not None else quote(value)


def parse_command(line: bytes) -> CommandLine | None:
    """
    Tell tag and name of a command's first line.

    @param line: the line without its CRLF.
    @return: C{None} when there is no tag, no valid tag, or no name.
    """
    tag, _, behind = line.partition(b" ")
    name, space, rest = behind.partition(b" ")
    if not name or not is_tag(tag):
        return None
    return CommandLine(tag, name.upper(), space + rest)


def parse_astring(line: bytes, start: int) -> tuple[bytes, int]:
    """
    Read one atom or quoted string.

    @param line: a line without its CRLF.
    @param start: where the string begins.
    @return: its value, and the place behind it.
    @raise CommandSyntaxError: there is none.
    """
    if line[start : start + 1] == b'"':
        return _parse_quoted(line, start + 1)
    atom = _ASTRING.match(line, start)
    if atom is None:
        raise CommandSyntaxError("An argument must be an atom, a quoted string or a literal")
    return atom.group(), atom.end()


def _parse_quoted(line: bytes, place: int) -> tuple[bytes, int]:
    parts = []
    while True:
        run = _PLAIN_RUN.match(line, place)
        assert run is not None  # it also matches nothing
        parts.append(run.group())
        place = run.end()
        if place == len(line):
            raise CommandSyntaxError("A quoted string has no end")
        if line[place : place + 1] == b'"':
            break
        escaped = line[place + 1 : place + 2]
        if escaped not in (b'"', b"\\"):
            raise CommandSyntaxError('In a quoted string only " and \\ may stand behind a \\')
        parts.append(escaped)
        place += 2
    value = b"".join(parts)
    if _NOT_IN_QUOTED.search(value) is not None:
        raise CommandSyntaxError("A quoted string must not contain CR, LF or NUL; use a literal")
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        raise CommandSyntaxError("A quoted string must be UTF-8; use a literal") from None
    return value, place + 1


def split_arguments(pieces: Sequence[bytes]) -> list[bytes]:
    """
    Parse the arguments of a whole command, each an atom, a quoted string or a literal, with one space between.

    @param pieces: by turns what stands in a line and the literal that it announced, beginning with what follows the
        command's name (L{CommandLine.rest}); lines come without CRLF, all but the last end in their announcement.
        Thus C{[b" UUID {3}", b"abc", b""]}.
    @return: the values: quotes and escapes are resolved, literals are taken as they are.
    @raise CommandSyntaxError: the text says what is wrong.
    """
    if not pieces or len(pieces) % 2 == 0:
        raise CommandSyntaxError("The command ends in the middle of a literal")
    arguments: list[bytes] = []
    for turn in range(0, len(pieces), 2):
        line, last = pieces[turn], turn == len(pieces) - 1
        place, end = 0, len(line)
        if not last:
            announced = _SUFFIX.search(line[-SUFFIX_OCTETS:])
            if announced is None:
                raise CommandSyntaxError("A literal was not announced")
            end = len(line) - len(announced.group())
        while place < end:
            if line[place : place + 1] != b" ":
                raise CommandSyntaxError("Arguments must be separated by one space")
            place += 1
            if place == end and not last:
                break
            value, place = parse_astring(line[:end], place)
            arguments.append(value)
        if not last:
            if line[end - 1 : end] != b" ":
                raise CommandSyntaxError("A literal must stand behind one space")
            arguments.append(pieces[turn + 1])
    return arguments
