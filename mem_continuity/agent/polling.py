"""
The portable source of what devices there are: none by name, but by which addresses this host would reach the server.

A UDP socket is connected, which sends nothing and lets the system choose a source address.

Invariants: no packet is ever sent; one device is told of, and it is no particular one: its index is 0, its name L{NAME}.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from mem_continuity.agent.devices import Device, IPAddress
from mem_continuity.core.policy import AgentPolicy

NAME = "default"
_DISCARD = 9
"""A port, because one must be named."""
_ANYWHERE = ("192.0.2.1", "2001:db8::1")
"""Addresses for documentation (RFC 5737, RFC 3849), which go where the default route goes."""


def source_address(target: str) -> str | None:
    """
    The address of this host from which it would reach another one; None when it would not.

    @param target: a literal address.
    """
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, _DISCARD))
            chosen: str = probe.getsockname()[0]
    except OSError:
        return None
    return chosen.partition("%")[0]


class PollingSource:
    """
    Looks every few seconds.  A L{Source<mem_continuity.agent.devices.Source>}.

    @ivar looked: everything has been looked at once.
    """

    def __init__(
        self,
        clock: IReactorTime,
        targets: Sequence[IPAddress],
        policy: AgentPolicy,
        probe: Callable[[str], str | None] = source_address,
    ) -> None:
        """
        @param targets: addresses of the server; where there are none, anything far away stands for it.
        @param probe: see L{source_address}.
        """
        self.looked = False
        self._clock = clock
        self._targets = tuple(map(str, targets)) or _ANYWHERE
        self._policy = policy
        self._probe = probe
        self._changed: Callable[[], None] = lambda: None
        self._found: tuple[str, ...] = ()
        self._timer: IDelayedCall | None = None

    def start(self, changed: Callable[[], None]) -> None:
        """
        @see: L{Source.start<mem_continuity.agent.devices.Source.start>}
        """
        self._changed = changed
        self._poll()

    def stop(self) -> None:
        """
        @see: L{Source.stop<mem_continuity.agent.devices.Source.stop>}
        """
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        self._changed = lambda: None
        self.looked = False
        self._found = ()

    def look(self) -> None:
        """
        @see: L{Source.look<mem_continuity.agent.devices.Source.look>}
        """
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
            self._poll()

    def devices(self) -> Iterable[Device]:
        """
        @see: L{Source.devices<mem_continuity.agent.devices.Source.devices>}
        """
        return [Device(0, NAME, True, False, self._found, (0, 0))] if self._found else []

    def _poll(self) -> None:
        self._timer = self._clock.callLater(self._policy.network_poll, self._poll)
        answers = map(self._probe, self._targets)
        found = tuple(dict.fromkeys(one for one in answers if one is not None))
        news = found != self._found or not self.looked
        self._found = found
        self.looked = True
        if news:
            self._changed()
