"""
A client endpoint whose connections are L{Wire<tests.support.wires.Wire>}s to a site in memory, with a client's protocol on the
other end of each; they can be cut after any octet of either direction.
"""

from __future__ import annotations

from math import inf
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IProtocol, IProtocolFactory, ISSLTransport, IStreamClientEndpoint
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport
from zope.interface import alsoProvides, implementer

from tests.support.site import Site
from tests.support.wires import Wire


class JoinedWire(Wire):
    """
    A wire with a protocol at the client's end.

    @ivar carried: octets that came through since L{count_from_now}: to the server, to the client.
    @ivar cut_after: where to cut: the direction (0 to the server, 1 to the client) and a number of octets.
    @ivar slow: seconds until the client's end reads what the server's has written; infinite for never.
    """

    def __init__(self, *args: Any) -> None:
        self.client: ClientEnd | None = None
        self.carried = [0, 0]
        self.cut_after: tuple[int, int] | None = None
        self.slow = 0.0
        super().__init__(*args)

    def join(self, protocol: Any) -> None:
        """
        Connect the client's protocol.
        """
        self.client = ClientEnd(self, protocol)
        if ISSLTransport.providedBy(self.transport):
            alsoProvides(self.client, ISSLTransport)
        protocol.makeConnection(self.client)

    def count_from_now(self) -> None:
        self.carried = [0, 0]
        self._check()

    def _through(self, direction: int, octets: bytes) -> bytes:
        if self.cut_after is not None and self.cut_after[0] == direction:
            octets = octets[: max(0, self.cut_after[1] - self.carried[direction])]
        self.carried[direction] += len(octets)
        return octets

    def _check(self) -> None:
        if self.cut_after is not None and self.carried[self.cut_after[0]] >= self.cut_after[1]:
            self.cut()

    def send(self, octets: bytes) -> None:
        if not self.dead:
            super().send(self._through(0, octets))
            self._check()

    def server_wrote(self, octets: bytes) -> None:
        if not self.dead:
            super().server_wrote(self._through(1, octets))
            if self.slow < inf:
                self.site.clock.callLater(self.slow, self._read)
            self._check()

    def _read(self) -> None:
        octets = self.take()
        if octets and self.client is not None and not self.client.disconnected:
            self.client.protocol.dataReceived(octets)

    def cut(self) -> None:
        """
        What came through is still read; then both ends learn that the connection is lost.
        """
        self.dead = True
        self.site.clock.callLater(0, self.reset)
        self.site.clock.callLater(0, self.client_lost)

    def client_lost(self) -> None:
        if self.client is not None and not self.client.disconnected:
            self.client.disconnected = True
            self.client.protocol.connectionLost(Failure(ConnectionLost()))

    def _tell(self, why: Exception) -> None:
        super()._tell(why)
        self.site.clock.callLater(0, self.client_lost)


class ClientEnd(FakeTransport):
    """
    The client's end.
    """

    def __init__(self, wire: JoinedWire, protocol: Any) -> None:
        host = wire.transport.getPeer()
        super().__init__(protocol, False, host, IPv4Address("TCP", "198.51.100.1", 993))
        self._wire = wire

    def write(self, data: bytes) -> None:
        if not self.disconnecting and not self.disconnected:
            self._wire.site.clock.callLater(0, self._wire.send, bytes(data))

    def loseConnection(self) -> None:
        if not self.disconnecting:
            self.disconnecting = True
            self._wire.site.clock.callLater(0, self._wire.fin)
            self._wire.site.clock.callLater(0, self._wire.client_lost)

    def abortConnection(self) -> None:
        self.loseConnection()


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """
    @ivar wires: the connections made.
    @ivar secure: whether they are under TLS, as far as both ends can see.
    @ivar silent: whether later ones are in silence from the beginning.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self.secure = True
        self.wires: list[JoinedWire] = []
        self.silent = False

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        protocol = protocolFactory.buildProtocol(IPv4Address("TCP", "198.51.100.1", 993))
        wire = self._site.connect(secure=self.secure, greet=False, wire_class=JoinedWire)
        assert isinstance(wire, JoinedWire) and protocol is not None
        self.wires.append(wire)
        wire.join(protocol)
        if self.silent:
            wire.silence()
        return succeed(protocol)
