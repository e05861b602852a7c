"""
What networks there are, the best first, and what happens to them.

Invariants:

- A network is one that can be used: its device is up and running, has an address, and a route that leads to the server, or the
  operator names it outright.
- Subscribers see changes in the order in which they happened to L{Networks.ranked}, which is up to date when they are called.
- A loss is told at once, anything better after a short wait: waiting undoes no loss, and good news comes in many pieces.  Only
  where there is none at all, the first is told of at once.
- Once stopped it holds no timer and no socket.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from fnmatch import fnmatchcase
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IReactorTime
from twisted.logger import Logger

from mem_continuity.agent.devices import Device, Source, literal_addresses
from mem_continuity.agent.netlink_socket import NetlinkSource
from mem_continuity.agent.polling import PollingSource
from mem_continuity.agent.sleep import SleepWatch, elapsed
from mem_continuity.core.policy import AgentPolicy

_VIRTUAL = (
    *("docker*", "podman*", "br-*", "veth*", "cni*", "cali*", "flannel*"),
    *("virbr*", "vnet*", "lxc*", "lxdbr*", "vmnet*", "vbox*"),
)
"""Devices that lead into this host."""
_WILD = "*?["
_LONGEST = 64
"""Characters of a pattern; a device's name has 15 at most."""


@dataclass(frozen=True, slots=True)
class Network:
    """
    One that can be used.

    @ivar name: of its device.
    @ivar index: the kernel's number of the device; 0 when the choice of a device is left to the system.
    @ivar addresses: of this host there; literal, of global scope.
    @ivar metric: of its best route towards the server; 0 without one.
    @ivar metered: the operator says so.
    """

    name: str
    index: int
    addresses: tuple[str, ...]
    metric: int
    metered: bool


@dataclass(frozen=True, slots=True)
class Wishes:
    """
    What the operator wants: patterns of device names, as C{fnmatch} has them.

    A pattern that begins with a wildcard names nothing: it takes what is there, but neither makes a metered network better nor
    lets in what leads into this host.  One without any names a device outright: that is taken even without a route.

    @ivar order: the best first; what matches none comes after them.
    @ivar metered: these come last, unless C{order} names them.
    @ivar ignored: never these.
    @raise ValueError: a pattern is empty or too long.
    """

    order: tuple[str, ...] = ()
    metered: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for pattern in (*self.order, *self.metered, *self.ignored):
            if not 0 < len(pattern) <= _LONGEST:
                raise ValueError(f"{pattern!r} is no pattern of device names: it has 1 to {_LONGEST} characters, such as wlan*")

    def rank(self, devices: Iterable[Device]) -> tuple[Network, ...]:
        """
        The networks among some devices, the best first; equals in the order of their indices.
        """
        found = [(self._place(device), device) for device in devices if self._usable(device)]
        found.sort(key=lambda one: (*one[0], one[1].leading or (1, 0), one[1].index))
        return tuple(
            Network(one.name, one.index, one.addresses, one.leading[1] if one.leading else 0, metered)
            for (_, metered), one in found
        )

    def _usable(self, device: Device) -> bool:
        name = device.name
        if not device.running or not device.addresses or _matches(name, self.ignored):
            return False
        naming = [one for one in (*self.order, *self.metered) if one[0] not in _WILD]
        if (device.loopback or _matches(name, _VIRTUAL)) and not _matches(name, naming):
            return False
        return device.leading is not None or name in naming

    def _place(self, device: Device) -> tuple[int, bool]:
        metered = _matches(device.name, self.metered)
        for place, pattern in enumerate(self.order):
            if fnmatchcase(device.name, pattern) and not (metered and pattern[0] in _WILD):
                return place, metered
        return len(self.order), metered


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


class Kind(Enum):
    """
    What may happen.
    """

    APPEARED = auto()
    """A network can be used that could not, or has got further addresses."""
    LOST = auto()
    """A network cannot be used any more, or has lost some of its addresses."""
    RANKED = auto()
    """The networks have another order."""
    WOKE = auto()
    """The machine was asleep: every connection is in doubt."""


@dataclass(frozen=True, slots=True)
class Change:
    """
    @ivar name: of the network that has appeared or was lost.
    @ivar addresses: those that were got or lost; a network that is gone has lost all.
    """

    kind: Kind
    name: str = ""
    addresses: tuple[str, ...] = ()


