"""
Tests of L{mem_continuity.agent.netlink_socket}, with the kernel: messages that are lost, sockets that fail, floods, names that
nobody expects, and this host as it is.
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mem_continuity.agent.binding import binding_of
from mem_continuity.agent.netlink_socket import NetlinkSource
from mem_continuity.agent.networks import Network, Wishes, watch_networks
from mem_continuity.core.policy import AgentPolicy
from tests.agent.namespace_case import NamespaceCase, reactor
from tests.agent.netlink_octets import DEL_LINK, link
from tests.netlab import namespaces


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

    async def test_flood(self) -> None:
        """
        Thousands of changes of no concern while a network is lost and comes back: both are told once, in time, and others have
        their turn meanwhile.
        """
        self.configure("wlan0", 1, 600)
        await self.begin()
        await self.assert_next("APPEARED wlan0 10.0.1.2")
        turns = [0.0]
        longest = 0.0
        steps = [f"address {word} 10.9.0.{number}/32 dev eth0" for number in range(1, 200) for word in ("add", "del")] * 5
        running = deferToThread(self.ip, *steps, "link set wlan0 down", *steps)
        while not running.called:
            turns.append(reactor.seconds())
            await self.turn()
            longest = max(longest, reactor.seconds() - turns[-1])
        await running
        await self.assert_next("LOST wlan0 10.0.1.2")
        self.configure_again("wlan0", 1, 600)
        await self.assert_next("APPEARED wlan0 10.0.1.2")
        self.assertGreater(len(turns), 3)
        self.assertLess(longest, 1.0)

    def configure_again(self, device: str, net: int, metric: int) -> None:
        self.ip(f"link set {device} up", f"route add default via 10.0.{net}.1 dev {device} metric {metric}")

    async def test_odd_names(self) -> None:
        """
        A name that looks like a pattern, and one that is not ASCII: each is a network, can be named, and can be bound to.
        """
        self.ip("link set wlan0 name w[l]*", "link set eth0 name wl\u00e4n")
        self.configure("w[l]*", 1, 600)
        self.configure("wl\u00e4n", 2, 700)
        await self.begin(Wishes(("wl\u00e4*", "w[[]l*")))
        await self.assert_next("APPEARED wl\u00e4n 10.0.2.2", "APPEARED w[l]* 10.0.1.2")
        with namespaces.inside(self.place):
            for one in self.networks.ranked():
                self.assertEqual(binding_of(one, "192.0.2.1"), (one.name, None))

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
