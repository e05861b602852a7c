"""
Network namespaces whose devices, addresses and routes are changed with C{ip}, and what a watch inside tells.  They need root, and
fail without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from mem_continuity.agent.devices import literal_addresses
from mem_continuity.agent.netlink_socket import NetlinkSource
from mem_continuity.agent.networks import Change, Networks, Wishes
from mem_continuity.core.policy import AgentPolicy
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
