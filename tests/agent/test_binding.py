"""
Tests of L{mem_continuity.agent.binding}, and of all that the watch of networks is there for: two real networks, each used because
it was found and told of.  They need root, and fail without.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mem_continuity.agent.binding import binding_of, may_bind
from mem_continuity.agent.networks import Change, Network, Wishes, watch_networks
from mem_continuity.client.paths import DeviceEndpoint
from tests.netlab import Lab

reactor: Any = _reactor


class BindingTests(SynchronousTestCase):
    """
    To the device where that is allowed, or else to an address that suits the server.
    """

    def network(self, name: str, *addresses: str, index: int = 9) -> Network:
        return Network(name, index, addresses, 0, False)

    def test_device(self) -> None:
        self.assertTrue(may_bind("lo"))
        self.assertEqual(binding_of(self.network("lo", "127.0.0.1"), "imap.example.org"), ("lo", None))

    def test_none_in_particular(self) -> None:
        self.assertEqual(binding_of(self.network("lo", "127.0.0.1", index=0), "imap.example.org"), (None, None))

    def test_address(self) -> None:
        """
        Here the device is not there; one that must not be bound to is the same.
        """
        both = self.network("nosuchdevice0", "2001:db8::2", "192.0.2.2", "192.0.2.3")
        self.assertFalse(may_bind(both.name))
        for host, address in (
            ("imap.example.org", "192.0.2.2"),
            ("198.51.100.9", "192.0.2.2"),
            ("2001:db8::9", "2001:db8::2"),
        ):
            self.assertEqual(binding_of(both, host), (None, address))
        self.assertEqual(binding_of(self.network("nosuchdevice0", "2001:db8::2"), "imap.example.org"), (None, "2001:db8::2"))
        self.assertEqual(binding_of(self.network("nosuchdevice0", "192.0.2.2"), "2001:db8::9"), (None, None))


class RealTests(TestCase):
    """
    A handset with C{wlan} and C{xg}, and a server.
    """

    timeout = 60

    def setUp(self) -> None:
        self.lab = Lab()
        self.addCleanup(self.lab.close)
        with self.lab.inside(self.lab.server):
            self.listener = socket.create_server((self.lab.server_address, 0))
        self.addCleanup(self.listener.close)
        self.listener.settimeout(10)
        self.lines: list[str] = []
        self.waiting: Deferred[None] = Deferred()
        with self.lab.inside(self.lab.handset):
            self.networks = watch_networks(reactor, server=[self.lab.server_address], wishes=Wishes(("xg*",)))
            self.networks.subscribe(self.heard)
            self.networks.start()
        self.addCleanup(self.networks.stop)

    def heard(self, change: Change) -> None:
        self.lines.append(f"{change.kind.name} {change.name} {' '.join(change.addresses)}")
        waiting, self.waiting = self.waiting, Deferred()
        waiting.callback(None)

    async def assert_next(self, *lines: str) -> None:
        while len(self.lines) < len(lines):
            await self.waiting
        told, self.lines = self.lines, []
        self.assertEqual(told, list(lines))

    async def source_by(self, network: Network) -> str:
        """
        From which address the server sees a connection by a network.
        """
        device, source = binding_of(network, self.lab.server_address)
        host, port = self.listener.getsockname()
        endpoint = DeviceEndpoint(reactor, host, port, device=device, source=source)
        with self.lab.inside(self.lab.handset):
            connecting = endpoint.connect(Factory.forProtocol(Protocol))
        protocol: Any = await connecting
        accepted, address = self.listener.accept()
        accepted.close()
        protocol.transport.abortConnection()
        return str(address[0])

    async def test_each_network(self) -> None:
        """
        In the operator's order; each leads to the server from its own address, and is told of when it goes and comes back.
        """
        wlan, xg = self.lab.networks["wlan"], self.lab.networks["xg"]
        await self.assert_next(f"APPEARED xg {xg.handset_address}", f"APPEARED wlan {wlan.handset_address}")
        for network, expected in zip(self.networks.ranked(), (xg, wlan), strict=True):
            self.assertEqual(network.name, expected.interface)
            self.assertEqual(await self.source_by(network), expected.handset_address)
        xg.detach()
        await self.assert_next(f"LOST xg {xg.handset_address}")
        (left,) = self.networks.ranked()
        self.assertEqual(await self.source_by(left), wlan.handset_address)
        xg.attach()
        await self.assert_next(f"APPEARED xg {xg.handset_address}")
        self.assertEqual(await self.source_by(self.networks.ranked()[0]), xg.handset_address)
