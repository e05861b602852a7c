"""
What can be between a client and a server: nothing, a forwarder that may do harm, the gateway.

A middle is a function that is given a running server, and makes a context manager that gives the L{Place} to connect to.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from tests.interop.gateway import GatewayProcess, upstream_of
from tests.interop.player import Place
from tests.interop.servers import HOST, RealServer

Middle = Callable[[RealServer], AbstractContextManager[Place]]
Change = Callable[[int, bytes], bytes]
"""Given the offset of some octets in what a server sends on a connection, and the octets: what is sent instead."""


@contextmanager
def nothing(server: RealServer) -> Iterator[Place]:
    """
    The server itself, with TLS.
    """
    yield Place(server.host, server.imaps_port, server.authority)


@contextmanager
def nothing_without_tls(server: RealServer) -> Iterator[Place]:
    """
    The server itself, without TLS.
    """
    yield Place(server.host, server.imap_port)


@contextmanager
def nothing_with_starttls(server: RealServer) -> Iterator[Place]:
    """
    The server itself, with STARTTLS.
    """
    yield Place(server.host, server.imap_port, server.authority, starttls=True)


@contextmanager
def gateway(server: RealServer, *options: str) -> Iterator[Place]:
    """
    The gateway, with TLS on both sides.

    @param options: more of its command line.
    """
    process = GatewayProcess(upstream_of(server.imaps_port, server.authority), *options)
    with process:
        yield Place(process.host, process.port, process.authority)


@contextmanager
def gateway_with_starttls(server: RealServer) -> Iterator[Place]:
    """
    The gateway, with STARTTLS on both sides.
    """
    upstream = upstream_of(server.imap_port, server.authority, kind="starttls")
    with GatewayProcess(upstream, listen=("tcp",)) as process:
        yield Place(process.host, process.port, process.authority, starttls=True)


def forwarder(change: Change) -> Middle:
    """
    One that passes octets on, without TLS, and changes those of the server.
    """

    @contextmanager
    def made(server: RealServer) -> Iterator[Place]:
        with socket.create_server((HOST, 0)) as listening:
            thread = threading.Thread(target=_accept, args=(listening, server.imap_port, change), daemon=True)
            thread.start()
            try:
                yield Place(HOST, listening.getsockname()[1])
            finally:
                with suppress(OSError):
                    listening.shutdown(socket.SHUT_RDWR)
                thread.join(5.0)

    return made


def flip(at: int) -> Change:
    """
    The lowest bit of one octet is another one.
    """

    def change(offset: int, octets: bytes) -> bytes:
        if not offset <= at < offset + len(octets):
            return octets
        changed = bytearray(octets)
        changed[at - offset] ^= 1
        return bytes(changed)

    return change


def lose(at: int) -> Change:
    """
    One octet is missing.
    """

    def change(offset: int, octets: bytes) -> bytes:
        return octets if not offset <= at < offset + len(octets) else octets[: at - offset] + octets[at - offset + 1 :]

    return change


def _accept(listening: socket.socket, port: int, change: Change) -> None:
    threads: list[threading.Thread] = []
    with suppress(OSError):
        while True:
            client, _ = listening.accept()
            server = socket.create_connection((HOST, port), 10.0)
            for one in (client, server):
                one.settimeout(30.0)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pumps = [
                threading.Thread(target=_pump, args=(client, server, None), daemon=True),
                threading.Thread(target=_pump, args=(server, client, change), daemon=True),
            ]
            threads.append(threading.Thread(target=_both, args=(pumps, client, server), daemon=True))
            threads[-1].start()
    for thread in threads:
        thread.join(5.0)


def _both(pumps: list[threading.Thread], *connections: socket.socket) -> None:
    for pump in pumps:
        pump.start()
    for pump in pumps:
        pump.join()
    for connection in connections:
        connection.close()


def _pump(source: socket.socket, target: socket.socket, change: Change | None) -> None:
    offset = 0
    with suppress(OSError):
        while octets := source.recv(1 << 16):
            target.sendall(octets if change is None else change(offset, octets))
            offset += len(octets)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
