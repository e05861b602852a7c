"""
Tests of L{mem_continuity.agent.netlink}: octets, made and recorded, whole and broken.
"""

from __future__ import annotations

import ipaddress
import struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.agent.netlink import (
    Address,
    Asked,
    DumpEnded,
    Link,
    Overrun,
    Route,
    RouteChange,
    Said,
    parse,
    request,
)
from tests.agent.netlink_octets import (
    DEL_ADDRESS,
    DEL_LINK,
    DEL_ROUTE,
    LOOPBACK,
    REPLACE,
    RUNNING,
    UP,
    address,
    link,
    message,
    recorded,
    route,
)

ANY4, ANY6 = ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")


def said(octets: bytes) -> Said | None:
    (one,) = parse(octets)
    return one.said


class LinkTests(SynchronousTestCase):
    """
    Devices.
    """

    def test_running(self) -> None:
        """
        Up, with a carrier, and said to be so or of unknown state, as tunnels are.
        """
        for state in (6, 0, None):
            self.assertEqual(said(link(4, "wlan0", UP | RUNNING, state)), Link(4, "wlan0", True, True, False))

    def test_not_running(self) -> None:
        """
        Without a carrier, asleep, or with something below that is down.
        """
        for flags, state, up in ((UP, 2, True), (UP | RUNNING, 5, True), (UP | RUNNING, 3, True), (RUNNING, 6, False)):
            self.assertEqual(said(link(4, "wlan0", flags, state)), Link(4, "wlan0", up, False, False))

    def test_loopback_and_gone(self) -> None:
        self.assertEqual(said(link(1, "lo", UP | RUNNING | LOOPBACK)), Link(1, "lo", True, True, True))
        self.assertEqual(said(link(9, "usb0", 0, kind=DEL_LINK)), Link(9, "usb0", False, False, False, True))

    def test_no_name(self) -> None:
        """
        Events of wireless drivers have none.
        """
        self.assertEqual(said(link(4, "", UP | RUNNING, None)), Link(4, "", True, True, False))

    def test_bridge_port(self) -> None:
        """
        A device that leaves a bridge is not gone.
        """
        self.assertIsNone(said(link(4, kind=DEL_LINK, family=7)))

    def test_unfit(self) -> None:
        """
        An index that no device has, and names that are no text.
        """
        for octets in (link(0), link(-3), link(4, "a\nb"), link(4).replace(b"wlan0", b"\xff\xfe\xfd00")):
            self.assertIsNone(said(octets))


class AddressTests(SynchronousTestCase):
    """
    Addresses.
    """

    def test_usable(self) -> None:
        self.assertEqual(said(address(4, "192.0.2.7")), Address(4, "192.0.2.7", True))
        self.assertEqual(said(address(4, "2001:db8::7")), Address(4, "2001:db8::7", True))
        self.assertEqual(said(address(4, "192.0.2.7", kind=DEL_ADDRESS)), Address(4, "192.0.2.7", True, True))

    def test_not_usable(self) -> None:
        """
        Tentative, a duplicate, deprecated; unless it may be used while it is still being looked whether it is a duplicate.
        """
        for flags, usable in ((0x40, False), (0x48, False), (0x08, False), (0x20, False), (0x44, True), (0x01, True)):
            self.assertEqual(said(address(4, "2001:db8::7", flags)), Address(4, "2001:db8::7", usable))

    def test_long_flags(self) -> None:
        """
        Where there are 32 bits of flags, they count.
        """
        self.assertEqual(said(address(4, "2001:db8::7", 0x80, long_flags=0x140)), Address(4, "2001:db8::7", False))

    def test_scope(self) -> None:
        """
        Of the link or of the host only: of no use for reaching a server.
        """
        for scope in (253, 254):
            self.assertIsNone(said(address(4, "fe80::1", scope=scope)))

    def test_point_to_point(self) -> None:
        """
        Ours, not the peer's.
        """
        self.assertEqual(said(address(5, "10.0.0.2", peer="10.0.0.1")), Address(5, "10.0.0.2", True))

    def test_wrong_length(self) -> None:
        octets = message(20, struct.pack("=BBBBI", 2, 24, 0, 0, 4) + struct.pack("=HH", 9, 1) + b"12345\0\0\0")
        self.assertIsNone(said(octets))


