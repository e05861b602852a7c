"""
What the kernel of Linux says of devices, addresses and routes: messages of rtnetlink, octets in and values out.

Invariants: whatever the octets are, nothing is raised; a message that cannot be read, or says nothing that is wanted here, is
left out; what is given out holds no part of the octets.

C{pyroute2} would do this too, and much more: a dependency of 500 kB with its own sockets, threads and database, for four
messages of which five attributes are wanted.  So it is done here.

Formats: rtnetlink(7), netlink(7) and the kernel's C{linux/netlink.h}, C{rtnetlink.h}, C{if_addr.h}, C{if_link.h}.  All numbers
are in the byte order of the machine.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""The multicast groups of changes: RTMGRP_LINK, RTMGRP_IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR and _IPV6_ROUTE."""

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
_LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, hardware, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # rtmsg: family, length, source length, tos, table, protocol, scope, type, flags
_HOP = struct.Struct("=HBBi")  # rtnexthop: length, flags, hops, index
_NUMBER = struct.Struct("=I")
_CODE = struct.Struct("=i")

_ERROR, _DONE, _OVERRUN = 2, 3, 4
_NEW_LINK, _DEL_LINK, _GET_LINK = 16, 17, 18
_NEW_ADDRESS, _DEL_ADDRESS, _GET_ADDRESS = 20, 21, 22
_NEW_ROUTE, _DEL_ROUTE, _GET_ROUTE = 24, 25, 26

_REQUEST, _DUMP_INTERRUPTED, _REPLACE, _DUMP = 0x1, 0x10, 0x100, 0x300
_IS_UP, _IS_LOOPBACK, _IS_RUNNING = 0x1, 0x8, 0x40
_OPERSTATES = (0, 6)  # unknown, which is what tunnels and many drivers say, and up
_OPTIMISTIC, _DAD_FAILED, _DEPRECATED, _TENTATIVE = 0x4, 0x8, 0x20, 0x40
_SCOPE_GLOBAL = 0
_UNICAST = 1
_CLONED = 0x200
_TABLE_MAIN = 254
_IFLA_NAME, _IFLA_OPERSTATE = 3, 16
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_RTA_DESTINATION, _RTA_DEVICE, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_MULTIPATH, _RTA_TABLE = 1, 4, 5, 6, 9, 15
_TYPE_MASK = 0x3FFF  # the two highest bits of an attribute's type are flags
_FAMILIES = {int(socket.AF_INET): 4, int(socket.AF_INET6): 16}
"""Address family -> octets of an address."""

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class Asked(IntEnum):
    """
    What can be asked for; all of it is a look.
    """

    LINKS = 0
    ADDRESSES = 1
    ROUTES4 = 2
    ROUTES6 = 3


@dataclass(frozen=True, slots=True)
class Link:
    """
    A device.

    @ivar name: empty when the message does not say it.
    @ivar up: switched on by the administrator.
    @ivar running: and able to carry packets.
    """

    index: int
    name: str
    up: bool
    running: bool
    loopback: bool
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """
    An address of global scope.

    @ivar text: as C{ipaddress} writes it.
    @ivar usable: neither tentative nor deprecated nor a duplicate.
    """

    index: int
    text: str
    usable: bool
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """
    One next hop of a unicast route in the main table.

    @ivar index: the device it leaves by.
    @ivar metric: the lower the better.
    @ivar gateway: its octets; empty for a network that is on the link.
    """

    index: int
    destination: IPNetwork
    metric: int
    gateway: bytes


@dataclass(frozen=True, slots=True)
class RouteChange:
    """
    @ivar hops: all next hops of one route.
    @ivar replaces: it takes the place of the routes with the same destination and metric.
    """

    hops: tuple[Route, ...]
    gone: bool = False
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class DumpEnded:
    """
    @ivar error: errno; 0 when all has been said.
    """

    error: int


@dataclass(frozen=True, slots=True)
class Overrun:
    """
    Messages were lost.
    """


Said = Link | Address | RouteChange | DumpEnded | Overrun


@dataclass(frozen=True, slots=True)
class Message:
    """
    @ivar port: who had asked; 0 for what nobody has asked for.
    @ivar sequence: of the request.
    @ivar interrupted: the tables changed while they were being told, so something may be missing.
    @ivar said: None when it is nothing that is wanted here.
    """

    port: int
    sequence: int
    interrupted: bool
    said: Said | None


def request(asked: Asked, sequence: int) -> bytes:
    """
    The octets that ask for everything of a kind.

    The bodies are as C{NETLINK_GET_STRICT_CHK} wants them; then the kernel leaves out other tables than the main one.

    @param sequence: comes back in the answers.
    """
    if asked is Asked.LINKS:
        kind, body = _GET_LINK, _LINK.pack(0, 0, 0, 0, 0)
    elif asked is Asked.ADDRESSES:
        kind, body = _GET_ADDRESS, _ADDRESS.pack(0, 0, 0, 0, 0)
    else:
        family = socket.AF_INET if asked is Asked.ROUTES4 else socket.AF_INET6
        kind, body = _GET_ROUTE, _ROUTE.pack(family, 0, 0, 0, _TABLE_MAIN, 0, 0, 0, 0)
    return _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | _DUMP, sequence, 0) + body


