"""
The drop-in: a factory around a site's factory.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from mem_continuity.core.handshake import valid_node
from mem_continuity.core.policy import Policy
from mem_continuity.directory.memory import MemoryDirectory
from mem_continuity.interfaces import IRecordDirectory, IVeto
from mem_continuity.server import imap4
from mem_continuity.server.commands import carry_out
from mem_continuity.server.hub import Hub
from mem_continuity.server.link import Mode, ServerLink
from mem_continuity.server.table import Table


@implementer(IProtocolFactory)
class ContinuityFactory:
    """
    Gives every connection a L{ServerLink}, which binds a protocol of the wrapped factory when it is needed.

    Attributes that it does not have are the wrapped factory's.
    """

    _log = Logger()
    noisy = False

    def __init__(self, wrapped: IProtocolFactory, hub: Hub) -> None:
        self.wrapped = wrapped
        self.hub = hub
        self._links: set[ServerLink] = set()
        self._quiet: Deferred[None] | None = None
        self._ports = 0

    @property
    def table(self) -> Table:
        """
        The sessions of this factory.
        """
        return self.hub.table

    def doStart(self) -> None:
        """
        @see: L{IProtocolFactory.doStart}
        """
        self._ports += 1
        self.wrapped.doStart()

    def doStop(self) -> None:
        """
        @see: L{IProtocolFactory.doStop}; sessions live on until L{shutdown}.
        """
        self._ports -= 1
        self.wrapped.doStop()

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:
        """
        @see: L{IProtocolFactory.buildProtocol}
        """
        if self._quiet is not None:
            return None
        return _TrackedLink(self.hub, self._links, self._link_gone)

    def _link_gone(self) -> None:
        if self._quiet is not None and not self._links and not self._quiet.called:
            self._quiet.callback(None)

    def shutdown(self) -> Deferred[None]:
        """
        The service stops: BYE to all who can be told, logout once each, what was written is flushed within C{moved_deadline}.
        Called by whoever stops the ports; new connections are refused from now on.

        @return: fires when all links are closed.
        """
        if self._quiet is not None:
            waiting: Deferred[None] = Deferred()
            self._quiet.chainDeferred(waiting)
            return waiting
        self._quiet = Deferred()
        for link in list(self._links):
            served = link.served
            if served is not None and served.link is link:
                imap4.say_bye(served.protocol, b"server shutting down")
                if served.conduit is None:
                    served.transport.loseConnection()
            elif link.mode is Mode.PREAMBLE:
                link.finish()
        for served in self.hub.table.all():
            link_of = served.link
            served.end(b"SHUTDOWN")
            if link_of is not None:
                link_of.finish()
        for link in list(self._links):
            link.finish()
        self._link_gone()
        waiting = Deferred()
        self._quiet.chainDeferred(waiting)
        return waiting

    def logPrefix(self) -> str:
        """
        The wrapped factory's, so that a site's logs look as before.
        """
        prefix = getattr(self.wrapped, "logPrefix", None)
        return f"{prefix() if prefix is not None else type(self.wrapped).__name__} (continuity)"

    def __getattr__(self, name: str) -> Any:
        if name in ("wrapped", "hub"):
            raise AttributeError(name)
        return getattr(self.wrapped, name)


class _TrackedLink(ServerLink):
    """
    A link that its factory knows of, for an orderly end.
    """

    def __init__(self, hub: Hub, links: set[ServerLink], gone: Any) -> None:
        super().__init__(hub, carry_out)
        self._links = links
        self._gone = gone

    def connectionMade(self) -> None:
        self._links.add(self)
        super().connectionMade()

    def connectionLost(self, reason: Any = None) -> None:
        self._links.discard(self)
        try:
            super().connectionLost(reason)
        finally:
            self._gone()


def continuous(
    factory: IProtocolFactory,
    *,
    policy: Policy | None = None,
    reactor: IReactorTime | None = None,
    allow_insecure: bool = False,
    binding: bool = True,
    veto: IVeto | None = None,
    directory: IRecordDirectory | None = None,
    node: bytes = b"n0",
) -> ContinuityFactory:
    """
    Let the sessions of a factory's protocols outlive their connections.

    The one changed line of a Twisted mail setup: C{reactor.listenTCP(143, continuous(factory))}.  The factory and its protocols
    stay as they are.

    @param factory: makes the protocols, C{IMAP4Server} or a subclass.
    @param policy: the limits; the defaults of L{Policy} when None.
    @param reactor: the clock; the running reactor when None.
    @param allow_insecure: grant START without TLS: for loopback, or below a balancer that ends TLS.
    @param binding: bind each RESUME to its TLS connection; off only behind a balancer that ends TLS.
    @param veto: asked before a session goes to a new link.
    @param directory: where records live; in this process when None.
    @param node: the name in front of session IDs.
    @raise ValueError: the node's name cannot stand in a session ID.
    """
    if not valid_node(node):
        raise ValueError(f"a node's name is 1 to 32 letters, digits, '-' or '_', not {node!r}")
    if reactor is None:
        from twisted.internet import reactor as running  # not before it is needed: importing installs one

        reactor = IReactorTime(running)
    policy = Policy() if policy is None else policy
    table = Table(policy, MemoryDirectory() if directory is None else directory, reactor)

    def build(address: IAddress) -> IProtocol | None:
        return factory.buildProtocol(address)

    return ContinuityFactory(factory, Hub(policy, reactor, table, build, veto, allow_insecure, binding, node))


