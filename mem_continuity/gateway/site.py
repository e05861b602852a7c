"""
What all connections of one gateway share, and the factory around it.
"""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger

from mem_continuity.core.policy import Policy
from mem_continuity.directory.memory import MemoryDirectory
from mem_continuity.gateway.end import GatewayEnd
from mem_continuity.gateway.relayed import Relayed
from mem_continuity.gateway.slots import Slots
from mem_continuity.gateway.upstream import Upstream
from mem_continuity.imap.front import LocalFront
from mem_continuity.interfaces import IRecordDirectory, IUpstreamRouter, IVeto
from mem_continuity.layer.sockets import is_secure
from mem_continuity.server.factory import ContinuityFactory
from mem_continuity.server.hub import Hub
from mem_continuity.server.table import Table


class GatewaySite(ServerFactory):
    """
    Makes a L{GatewayEnd} for each link.

    @ivar upstream: the one upstream of all; None when it depends on who logs in.
    @ivar front: what is said before login when it does.
    @ivar tls: a context factory for STARTTLS; None when there is none.
    @ivar counts: how often what happened, by name.
    """

    _log = Logger()
    noisy = False

    def __init__(
        self,
        reactor: Any,
        policy: Policy,
        *,
        upstream: Upstream | None = None,
        router: IUpstreamRouter | None = None,
        front: LocalFront | None = None,
        tls: Any = None,
        insecure_loopback: bool = False,
        balancer_ends_tls: bool = False,
    ) -> None:
        """
        @param upstream: where everybody's mail is; or else C{router} says whose is where.
        @param insecure_loopback: take passwords without TLS from this host itself.
        @param balancer_ends_tls: what comes without TLS has come by TLS to a balancer, and cannot come from anybody else.
        @raise ValueError: neither or both of C{upstream} and C{router} are given.
        """
        if (upstream is None) == (router is None):
            raise ValueError("a gateway has one upstream, or a router that knows them: give one of the two")
        self.reactor = reactor
        self.policy = policy
        self.upstream = upstream
        self.front = None if upstream is not None else LocalFront() if front is None else front
        self.tls = tls
        self.slots = Slots(policy)
        self.counts: Counter[str] = Counter()
        self._router = router
        self._insecure_loopback = insecure_loopback
        self._balancer_ends_tls = balancer_ends_tls

    def buildProtocol(self, addr: IAddress | None) -> GatewayEnd:
        """
        @see: L{IProtocolFactory<twisted.internet.interfaces.IProtocolFactory>}
        """
        return GatewayEnd(self)

    def route(self, user: bytes) -> Deferred[Upstream | None]:
        """
        The upstream of a user, as the router says.
        """
        router = self._router
        assert router is not None

        def ask() -> Any:
            return router.route(user)

        found: Deferred[Upstream | None] = maybeDeferred(ask)
        return found

    def is_secure(self, transport: Any) -> bool:
        """
        Whether the client is under TLS, here or at a balancer.
        """
        return self._balancer_ends_tls or is_secure(transport)

    def takes_passwords_of(self, peer: Any) -> bool:
        """
        Whether a client at this address may log in without TLS.
        """
        if not self._insecure_loopback:
            return False
        try:
            return ip_address(getattr(peer, "host", "")).is_loopback
        except ValueError:
            return False

    def full(self) -> None:
        """
        A client was refused because there are too many upstream connections.
        """
        self.counts["limit_upstream_connections"] += 1
        self._log.warn(
            "Limit upstream_connections: {count} are open; a client is refused.", count=self.policy.upstream_connections
        )


def gateway(
    site: GatewaySite,
    *,
    veto: IVeto | None = None,
    directory: IRecordDirectory | None = None,
    allow_insecure: bool = False,
    binding: bool = True,
    node: bytes = b"n0",
) -> ContinuityFactory:
    """
    The factory to listen with: continuity in front of the upstreams of a site.

    @param allow_insecure: grant START without TLS: for loopback, or below a balancer that ends TLS.
    @param binding: bind each RESUME to its TLS connection; off only behind a balancer that ends TLS.
    @param veto: asked before a session goes to a new link.
    @param directory: where records live; in this process when None.
    @param node: the name in front of session IDs.
    """
    reactor: IReactorTime = site.reactor
    table = Table(site.policy, MemoryDirectory() if directory is None else directory, reactor)
    hub = Hub(site.policy, reactor, table, site.buildProtocol, Relayed, veto, allow_insecure, binding, node)
    return ContinuityFactory(site, hub)
