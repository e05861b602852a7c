"""
Where a client came from, and how an upstream is told: by a PROXY header, or by ID.

Invariant: nothing here is of the client's own making: addresses are those of its connection, the label is ours.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from mem_continuity.imap.lexer import CRLF, quote

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_LOCAL, _PROXY = 0x20, 0x21
_UNSPEC, _TCP4, _TCP6 = 0x00, 0x11, 0x21
_TLV_SSL = struct.pack("!BHBI", 0x20, 5, 0x01, 1)
"""The client came by TLS, and showed no certificate (section 2.2.6)."""

_PROXY_TTL = 5
"""Gateways and proxies that a login may still pass, as Dovecot's own proxy begins to count."""
_MOST_LABEL = 64
"""Octets of a session's label that Dovecot takes."""


@dataclass(frozen=True, slots=True)
class Source:
    """
    One client's connection.

    @ivar host: its address; empty when it has none, as on a Unix socket.
    @ivar local_host: our address that it came to.
    @ivar secure: it came by TLS.
    @ivar label: what our logs call it, printable ASCII; empty for no label.
    """

    host: str
    port: int
    local_host: str
    local_port: int
    secure: bool = False
    label: bytes = b""

    @classmethod
    def of(cls, transport: Any, secure: bool, label: bytes = b"") -> Source:
        """
        Read it from a link's transport.
        """
        peer, host = transport.getPeer(), transport.getHost()
        return cls(*_place(peer), *_place(host), secure, label)


def _place(address: Any) -> tuple[str, int]:
    host = getattr(address, "host", "")
    return (host, int(getattr(address, "port", 0))) if isinstance(host, str) else ("", 0)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(found, "ipv4_mapped", None)
    return found if mapped is None else mapped


def _six(address: IPv4Address | IPv6Address) -> bytes:
    return bytes(10) + b"\xff\xff" + address.packed if address.version == 4 else address.packed


def proxy_header(source: Source | None) -> bytes:
    """
    A header of version 2 of the PROXY protocol (haproxy.org/download/3.0/doc/proxy-protocol.txt, section 2.2).

    @param source: C{None}, or without an address, for a connection on nobody's behalf.
    """
    peer = None if source is None else _address(source.host)
    local = None if source is None else _address(source.local_host)
    if source is None or peer is None or local is None:
        return _SIGNATURE + struct.pack("!BBH", _LOCAL, _UNSPEC, 0)
    if peer.version == local.version == 4:
        family, both = _TCP4, peer.packed + local.packed
    else:
        family, both = _TCP6, _six(peer) + _six(local)
    body = both + struct.pack("!HH", source.port, source.local_port) + (_TLV_SSL if source.secure else b"")
    return _SIGNATURE + struct.pack("!BBH", _PROXY, family, len(body)) + body


def identity(tag: bytes, source: Source | None) -> bytes:
    """
    An ID command (RFC 2971) with the fields that Dovecot takes from whom it trusts (its C{login_trusted_networks}).

    @return: the command with its CRLF; no octets when there is no address to tell.
    """
    if source is None or _address(source.host) is None:
        return b""
    fields = {"x-originating-ip": str(_address(source.host)), "x-originating-port": str(source.port)}
    local = _address(source.local_host)
    if local is not None:
        fields |= {"x-connected-ip": str(local), "x-connected-port": str(source.local_port)}
    fields |= {"x-proxy-ttl": str(_PROXY_TTL), "x-client-transport": "TLS" if source.secure else "insecure"}
    if source.label:
        fields["x-session-id"] = source.label[:_MOST_LABEL].decode("ascii")
    words = [quote(word.encode("ascii")) for pair in fields.items() for word in pair]
    return tag + b" ID (" + b" ".join(words) + b")" + CRLF
