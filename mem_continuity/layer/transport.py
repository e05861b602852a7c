"""
The transport that an inner protocol sees: it stays the same object while links come and go below it.

Invariants:

- What the inner protocol asks of its transport goes to the present L{Carrier}: the preamble of a link, a plain link, or a
  session.  Carriers are exchanged by L{VirtualTransport.carry}; the protocol does not notice.
- A producer is registered here and never with a link.  A push producer is paused once and resumed once; a pull producer is
  parked by not asking it.
- C{connectionLost} reaches the protocol exactly once, by L{VirtualTransport.lose}, after its producer was stopped.
- What the protocol reads once, at C{makeConnection} (whether there is TLS, whether TLS can be started), is decided before.
- There are no slots: sites set attributes on the transport of their protocol, and replace its methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.interfaces import (
    IConsumer,
    IProtocol,
    IPullProducer,
    IPushProducer,
    ISSLTransport,
    ISystemHandle,
    ITCPTransport,
    ITLSTransport,
    ITransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from mem_continuity.layer.roles import Carrier


def _octets(data: object) -> bytes | bytearray | memoryview:
    if isinstance(data, (bytes, bytearray, memoryview)):
        return data
    raise TypeError(f"only octets can be written to a transport, not {type(data).__name__}")


@implementer(ITransport, ITCPTransport, IConsumer, IPushProducer, ISystemHandle)
class VirtualTransport:
    """
    An L{ITransport} over whatever link there is at the moment.

    @ivar disconnecting: whether C{loseConnection} was called; L{LineReceiver<twisted.protocols.basic.LineReceiver>} reads it.
    @ivar disconnected: whether the protocol was told C{connectionLost}.
    """

    _log = Logger()
    disconnecting = False
    disconnected = False
    connected = True
    producer: IPushProducer | IPullProducer | None = None
    streamingProducer = False

    def __init__(self, carrier: Carrier, protocol: IProtocol) -> None:
        """
        @param carrier: what carries it at first; its link's TLS decides what this transport provides.
        @param protocol: the inner protocol; L{connect} makes the connection.
        """
        self._carrier = carrier
        self._protocol = protocol
        self._ready = True
        self._aborted = False
        self._pumping = False
        self._asked = False
        self._producer_paused = False
        self._reading = True
        self._received_tap: Callable[[bytes], object] | None = None
        self._written_tap: Callable[[bytes], object] | None = None
        self._certificate: Any = None
        self._keep_alive: bool | None = None
        self._no_delay: bool | None = None
        self._addresses()
        link = carrier.link_transport()
        if ISSLTransport.providedBy(link):
            alsoProvides(self, ISSLTransport)
        if ITLSTransport.providedBy(link):
            alsoProvides(self, ITLSTransport)

    def _addresses(self) -> None:
        link = self._carrier.link_transport()
        if link is not None:
            self._peer, self._host = link.getPeer(), link.getHost()

    # What carriers and links call

    @property
    def reading(self) -> bool:
        """
        Whether the inner protocol takes octets.
        """
        return self._reading and not self.disconnected

    def connect(self) -> None:
        """
        Make the connection of the inner protocol.
        """
        self._protocol.makeConnection(self)

    def carry(self, carrier: Carrier) -> None:
        """
        From now on another carrier has the inner protocol.
        """
        self._carrier = carrier
        self.link_changed()

    def link_changed(self) -> None:
        """
        The carrier stands on a link that is new to this transport: its addresses count, and what was asked of the socket is
        asked again.
        """
        self._addresses()
        link = self._carrier.link_transport()
        if hasattr(link, "getPeerCertificate"):
            self.getPeerCertificate()  # it is remembered for the time when the link is gone
        if self._keep_alive is not None and link is not None and hasattr(link, "setTcpKeepAlive"):
            link.setTcpKeepAlive(self._keep_alive)
        if self._no_delay is not None and link is not None and hasattr(link, "setTcpNoDelay"):
            link.setTcpNoDelay(self._no_delay)

    def observe(self, received: Callable[[bytes], object], written: Callable[[bytes], object]) -> None:
        """
        Show somebody, from now on, all that the inner protocol receives and all that it writes.
        """
        self._received_tap, self._written_tap = received, written

    def deliver(self, octets: bytes) -> bool:
        """
        Hand octets to the inner protocol.  A protocol that raises is closed, as a reactor would do, and never parked.

        @return: whether it took them without an error.
        """
        if self.disconnected or self._aborted:
            return False
        if self._received_tap is not None:
            self._received_tap(octets)
        try:
            self._protocol.dataReceived(octets)
        except Exception:
            reason = Failure()
            self._log.failure("The protocol failed on what it received; its connection is closed.", reason)
            self.lose(reason)
            self._carrier.carry_abort()
            return False
        return True

    def lose(self, reason: Failure) -> None:
        """
        Tell the inner protocol that its connection is gone; a second call does nothing.
        """
        if self.disconnected:
            return
        self.disconnected = True
        self.connected = False
        producer, self.producer = self.producer, None
        if producer is not None:
            try:
                producer.stopProducing()
            except Exception:
                self._log.failure("A producer failed in stopProducing.")
        try:
            self._protocol.connectionLost(reason)
        except Exception:
            self._log.failure("The protocol failed in connectionLost.")

    def flow(self, ready: bool) -> None:
        """
        Whether the carrier takes more octets now.  The producer is paused, resumed or asked accordingly.
        """
        self._ready = ready
        producer = self.producer
        if producer is None:
            return
        try:
            if not self.streamingProducer:
                if ready:
                    self._ask()
            elif ready and self._producer_paused:
                self._producer_paused = False
                producer.resumeProducing()
            elif not ready and not self._producer_paused:
                self._producer_paused = True
                producer.pauseProducing()  # type: ignore[union-attr]
        except Exception:
            self._log.failure("A producer failed; its connection is closed.")
            self.abortConnection()

    def _ask(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        try:
            # One that has nothing at hand writes later; until then it is not asked again.
            while self._ready and not self._asked and self.producer is not None and not self.streamingProducer:
                self._asked = True
                self.producer.resumeProducing()
        finally:
            self._pumping = False

    # ITransport

    def write(self, data: bytes) -> None:
        """
        Write octets; after C{loseConnection} only a registered producer still may.
        """
        self._write(data)

    def _write(self, data: bytes) -> None:
        octets = data if type(data) is bytes else bytes(_octets(data))
        if self.disconnected or self._aborted or (self.disconnecting and self.producer is None) or not octets:
            return
        if self._written_tap is not None:
            self._written_tap(octets)
        self._asked = False
        self._carrier.carry_write(octets)
        if self.producer is not None and not self.streamingProducer:
            self._ask()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """
        Write octets that stand in pieces.  Not by way of C{write}: no real transport does, and a site may have replaced that.
        """
        self._write(b"".join(data))

    def loseConnection(self, *_: object) -> None:
        """
        Close, once everything that was written is out and no producer is registered any more.
        """
        if self.disconnecting or self.disconnected:
            return
        self.disconnecting = True
        if self.producer is None:
            self._carrier.carry_close()

    def loseWriteConnection(self) -> None:
        """
        There are no half-closed sessions: this closes like L{loseConnection}.
        """
        self.loseConnection()

    def abortConnection(self) -> None:
        """
        Close without delivering what was written.  C{connectionLost} follows, not from within this call.
        """
        if self.disconnected or self._aborted:
            return
        self.disconnecting = self._aborted = True
        self._carrier.carry_abort()

    def getPeer(self) -> Any:
        """
        The address of the other end of the present link, or of the last one.
        """
        return self._peer

    def getHost(self) -> Any:
        """
        The address of this end of the present link, or of the last one.
        """
        return self._host

    # IConsumer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Take a producer; a pull producer is asked at once.

        @raise RuntimeError: there is one already.
        """
        if self.producer is not None:
            raise RuntimeError(
                f"Cannot register producer {producer} because producer {self.producer} was never unregistered."
            )
        if self.disconnected:
            producer.stopProducing()
            return
        self.producer = producer
        self.streamingProducer = streaming
        self._producer_paused = self._asked = False
        if not streaming:
            self._ask()
        elif not self._ready:
            self.flow(False)

    def unregisterProducer(self) -> None:
        """
        The producer is done; a close that waited for it is carried out.
        """
        if self.producer is None:
            return
        self.producer = None
        if self.disconnecting and not self.disconnected:
            self._carrier.carry_close()

    # IPushProducer: the transport as the producer of what the protocol receives

    def pauseProducing(self) -> None:
        """
        No more C{dataReceived} for now.
        """
        self._reading = False
        self._carrier.carry_pause()

    def resumeProducing(self) -> None:
        """
        C{dataReceived} again.
        """
        if not self._reading:
            self._reading = True
            self._carrier.carry_resume()

    def stopProducing(self) -> None:
        """
        The protocol wants nothing more: close.
        """
        self.loseConnection()

    # ITCPTransport

    def setTcpNoDelay(self, enabled: bool) -> None:
        """
        Asked of this link and of every later one.
        """
        self._no_delay = bool(enabled)
        self.link_changed()

    def getTcpNoDelay(self) -> bool:
        """
        What was asked last.
        """
        return bool(self._no_delay)

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """
        Asked of this link and of every later one.
        """
        self._keep_alive = bool(enabled)
        self.link_changed()

    def getTcpKeepAlive(self) -> bool:
        """
        What was asked last.
        """
        return bool(self._keep_alive)

    # ITLSTransport, ISSLTransport: provided only when the first link did

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        """
        Put the present link under TLS: the inner protocol has just said so to its peer.
        """
        starter = getattr(self._carrier, "carry_start_tls", None)
        if starter is None:
            raise RuntimeError("TLS cannot be started inside a continuity layer, which stands under TLS already.")
        starter(contextFactory, normal)
        alsoProvides(self, ISSLTransport)

    def getPeerCertificate(self) -> Any:
        """
        The other end's certificate on the present link, or on the last one; None when it gave none.
        """
        if self._carrier.link_transport() is not None:
            self._certificate = self._of_link("getPeerCertificate")()
        return self._certificate

    def getHandle(self) -> Any:
        """
        The socket or TLS connection of the present link.

        @raise AttributeError: there is no link at the moment.
        """
        return self._of_link("getHandle")()

    def _of_link(self, name: str) -> Any:
        link = self._carrier.link_transport()
        if link is None:
            raise AttributeError(f"there is no link, so there is no {name}")
        return getattr(link, name)

    def __getattr__(self, name: str) -> Any:
        # What the real transports have beyond their interfaces (socket, negotiatedProtocol, sessionno) is the link's.
        if name.startswith("_"):
            raise AttributeError(name)
        return self._of_link(name)
