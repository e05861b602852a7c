"""
Tests of L{mem_continuity.agent.devices}: the table that messages of the kernel are put into.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.agent.devices import Device, Table, literal_addresses
from mem_continuity.agent.netlink import parse
from mem_continuity.core.policy import AgentPolicy
from tests.agent.netlink_octets import (
    DEL_ADDRESS,
    DEL_LINK,
    DEL_ROUTE,
    REPLACE,
    RUNNING,
    UP,
    address,
    link,
    route,
)

indices = st.integers(1, 6)
anything = st.one_of(
    st.builds(link, indices, st.sampled_from(["", "wlan0", "eth0"]), st.sampled_from([0, UP, UP | RUNNING])),
    st.builds(link, indices, kind=st.just(DEL_LINK)),
    st.builds(address, indices, st.sampled_from(["192.0.2.3", "192.0.2.4", "2001:db8::3"]), kind=st.integers(20, 21)),
    st.builds(route, indices, st.sampled_from(["192.0.2.0/24", "0.0.0.0/0", "::/0"]), flags=st.sampled_from([0, REPLACE])),
    st.builds(route, indices, metric=st.integers(0, 2), kind=st.just(DEL_ROUTE)),
    st.builds(route, st.just(0), metric=st.integers(0, 2), hops=st.tuples(indices, indices)),
)


class TableTests(SynchronousTestCase):
    """
    One device C{wlan0} of index 3 with an address and a default route, and what becomes of it.
    """

    def setUp(self) -> None:
        self.table = self.new_table()

    def new_table(self, *server: str) -> Table:
        self.table = Table(literal_addresses(server), AgentPolicy())
        self.say(link(3), address(3, "192.0.2.3"), route(3, metric=600))
        return self.table

    def say(self, *messages: bytes) -> bool:
        """
        @return: whether the last one may have taken something with it.
        """
        lost = False
        for message in messages:
            for one in parse(message):
                assert one.said is not None
                lost = self.table.apply(one.said)
        return lost

    def leading(self) -> tuple[int, int] | None:
        return self.table.devices()[0].leading

    def addresses(self) -> tuple[str, ...]:
        return self.table.devices()[0].addresses

    def test_whole(self) -> None:
        self.assertEqual(self.table.devices(), [Device(3, "wlan0", True, False, ("192.0.2.3",), (0, 600))])

    def test_order_of_messages(self) -> None:
        """
        An address and a route may be told of before their device.
        """
        whole = self.table.devices()
        self.table = Table((), AgentPolicy())
        self.say(route(3, metric=600), address(3, "192.0.2.3"), link(3))
        self.assertEqual(self.table.devices(), whole)

    def test_gone(self) -> None:
        """
        With all that belongs to it: another device may get its index.
        """
        self.assertTrue(self.say(link(3, kind=DEL_LINK)))
        self.assertEqual(self.table.devices(), [])
        self.assertFalse(self.say(link(3, "usb0")))
        self.assertEqual(self.table.devices(), [Device(3, "usb0", True, False, (), None)])

    def test_down(self) -> None:
        """
        Switched off: its routes go without a word.  Without a carrier they stay.
        """
        self.assertTrue(self.say(link(3, flags=UP, state=2)))
        self.assertEqual((self.table.devices()[0].running, self.leading()), (False, (0, 600)))
        self.assertTrue(self.say(link(3, flags=0, state=2)))
        self.assertTrue(self.say(link(3)))
        self.assertEqual((self.table.devices()[0].running, self.leading()), (True, None))

    def test_unnamed_event(self) -> None:
        """
        Keeps the name that is known, and makes no device.
        """
        self.assertFalse(self.say(link(3, "", state=None), link(4, "", state=None)))
        self.assertEqual([one.name for one in self.table.devices()], ["wlan0"])

    def test_renamed(self) -> None:
        self.say(link(3, "wlp3s0"))
        self.assertEqual([one.name for one in self.table.devices()], ["wlp3s0"])

    def test_address_gone(self) -> None:
        self.say(address(3, "192.0.2.33"))
        self.assertTrue(self.say(address(3, "192.0.2.3", kind=DEL_ADDRESS)))
        self.assertEqual((self.addresses(), self.leading()), (("192.0.2.33",), (0, 600)))
        self.assertFalse(self.say(address(3, "192.0.2.3", kind=DEL_ADDRESS)))

    def test_address_becomes_usable(self) -> None:
        """
        And stops to be.
        """
        for flags, usable in ((0x40, False), (0x80, True), (0x20, False)):
            self.say(address(3, "2001:db8::3", flags))
            self.assertEqual("2001:db8::3" in self.addresses(), usable)

    def test_family(self) -> None:
        """
        A route leads nowhere for a device that has no address of its family.
        """
        self.say(address(3, "192.0.2.3", kind=DEL_ADDRESS), address(3, "2001:db8::3"))
        self.assertIsNone(self.leading())
        self.say(route(3, "::/0", 1024))
        self.assertEqual(self.leading(), (0, 1024))

    def test_best_route(self) -> None:
        """
        The smaller metric; the halves of everything before the whole.
        """
        self.say(route(3, metric=100, gateway="192.0.2.1"))
        self.assertEqual(self.leading(), (0, 100))
        self.say(route(3, "128.0.0.0/1", 900))
        self.assertEqual(self.leading(), (-1, 900))

    def test_route_gone(self) -> None:
        """
        The one that is meant.
        """
        self.say(route(3, metric=100))
        self.assertTrue(self.say(route(3, metric=600, kind=DEL_ROUTE)))
        self.assertEqual(self.leading(), (0, 100))
        self.assertFalse(self.say(route(3, metric=601, kind=DEL_ROUTE)))
        self.say(route(3, metric=100, kind=DEL_ROUTE))
        self.assertIsNone(self.leading())

    def test_route_replaced(self) -> None:
        """
        By one of another device, with the same metric.
        """
        self.say(link(4, "eth0"), address(4, "192.0.2.4"), route(3, metric=700))
        self.assertTrue(self.say(route(4, metric=600, flags=REPLACE)))
        self.assertEqual([one.leading for one in self.table.devices()], [(0, 700), (0, 600)])

    def test_multipath(self) -> None:
        self.say(link(4, "eth0"), address(4, "192.0.2.4"), route(0, metric=5, hops=(3, 4)))
        self.assertEqual([one.leading for one in self.table.devices()], [(0, 5), (0, 5)])

    def test_route_to_server(self) -> None:
        """
        It is as good as a default route, and better; to others it counts for nothing.
        """
        self.table = self.new_table("198.51.100.9", "2001:db8::9")
        self.say(route(3, "198.51.100.0/24", 50), address(3, "2001:db8::3"), route(3, "2001:db8::/64", 256))
        self.assertEqual(self.leading(), (-64, 256))
        self.table = self.new_table("203.0.113.9", "imap.example.org")
        self.say(route(3, "198.51.100.0/24", 50))
        self.assertEqual(self.leading(), (0, 600))


class BoundTests(SynchronousTestCase):
    """
    The memory of a table.
    """

    POLICY = AgentPolicy(network_devices=3, network_addresses=2, network_routes=2)

    def feed(self, table: Table, *messages: bytes) -> None:
        for message in messages:
            for one in parse(message):
                if one.said is not None:
                    table.apply(one.said)

    def test_further_ones(self) -> None:
        """
        Are left out; what is known stays, and can change and go.
        """
        table = Table((), self.POLICY)
        for index in range(1, 9):
            self.feed(table, link(index, f"eth{index}"))
            for last in range(9):
                self.feed(table, address(index, f"192.0.{index}.{last}"), route(index, metric=last))
        found = table.devices()
        self.assertEqual([one.name for one in found], ["eth1", "eth2", "eth3"])
        self.assertEqual(found[2].addresses, ("192.0.3.0", "192.0.3.1"))
        self.assertEqual([one.leading for one in found], [(0, 0), None, None])
        self.feed(table, address(3, "192.0.3.1", 0x20), link(1, "eth1", 0), link(9, "new"))
        found = table.devices()
        self.assertEqual([one.leading for one in found], [None, None, None])
        self.assertEqual(found[2].addresses, ("192.0.3.0",))
        self.feed(table, link(2, kind=DEL_LINK), link(9, "new"))
        self.assertEqual([one.name for one in table.devices()], ["eth1", "eth3", "new"])

    @given(st.lists(anything, max_size=200))
    def test_anything(self, messages: list[bytes]) -> None:
        """
        Whatever is said in whatever order: bounded, and never an error.
        """
        table = Table(literal_addresses(["192.0.2.9"]), self.POLICY)
        for message in messages:
            self.feed(table, message)
            self.assertLessEqual(len(table.devices()), 3)
            self.assertLessEqual(len(table._routes), 2)
            self.assertLessEqual(len(table._addresses), 3)
            self.assertLessEqual(max(map(len, table._addresses.values()), default=0), 2)