def parse(datagram: bytes) -> Iterator[Message]:
    """
    The messages of one datagram from the kernel, in their order.  What stands behind a broken header is left out.
    """
    at = 0
    while len(datagram) - at >= _HEADER.size:
        length, kind, flags, sequence, port = _HEADER.unpack_from(datagram, at)
        if length < _HEADER.size or length > len(datagram) - at:
            return
        body = datagram[at + _HEADER.size : at + length]
        said = _parse_body(kind, flags, body)
        yield Message(port, sequence, bool(flags & _DUMP_INTERRUPTED), said)
        at += _aligned(length)


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _parse_body(kind: int, flags: int, body: bytes) -> Said | None:
    try:
        if kind in (_NEW_LINK, _DEL_LINK):
            return _link(body, kind == _DEL_LINK)
        if kind in (_NEW_ADDRESS, _DEL_ADDRESS):
            return _address(body, kind == _DEL_ADDRESS)
        if kind in (_NEW_ROUTE, _DEL_ROUTE):
            return _route(body, kind == _DEL_ROUTE, bool(flags & _REPLACE))
        if kind in (_DONE, _ERROR):
            # Old kernels end a dump without a code.
            return DumpEnded(abs(_CODE.unpack_from(body)[0]) if body else 0)
    except (struct.error, ValueError):
        return None
    return Overrun() if kind == _OVERRUN else None


def _attributes(body: bytes, at: int) -> dict[int, bytes]:
    """
    By their types; of several the last one.  A broken attribute ends them.
    """
    found = {}
    while len(body) - at >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if length < _ATTRIBUTE.size or length > len(body) - at:
            break
        found[kind & _TYPE_MASK] = body[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)
    return found


def _number(attributes: dict[int, bytes], kind: int, default: int) -> int:
    value: int = _NUMBER.unpack(attributes[kind])[0] if kind in attributes else default
    return value


def _link(body: bytes, gone: bool) -> Link | None:
    family, _, index, flags, _ = _LINK.unpack_from(body)
    if family != 0 or index <= 0:
        return None  # a bridge tells of its ports like this: one that leaves it is not gone
    attributes = _attributes(body, _LINK.size)
    name = attributes.get(_IFLA_NAME, b"").partition(b"\0")[0].decode("utf-8")
    if not name.isprintable():
        raise ValueError("a name that is no text")
    state = attributes.get(_IFLA_OPERSTATE, b"\0")
    running = flags & _IS_UP and flags & _IS_RUNNING and len(state) == 1 and state[0] in _OPERSTATES
    return Link(index, name, bool(flags & _IS_UP), bool(running), bool(flags & _IS_LOOPBACK), gone)


def _address(body: bytes, gone: bool) -> Address | None:
    family, _, short_flags, scope, index = _ADDRESS.unpack_from(body)
    attributes = _attributes(body, _ADDRESS.size)
    # On a point-to-point link the other one is the peer's.
    octets = attributes.get(_IFA_LOCAL, attributes.get(_IFA_ADDRESS, b""))
    if scope != _SCOPE_GLOBAL or index == 0 or len(octets) != _FAMILIES.get(family):
        return None
    flags = _number(attributes, _IFA_FLAGS, short_flags)
    unfit = _DAD_FAILED | _DEPRECATED | (0 if flags & _OPTIMISTIC else _TENTATIVE)
    return Address(index, str(ipaddress.ip_address(octets)), not flags & unfit, gone)


def _route(body: bytes, gone: bool, replaces: bool) -> RouteChange | None:
    family, length, _, _, table, _, _, kind, flags = _ROUTE.unpack_from(body)
    if family not in _FAMILIES:
        return None
    attributes = _attributes(body, _ROUTE.size)
    if _number(attributes, _RTA_TABLE, table) != _TABLE_MAIN or kind != _UNICAST or flags & _CLONED:
        return None
    destination = _network(attributes.get(_RTA_DESTINATION, bytes(_FAMILIES[family])), _FAMILIES[family], length)
    metric = _number(attributes, _RTA_PRIORITY, 0)
    if _RTA_MULTIPATH in attributes:
        found = list(_hops(attributes[_RTA_MULTIPATH]))
    else:
        found = [(_number(attributes, _RTA_DEVICE, 0), attributes.get(_RTA_GATEWAY, b""))]
    hops = tuple(Route(index, destination, metric, gateway[:16]) for index, gateway in found if index > 0)
    return RouteChange(hops, gone, replaces and not gone) if hops else None


def _network(octets: bytes, wanted: int, length: int) -> IPNetwork:
    if len(octets) != wanted:
        raise ValueError("an address of another family")
    return ipaddress.ip_network((octets, length), strict=False)


def _hops(octets: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while len(octets) - at >= _HOP.size:
        length, _, _, index = _HOP.unpack_from(octets, at)
        if length < _HOP.size or length > len(octets) - at:
            return
        yield index, _attributes(octets[: at + length], at + _HOP.size).get(_RTA_GATEWAY, b"")
        at += _aligned(length)
