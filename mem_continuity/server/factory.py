"""
The drop-in: a factory around a site's factory.

Invariants:

- While a port listens the sessions live, parked ones too.  When the last port has stopped, or the reactor is about to, they end:
  BYE, one logout each.  A site needs no code for that, whether it is a script, a service or an endpoint string.
- An end waits for the links that there were when it was asked for, and no longer than C{moved_deadline} for any of them.  The
  factory may listen again at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IReactorCore, IReactorTime
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from zope.interface import implementer

from mem_continuity.core.handshake import valid_node
from mem_continuity.core.policy import Policy
from mem_continuity.directory.memory import MemoryDirectory
from mem_continuity.interfaces import IRecordDirectory, IVeto
from mem_continuity.server.commands import carry_out
from mem_continuity.server.hub import Hub
from mem_continuity.server.link import Mode, ServerLink
from mem_continuity.server.resident import Resident
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
        self._crowd: Counter[str] = Counter()
        self._waiters: list[tuple[set[ServerLink], Deferred[None]]] = []
        self._stopped = False
        self._ports = 0
        self._trigger: Any = None

    @property
    def table(self) -> Table:
        """
        The sessions of this factory.
        """
        return self.hub.table

    def doStart(self) -> None:
        """
        One more port listens.

        @see: L{IProtocolFactory.doStart}
        """
        self._ports += 1
        self._stopped = False
        reactor = self.hub.clock
        if self._trigger is None and IReactorCore.providedBy(reactor):
            # A trigger that is added while the reactor stops would come too late to be waited for.
            self._trigger = reactor.addSystemEventTrigger("before", "shutdown", self._reactor_stops)
        self.wrapped.doStart()

    def doStop(self) -> None:
        """
        A port has stopped; with the last one the sessions end (see L{stopped}).

        @see: L{IProtocolFactory.doStop}
        """
        self._ports -= 1
        if self._ports == 0:
            trigger, self._trigger = self._trigger, None
            reactor = self.hub.clock
            if trigger is not None and IReactorCore.providedBy(reactor):
                reactor.removeSystemEventTrigger(trigger)
            self.shutdown()
        self.wrapped.doStop()

    def _reactor_stops(self) -> Deferred[None]:
        self._trigger = None
        return self.shutdown()

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:
        """
        @see: L{IProtocolFactory.buildProtocol}
        """
        if self._stopped:
            return _Refusal()  # the factory of a TLS endpoint cannot take None
        return _TrackedLink(self.hub, self._links, self._crowd, self._link_gone)

    def _link_gone(self, link: ServerLink) -> None:
        for waiter in list(self._waiters):
            links, waiting = waiter
            links.discard(link)
            if not links:
                self._waiters.remove(waiter)
                waiting.callback(None)

    def stopped(self) -> Deferred[None]:
        """
        Wait for the end that the last port's stop began.  Called by whoever stopped a port and wants to know when the sessions
        have ended.

        @return: fires at once while another port listens, else when all links are closed.
        """
        return succeed(None) if self._ports else self.shutdown()

    def shutdown(self) -> Deferred[None]:
        """
        The service stops: BYE to all who can be told, logout once each, what was written is flushed within C{moved_deadline}.
        New connections are refused until a port listens again.  Happens by itself when the last port stops and before the
        reactor does; a second call only waits.

        @return: fires when all links are closed.
        """
        self._stopped = True
        for link in list(self._links):
            self._guarded(self._say_bye, link)
        for served in self.hub.table.all():
            self._guarded(served.retire, b"SHUTDOWN")
        for link in list(self._links):
            if link.served is None or not link.served.draining:
                self._guarded(link.finish)
        waiting: Deferred[None] = Deferred()
        if self._links:
            self._waiters.append((set(self._links), waiting))
        else:
            waiting.callback(None)
        return waiting

    def _guarded(self, step: Callable[..., object], *arguments: object) -> None:
        """
        What goes wrong with one session is no reason to leave the others behind.
        """
        try:
            step(*arguments)
        except Exception:
            self._log.failure("A session did not end as it should.")

    @staticmethod
    def _say_bye(link: ServerLink) -> None:
        served = link.served
        if served is not None and served.link is link:
            if not served.transport.disconnecting and not served.transport.disconnected:
                served.say_bye(b"server shutting down")
            if served.conduit is None:
                served.transport.loseConnection()
        elif link.mode is Mode.PREAMBLE:
            link.finish()

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


class _Refusal(Protocol):
    """
    Closes a connection that came too late.
    """

    def connectionMade(self) -> None:
        """
        Not a word.
        """
        transport: Any = self.transport
        transport.abortConnection()


class _TrackedLink(ServerLink):
    """
    A link that its factory knows of, for an orderly end.
    """

    def __init__(
        self, hub: Hub, links: set[ServerLink], crowd: Counter[str], gone: Callable[[ServerLink], object]
    ) -> None:
        """
        @param crowd: how many links each address has.
        """
        super().__init__(hub, carry_out)
        self._links = links
        self._crowd = crowd
        self._gone = gone
        self._host: str | None = None

    def connectionMade(self) -> None:
        self._links.add(self)
        super().connectionMade()

    def admit(self) -> bool:
        """
        @see: L{ServerLink.admit}; an address may have C{links_per_address} links at a time.
        """
        host, policy = self.peer_host, self.hub.policy
        if self._host is not None or not host:
            return True
        if self._crowd[host] >= policy.links_per_address:
            self.hub.table.counts["limit_links_per_address"] += 1
            self._log.warn("Limit links_per_address: one more from {peer} is refused.", peer=host)
            self.transport.write(b"* BYE [LIMIT] too many connections from your address\r\n")
            self.finish()
            return False
        self._host = host
        self._crowd[host] += 1
        return True

    def connectionLost(self, reason: Any = None) -> None:
        self._links.discard(self)
        host, self._host = self._host, None
        if host is not None:
            self._crowd[host] -= 1
            if not self._crowd[host]:
                del self._crowd[host]
        try:
            super().connectionLost(reason)
        finally:
            self._gone(self)


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

    return ContinuityFactory(factory, Hub(policy, reactor, table, build, Resident, veto, allow_insecure, binding, node))


