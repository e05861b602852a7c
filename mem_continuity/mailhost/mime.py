"""
Where the parts of a message lie in its file.

The tree of parts is made of offsets only: header and body of each part are ranges of the file, so a part of any size is
sent from the file.  Headers are parsed by the standard library; what is done here is finding boundaries.

Invariants: depth, number of parts and the size of a header that is looked at are bounded, whatever the message says;
what lies beyond counts as plain content.  Nothing in a message raises an error.

Sources: RFC 2046, section 5.1 (boundaries); RFC 3501, section 6.4.5 (part numbers).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesHeaderParser
from email.utils import collapse_rfc2231_value

from mem_continuity.mailhost.octets import Octets

#: A part that lies deeper than this is content, not structure.
_DEEPEST = 20
#: Parts beyond this number are content of the last one.
_MOST_PARTS = 1000
#: A header longer than this ends there.
_LONGEST_HEADER = 256 * 1024
#: So much of a header field is looked at for parameters: the library takes time of the square of it.
_LONGEST_PARAMETERS, _MOST_PARAMETERS = 4 * 1024, 100
#: Structure is told in ASCII; the octets themselves are sent as they are.
_SEVEN_BIT = bytes(range(128)) + b"?" * 128


@dataclass(slots=True)
class Part:
    """
    One part, or the whole message: C{octets[start:body]} is its header with the empty line, C{octets[body:end]} its
    body.

    @ivar headers: the parsed header.
    @ivar children: the parts of a multipart.
    @ivar message: the message within a message/rfc822.
    """

    octets: Octets
    start: int
    body: int
    end: int
    headers: Message
    children: list[Part] = field(default_factory=list)
    message: Part | None = None

    @property
    def header_octets(self) -> bytes:
        """
        The header as it stands in the file, with the empty line.
        """
        return self.octets.read(self.start, min(self.body - self.start, _LONGEST_HEADER))

    @property
    def main_type(self) -> str:
        """
        Like C{text}, lower case.
        """
        return self.headers.get_content_maintype()

    @property
    def sub_type(self) -> str:
        """
        Like C{plain}, lower case.
        """
        return self.headers.get_content_subtype()

    def find(self, numbers: tuple[int, ...]) -> Part | None:
        """
        The part of an IMAP section, C{(0, 1)} for C{1.2}; C{None} when there is none.  Called on a whole message.
        """
        part, is_message = self, True
        for number in numbers:
            if not is_message and part.message is not None:
                part, is_message = part.message, True
            if part.children:
                if number >= len(part.children):
                    return None
                part, is_message = part.children[number], False
            elif is_message and number == 0:
                # What is no multipart has one part: its own body.
                is_message = False
            else:
                return None
        return part

    def parameters(self, header: str = "content-type") -> list[tuple[str, str]]:
        """
        The parameters of a header field, decoded; empty when there is no such field or it makes no sense.
        """
        pieces = str(self.headers.get(header, ""))[:_LONGEST_PARAMETERS].split(";", _MOST_PARAMETERS)
        value = ";".join(pieces[:_MOST_PARAMETERS])
        if ";" not in value:
            return []
        shortened = Message()
        shortened[header] = value
        try:
            found = shortened.get_params([], header)
            return [(name, collapse_rfc2231_value(value)) for name, value in found[1:]]
        except (ValueError, TypeError, LookupError, AttributeError):
            return []


def header_fields(header: bytes) -> list[tuple[bytes, bytes]]:
    """
    The fields of a header as they stand there: (name in lower case, the octets of the field with its folding and CRLF).
    """
    folded: list[list[bytes]] = []
    for line in header.splitlines(keepends=True):
        if line[:1] in (b" ", b"\t") and folded:
            folded[-1].append(line)
        elif b":" in line:
            folded.append([line])
    return [(lines[0].partition(b":")[0].strip().lower(), b"".join(lines)) for lines in folded]


def parse(octets: Octets) -> Part:
    """
    The tree of a message.  Reads the file once for each level of nesting.
    """
    budget = [_MOST_PARTS]
    return _part(octets, 0, octets.size, 0, "text/plain", budget)


def _part(octets: Octets, start: int, end: int, depth: int, default_type: str, budget: list[int]) -> Part:
    body = _body_start(octets, start, end)
    raw = octets.read(start, min(body - start, _LONGEST_HEADER))
    headers = BytesHeaderParser().parsebytes(raw.translate(_SEVEN_BIT))
    headers.set_default_type(default_type)
    part = Part(octets, start, body, end, headers)
    if depth >= _DEEPEST:
        return part
    if part.main_type == "multipart":
        inner_default = "message/rfc822" if part.sub_type == "digest" else "text/plain"
        for inner_start, inner_end in _between_boundaries(part, budget):
            part.children.append(_part(octets, inner_start, inner_end, depth + 1, inner_default, budget))
    elif (part.main_type, part.sub_type) == ("message", "rfc822"):
        part.message = _part(octets, body, end, depth + 1, "text/plain", budget)
    return part


def _body_start(octets: Octets, start: int, end: int) -> int:
    if octets.read(start, 2) == b"\r\n":
        return min(start + 2, end)
    limit = min(end, start + _LONGEST_HEADER)
    at = octets.find(b"\r\n\r\n", start, limit)
    return limit if at < 0 else at + 4


def _between_boundaries(part: Part, budget: list[int]) -> list[tuple[int, int]]:
    boundary = dict(part.parameters()).get("boundary", "").rstrip().encode("ascii", "replace")
    if not 0 < len(boundary) <= 200:
        return []
    delimiter = b"--" + boundary
    ranges: list[tuple[int, int]] = []
    opened: int | None = None
    at = part.body
    while budget[0] > 0:
        # What counts is at the begin of a line, which is that of the body too.
        if at != part.body or part.octets.read(at, len(delimiter)) != delimiter:
            found = part.octets.find(b"\n" + delimiter, at, part.end)
            if found < 0:
                break
            at = found + 1
        # What turns out to be no boundary costs as much as one.
        budget[0] -= 1
        line = part.octets.read(at + len(delimiter), min(1024, part.end - at - len(delimiter)))
        tail, newline, _ = line.partition(b"\n")
        closes = tail.startswith(b"--")
        if (tail[2:] if closes else tail).strip(b" \t\r"):
            at += len(delimiter)
            continue
        if opened is not None:
            # The line end before a boundary belongs to the boundary.
            ranges.append((opened, max(opened, at - 2)))
        opened = None
        at += len(delimiter) + len(tail)
        if closes:
            return ranges
        opened = min(at + len(newline), part.end)
    if opened is not None:
        ranges.append((opened, part.end))
    return ranges
