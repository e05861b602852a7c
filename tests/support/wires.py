"""
One connection of a client to a site: a transport of iosim at the server's end, and at the other end the test.

Invariants: nothing happens by itself.  What the server writes is there to be read at once; what becomes of the connection is told
to its protocol in a later turn of the clock, as a reactor does, never from within a call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport
from zope.interface import alsoProvides

from mem_continuity.server.factory import ContinuityFactory
from mem_continuity.server.link import ServerLink


@dataclass
class Event:
    """
    Something that happened on a link.

    @ivar who: C{C} the client sent, C{S} the server wrote, C{closed}, C{aborted} or C{lost} for its end.
    """

    link: str
    who: str
    octets: bytes = b""


class Ground(Protocol):
    """
    What a wire needs of the site that it leads to.
    """

    clock: Clock
    trace: list[Event]
    factory: ContinuityFactory


class ServerEnd(FakeTransport):
    """
    The server's end of a wire: what iosim has, made to close as TCP does.

    C{connectionLost} comes in a later turn, never from within a call of the protocol; an abort throws away what was not sent.
    """

    def __init__(self, wire: Wire, peer: IPv4Address) -> None:
        super().__init__(wire.link, True, IPv4Address("TCP", "198.51.100.1", 993), peer)
        self._wire = wire
        self.reading = True
        self.keep_alive: list[bool] = []
        self.no_delay: list[bool] = []

    def write(self, data: bytes) -> None:
        if not self.disconnecting and not self.disconnected:
            self._wire.server_wrote(data)

    def loseConnection(self) -> None:
        if not self.disconnecting:
            self.disconnecting = True
            self._wire.server_closes()

    def abortConnection(self) -> None:
        self.disconnecting = True
        self._wire.server_aborts()

    def startTLS(self, contextFactory: Any, beNormal: bool = True) -> None:
        alsoProvides(self, ISSLTransport)

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True
        self._wire.site.clock.callLater(0, self._wire.pass_on)

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.keep_alive.append(enabled)

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay.append(enabled)


class Wire:
    """
    One connection to the site.

    @ivar name: C{A}, C{B}, and so on: the order in which the wires of a site were made.
    @ivar heard: all octets that the server wrote and that came through.
    @ivar dead: nothing comes through any more, and nobody has noticed.
    @ivar stuck: the client's end does not read: the server's send buffer stays full, so a close has to wait.
    @ivar ended: C{closed} or C{aborted} by the server, C{lost} from the client's side, C{closing} while a close waits; empty
        while it stands.
    @ivar lost: whether the server's end was told C{connectionLost}.
    """

    def __init__(self, site: Ground, name: str, address: IPv4Address, secure: bool) -> None:
        self.site = site
        self.name = name
        self.heard = b""
        self.dead = self.stuck = self.lost = False
        self.ended = ""
        self.taken = 0
        self._unread: list[bytes] = []
        link: Any = site.factory.buildProtocol(address)
        assert isinstance(link, ServerLink), "the site refuses new links"
        self.link: ServerLink = link
        self.transport = ServerEnd(self, address)
        if secure:
            alsoProvides(self.transport, ISSLTransport)
        link.makeConnection(self.transport)

    @property
    def host(self) -> str:
        """
        The client's address.
        """
        return self.transport.getPeer().host  # type: ignore[no-any-return]

    # What the test does

    def send(self, octets: bytes) -> None:
        """
        The client sends octets, and the server's end reads them at once when it reads at all.
        """
        if self.dead or self.lost:
            return
        self.site.trace.append(Event(self.name, "C", octets))
        self._unread.append(octets)
        self.pass_on()

    def take(self) -> bytes:
        """
        What the server wrote since the last call.
        """
        octets = self.heard[self.taken :]
        self.taken = len(self.heard)
        return octets

    def peek(self) -> bytes:
        """
        What L{take} would give.
        """
        return self.heard[self.taken :]

    def fin(self) -> None:
        """
        The client's end closes in good order.
        """
        self._lose(ConnectionDone())

    def reset(self) -> None:
        """
        The client's end breaks off.
        """
        self._lose(ConnectionAborted())

    def silence(self) -> None:
        """
        Nothing comes through any more, in no direction, and nobody is told.
        """
        self.dead = True

    def congest(self) -> None:
        """
        The server's send buffer is full from now on.
        """
        self.stuck = True
        producer: Any = self.transport.producer
        if producer is not None:
            producer.pauseProducing()

    def relieve(self) -> None:
        """
        The server's send buffer has drained.
        """
        self.stuck = False
        producer: Any = self.transport.producer
        if producer is not None:
            producer.resumeProducing()
        if self.ended == "closing":
            self._finish("closed", ConnectionDone())

    # What the server's end does

    def pass_on(self) -> None:
        while self._unread and self.transport.reading and not self.lost:
            self.link.dataReceived(self._unread.pop(0))

    def server_wrote(self, octets: bytes) -> None:
        self.site.trace.append(Event(self.name, "S", octets))
        if not self.dead:
            self.heard += octets

    def server_closes(self) -> None:
        if self.ended:
            return
        self.ended = "closing"
        if not self.stuck:
            self._finish("closed", ConnectionDone())

    def server_aborts(self) -> None:
        if self.ended in ("", "closing"):
            self._finish("aborted", ConnectionAborted())

    def _lose(self, why: Exception) -> None:
        if not self.lost:
            self.site.trace.append(Event(self.name, "lost"))
            self.ended = self.ended or "lost"
            self._tell(why)

    def _finish(self, how: str, why: Exception) -> None:
        self.ended = how
        self.site.trace.append(Event(self.name, how))
        self.site.clock.callLater(0, self._tell, why)

    def _tell(self, why: Exception) -> None:
        if not self.lost:
            self.lost = True
            self.transport.disconnected = True
            self.link.connectionLost(Failure(why))
