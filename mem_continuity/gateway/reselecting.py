"""
One L{Reselection<mem_continuity.imap.reselection.Reselection>} on a live upstream connection, for a GRAFT.

Invariants: while it goes on it alone has the connection's octets; its end is told once, in time, whatever becomes of the
connection; after it has been given up in the middle of what the upstream says, the connection is of no use any more, and its
user is told so.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from mem_continuity.gateway.hold import Hold
from mem_continuity.imap.reselection import Outcome, Reselection, Result


class Reselecting:
    """
    Made by a L{GatewayEnd<mem_continuity.gateway.end.GatewayEnd>} for one GRAFT.
    """

    def __init__(
        self,
        hold: Hold,
        reselection: Reselection,
        clock: IReactorTime,
        within: float,
        after: Callable[[bytes, bool], object],
    ) -> None:
        """
        @param within: seconds that all of it may take.
        @param after: told behind the result, unless it was given up: octets that stand behind the last answer, and whether the
            connection can be used on.
        """
        self._hold = hold
        self._reselection = reselection
        self._clock = clock
        self._within = within
        self._after = after
        self._done: Deferred[Result] = Deferred()
        self._deadline: IDelayedCall | None = None

    def begin(self) -> Deferred[Result]:
        """
        @return: fires with what became of it; never fails.
        """
        self._hold.turn_to(self._received)
        self._deadline = self._clock.callLater(self._within, self._late)
        self._hold.write(self._reselection.begin())
        return self._done

    def give_up(self) -> None:
        """
        The connection is gone, or its client.
        """
        if not self._done.called:
            self._stop()
            self._done.callback(Result(Outcome.UNABLE))

    def _received(self, octets: bytes) -> None:
        send = self._reselection.receive(octets)
        if send:
            self._hold.write(send)
        if self._reselection.result is not None:
            self._end(self._reselection.result, not self._reselection.torn)

    def _late(self) -> None:
        self._deadline = None
        # What the connection is in the middle of is not known.
        self._end(Result(Outcome.UNABLE), False)

    def _end(self, result: Result, usable: bool) -> None:
        if self._done.called:
            return
        self._stop()
        rest = self._reselection.rest
        self._done.callback(result)
        self._after(rest, usable)

    def _stop(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()
