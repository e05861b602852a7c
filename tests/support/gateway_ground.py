"""
A site with the gateway in front: what L{tests.support.site} has, Twisted's C{IMAP4Server} on mailboxes in memory, is the upstream
here, and clients meet the gateway.  All in memory and in one thread, on a L{Clock}; so
L{RawClient<tests.support.raw_client.RawClient>} and all that is made for a site works for it, too.

Invariants: octets between gateway and upstream move when the clock turns; what an end does not read waits in its strand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectError, ConnectionAborted, ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport
from zope.interface import implementer

from mem_continuity.core.policy import Policy
from mem_continuity.gateway.site import GatewaySite, gateway
from mem_continuity.gateway.upstream import parse_upstream
from tests.support.site import Site

BUFFER = 64 * 1024
"""Octets that a strand holds before it asks its producer to pause."""


class End(FakeTransport):
    """
    One end of a strand.

    @ivar incoming: octets on their way to this end's protocol.
    """

    def __init__(self, strand: Strand, protocol: Any, is_server: bool, host: IPv4Address, peer: IPv4Address) -> None:
        super().__init__(protocol, is_server, host, peer)
        self._strand = strand
        self.incoming = bytearray()
        self.reading = True
        self.other: End
        self._flooded = False
        self._over = False

    def write(self, data: bytes) -> None:
        if self.disconnecting or self._over:
            return
        self.other.incoming += data
        if self.producer is not None and self.streamingProducer and len(self.other.incoming) > BUFFER and not self._flooded:
            self._flooded = True
            self.producer.pauseProducing()
        self._strand.stir()

    def writeSequence(self, iovec: Any) -> None:
        self.write(b"".join(iovec))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self.producer is None
        self.producer, self.streamingProducer = producer, streaming
        self._strand.stir()

    def unregisterProducer(self) -> None:
        self.producer = None
        self._strand.stir()

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True
        self._strand.stir()

    def stopProducing(self) -> None:
        self.loseConnection()

    def loseConnection(self) -> None:
        self.disconnecting = True
        self._strand.stir()

    def abortConnection(self) -> None:
        self.disconnecting = True
        self._strand.clock.callLater(0, self._strand.end, ConnectionAborted())

    def ask(self) -> None:
        """
        Ask a pull producer for more, if there is room.
        """
        if self.producer is not None and not self.streamingProducer and len(self.other.incoming) <= BUFFER:
            self.producer.resumeProducing()
            self._strand.stir()

    def move(self) -> None:
        """
        Hand on what has come.
        """
        if self.incoming and self.reading and not self._over:
            octets = bytes(self.incoming)
            self.incoming.clear()
            self.protocol.dataReceived(octets)
            other = self.other
            if other._flooded:
                other._flooded = False
                if other.producer is not None:
                    other.producer.resumeProducing()

    def lose(self, why: Exception) -> None:
        """
        Tell the protocol, once.
        """
        if not self._over:
            self._over = True
            producer, self.producer = self.producer, None
            if producer is not None:
                producer.stopProducing()  # as a real transport does
            self.protocol.connectionLost(Failure(why))


class Strand:
    """
    A connection of the gateway to the upstream.

    @ivar near: the gateway's end.
    @ivar far: the upstream's end.
    """

    def __init__(self, clock: Clock, near: Any, far: Any, source: IPv4Address, target: IPv4Address) -> None:
        self.clock = clock
        self.near = End(self, near, False, source, target)
        self.far = End(self, far, True, target, source)
        self.near.other, self.far.other = self.far, self.near
        self.ended = False
        self._stirred = False
        far.makeConnection(self.far)
        near.makeConnection(self.near)

    def stir(self) -> None:
        """
        Move octets in the next turn.
        """
        if not self._stirred:
            self._stirred = True
            self.clock.callLater(0, self._move)

    def _move(self) -> None:
        self._stirred = False
        self.far.move()
        self.near.move()
        self.far.ask()
        for end in (self.near, self.far):
            if end.disconnecting and end.producer is None and not end.other.incoming:
                self.end(ConnectionDone())

    def end(self, why: Exception) -> None:
        """
        The connection is gone, for both.
        """
        self.ended = True
        self.near.lose(why)
        self.far.lose(why)


@implementer(IReactorTCP)
class GroundReactor(Clock):
    """
    A clock by which one can connect to the upstream.

    @ivar strands: all connections that were made to it.
    @ivar refuses: it is down.
    @ivar silent: connections to it come about, but nobody is there.
    @ivar deaf: it greets, and reads nothing.
    """

    def __init__(self, upstream: Callable[[Any], Any]) -> None:
        super().__init__()
        self.strands: list[Strand] = []
        self.refuses = self.silent = self.deaf = False
        self._upstream = upstream

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None) -> Any:
        connector = _Connector(IPv4Address("TCP", host, port))
        factory.doStart()
        factory.startedConnecting(connector)
        self.callLater(0, self._connect, connector, factory, IPv4Address("TCP", host, port))
        return connector

    def _connect(self, connector: _Connector, factory: Any, target: IPv4Address) -> None:
        if connector.stopped:
            return
        if self.refuses:
            factory.clientConnectionFailed(connector, Failure(ConnectionRefusedError()))
            return
        source = IPv4Address("TCP", "127.0.0.1", 50000 + len(self.strands))
        near, far = factory.buildProtocol(target), self._upstream(source)
        self.strands.append(Strand(self, near, far, source, target))
        self.strands[-1].near.reading = not self.silent
        self.strands[-1].far.reading = not (self.silent or self.deaf)

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        raise NotImplementedError


class _Connector:
    def __init__(self, target: IPv4Address) -> None:
        self.stopped = False
        self._target = target

    def getDestination(self) -> IPv4Address:
        return self._target

    def stopConnecting(self) -> None:
        self.stopped = True

    def disconnect(self) -> None:
        raise ConnectError


class GatewayGround(Site):
    """
    The ground.  What is the site's (servers, logins, mailboxes) is the upstream's.

    @ivar gateway_site: what the connections of the gateway share.
    @ivar reactor: the clock, as what it really is.
    """

    def __init__(self, policy: Policy | None = None, *, binding: bool = False, veto: Any = None, **options: Any) -> None:
        """
        @param options: for L{GatewaySite}; the site itself is the upstream when they name none.
        """
        reactor = GroundReactor(self.buildProtocol)
        reactor.advance(1000.0)
        super().__init__(policy, clock=reactor)
        self.reactor = reactor
        if "router" not in options:
            options.setdefault("upstream", parse_upstream("tcp:127.0.0.1:143"))
        self.gateway_site = GatewaySite(reactor, self.policy, **options)
        in_clear = bool(options.get("balancer_ends_tls"))
        self.factory = gateway(self.gateway_site, binding=binding, veto=veto, allow_insecure=in_clear)

    @property
    def strands(self) -> list[Strand]:
        """
        All connections to the upstream.
        """
        return self.reactor.strands

    @property
    def open_strands(self) -> list[Strand]:
        """
        Those that stand.
        """
        return [one for one in self.strands if not one.ended]
