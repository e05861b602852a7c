"""
What is asked of the socket and of the TLS connection below a link.

A link may stand on anything that Twisted calls a transport (TCP, TLS over TCP, a Unix socket, a memory pair in a test, a PROXY
protocol wrapper), so every function here looks for what it needs and does without when it is not there.
"""

from __future__ import annotations

import socket

from OpenSSL.SSL import TLS1_3_VERSION, Connection
from OpenSSL.SSL import Error as TLSError
from twisted.internet.interfaces import ISSLTransport, ITransport

from mem_continuity.core.handshake import BINDING_LABEL, BINDING_LENGTH

_TCP_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)
_TCP_KEEPIDLE: int | None = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))
_TCP_NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", 25 if hasattr(socket, "TCP_USER_TIMEOUT") else None)
"""Linux has it since 3.12 under this number; Python names it since 3.12 as well."""


def is_secure(transport: ITransport) -> bool:
    """
    Whether a transport is under TLS now.
    """
    return ISSLTransport.providedBy(transport)


def exported_binding(transport: ITransport) -> bytes:
    """
    The C{tls-exporter} value of this link (RFC 9266), or no octets when it has none: no TLS, or one older than 1.3.
    """
    if not is_secure(transport):
        return b""
    handle = getattr(transport, "getHandle", lambda: None)()
    if not isinstance(handle, Connection) or handle.get_protocol_version() < TLS1_3_VERSION:
        return b""
    try:
        return bytes(handle.export_keying_material(BINDING_LABEL, BINDING_LENGTH))
    except TLSError:
        return b""


def _tcp_socket(transport: ITransport) -> socket.socket | None:
    found = getattr(transport, "socket", None)
    if found is None or not hasattr(found, "setsockopt"):
        return None
    if found.family not in (socket.AF_INET, socket.AF_INET6) or found.type != socket.SOCK_STREAM:
        return None
    sock: socket.socket = found
    return sock


def _set(sock: socket.socket, level: int, option: int | None, value: int) -> None:
    if option is None:
        return
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        return  # an option that this system does not take is one that we do without


def limit_unsent(transport: ITransport, octets: int) -> None:
    """
    Let the kernel keep at most so much that it has not put on the wire, so that what we keep follows the path and not the
    socket's buffer.
    """
    sock = _tcp_socket(transport)
    if sock is not None:
        _set(sock, socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, octets)


def hurry(transport: ITransport) -> None:
    """
    Let what is written go out at once: answers and frames are written whole, and waiting for more only delays them.
    """
    sock = _tcp_socket(transport)
    if sock is not None:
        _set(sock, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def hasten_death(transport: ITransport, idle: int, interval: int, probes: int, timeout: float) -> None:
    """
    Short keepalives and a short TCP_USER_TIMEOUT: a peer that does not answer is found out within seconds.

    @param idle: seconds.
    @param interval: seconds.
    @param timeout: seconds that sent octets may stay unacknowledged by the peer's kernel.
    """
    sock = _tcp_socket(transport)
    if sock is None:
        return
    _set(sock, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    _set(sock, socket.IPPROTO_TCP, _TCP_KEEPIDLE, idle)
    _set(sock, socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", None), interval)
    _set(sock, socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPCNT", None), probes)
    _set(sock, socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, int(timeout * 1000))
