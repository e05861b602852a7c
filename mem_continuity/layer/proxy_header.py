"""
The PROXY protocol's header in front of a TLS handshake, read from the socket itself.

Twisted's parsers say what a header means; here is found where it ends, because not an octet behind it may be read: it is TLS.

Invariant: whatever is looked at and belongs to the header is taken at once, so a header that comes octet by octet never lets a
reactor turn in circles.

Source: the PROXY protocol of HAProxy, versions 1 and 2, section 2.
"""

from __future__ import annotations

import ipaddress
from socket import MSG_PEEK
from socket import socket as Socket  # noqa: N812
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.protocols.haproxy._exceptions import InvalidProxyHeader  # the public module gives only an endpoint
from twisted.protocols.haproxy._v1parser import V1Parser
from twisted.protocols.haproxy._v2parser import V2Parser

_FIRST = 12
"""Octets that tell the versions apart; no header is shorter."""
_FIXED = 16
"""Octets of version 2 up to and with its length."""
_LINE = 107
"""Octets of the longest line of version 1, with its end."""
_END = b"\r\n"
_UNKNOWN = V1Parser.PROXYSTR + b" " + V1Parser.UNKNOWN_PROTO


class NotProxied(ValueError):
    """
    This is no PROXY header, or the connection ended within it.
    """


class HeaderReader:
    """
    Reads one header.

    @ivar source: the client's address; None when the header does not tell.
    @ivar destination: the address that the client came to; None when the header does not tell.
    """

    def __init__(self) -> None:
        self._octets = b""
        self.source: Any = None
        self.destination: Any = None

    def read(self, sock: Socket) -> bool:
        """
        Take what there is of the header.

        @return: whether all of it is read.
        @raise NotProxied: it is none.
        @raise OSError: the connection broke.
        """
        try:
            while (wanted := self._wanted()) > 0:
                if not self._take(sock, wanted):
                    return False
        except BlockingIOError:
            return False
        self._parse()
        return True

    def _wanted(self) -> int:
        have = self._octets
        if len(have) < _FIRST:
            return _FIRST - len(have)
        if have.startswith(V2Parser.PREFIX):
            if len(have) < _FIXED:
                return _FIXED - len(have)
            return _FIXED + int.from_bytes(have[14:16], "big") - len(have)
        if not have.startswith(V1Parser.PROXYSTR + b" "):
            raise NotProxied("neither version of a PROXY header begins like this")
        if have.endswith(_END):
            return 0
        if len(have) >= _LINE:
            raise NotProxied("a PROXY header without an end")
        return _LINE - len(have)

    def _take(self, sock: Socket, wanted: int) -> bool:
        # True: something was there.
        seen = sock.recv(wanted, MSG_PEEK)
        if not seen:
            raise NotProxied("the connection ended within the PROXY header")
        if not self._octets.startswith(V2Parser.PREFIX):
            joined = self._octets + seen
            end = joined.find(_END, _FIRST - 1)
            if end >= 0:
                seen = joined[len(self._octets) : end + len(_END)]
        self._octets += sock.recv(len(seen))
        return True

    def _parse(self) -> None:
        octets, self._octets = self._octets, b""
        line = octets.removesuffix(_END)
        if line == _UNKNOWN:
            return  # Twisted's parser wants a word behind it, which the specification does not
        try:
            info = V2Parser.parse(octets) if octets.startswith(V2Parser.PREFIX) else V1Parser.parse(line)
            self.source, self.destination = _checked(info.source), _checked(info.destination)
        except (InvalidProxyHeader, ValueError, KeyError):
            raise NotProxied("a PROXY header that makes no sense") from None


def _checked(address: Any) -> Any:
    # The parsers take any word for an address.
    if address is None or isinstance(address, UNIXAddress):
        return address
    ipaddress.ip_address(address.host)
    if address.type != "TCP" or not 0 <= address.port <= 65535:
        raise ValueError(address)
    return address
