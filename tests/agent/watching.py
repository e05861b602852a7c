"""
A watch of networks on a clock that is set by hand, with a source that says what it is told to say; and three devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.agent.devices import Device
from mem_continuity.agent.networks import Change, Networks, Wishes
from mem_continuity.core.policy import AgentPolicy

POLICY = AgentPolicy()
SETTLE = POLICY.network_settle


def device(
    name: str,
    index: int = 5,
    metric: int | None = 100,
    addresses: tuple[str, ...] = ("192.0.2.7",),
    running: bool = True,
    length: int = 0,
) -> Device:
    return Device(index, name, running, name == "lo", addresses, None if metric is None else (-length, metric))


WLAN = device("wlan0", 3, 600, ("192.0.2.3",))
ETH = device("eth0", 2, 100, ("192.0.2.2",))
WWAN = device("wwan0", 4, 700, ("192.0.2.4", "2001:db8::4"))


class FakeSource:
    """
    Says what it is told to.
    """

    def __init__(self, error: OSError | None = None) -> None:
        self.looked = False
        self.known: tuple[Device, ...] = ()
        self.looks = 0
        self.running = False
        self._error = error
        self._changed: Callable[[], None] = lambda: None

    def start(self, changed: Callable[[], None]) -> None:
        if self._error is not None:
            raise self._error
        self.running = True
        self._changed = changed

    def stop(self) -> None:
        self.running = self.looked = False

    def look(self) -> None:
        self.looks += 1

    def devices(self) -> Iterable[Device]:
        return self.known

    def say(self, *devices: Device) -> None:
        self.looked = True
        self.known = devices
        self._changed()


class NetworksCase(SynchronousTestCase):
    """
    A watch, with everything that it has told.
    """

    def begin(self, policy: AgentPolicy = POLICY, wishes: Wishes | None = None) -> None:
        self.reactor = Clock()
        self.slept = 0.0
        self.source = FakeSource()
        self.networks = Networks(
            self.reactor,
            self.source,
            policy=policy,
            wishes=wishes,
            elapsed=lambda: self.reactor.seconds() + self.slept,
            awake=self.reactor.seconds,
        )
        self.told: list[str] = []
        self.networks.subscribe(self.heard)
        self.networks.start()

    def heard(self, change: Change) -> None:
        words = [change.kind.name, *([change.name] if change.name else []), *change.addresses]
        self.told.append(f"{' '.join(words)} | {self.names()}")

    def names(self) -> str:
        return " ".join(one.name for one in self.networks.ranked())

    def rest(self) -> None:
        """
        A minute in which nothing happens.
        """
        self.reactor.pump([0.5] * 120)

    def assert_told(self, *lines: str) -> None:
        """
        Exactly this since the last time.
        """
        told, self.told = self.told, []
        self.assertEqual(told, list(lines))
