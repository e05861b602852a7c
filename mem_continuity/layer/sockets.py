"""
What is asked of the socket and of the TLS connection below a link.

A link may stand on anything that Twisted calls a transport (TCP, TLS over TCP, a Unix socket, a memory pair in a test, a PROXY
protocol wrapper), so every function here looks for what it needs and does without when it is not there.
"""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass
from struct import Struct

from OpenSSL.SSL import TLS1_3_VERSION, Connection
from OpenSSL.SSL import Error as TLSError
from twisted.internet.interfaces import ISSLTransport, ITransport

from mem_continuity.core.handshake import BINDING_LABEL, BINDING_LENGTH

_TCP_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)
_TCP_KEEPIDLE: int | None = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))
_TCP_NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", 25 if hasattr(socket, "TCP_USER_TIMEOUT") else None)
"""Linux has it since 3.12 under this number; Python names it since 3.12 as well."""
_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
"""Others have the name as well, and another structure behind it."""
_INFO_ROOM = 256
_INFO = Struct("=2xBB20xI24xII8xII24xI")
"""Octets 2 to 103 of Linux's C{struct tcp_info} (include/uapi/linux/tcp.h), as every kernel has them."""
_INFO_UNSENT = Struct("=144xI")
_INFO_LEAST_TRIP = Struct("=148xI")
_INFO_SEGMENTS = Struct("=152xII")
_INFO_DISORDER = Struct("=224xI")
"""What later kernels have put behind: the first three in 4.6, the last one in 5.4."""
_UNKNOWN = 0xFFFFFFFF
"""The kernel's word for a least round trip that it has not seen yet."""
_FEW = 100
"""Segments: of fewer no share is computed that is lost."""
_OUT_OF_ORDER_MOST = 0.01
"""One lost segment puts all behind it out of order, so their share shows that there is loss, and not how much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """
    What this host's TCP knows of a connection, and nobody has to be asked for.

    @ivar heard_ago: seconds since the peer's TCP was heard last: data, in their order or not, or an acknowledgement.
    @ivar unacknowledged: segments that were sent and not acknowledged.
    @ivar unsent: octets that were not sent yet, since the path or the peer does not take them.
    @ivar round_trip: smoothed, in seconds.
    @ivar least_round_trip: the shortest one of the last minutes, in seconds; there was no queue on the way.
    @ivar variation: the mean deviation of round trips, in seconds.
    @ivar timeouts: how often in a row the same octets, or probes of a closed window, were sent in vain.
    @ivar disorder: the share of segments that were sent again, or came out of their order, since the connection stands; without
        those that a silence of this moment may have added.
    """

    heard_ago: float
    unacknowledged: int
    unsent: int
    round_trip: float
    least_round_trip: float
    variation: float
    timeouts: int
    disorder: float


def parse_tcp_info(octets: bytes) -> Vitals | None:
    """
    Read Linux's C{struct tcp_info}; what an older kernel does not tell counts as none.

    @param octets: as many as the kernel has given.
    @return: None when they are too few to say anything.
    """
    if len(octets) < _INFO.size:
        return None
    retransmits, probes, unacknowledged, data_ago, ack_ago, round_trip, variation, again = _INFO.unpack_from(octets)

    def later(part: Struct) -> tuple[int, ...]:
        if len(octets) < part.size:
            return (0, 0)
        found: tuple[int, ...] = part.unpack_from(octets)
        return found

    received, sent = later(_INFO_SEGMENTS)
    again = max(0, again - 1 - retransmits)  # in a silence the last segment is probed once, and then sent at every timeout
    least_trip = later(_INFO_LEAST_TRIP)[0]
    return Vitals(
        heard_ago=min(data_ago, ack_ago) / 1000,
        unacknowledged=unacknowledged,
        unsent=later(_INFO_UNSENT)[0],
        round_trip=round_trip / 1e6,
        least_round_trip=(round_trip if least_trip in (0, _UNKNOWN) else least_trip) / 1e6,
        variation=variation / 1e6,
        timeouts=max(retransmits, probes),
        disorder=max(again / max(sent, _FEW), min(later(_INFO_DISORDER)[0] / max(received, _FEW), _OUT_OF_ORDER_MOST)),
    )


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


def vitals(transport: ITransport) -> Vitals | None:
    """
    What this host's TCP knows of the connection below a transport; None where nobody tells.
    """
    sock = _tcp_socket(transport)
    if sock is None or _TCP_INFO is None:
        return None
    try:
        return parse_tcp_info(sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _INFO_ROOM))
    except OSError:
        return None  # it is being closed
