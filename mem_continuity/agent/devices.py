"""
The devices of this host, put together from what is said of links, addresses and routes.

Invariants: the memory is bounded by the policy, whatever is said; of routes only those are kept that can lead to the server.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mem_continuity.agent.netlink import Address, Link, Route, RouteChange, Said
from mem_continuity.core.policy import AgentPolicy

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_HALF = 1
"""Prefix length: two routes to the halves of everything are how a VPN outdoes a default route without replacing it."""


@dataclass(frozen=True, slots=True)
class Device:
    """
    @ivar index: the kernel's number; 0 for no particular one.
    @ivar running: switched on, with a carrier.
    @ivar addresses: usable ones of global scope.
    @ivar leading: how well its best route towards the server does against others, the smaller the better: minus its prefix
        length, and its metric.  None when no route goes by it that has an address of its family.
    """

    index: int
    name: str
    running: bool
    loopback: bool
    addresses: tuple[str, ...]
    leading: tuple[int, int] | None


class Source(Protocol):
    """
    Who knows the devices: L{NetlinkSource<mem_continuity.agent.netlink_socket.NetlinkSource>} and
    L{PollingSource<mem_continuity.agent.polling.PollingSource>}.

    @ivar looked: everything has been looked at once.
    """

    looked: bool

    def start(self, changed: Callable[[], None]) -> None:
        """
        Begin to watch.

        @param changed: called when something may be different.
        @raise OSError: it cannot be done here.
        """

    def stop(self) -> None:
        """
        Watch no more: no timer and no socket is left.
        """

    def look(self) -> None:
        """
        Look at everything again.
        """

    def devices(self) -> Iterable[Device]:
        """
        What is known now.
        """


def literal_addresses(hosts: Sequence[str]) -> tuple[IPAddress, ...]:
    """
    Those that are addresses; names are left out.
    """
    found = []
    for host in hosts:
        try:
            found.append(ipaddress.ip_address(host.partition("%")[0]))
        except ValueError:
            continue
    return tuple(found)


class Table:
    """
    What has been said so far.
    """

    def __init__(self, targets: Sequence[IPAddress], policy: AgentPolicy) -> None:
        """
        @param targets: addresses of the server: a route to one of them is as good as a default route.
        """
        self._targets = targets
        self._policy = policy
        self._links: dict[int, Link] = {}
        self._addresses: dict[int, dict[str, bool]] = {}
        self._routes: dict[Route, None] = {}

    def apply(self, said: Said) -> bool:
        """
        Take one message in.

        @return: whether the kernel may have dropped something at the same time without saying so: with a device that goes
            down, and with an address, routes go silently.
        """
        if isinstance(said, Link):
            return self._apply_link(said)
        if isinstance(said, Address):
            return self._apply_address(said)
        if isinstance(said, RouteChange):
            return self._apply_route(said)
        return False

    def _apply_link(self, link: Link) -> bool:
        known = self._links.get(link.index)
        if link.gone:
            self._links.pop(link.index, None)
            self._addresses.pop(link.index, None)
            self._drop_routes(link.index)
            return known is not None
        if not link.up:
            self._drop_routes(link.index)
        if known is None:
            # An event of a device that is unknown here and that is not named tells nothing.
            if link.name and len(self._links) < self._policy.network_devices:
                self._links[link.index] = link
            return False
        name = link.name or known.name
        self._links[link.index] = Link(link.index, name, link.up, link.running, link.loopback)
        return known.up != link.up or known.running != link.running

    def _apply_address(self, address: Address) -> bool:
        if address.gone:
            return self._addresses.get(address.index, {}).pop(address.text, None) is not None
        if address.index not in self._addresses and len(self._addresses) >= self._policy.network_devices:
            return False
        known = self._addresses.setdefault(address.index, {})
        if address.text in known or len(known) < self._policy.network_addresses:
            known[address.text] = address.usable
        return False

    def _apply_route(self, change: RouteChange) -> bool:
        lost = False
        if change.replaces:
            first = change.hops[0]
            for route in [one for one in self._routes if (one.destination, one.metric) == (first.destination, first.metric)]:
                del self._routes[route]
                lost = True
        for route in change.hops:
            if change.gone:
                lost |= route in self._routes
                self._routes.pop(route, None)
            elif self._leads(route) and len(self._routes) < self._policy.network_routes:
                self._routes[route] = None
        return lost

    def _leads(self, route: Route) -> bool:
        return route.destination.prefixlen <= _HALF or any(target in route.destination for target in self._targets)

    def _drop_routes(self, index: int) -> None:
        for route in [one for one in self._routes if one.index == index]:
            del self._routes[route]

    def devices(self) -> list[Device]:
        """
        In the order of their indices.
        """
        best: dict[int, tuple[int, int]] = {}
        versions = {
            index: {6 if ":" in text else 4 for text, usable in texts.items() if usable}
            for index, texts in self._addresses.items()
        }
        for route in self._routes:
            if route.destination.version not in versions.get(route.index, ()):
                continue
            leading = -route.destination.prefixlen, route.metric
            best[route.index] = min(leading, best.get(route.index, leading))
        return [
            Device(
                link.index,
                link.name,
                link.running,
                link.loopback,
                tuple(text for text, usable in self._addresses.get(index, {}).items() if usable),
                best.get(index),
            )
            for index, link in sorted(self._links.items())
        ]
