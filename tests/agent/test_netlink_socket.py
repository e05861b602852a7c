"""
Tests of L{mem_continuity.agent.netlink_socket}, with the kernel: network namespaces whose devices, addresses and routes are
changed with C{ip}.  They need root, and fail without.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from mem_continuity.agent.devices import literal_addresses
from mem_continuity.agent.netlink_socket import NetlinkSource
from mem_continuity.agent.networks import Change, Kind, Network, Networks, Wishes, watch_networks
from mem_continuity.core.policy import AgentPolicy
from tests.agent.netlink_octets import DEL_LINK, link
from tests.netlab import namespaces

reactor: Any = _reactor
POLICY = AgentPolicy(network_settle=0.1)
SERVER = "198.51.100.9"


class NamespaceCase(TestCase):
    """
    A namespace with two devices C{wlan0} and C{eth0}, whose other ends are C{air} and C{wire}, and what a watch inside tells.
    """

    timeout = 30

    def setUp(self) -> None:
        self.place = namespaces.create("networks", namespaces.next_serial())
        self.addCleanup(namespaces.delete, self.place)
        self.ip(
            "link add wlan0 type veth peer name air",
            "link add eth0 type veth peer name wire",
            "link set air up",
            "link set wire up",
        )
        self.told: list[Change] = []
        self.lines: list[str] = []
        self._waiting: tuple[Callable[[], bool], Deferred[None]] | None = None

    def ip(self, *commands: str) -> None:
        """
        Run commands of C{ip} inside, one after the other, in a single process.
        """
        namespaces.ip("-n", self.place, batch=list(commands))

    def configure(self, device: str, net: int, metric: int) -> None:
        self.ip(
            f"address add 10.0.{net}.2/24 dev {device}",
            f"link set {device} up",
            f"route add default via 10.0.{net}.1 dev {device} metric {metric}",
        )

    def begin(self, wishes: Wishes | None = None, policy: AgentPolicy = POLICY, server: str = "") -> Deferred[None]:
        """
        Watch, inside.

        @return: fires when the first look is done.
        """
        with namespaces.inside(self.place):
            self.source = NetlinkSource(reactor, literal_addresses([server]), policy)
            self.networks = Networks(reactor, self.source, wishes=wishes, policy=policy)
            self.networks.subscribe(self.heard)
            self.networks.start()
        self.addCleanup(self.networks.stop)
        return self.networks.ready()

    def heard(self, change: Change) -> None:
        self.told.append(change)
        self.lines.append(f"{change.kind.name} {change.name} {' '.join(change.addresses)}".strip())
        self.look_up()

    def look_up(self) -> None:
        if self._waiting is not None and self._waiting[0]():
            waiting, self._waiting = self._waiting[1], None
            waiting.callback(None)

    async def until(self, condition: Callable[[], bool]) -> None:
        """
        Wait until something is so after something was told.
        """
        if not condition():
            waiting: Deferred[None] = Deferred()
            self._waiting = condition, waiting
            await waiting

    async def assert_next(self, *lines: str) -> None:
        """
        Wait for as many things to be told as these, which they must be.
        """
        await self.until(lambda: len(self.lines) >= len(lines))
        told, self.lines = self.lines, []
        self.assertEqual(told, list(lines))

    async def pass_looks(self, count: int = 1) -> None:
        """
        Wait until so many further looks are complete; everything that was changed before has been seen then.
        """
        for _ in range(count):
            before = self.source.looks
            self.networks.look()
            while self.source.looks == before:
                await self.turn()

    async def turn(self) -> None:
        turn: Deferred[None] = Deferred()
        reactor.callLater(0.005, turn.callback, None)
        await turn

    def names(self) -> str:
        return " ".join(one.name for one in self.networks.ranked())


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


class TroubleTests(NamespaceCase):
    """
    Messages that are lost, sockets that fail, and the end.
    """

    async def test_overrun(self) -> None:
        """
        More changes than the socket holds: the last of them is known nevertheless.
        """
        self.configure("wlan0", 1, 600)
        await self.begin()
        self.lines.clear()
        assert self.source._socket is not None
        self.source._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        before = self.source.looks
        # Nothing is read meanwhile.
        flood = [f"10.9.{number // 250}.{number % 250 + 1}/32 dev eth0" for number in range(400)]
        self.ip(*(f"address add {one}" for one in flood))
        dropped = self.dropped()
        self.ip("link del wlan0")
        self.assertGreater(self.dropped(), dropped)
        await self.assert_next("LOST wlan0 10.0.1.2")
        self.assertGreater(self.source.looks, before)

    def dropped(self) -> int:
        """
        How many messages the kernel could not give to the source's socket.
        """
        with namespaces.inside(self.place):
            rows = Path("/proc/thread-self/net/netlink").read_text().splitlines()
        columns = rows[0].split()
        (row,) = (row.split() for row in rows[1:] if row.split()[1:3] == ["0", str(self.source._port)])
        return int(row[columns.index("Drops")])

    def drained(self, reading: socket.socket) -> int | None:
        """
        Read all that is there.

        @return: the errno that ends it.
        """
        try:
            while True:
                reading.recv(65536, socket.MSG_DONTWAIT)
        except OSError as error:
            return error.errno

    async def test_socket_fails(self) -> None:
        """
        It is replaced by another one, and what has changed meanwhile is seen.
        """
        self.configure("wlan0", 1, 600)
        await self.begin()
        self.lines.clear()
        broken = self.source._socket
        assert broken is not None
        descriptor = os.dup(broken.fileno())
        self.addCleanup(os.close, descriptor)
        # Whatever is read next is an error.
        reactor.removeReader(self.source)
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), broken.fileno())
        self.ip("link del wlan0")
        with namespaces.inside(self.place):
            self.source.doRead()
        self.assertIsNot(self.source._socket, broken)
        await self.assert_next("LOST wlan0 10.0.1.2")

    async def test_look_without_end(self) -> None:
        """
        A look whose answers are lost is begun anew, on another socket.
        """
        await self.begin(policy=AgentPolicy(network_look=0.2, network_settle=0.05))
        first = self.source._socket
        assert first is not None
        self.networks.look()
        self.assertEqual(self.drained(first), errno.EAGAIN)
        # The new socket belongs to where the test runs.
        while self.source._socket is first or self.source._fresh is not None:
            await self.turn()
        self.assertEqual(first.fileno(), -1)
        self.assertEqual(self.source.looks, 2)

    async def test_refused(self) -> None:
        """
        Where no other socket can be had it is tried again later, and what was known stays known.
        """
        self.configure("wlan0", 1, 600)
        await self.begin(policy=AgentPolicy(network_look=0.1))
        self.lines.clear()
        tries: list[int] = []
        really_open = self.source._open

        def refuse() -> None:
            tries.append(1)
            if len(tries) < 3:
                raise PermissionError(errno.EPERM, "not permitted")
            with namespaces.inside(self.place):
                really_open()

        self.source._open = refuse  # type: ignore[method-assign]
        self.source._reopen()
        self.assertEqual(self.names(), "wlan0")
        self.ip("link del wlan0")
        await self.assert_next("LOST wlan0 10.0.1.2")
        self.assertEqual(len(tries), 3)

    async def test_lost_descriptor(self) -> None:
        """
        The reactor gives it up: another one follows.
        """
        await self.begin(policy=AgentPolicy(network_look=0.1))
        first = self.source._socket
        reactor.removeReader(self.source)
        self.source.connectionLost(None)  # type: ignore[arg-type]
        self.assertEqual(self.source.fileno(), -1)
        while self.source._socket is None or self.source._fresh is not None:
            await self.turn()
        self.assertIsNot(self.source._socket, first)

    async def test_forged(self) -> None:
        """
        What another process sends to the socket is not believed.
        """
        self.configure("wlan0", 1, 600)
        await self.begin()
        self.lines.clear()
        index = self.networks.ranked()[0].index
        with namespaces.inside(self.place):
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as forger:
                forger.sendto(link(index, kind=DEL_LINK), (self.source._port, 0))
        self.source.doRead()
        await self.pass_looks()
        self.assertEqual((self.lines, self.names()), ([], "wlan0"))

    async def test_stop(self) -> None:
        """
        In the middle of a look too: nothing is left, which trial looks at as well.
        """
        await self.begin()
        self.networks.look()
        self.networks.stop()
        self.assertEqual((self.source.fileno(), list(self.source.devices())), (-1, []))
        self.assertNotIn(self.source, reactor.getReaders())
        self.source.look()
        self.assertNotIn(self.source, reactor.getReaders())


class HereTests(TestCase):
    """
    This host as it is.
    """

    timeout = 30

    async def test_watch(self) -> None:
        """
        The real thing, by its front door; the loopback device is no network, unless it is named.
        """
        networks = watch_networks(reactor, server=["127.0.0.1"], wishes=Wishes(("lo",)))
        self.addCleanup(networks.stop)
        networks.start()
        await networks.ready()
        self.assertIsInstance(networks._source, NetlinkSource)
        self.assertNotIn("lo", [one.name for one in networks.ranked()])  # its addresses are of this host only

    async def test_forbidden(self) -> None:
        """
        Where there is no rtnetlink, here because its family of addresses does not exist, the system is asked every few seconds.
        """
        self.patch(socket, "AF_NETLINK", 9999)
        networks = watch_networks(reactor, server=["127.0.0.1"])
        self.addCleanup(networks.stop)
        networks.start()
        await networks.ready()
        self.assertEqual(networks.ranked(), (Network("default", 0, ("127.0.0.1",), 0, False),))
