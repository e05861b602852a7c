"""
A TCP relay on loopback, in the reactor of the test.  Its connections can be cut: at once, or after so many octets.

Invariants: a cut aborts both halves at the same moment, and octets that were not passed on by then are lost.  When C{close} has
fired no socket of the relay is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure


class _Half(Protocol):
    """
    One of the two connections.
    """

    def __init__(self, pass_on: Callable[[bytes], object], lost: Callable[[], object]) -> None:
        self._pass_on = pass_on
        self._lost = lost
        self.connected_to_peer = False

    def connectionMade(self) -> None:
        self.connected_to_peer = True

    def dataReceived(self, data: bytes) -> None:
        self._pass_on(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.connected_to_peer = False
        self._lost()

    def write(self, octets: bytes) -> None:
        transport: Any = self.transport
        if self.connected_to_peer:
            transport.write(octets)

    def close(self) -> None:
        transport: Any = self.transport
        if self.connected_to_peer:
            transport.loseConnection()

    def abort(self) -> None:
        transport: Any = self.transport
        if self.connected_to_peer:
            transport.abortConnection()


class Link:
    """
    A relayed connection.

    @ivar from_server: octets passed on to the client.
    @ivar cut_at: when so many octets came from the server the link is cut.
    """

    def __init__(self, relay: Relay) -> None:
        self.from_server = 0
        self.cut_at: int | None = None
        self._relay = relay
        self._waiting = list(relay.preface)
        self.near = _Half(self._to_server, self._near_lost)
        self.far = _Half(self._to_client, self._far_lost)
        self._connecting = False

    def begin(self, connecting: Deferred[Any]) -> None:
        self._connecting = True

        def connected(_: object) -> None:
            self._connecting = False
            if not self.near.connected_to_peer:
                self.far.abort()
                return
            self._send_waiting()

        def failed(_: Failure) -> None:
            self._connecting = False
            self.near.abort()
            self._relay.check()

        connecting.addCallbacks(connected, failed)

    def _send_waiting(self) -> None:
        # One piece a turn, so that the server reads them apart.
        if not self._waiting:
            return
        self.far.write(self._waiting.pop(0))
        if self._waiting:
            self._relay.clock.callLater(0.02, self._send_waiting)

    def _to_server(self, octets: bytes) -> None:
        if self._connecting or self._waiting:
            self._waiting.append(octets)
        else:
            self.far.write(octets)

    def _to_client(self, octets: bytes) -> None:
        if self.cut_at is not None:
            octets = octets[: max(0, self.cut_at - self.from_server)]
        self.from_server += len(octets)
        self.near.write(octets)
        if self.cut_at is not None and self.from_server >= self.cut_at:
            # The client shall have read them: an abort throws away what the kernel still holds.
            self._relay.clock.callLater(0.02, self.cut)

    def _near_lost(self) -> None:
        self.far.close()
        self._relay.check()

    def _far_lost(self) -> None:
        self.near.close()
        self._relay.check()

    def cut(self) -> None:
        """
        Break off now, on both sides.
        """
        self.near.abort()
        self.far.abort()

    @property
    def stands(self) -> bool:
        """
        Whether anything of it is left.
        """
        return self._connecting or self.near.connected_to_peer or self.far.connected_to_peer


class Relay(Factory):
    """
    Listens on loopback and passes every connection on.

    @ivar links: all connections, the oldest first.
    @ivar preface: pieces that each connection to the server begins with.
    """

    noisy = False

    def __init__(self, reactor: Any, target: IStreamClientEndpoint, preface: Sequence[bytes] = ()) -> None:
        self.clock = reactor
        self.links: list[Link] = []
        self.preface = preface
        self._target = target
        self._port: IListeningPort = reactor.listenTCP(0, self, interface="127.0.0.1")
        self.port: int = self._port.getHost().port
        self._quiet: Deferred[None] | None = None

    def buildProtocol(self, addr: Any) -> Protocol:
        link = Link(self)
        self.links.append(link)
        link.begin(self._target.connect(Factory.forProtocol(lambda: link.far)))
        return link.near

    def check(self) -> None:
        if self._quiet is not None and not any(link.stands for link in self.links):
            quiet, self._quiet = self._quiet, None
            quiet.callback(None)

    async def close(self) -> None:
        """
        Stop, and wait until nothing is left.  A moment is given to ends that are on their way.
        """
        await maybeDeferred(self._port.stopListening)
        quiet: Deferred[None] = Deferred()
        self._quiet = quiet
        timer = self.clock.callLater(1.0, self.cut)
        self.check()
        await quiet
        if timer.active():
            timer.cancel()

    def cut(self) -> None:
        """
        Break all connections.
        """
        for link in self.links:
            link.cut()
