"""
What there is to know of a TLS connection on a descriptor, and what can be set: addresses, certificate, TCP's options.

Invariant: the addresses are told also after the connection is lost, for logs; everything else needs it.
"""

from __future__ import annotations

from socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_TCP,
    NI_NUMERICHOST,
    NI_NUMERICSERV,
    SO_KEEPALIVE,
    SOL_SOCKET,
    TCP_NODELAY,
    getnameinfo,
)
from socket import socket as Socket  # noqa: N812  a transport's attribute has that name
from typing import Any

from OpenSSL.SSL import Connection
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress


def address_of(family: int, name: Any) -> Any:
    """
    What C{getpeername} or C{getsockname} said, as one of Twisted's addresses.
    """
    if family == AF_INET:
        return IPv4Address("TCP", *name)
    if family == AF_INET6:
        host = getnameinfo(name, NI_NUMERICHOST | NI_NUMERICSERV)[0]  # with the scope of a link-local address
        return IPv6Address("TCP", host, *name[1:])
    return UNIXAddress(name or None)


class TLSFacts:
    """
    The part of L{TLSSocket<mem_continuity.layer.tls_socket.TLSSocket>} that only tells and sets.

    @ivar socket: the socket, None once the connection is lost.
    """

    __slots__ = ("_connection", "_host", "_peer", "socket")

    def __init__(self, sock: Socket, connection: Connection, peer: IAddress | None, host: IAddress | None) -> None:
        self.socket: Socket | None = sock
        self._connection: Connection | None = connection
        self._peer = address_of(sock.family, sock.getpeername()) if peer is None else peer
        self._host = host

    def fileno(self) -> int:
        """
        @return: -1 once the connection is lost.
        """
        return -1 if self.socket is None else self.socket.fileno()

    def getHandle(self) -> Connection | None:
        """
        @return: OpenSSL's connection; None once it is lost.
        """
        return self._connection

    def getPeerCertificate(self) -> object:
        """
        @see: L{ISSLTransport.getPeerCertificate<twisted.internet.interfaces.ISSLTransport.getPeerCertificate>}
        """
        return None if self._connection is None else self._connection.get_peer_certificate()

    @property
    def negotiatedProtocol(self) -> bytes | None:
        """
        @see: L{INegotiated.negotiatedProtocol<twisted.internet.interfaces.INegotiated>}
        """
        return None if self._connection is None else self._connection.get_alpn_proto_negotiated() or None

    def getPeer(self) -> Any:
        """
        The peer's address.
        """
        return self._peer

    def getHost(self) -> Any:
        """
        Our own address.
        """
        if self._host is None:
            assert self.socket is not None
            return address_of(self.socket.family, self.socket.getsockname())
        return self._host

    def getTcpNoDelay(self) -> bool:
        """
        @see: L{ITCPTransport.getTcpNoDelay<twisted.internet.interfaces.ITCPTransport.getTcpNoDelay>}
        """
        return self._option(IPPROTO_TCP, TCP_NODELAY)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """
        @see: L{ITCPTransport.setTcpNoDelay<twisted.internet.interfaces.ITCPTransport.setTcpNoDelay>}
        """
        self._set_option(IPPROTO_TCP, TCP_NODELAY, enabled)

    def getTcpKeepAlive(self) -> bool:
        """
        @see: L{ITCPTransport.getTcpKeepAlive<twisted.internet.interfaces.ITCPTransport.getTcpKeepAlive>}
        """
        return self._option(SOL_SOCKET, SO_KEEPALIVE)

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """
        @see: L{ITCPTransport.setTcpKeepAlive<twisted.internet.interfaces.ITCPTransport.setTcpKeepAlive>}
        """
        self._set_option(SOL_SOCKET, SO_KEEPALIVE, enabled)

    def _option(self, level: int, option: int) -> bool:
        return self.socket is not None and bool(self.socket.getsockopt(level, option))

    def _set_option(self, level: int, option: int, enabled: bool) -> None:
        if self.socket is None:
            return
        try:
            self.socket.setsockopt(level, option, enabled)
        except OSError:
            return  # a Unix socket has no such option, a connection that is reset takes none
