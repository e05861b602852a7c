"""
A login that was taken down in one place and is said again in another: what a gateway heard from a client, in the form in
which the server takes it that was found for this user.

Invariants: what is said again are the client's own octets; only the way in which literals and the first response are announced
changes; each flight but the first waits for the server's C{+}, which nobody else needs to see.
"""

from __future__ import annotations

from collections.abc import Sequence

_LITERAL_MINUS = 4096  # octets, RFC 7888 section 5


def login_flights(tag: bytes, pieces: Sequence[bytes], capabilities: frozenset[bytes]) -> list[bytes]:
    """
    A LOGIN command.

    @param pieces: see L{split_arguments<mem_continuity.imap.lexer.split_arguments>}.
    @param capabilities: the server's words in upper case.
    """
    most = -1
    if b"LITERAL-" in capabilities:
        most = _LITERAL_MINUS
    flights, octets = [], tag + b" LOGIN"
    for line, literal in zip(pieces[0:-1:2], pieces[1::2], strict=True):
        octets += line[: line.rindex(b"{")]
        if b"LITERAL+" in capabilities or len(literal) <= most:
            octets += b"{%d+}\r\n%b" % (len(literal), literal)
        else:
            flights.append(octets + b"{%d}\r\n" % len(literal))
            octets = literal
    flights.append(octets + pieces[-1] + b"\r\n")
    return flights


def authenticate_flights(tag: bytes, mechanism: bytes, response: bytes, capabilities: frozenset[bytes]) -> list[bytes]:
    """
    An AUTHENTICATE command.

    @param response: the first response in base64.
    @param capabilities: the server's words in upper case.
    """
    begun = tag + b" AUTHENTICATE " + mechanism
    # In LOGIN it is the server that begins, and not every server takes the name before it asked for it.
    if b"SASL-IR" in capabilities and mechanism != b"LOGIN":
        return [begun + b" " + (response or b"=") + b"\r\n"]
    return [begun + b"\r\n", response + b"\r\n"]