class RouteTests(SynchronousTestCase):
    """
    Routes.
    """

    def test_default(self) -> None:
        gateway = bytes([192, 0, 2, 1])
        wanted = RouteChange((Route(4, ANY4, 600, gateway),))
        self.assertEqual(said(route(4, metric=600, gateway="192.0.2.1")), wanted)
        self.assertEqual(said(route(4, "::/0", 1024)), RouteChange((Route(4, ANY6, 1024, b""),)))

    def test_no_metric(self) -> None:
        self.assertEqual(said(route(4)), RouteChange((Route(4, ANY4, 0, b""),)))

    def test_gone_and_replaced(self) -> None:
        hop = (Route(4, ANY4, 0, b""),)
        self.assertEqual(said(route(4, kind=DEL_ROUTE)), RouteChange(hop, gone=True))
        self.assertEqual(said(route(4, flags=REPLACE)), RouteChange(hop, replaces=True))

    def test_multipath(self) -> None:
        self.assertEqual(said(route(0, hops=(4, 5))), RouteChange((Route(4, ANY4, 0, b""), Route(5, ANY4, 0, b""))))

    def test_left_out(self) -> None:
        """
        Other tables, other kinds than unicast, what was only looked up, and what goes nowhere.
        """
        for octets in (
            route(4, table=255),
            route(4, table=51820),
            route(4, route_type=7),
            route(4, route_flags=0x200),
            route(0),
            route(4, "10.0.0.0/33"),
        ):
            self.assertIsNone(said(octets))


class FrameTests(SynchronousTestCase):
    """
    Several messages, ends of dumps, and everything that is broken.
    """

    def test_several(self) -> None:
        found = [one.said for one in parse(link(4) + message(99, b"x") + address(4, "192.0.2.7") + message(4, b""))]
        self.assertEqual(found, [Link(4, "wlan0", True, True, False), None, Address(4, "192.0.2.7", True), Overrun()])

    def test_whose(self) -> None:
        (one,) = parse(message(3, struct.pack("=i", 0), 0x12, 77, 4711))
        self.assertEqual((one.port, one.sequence, one.interrupted, one.said), (4711, 77, True, DumpEnded(0)))

    def test_ends(self) -> None:
        """
        With a code, without one, and with an error.
        """
        self.assertEqual(said(message(3, b"")), DumpEnded(0))
        self.assertEqual(said(message(2, struct.pack("=i", -95) + bytes(16))), DumpEnded(95))

    def test_broken_length(self) -> None:
        """
        What stands in front of a broken header counts.
        """
        for length in (0, 15, 10_000):
            (one,) = parse(link(4) + struct.pack("=IHHII", length, 16, 0, 0, 0) + bytes(40))
            self.assertEqual(one.said, Link(4, "wlan0", True, True, False))

    def test_broken_attributes(self) -> None:
        """
        What stands in front of an attribute of an impossible length counts.
        """
        whole = link(4)[16:]
        for length in (0, 3, 200):
            octets = message(16, whole + struct.pack("=HH", length, 16) + b"\2\0\0\0")
            self.assertEqual(said(octets), Link(4, "wlan0", True, True, False))

    def test_broken_hops(self) -> None:
        """
        Likewise with the next hops of a route.
        """
        for length in (0, 7, 200):
            octets = route(0, hops=(4, 5))
            broken = octets[:-8] + struct.pack("=HBBi", length, 0, 0, 5)
            self.assertEqual(said(broken), RouteChange((Route(4, ANY4, 0, b""),)))

    def test_requests(self) -> None:
        """
        Requests for everything, with their sequence.
        """
        for asked, kind, family in (
            (Asked.LINKS, 18, 0),
            (Asked.ADDRESSES, 22, 0),
            (Asked.ROUTES4, 26, 2),
            (Asked.ROUTES6, 26, 10),
        ):
            octets = request(asked, 99)
            self.assertEqual(struct.unpack_from("=IHHI", octets), (len(octets), kind, 0x301, 99))
            self.assertEqual(octets[16], family)

    @given(st.binary(max_size=400))
    def test_anything(self, octets: bytes) -> None:
        list(parse(octets))

    @given(st.sampled_from([16, 17, 20, 21, 24, 25, 2, 3, 4]), st.binary(max_size=120))
    def test_any_body(self, kind: int, body: bytes) -> None:
        """
        Right headers with anything behind them: one message each.
        """
        self.assertEqual(len(list(parse(message(kind, body)))), 1)


class RecordedTests(SynchronousTestCase):
    """
    What the kernel of this host says, which has one device at least.
    """

    def test_whole(self) -> None:
        """
        The loopback device is among it, nothing is left over, and each of four parts has an end.
        """
        found = [one for datagram in recorded() for one in parse(datagram)]
        names = [one.said.name for one in found if isinstance(one.said, Link)]
        self.assertIn("lo", names)
        self.assertEqual([one.said for one in found if isinstance(one.said, DumpEnded)], [DumpEnded(0)] * 4)
        self.assertEqual({one.sequence for one in found}, {7})

    @given(st.data())
    def test_broken(self, data: st.DataObject) -> None:
        """
        Cut anywhere, with any octets changed.
        """
        octets = bytearray(data.draw(st.sampled_from(recorded())))
        del octets[data.draw(st.integers(0, len(octets))) :]
        for _ in range(data.draw(st.integers(0, 8))):
            if octets:
                octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
        list(parse(bytes(octets)))
