"""
One upstream connection in the hands of its user: read, written, paused with the other side, and let go in good order.

Invariants: its slot is given back once, when the connection is closed; after L{Hold.drop} nothing of it reaches its user any
more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime, IWriteDescriptor
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from mem_continuity.gateway.brake import Brake
    from mem_continuity.gateway.link import UpstreamLink
    from mem_continuity.gateway.slots import Slot

_COMMAND = 4096
"""Octets: more than this is no command, and can wait for the reactor.  Not a limit."""


class Hold:
    """
    Made by a L{GatewayEnd<mem_continuity.gateway.end.GatewayEnd>} for each connection that it gets.

    @ivar write: takes octets for the upstream.
    """

    def __init__(
        self,
        link: UpstreamLink,
        slot: Slot,
        received: Callable[[bytes], object],
        lost: Callable[[], object],
        clock: IReactorTime,
        close_within: float,
    ) -> None:
        """
        @param received: takes octets of the upstream.
        @param lost: is told once that the connection is closed, unless it was dropped.
        @param close_within: seconds after which an orderly close is broken off.
        """
        self.slot = slot
        self._link = link
        self._lost = lost
        self._clock = clock
        self._close_within = close_within
        self._deadline: IDelayedCall | None = None
        self._wire: Any = link.transport
        self.upstream_received = received
        self._clear = False
        at_once = not link.upstream.secured and IWriteDescriptor.providedBy(self._wire)
        self.write: Callable[[bytes], object] = self._write_now if at_once else self._wire.write

    def listen(self, client: Any, brake: Brake) -> None:
        """
        Begin to read; what came behind the greeting is handed on at once.

        @param client: its transport: from now on the connection is its producer,
        @param brake: and this is that of the connection.
        """
        self._wire.registerProducer(brake, True)
        self._link.attach(self)
        if self._lost is not _nothing:  # not dropped for what was handed on
            client.registerProducer(self._wire, True)

    def _write_now(self, octets: bytes) -> None:
        """
        A command is written in the turn in which it came: waiting for the reactor to tell that the socket takes octets is most of
        the time that a small one takes here.
        """
        wire = self._wire
        if not wire.connected or wire.disconnecting:
            return
        if self._clear:
            done = wire.writeSomeData(octets)
            if done == len(octets):
                return
            self._clear = False
            if isinstance(done, int):
                octets = octets[done:]
        wire.write(octets)  # what is wrong with the socket the reactor finds out again
        if len(octets) <= _COMMAND and not wire.producerPaused:
            wire.doWrite()
            self._clear = not wire.dataBuffer

    def turn_to(self, received: Callable[[bytes], object]) -> None:
        """
        From now on octets of the upstream go there.
        """
        self.upstream_received = received
        self._link.attach(self)

    def upstream_lost(self, reason: Failure) -> None:
        """
        The connection is closed.
        """
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()
        self.slot.release()
        self._lost()

    def drop(self) -> None:
        """
        Close: what was written still goes out, if the upstream takes it in time.
        """
        self._lost = _nothing
        if self._link.lost:
            return
        self.turn_to(_nothing)
        self._wire.unregisterProducer()
        self._wire.resumeProducing()  # an upstream that waits to be read would not read either
        self._wire.loseConnection()
        if not self._link.lost:
            self._deadline = self._clock.callLater(self._close_within, self._link.abort)


def _nothing(*_: object) -> None:
    """
    Nobody listens any more.
    """
