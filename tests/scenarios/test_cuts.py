"""
Scenario 10: a scripted dialogue is cut at every octet, in both directions, one by one, and what both ends saw equals the uncut
run.  Twice: in memory, where the octets of the framed stream are counted; and over TLS on loopback, through a relay, where the
link dies at an octet of the ciphertext.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.internet import reactor as running
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory
from twisted.internet.task import Cooperator
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.client import RoamingEndpoint, roamer_of
from mem_continuity.client.roaming import Phase
from mem_continuity.core.policy import RoamingPolicy
from tests.support.certificates import client_context, server_context
from tests.support.cutting_relay import CuttingRelay
from tests.support.dialogue import DRAFT, Dialogue, Transcript, stock
from tests.support.memory_endpoint import JoinedWire, MemoryEndpoint
from tests.support.site import Site
from tests.support.tls_case import TLSTestCase


class FramedCuts(SynchronousTestCase):
    timeout = 120

    def _play(self, cut_after: tuple[int, int] | None) -> tuple[Transcript, JoinedWire, int]:
        site = Site()
        stock(site)
        client = Dialogue(site)
        endpoint = MemoryEndpoint(site)
        roaming = RoamingEndpoint([endpoint], reactor=site.clock, client_id=(b"UUID", b"cut"))
        self.successResultOf(roaming.connect(Factory.forProtocol(lambda: client)))
        roamer, first = roamer_of(client), endpoint.wires[0]

        def watch(word: str, text: str) -> None:
            if word == "live" and roamer.handovers == 0:
                first.cut_after = cut_after
                first.count_from_now()

        roamer.watchers.append(watch)
        for _ in range(200):
            site.settle()
            if client.losses:
                break
            site.clock.advance(0.1)
        site.clock.advance(site.policy.linger + 1)
        site.settle()
        self.assertEqual(roamer.phase, Phase.ENDED, client.heard[-200:])
        self.assertEqual(len(site.factory.table), 0)
        return client.transcript(), first, roamer.handovers

    def test_scenario_10_cut_at_every_framed_octet(self) -> None:
        """
        Every octet of the framed stream, in both directions.
        """
        uncut, wire, handovers = self._play(None)
        self.assertEqual((uncut.stored, handovers), ((DRAFT,), 0))
        self.assertEqual((uncut.client_losses, uncut.server_losses, uncut.logouts), (1, 1, ("joe",)))
        resumed = 0
        for direction in (0, 1):
            self.assertGreater(wire.carried[direction], 200)
            for place in range(wire.carried[direction] + 1):
                cut, _, handovers = self._play((direction, place))
                self.assertEqual(cut, uncut, (direction, place))
                resumed += handovers
        self.assertGreater(resumed, sum(wire.carried) - 60)


class TLSCuts(TLSTestCase):
    timeout = 120
    AT_ONCE = 16
    """Runs that are under way together."""

    async def _play(self, cut_after: tuple[int, int] | None) -> tuple[Transcript, list[bytes], int]:
        reactor: Any = running
        site = Site(clock=reactor, binding=True)
        stock(site)
        port = reactor.listenSSL(0, site.factory, server_context(), interface="127.0.0.1")
        relay = CuttingRelay(reactor, port.getHost().port)
        client = Dialogue(site)
        context: Any = client_context()
        endpoint = wrapClientTLS(context, TCP4ClientEndpoint(reactor, "127.0.0.1", relay.port))
        policy = RoamingPolicy(backoff_first=0.02, backoff_jitter=0.0)
        roaming = RoamingEndpoint([endpoint], reactor=reactor, policy=policy, client_id=(b"UUID", b"cut"))
        await roaming.connect(Factory.forProtocol(lambda: client))
        roamer = roamer_of(client)

        def watch(word: str, text: str) -> None:
            if word == "live" and roamer.handovers == 0:
                relay.pairs[0].count_from_now(cut_after)

        roamer.watchers.append(watch)
        await client.done
        await port.stopListening()
        await site.factory.shutdown()
        await relay.close()
        return client.transcript(), relay.pairs[0].seen, roamer.handovers

    async def test_scenario_10_cut_at_every_octet_of_the_ciphertext(self) -> None:
        """
        Every octet of what the first link carries under TLS from START on, in both directions.
        """
        uncut, seen, handovers = await self._play(None)
        self.assertEqual((uncut.stored, handovers), ((DRAFT,), 0))
        places = []
        for direction, octets in enumerate(seen):
            self.assertGreater(len(octets), 300)
            places += [(direction, place) for place in range(len(octets) + 1)]
        resumed = 0

        async def one(place: tuple[int, int]) -> None:
            nonlocal resumed
            cut, _, handovers = await self._play(place)
            self.assertEqual(cut, uncut, place)
            resumed += handovers

        def work(mine: Iterator[tuple[int, int]]) -> Iterator[Deferred[None]]:
            for place in mine:
                yield Deferred.fromCoroutine(one(place))

        shared = iter(places)
        workers = Cooperator()
        self.addCleanup(workers.stop)
        await gatherResults([workers.coiterate(work(shared)) for _ in range(self.AT_ONCE)], consumeErrors=True)
        self.assertGreater(resumed, 0.9 * len(places))
