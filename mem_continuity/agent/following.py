"""
From the networks of this host to the paths of an account.

Invariants: a path is bound to its network's device, or, where the system does not let us, to an address of it; so a connection
that is known by the name of a network goes by that network.  Who has networks ignored goes by none of them, also when there is no
other: nothing is left to the system's choice then.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import NoRouteError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from mem_continuity.agent.account import Account
from mem_continuity.agent.accounts import AccountSpec
from mem_continuity.agent.binding import binding_of
from mem_continuity.agent.dialing import Dialer
from mem_continuity.agent.networks import Network, Wishes, watch_networks
from mem_continuity.client.paths import Path
from mem_continuity.core.policy import AgentPolicy


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@implementer(IStreamClientEndpoint)
class _Nowhere:
    """
    The way of who has no network that may be used.
    """

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @see: L{IStreamClientEndpoint.connect<twisted.internet.interfaces.IStreamClientEndpoint.connect>}
        """
        return fail(NoRouteError(string="there is no network but such as are ignored"))


def path_of(dialer: Dialer, network: Network) -> Path:
    """
    The path by a network, as it is now: its addresses may be others later.
    """
    device, source = binding_of(network, dialer.server.host)
    return dialer.path(network.name, device=device, source=source)


def follow_networks(
    reactor: Any, account: Account, spec: AccountSpec, dialer: Dialer, limits: AgentPolicy
) -> Callable[[], object]:
    """
    Prepare an account to follow the networks of this host.  A server on this host itself is reached by none of them.

    @return: what begins it.
    @raise ValueError: a pattern cannot be used.
    """
    wishes = Wishes(order=spec.networks, metered=spec.metered, ignored=spec.ignored)
    host = spec.server.host
    if _is_here(host):
        return lambda: None
    watch = watch_networks(reactor, server=(host,), wishes=wishes, policy=limits)
    nowhere = Path("none", _Nowhere()) if spec.ignored else None
    return lambda: account.follow(watch, lambda network: path_of(dialer, network), nowhere)