class Networks:
    """
    The networks of this host.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        source: Source,
        fallback: Source | None = None,
        *,
        wishes: Wishes | None = None,
        policy: AgentPolicy | None = None,
        elapsed: Callable[[], float] = elapsed,
        awake: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        @param source: who knows the devices.
        @param fallback: who is asked when that one cannot be had.
        @param elapsed: see L{SleepWatch}.
        @param awake: see L{SleepWatch}.
        """
        self._clock = clock
        self._first = source
        self._fallback = fallback
        self._source = source
        self._wishes = Wishes() if wishes is None else wishes
        self._policy = AgentPolicy() if policy is None else policy
        self._sleep = SleepWatch(clock, self._woke, self._policy, elapsed, awake)
        self._subscribers: list[Callable[[Change], None]] = []
        self._ranked: tuple[Network, ...] = ()
        self._wanted: tuple[Network, ...] = ()
        self._loss: IDelayedCall | None = None
        self._settle: IDelayedCall | None = None
        self._first_look: IDelayedCall | None = None
        self._waiting: list[Deferred[None]] = []
        self._running = False

    def start(self) -> None:
        """
        Begin to watch.
        """
        if self._running:
            return
        self._running = True
        self._first_look = self._clock.callLater(self._policy.network_look, self._looked)
        self._sleep.start()
        self._source = self._first
        try:
            self._source.start(self._seen)
        except OSError as error:
            if self._fallback is None:
                self.stop()
                raise
            self._log.warn(
                "The system does not tell of networks ({error}): looking every {seconds} s instead",
                error=str(error),
                seconds=self._policy.network_poll,
            )
            self._source = self._fallback
            self._source.start(self._seen)

    def stop(self) -> None:
        """
        Watch no more; who waits for the first look waits no longer.  Subscribers stay, for another L{start}.
        """
        self._running = False
        self._source.stop()
        self._sleep.stop()
        for timer in (self._loss, self._settle):
            _cancel(timer)
        self._loss = self._settle = None
        self._ranked = self._wanted = ()
        self._looked()

    def ready(self) -> Deferred[None]:
        """
        Wait for the first look.

        @return: fires with None, at the latest after C{network_look} seconds.
        """
        if self._running and self._first_look is None:
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def ranked(self) -> tuple[Network, ...]:
        """
        The networks, the best first.
        """
        return self._ranked

    def subscribe(self, callback: Callable[[Change], None]) -> Callable[[], None]:
        """
        Have something called for each change.

        @return: call it to end this.
        """
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)

        return unsubscribe

    def look(self) -> None:
        """
        Look at everything again, now.
        """
        if self._running:
            self._source.look()

    def _woke(self) -> None:
        self._tell(Change(Kind.WOKE))
        self.look()

    def _looked(self) -> None:
        timer, self._first_look = self._first_look, None
        _cancel(timer)
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)

    def _seen(self) -> None:
        """
        The source may know something new.
        """
        self._sleep.look()
        if not self._running or not self._source.looked:
            return
        self._wanted = self._wishes.rank(self._source.devices())
        if self._first_look is not None:
            self._settled()
            self._looked()
            return
        if self._loss is None and any(lost for _, lost in self._losses()):
            if self._policy.network_loss:
                self._loss = self._clock.callLater(self._policy.network_loss, self._lost)
            else:
                self._lost()
        if self._settle is None and self._wanted != self._ranked:
            # Where none is left, the first that can be used is not kept waiting for others.
            self._settle = self._clock.callLater(self._policy.network_settle if self._ranked else 0.0, self._settled)

    def _losses(self) -> list[tuple[Network, tuple[str, ...]]]:
        """
        The networks as they were told of, and the addresses that each has lost since.
        """
        now = {(one.name, one.index): one.addresses for one in self._wanted}
        return [
            (old, tuple(address for address in old.addresses if address not in now.get((old.name, old.index), ())))
            for old in self._ranked
        ]

    def _lost(self) -> None:
        _cancel(self._loss)
        self._loss = None
        losses = self._losses()
        left = (replace(old, addresses=tuple(one for one in old.addresses if one not in lost)) for old, lost in losses)
        self._ranked = tuple(network for network in left if network.addresses)
        for old, lost in losses:
            if lost:
                self._tell(Change(Kind.LOST, old.name, lost))

    def _settled(self) -> None:
        _cancel(self._settle)
        self._settle = None
        self._lost()
        before, self._ranked = self._ranked, self._wanted
        had = {one.name: one.addresses for one in before}
        changes = []
        for one in self._ranked:
            got = tuple(address for address in one.addresses if address not in had.get(one.name, ()))
            if got:
                changes.append(Change(Kind.APPEARED, one.name, got))
        if [one.name for one in before] != [one.name for one in self._ranked if one.name in had]:
            changes.append(Change(Kind.RANKED))
        for change in changes:
            self._tell(change)

    def _tell(self, change: Change) -> None:
        for subscriber in list(self._subscribers):
            if not self._running:
                return
            if subscriber in self._subscribers:
                with self._log.failuresHandled("Telling of a network failed:"):
                    subscriber(change)


def _cancel(timer: IDelayedCall | None) -> None:
    if timer is not None and timer.active():
        timer.cancel()


def watch_networks(
    reactor: Any, *, server: Sequence[str] = (), wishes: Wishes | None = None, policy: AgentPolicy | None = None
) -> Networks:
    """
    The networks of this host, by the best means that the system has.

    @param reactor: the running one.
    @param server: its addresses where they are known: then a route to one of them counts as much as a default route.  Names in
        here are left out.
    """
    policy = AgentPolicy() if policy is None else policy
    targets = literal_addresses(server)
    polling = PollingSource(reactor, targets, policy)
    has_descriptors: bool = IReactorFDSet.providedBy(reactor)
    if sys.platform == "linux" and has_descriptors:
        return Networks(reactor, NetlinkSource(reactor, targets, policy), polling, wishes=wishes, policy=policy)
    return Networks(reactor, polling, wishes=wishes, policy=policy)
