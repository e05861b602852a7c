"""
Messages of rtnetlink as the kernel writes them, for tests: made here, or recorded from the kernel.
"""

from __future__ import annotations

import socket
import struct
from functools import cache

from mem_continuity.agent.netlink import Asked, request

NEW_LINK, DEL_LINK, NEW_ADDRESS, DEL_ADDRESS, NEW_ROUTE, DEL_ROUTE = 16, 17, 20, 21, 24, 25
UP, LOOPBACK, RUNNING = 0x1, 0x8, 0x40
MULTI, REPLACE = 0x2, 0x100


def message(kind: int, body: bytes, flags: int = 0, sequence: int = 0, port: int = 0) -> bytes:
    """
    With its padding.
    """
    octets = struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, port) + body
    return octets + bytes(-len(octets) % 4)


def attribute(kind: int, value: bytes) -> bytes:
    octets = struct.pack("=HH", 4 + len(value), kind) + value
    return octets + bytes(-len(octets) % 4)


def link(
    index: int, name: str = "wlan0", flags: int = UP | RUNNING, state: int | None = 6, kind: int = NEW_LINK, family: int = 0
) -> bytes:
    body = struct.pack("=BxHiII", family, 1, index, flags, 0)
    if name:
        body += attribute(3, name.encode() + b"\0")
    if state is not None:
        body += attribute(16, bytes([state]))
    return message(kind, body)


def packed(text: str) -> bytes:
    return socket.inet_pton(family_of(text), text)


def family_of(text: str) -> int:
    return int(socket.AF_INET6 if ":" in text else socket.AF_INET)


def address(
    index: int,
    text: str,
    flags: int = 0x80,
    scope: int = 0,
    kind: int = NEW_ADDRESS,
    long_flags: int | None = None,
    peer: str = "",
) -> bytes:
    body = struct.pack("=BBBBI", family_of(text), 24, flags, scope, index)
    body += attribute(1, packed(peer or text))
    if peer or ":" not in text:
        body += attribute(2, packed(text))
    if long_flags is not None:
        body += attribute(8, struct.pack("=I", long_flags))
    return message(kind, body)


def route(
    index: int,
    to: str = "0.0.0.0/0",
    metric: int | None = None,
    *,
    kind: int = NEW_ROUTE,
    table: int = 254,
    route_type: int = 1,
    route_flags: int = 0,
    flags: int = 0,
    gateway: str = "",
    hops: tuple[int, ...] = (),
) -> bytes:
    network, _, length = to.partition("/")
    body = struct.pack("=BBBBBBBBI", family_of(network), int(length), 0, 0, min(table, 252), 3, 0, route_type, route_flags)
    body += attribute(15, struct.pack("=I", table))
    if int(length):
        body += attribute(1, packed(network))
    if metric is not None:
        body += attribute(6, struct.pack("=I", metric))
    if gateway:
        body += attribute(5, packed(gateway))
    if hops:
        body += attribute(9, b"".join(struct.pack("=HBBi", 8, 0, 0, hop) for hop in hops))
    elif index:
        body += attribute(4, struct.pack("=I", index))
    return message(kind, body, flags)


@cache
def recorded() -> list[bytes]:
    """
    What the kernel answers here and now when it is asked for everything.
    """
    datagrams = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asking:
        asking.settimeout(10)
        for asked in Asked:
            asking.send(request(asked, 7))
            kinds: list[int] = []
            while 3 not in kinds:
                datagram = asking.recv(65536)
                datagrams.append(datagram)
                at = 0
                while at < len(datagram):
                    length, kind = struct.unpack_from("=IH", datagram, at)
                    kinds.append(kind)
                    at += (length + 3) & ~3
    return datagrams
