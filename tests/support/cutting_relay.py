"""
A TCP relay that cuts its first connection after an exact number of octets of one direction; later ones it leaves alone.

Invariants: octets up to the cut reach their end, those beyond it never do; the side that sent them is broken off.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

TO_SERVER, TO_CLIENT = 0, 1


class _Side(Protocol):
    def __init__(self, pair: _Pair, direction: int) -> None:
        self._pair = pair
        self._direction = direction
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.setTcpNoDelay(True)
        if self._direction == TO_SERVER:
            self._pair.reach_out()

    def dataReceived(self, data: bytes) -> None:
        self._pair.carry(self._direction, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone.callback(None)
        self._pair.side_lost(self._direction)


class _Pair:
    """
    @ivar carried: octets passed on since L{count_from_now}, by direction.
    @ivar seen: the same octets.
    """

    def __init__(self, relay: CuttingRelay) -> None:
        self._relay = relay
        self.cut_after: tuple[int, int] | None = None
        self.seen = [b"", b""]
        self._counting = self._done = False
        self._early: list[bytes] = []
        self.sides = (_Side(self, TO_SERVER), _Side(self, TO_CLIENT))
        """The client's connection, whose octets go to the server; and the server's."""

    def reach_out(self) -> None:
        endpoint = TCP4ClientEndpoint(self._relay.reactor, "127.0.0.1", self._relay.target)

        def connected(_: object) -> None:
            early, self._early = self._early, []
            for octets in early:
                self.carry(TO_SERVER, octets)

        connectProtocol(endpoint, self.sides[TO_CLIENT]).addCallbacks(connected, lambda _: self._abort(TO_SERVER))

    def count_from_now(self, cut_after: tuple[int, int] | None) -> None:
        self._counting, self.cut_after = True, cut_after
        if cut_after is not None and cut_after[1] == 0:
            self._cut(cut_after[0])

    def carry(self, direction: int, octets: bytes) -> None:
        if self._done:
            return
        target: Any = self.sides[1 - direction].transport
        if target is None:
            self._early.append(octets)
            return
        cut = False
        if self._counting:
            if self.cut_after is not None and self.cut_after[0] == direction:
                room = self.cut_after[1] - len(self.seen[direction])
                cut = len(octets) >= room
                octets = octets[:room]
            self.seen[direction] += octets
        target.write(octets)
        if cut:
            self._cut(direction)

    def _cut(self, direction: int) -> None:
        self._done = True
        self._abort(direction)
        target: Any = self.sides[1 - direction].transport
        target.loseConnection()

    def _abort(self, side: int) -> None:
        transport: Any = self.sides[side].transport
        if transport is not None:
            transport.abortConnection()

    def side_lost(self, side: int) -> None:
        self._done = True
        other: Any = self.sides[1 - side].transport
        if other is not None:
            other.loseConnection()


class CuttingRelay(Factory):
    """
    @ivar port: where it listens, on 127.0.0.1.
    @ivar pairs: the connections, in their order.
    """

    noisy = False

    def __init__(self, reactor: Any, target: int) -> None:
        self.reactor = reactor
        self.target = target
        self.pairs: list[_Pair] = []
        self._listening: IListeningPort = reactor.listenTCP(0, self, interface="127.0.0.1")
        self.port: int = self._listening.getHost().port

    def buildProtocol(self, addr: Any) -> Protocol:
        pair = _Pair(self)
        self.pairs.append(pair)
        return pair.sides[TO_SERVER]

    def close(self) -> Deferred[Any]:
        """
        Stop listening and drop all connections.

        @return: fires when no socket is left.
        """
        waiting: list[Deferred[Any]] = [maybeDeferred(self._listening.stopListening)]
        for pair in self.pairs:
            for side in pair.sides:
                transport: Any = side.transport
                if transport is not None:
                    waiting.append(side.gone)
                    transport.abortConnection()
        return DeferredList(waiting, fireOnOneErrback=True)
