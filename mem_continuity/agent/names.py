"""
The addresses of an account's server, remembered: a session that seeks its next link does not wait for a name server.

When a host leaves a network, the name servers that it knows are most often those of that network, and cannot be reached from the
next one for as long as the system has no others: a look-up then takes five seconds or more, and blocks a thread.

Invariants: what was found last is used at once while it is fresh, and otherwise when there is no better answer in time; every
use begins a look-up whose answer counts for the next one.  So many look-ups of one name are under way as the policy says, and
the answer to one of them is for everybody who waits.  Nothing is written to a disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IHostnameResolver, IHostResolution, IResolutionReceiver
from zope.interface import implementer

from mem_continuity.core.policy import AgentPolicy


@implementer(IHostnameResolver)
class RememberedNames:
    """
    A resolver in front of the reactor's.  Made once for each account.
    """

    def __init__(self, reactor: Any, policy: AgentPolicy) -> None:
        """
        @param reactor: its C{nameResolver} is asked.
        @param policy: for C{name_fresh}, C{name_patience} and C{name_lookups}.
        """
        self._reactor = reactor
        self._policy = policy
        self._names: dict[tuple[str, int], _Name] = {}

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """
        @see: L{IHostnameResolver.resolveHostName}
        """
        resolution = _Resolution(hostName, resolutionReceiver)
        resolutionReceiver.resolutionBegan(resolution)
        if (hostName, portNumber) not in self._names:

            def look_up(receiver: IResolutionReceiver) -> None:
                self._reactor.nameResolver.resolveHostName(receiver, hostName, portNumber, addressTypes, transportSemantics)

            self._names[hostName, portNumber] = _Name(self._reactor, self._policy, look_up)
        self._names[hostName, portNumber].find(resolution)
        return resolution


@implementer(IHostResolution)
class _Resolution:
    """
    Somebody who asks.
    """

    def __init__(self, name: str, receiver: IResolutionReceiver) -> None:
        self.name = name
        self.timer: IDelayedCall | None = None
        self._receiver: IResolutionReceiver | None = receiver

    def cancel(self) -> None:
        self._receiver = None

    def answer(self, addresses: Sequence[IAddress]) -> None:
        timer, self.timer = self.timer, None
        if timer is not None and timer.active():
            timer.cancel()
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            for one in addresses:
                receiver.addressResolved(one)
            receiver.resolutionComplete()


class _Name:
    """
    What is known of one name.
    """

    def __init__(self, clock: Any, policy: AgentPolicy, look_up: Callable[[IResolutionReceiver], None]) -> None:
        self._clock = clock
        self._policy = policy
        self._look_up = look_up
        self._known: tuple[IAddress, ...] = ()
        self._found_at = float("-inf")
        self._under_way = 0
        self._waiting: list[_Resolution] = []

    def find(self, resolution: _Resolution) -> None:
        fresh = self._known and self._clock.seconds() - self._found_at <= self._policy.name_fresh
        if fresh:
            resolution.answer(self._known)
        else:
            self._waiting.append(resolution)
            if self._known:
                resolution.timer = self._clock.callLater(self._policy.name_patience, self._too_slow, resolution)
        if self._under_way < self._policy.name_lookups:
            self._under_way += 1
            self._look_up(_Receiver(self._found))

    def _too_slow(self, resolution: _Resolution) -> None:
        self._waiting.remove(resolution)
        resolution.answer(self._known)

    def _found(self, addresses: tuple[IAddress, ...]) -> None:
        self._under_way -= 1
        if addresses:
            self._known = addresses
            self._found_at = self._clock.seconds()
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.answer(self._known)


@implementer(IResolutionReceiver)
class _Receiver:
    """
    Who asks the resolver below.
    """

    def __init__(self, found: Callable[[tuple[IAddress, ...]], object]) -> None:
        self._found = found
        self._addresses: list[IAddress] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        return

    def addressResolved(self, address: IAddress) -> None:
        self._addresses.append(address)

    def resolutionComplete(self) -> None:
        self._found(tuple(self._addresses))
