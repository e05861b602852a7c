"""
Envelope, body structure and header sections of a message, as octets of a FETCH answer (RFC 3501, section 7.4.2).

Twisted's own rendering joins repeated header fields and cannot send what is not ASCII; this one takes the octets of the
message as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from email.utils import getaddresses

from mem_continuity.mailhost.mime import Part, header_fields

_QUOTABLE = frozenset(range(0x20, 0x7F))
_LONGEST_QUOTED = 1000
#: Octets of an address field that are read; mail programs write far less, and reading takes a stack frame per comment.
_LONGEST_ADDRESSES = 16 * 1024


def literal(data: bytes) -> bytes:
    """
    A literal.
    """
    return b"{%d}\r\n%b" % (len(data), data)


def string(value: bytes | str | None) -> bytes:
    """
    An C{nstring}: quoted where possible, otherwise a literal, NIL for C{None}.
    """
    if value is None:
        return b"NIL"
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    if len(value) <= _LONGEST_QUOTED and _QUOTABLE.issuperset(value):
        return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return literal(value.replace(b"\0", b""))


def selected_header(header: bytes, names: Sequence[bytes], negate: bool) -> bytes:
    """
    The fields of a header that are named (or are not), with their own octets, and the empty line.
    """
    if negate and not names:
        return header
    wanted = {name.lower() for name in names}
    return b"".join(octets for name, octets in header_fields(header) if (name in wanted) != negate) + b"\r\n"


def _unfolded(field: bytes) -> bytes:
    return b" ".join(line.strip() for line in field.partition(b":")[2].splitlines()).strip()


def _addresses(field: bytes | None) -> bytes:
    if not field:
        return b"NIL"
    try:
        found = getaddresses([field[:_LONGEST_ADDRESSES].decode("latin-1")])
    except (RecursionError, ValueError, IndexError):
        # Nested without end, or broken in a way that the library does not expect.
        return b"NIL"
    answer = []
    for name, address in found:
        mailbox, _, host = address.rpartition("@") if "@" in address else (address, "", "")
        parts = [one.encode("latin-1", "replace") for one in (name, mailbox, host)]
        answer.append(b"(" + b" ".join((string(parts[0] or None), b"NIL", string(parts[1]), string(parts[2]))) + b")")
    return b"(" + b"".join(answer) + b")" if answer else b"NIL"


def envelope(part: Part) -> bytes:
    """
    The envelope of a message.
    """
    fields: dict[bytes, bytes] = {}
    for name, field in header_fields(part.header_octets):
        fields.setdefault(name, _unfolded(field))
    sender = fields.get(b"from")
    return b"(" + b" ".join((
        string(fields.get(b"date")),
        string(fields.get(b"subject")),
        _addresses(sender),
        _addresses(fields.get(b"sender") or sender),
        _addresses(fields.get(b"reply-to") or sender),
        _addresses(fields.get(b"to")),
        _addresses(fields.get(b"cc")),
        _addresses(fields.get(b"bcc")),
        string(fields.get(b"in-reply-to")),
        string(fields.get(b"message-id")),
    )) + b")"


def _parameters(pairs: Collection[tuple[str, str]]) -> bytes:
    if not pairs:
        return b"NIL"
    return b"(" + b" ".join(string(one) for pair in pairs for one in pair) + b")"


def _value(part: Part, name: str) -> bytes:
    value = part.headers.get(name)
    return string(None if value is None else " ".join(str(value).split()))


def _disposition(part: Part) -> bytes:
    value = part.headers.get_content_disposition()
    if not value:
        return b"NIL"
    return b"(" + string(value) + b" " + _parameters(part.parameters("content-disposition")) + b")"


def structure(part: Part, extended: bool) -> bytes:
    """
    The body structure of a part.

    @param extended: for BODYSTRUCTURE, with disposition, language and location.
    """
    extension = [_disposition(part), _value(part, "content-language"), _value(part, "content-location")]
    if part.main_type == "multipart":
        inner = b"".join(structure(child, extended) for child in part.children)
        if not inner:
            # The grammar wants at least one.
            inner = b'("text" "plain" NIL NIL NIL "7bit" 0 0)'
        answer = [inner, string(part.sub_type)]
        return b"(" + b" ".join([*answer, _parameters(part.parameters()), *extension] if extended else answer) + b")"
    encoding = str(part.headers.get("content-transfer-encoding", "7bit")).strip()
    answer = [
        string(part.main_type),
        string(part.sub_type),
        _parameters(part.parameters()),
        _value(part, "content-id"),
        _value(part, "content-description"),
        string(encoding),
        b"%d" % (part.end - part.body),
    ]
    if part.message is not None:
        answer += [envelope(part.message), structure(part.message, extended)]
    if part.message is not None or part.main_type == "text":
        answer.append(b"%d" % part.octets.count_lines(part.body, part.end))
    if extended:
        answer += [_value(part, "content-md5"), *extension]
    return b"(" + b" ".join(answer) + b")"
