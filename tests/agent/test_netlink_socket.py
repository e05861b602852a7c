"""
Tests of L{mem_continuity.agent.netlink_socket}, with the kernel: what it tells of devices, addresses and routes.
"""

from __future__ import annotations

import socket
import time

from mem_continuity.agent.networks import Kind, Network, Wishes
from tests.agent.namespace_case import SERVER, NamespaceCase
from tests.netlab import namespaces


class CourseTests(NamespaceCase):
    """
    What the kernel does, and what is told of it.
    """

    async def test_dump(self) -> None:
        """
        What is there at the beginning.
        """
        self.configure("wlan0", 1, 600)
        self.configure("eth0", 2, 100)
        self.ip("address add 10.0.9.1/24 dev lo")
        await self.begin(Wishes(metered=("eth*",)))
        await self.assert_next("APPEARED wlan0 10.0.1.2", "APPEARED eth0 10.0.2.2")
        wlan, eth = self.networks.ranked()
        self.assertEqual(wlan, Network("wlan0", wlan.index, ("10.0.1.2",), 600, False))
        self.assertEqual(eth, Network("eth0", eth.index, ("10.0.2.2",), 100, True))
        with namespaces.inside(self.place):
            self.assertEqual([wlan.index, eth.index], [socket.if_nametoindex("wlan0"), socket.if_nametoindex("eth0")])

    async def test_step_by_step(self) -> None:
        """
        Neither a device that is up nor an address makes a network, only the route does; and told is all of it at once.
        """
        await self.begin()
        self.ip("link set wlan0 up")
        await self.pass_looks()
        self.ip("address add 10.0.1.2/24 dev wlan0")
        await self.pass_looks()
        self.assertEqual((self.lines, self.names()), ([], ""))
        self.ip("route add default via 10.0.1.1 dev wlan0 metric 600")
        await self.assert_next("APPEARED wlan0 10.0.1.2")

    async def test_better(self) -> None:
        """
        A better one appears, and is lost by its address: the default route goes with it without a word from the kernel.
        """
        self.configure("wlan0", 1, 600)
        await self.begin()
        self.configure("eth0", 2, 100)
        await self.assert_next("APPEARED wlan0 10.0.1.2", "APPEARED eth0 10.0.2.2")
        self.assertEqual(self.names(), "eth0 wlan0")
        self.ip("address del 10.0.2.2/24 dev eth0")
        await self.assert_next("LOST eth0 10.0.2.2")
        self.assertEqual(self.names(), "wlan0")
        self.ip("address add 10.0.2.3/24 dev eth0")
        await self.pass_looks()
        await self.assert_settled()
        self.assertEqual((self.lines, self.names()), ([], "wlan0"))
        self.ip("route add default via 10.0.2.1 dev eth0 metric 100")
        await self.assert_next("APPEARED eth0 10.0.2.3")

    async def assert_settled(self) -> None:
        """
        Wait until nothing waits to be told.
        """
        while self.networks._settle is not None or self.source._soon is not None or self.source._fresh is not None:
            await self.turn()

    async def test_source_of_route(self) -> None:
        """
        One of two addresses goes, and with it the route that was to come from it; older kernels do not say so.
        """
        self.ip(
            "address add 10.0.1.2/24 dev wlan0",
            "address add 10.0.7.2/24 dev wlan0",
            "link set wlan0 up",
            "route add default via 10.0.1.1 dev wlan0 src 10.0.7.2",
        )
        await self.begin()
        await self.assert_next("APPEARED wlan0 10.0.1.2 10.0.7.2")
        self.ip("address del 10.0.7.2/24 dev wlan0")
        await self.until(lambda: not self.networks.ranked())
        lost = [address for change in self.told if change.kind is Kind.LOST for address in change.addresses]
        self.assertEqual(sorted(lost), ["10.0.1.2", "10.0.7.2"])

    async def test_down_and_up(self) -> None:
        """
        Switched off, the routes are gone with it; switched on it has none yet.
        """
        self.configure("wlan0", 1, 600)
        await self.begin()
        self.lines.clear()
        self.ip("link set wlan0 down")
        await self.assert_next("LOST wlan0 10.0.1.2")
        self.ip("link set wlan0 up")
        await self.pass_looks(2)
        await self.assert_settled()
        self.assertEqual(self.lines, [])
        self.ip("route add default via 10.0.1.1 dev wlan0")
        await self.assert_next("APPEARED wlan0 10.0.1.2")

    async def test_carrier(self) -> None:
        """
        A carrier that is lost, and is found again, while address and route stay.
        """
        self.configure("wlan0", 1, 600)
        await self.begin()
        self.lines.clear()
        began = time.monotonic()
        self.ip("link set air down")
        await self.assert_next("LOST wlan0 10.0.1.2")
        self.assertLess(time.monotonic() - began, 5)
        self.ip("link set air up")
        await self.assert_next("APPEARED wlan0 10.0.1.2")

    async def test_device_gone(self) -> None:
        """
        Pulled out, and another one of that name plugged in.
        """
        self.configure("wlan0", 1, 600)
        self.configure("eth0", 2, 100)
        await self.begin()
        self.lines.clear()
        self.ip("link del eth0")
        await self.assert_next("LOST eth0 10.0.2.2")
        old = self.networks.ranked()
        self.ip("link add eth0 type veth peer name wire", "link set wire up")
        self.configure("eth0", 3, 100)
        await self.assert_next("APPEARED eth0 10.0.3.2")
        self.assertEqual((self.names(), len(old)), ("eth0 wlan0", 1))

    async def test_renamed(self) -> None:
        self.configure("wlan0", 1, 600)
        await self.begin()
        self.lines.clear()
        self.ip("link set wlan0 down")
        self.ip("link set wlan0 name wlp2s0")
        self.ip("link set wlp2s0 up", "route add default via 10.0.1.1 dev wlp2s0")
        await self.assert_next("LOST wlan0 10.0.1.2", "APPEARED wlp2s0 10.0.1.2")

    async def test_order_changes(self) -> None:
        """
        By the metrics of routes: with C{replace}, which takes one away without saying so, and with C{del}.
        """
        self.configure("wlan0", 1, 600)
        self.configure("eth0", 2, 700)
        await self.begin()
        self.lines.clear()
        self.assertEqual(self.names(), "wlan0 eth0")
        self.ip("route add default via 10.0.2.1 dev eth0 metric 100")
        await self.assert_next("RANKED")
        self.assertEqual(self.names(), "eth0 wlan0")
        self.ip("route replace default via 10.0.1.1 dev wlan0 metric 100")
        await self.assert_next("RANKED")
        self.assertEqual([(one.name, one.metric) for one in self.networks.ranked()], [("wlan0", 100), ("eth0", 700)])
        self.ip("route del default dev wlan0 metric 100", "route del default dev wlan0 metric 600")
        await self.assert_next("LOST wlan0 10.0.1.2")

    async def test_multipath(self) -> None:
        """
        One route over both.
        """
        self.ip("address add 10.0.1.2/24 dev wlan0", "address add 10.0.2.2/24 dev eth0", "link set wlan0 up", "link set eth0 up")
        await self.begin()
        self.ip("route add default nexthop via 10.0.1.1 dev wlan0 nexthop via 10.0.2.1 dev eth0")
        await self.assert_next("APPEARED wlan0 10.0.1.2", "APPEARED eth0 10.0.2.2")

    async def test_other_tables(self) -> None:
        """
        Routes of other tables, and such that refuse, count for nothing.
        """
        self.ip("address add 10.0.1.2/24 dev wlan0", "link set wlan0 up")
        self.ip("route add default via 10.0.1.1 dev wlan0 table 101", "route add unreachable default metric 9000")
        await self.begin()
        self.ip("route add default via 10.0.1.1 dev wlan0 table 102 metric 7")
        await self.pass_looks()
        await self.assert_settled()
        self.assertEqual((self.lines, self.names()), ([], ""))

    async def test_route_to_server(self) -> None:
        """
        Without a default route, one to the server.
        """
        self.ip("address add 10.0.1.2/24 dev wlan0", "link set wlan0 up", "address add 10.0.2.2/24 dev eth0", "link set eth0 up")
        await self.begin(server=SERVER)
        self.ip("route add 198.51.0.0/16 via 10.0.1.1 dev wlan0", "route add 203.0.113.0/24 via 10.0.2.1 dev eth0")
        await self.assert_next("APPEARED wlan0 10.0.1.2")
        await self.pass_looks()
        self.assertEqual(self.names(), "wlan0")

    async def test_version_6(self) -> None:
        """
        An address is of use when nobody else turned out to have it; and one that is deprecated is not.
        """
        for scope in ("all", "default", "wlan0", "air"):
            namespaces.sysctl(self.place, f"net.ipv6.conf.{scope}.disable_ipv6", "0")
        await self.begin()
        self.ip("link set wlan0 up", "address add 2001:db8::2/64 dev wlan0", "route add default via 2001:db8::1 dev wlan0")
        await self.pass_looks()
        self.assertEqual(self.lines, [])
        await self.assert_next("APPEARED wlan0 2001:db8::2")
        self.ip("address add 2001:db8::3/64 dev wlan0 nodad")
        await self.assert_next("APPEARED wlan0 2001:db8::3")
        self.ip("address change 2001:db8::2/64 dev wlan0 preferred_lft 0")
        await self.assert_next("LOST wlan0 2001:db8::2")
        self.ip("route del default via 2001:db8::1 dev wlan0")
        await self.assert_next("LOST wlan0 2001:db8::3")

    async def test_burst(self) -> None:
        """
        Many changes at once are told of once.
        """
        await self.begin()
        for _ in range(5):
            self.configure("wlan0", 1, 600)
            self.ip("route del default dev wlan0", "address del 10.0.1.2/24 dev wlan0")
        self.configure("wlan0", 1, 600)
        await self.assert_next("APPEARED wlan0 10.0.1.2")
        await self.pass_looks(2)
        await self.assert_settled()
        self.assertEqual(self.lines, [])

    async def test_named_outright(self) -> None:
        self.ip("address add 10.0.1.2/24 dev wlan0", "link set wlan0 up", "address add 10.0.2.2/24 dev eth0", "link set eth0 up")
        await self.begin(Wishes(("eth*", "wlan0")))
        await self.assert_next("APPEARED wlan0 10.0.1.2")
