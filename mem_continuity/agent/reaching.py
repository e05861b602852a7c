"""
The first connection to the server, for one program.

A program that connects just when there is no network would be told that its server is out of reach, and some take that for the
end of the mailbox.  It was the network that was out of reach, for moments perhaps; so the program waits for its greeting.

Invariants: one connection is being made at most; what cannot be reached although there is a network fails at once; after the
policy's C{network_wait} every failure counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure


class Reaching:
    """
    Tries until a connection stands, or it is clear that none will.
    """

    def __init__(
        self,
        clock: IReactorTime,
        most: float,
        connect: Callable[[], Deferred[Any]],
        has_network: Callable[[], bool],
        failed: Callable[[Failure], object],
    ) -> None:
        """
        @param most: seconds to wait for a network.
        @param connect: begins a connection.
        @param has_network: whether any network is known by which the server may be reached.
        @param failed: called once, with the reason, when there will be none.
        """
        self._clock = clock
        self._until = clock.seconds() + most
        self._connect = connect
        self._has_network = has_network
        self._failed = failed
        self._connecting: Deferred[Any] | None = None
        self._last: Failure | None = None
        self._timer: IDelayedCall | None = None
        self._over = False

    def begin(self) -> None:
        """
        Try.
        """
        connecting = self._connecting = self._connect()
        connecting.addCallbacks(self._stands, self._not_connected, errbackArgs=(connecting,))

    def networks_changed(self) -> None:
        """
        There are other networks: what waits for one is tried now, and what may hang on one that is gone is begun anew.
        """
        if self._over or not self._has_network():
            return
        connecting, self._connecting = self._connecting, None
        self._stop_timer()
        if connecting is not None:
            connecting.cancel()
        self.begin()

    def stop(self) -> None:
        """
        Nobody needs it any more.
        """
        self._over = True
        self._stop_timer()
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()

    def _stands(self, result: object) -> None:
        self._over = True
        self._connecting = None

    def _not_connected(self, failure: Failure, connecting: Deferred[Any]) -> None:
        if self._over or (connecting is not self._connecting and failure.check(CancelledError)):
            return
        self._connecting = None
        left = self._until - self._clock.seconds()
        if self._has_network() or left <= 0:
            self._over = True
            self._failed(failure)
        else:
            self._last = failure
            self._timer = self._clock.callLater(left, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        self._over = True
        assert self._last is not None
        self._failed(self._last)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
