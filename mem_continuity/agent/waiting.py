"""
How long is waited before a program is logged in, and for whom.

Until then there is no session that could be resumed, and a server that says nothing would leave the program without a word.

Invariants: somebody is always waited for, the server or the program, and each wait ends; the program is then told which of them
was too slow, and nothing that is not so.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from mem_continuity.core.policy import AgentPolicy


class Wait(Enum):
    """
    For what; the value is what the program is told when it did not come.
    """

    GREETING = b"[UNAVAILABLE] The mail server does not greet"
    ANSWER = b"[UNAVAILABLE] The mail server does not answer"
    LOGIN = b"Nobody logs in"


class LoginWait:
    """
    The wait of one program's connection.

    @ivar wait: what is waited for now; None for nothing.
    """

    def __init__(self, clock: IReactorTime, limits: AgentPolicy, late: Callable[[Wait], object]) -> None:
        """
        @param limits: for C{greeting_time}, C{login_answer} and C{login_idle}.
        @param late: called once, with what did not come.
        """
        self.wait: Wait | None = None
        self._clock = clock
        self._seconds = {
            Wait.GREETING: limits.greeting_time,
            Wait.ANSWER: limits.login_answer,
            Wait.LOGIN: limits.login_idle,
        }
        self._late = late
        self._timer: IDelayedCall | None = None

    def begin(self, wait: Wait | None) -> None:
        """
        Something was said, on either side.

        @param wait: what is waited for now.  A greeting has one time for all of it, every other wait begins anew.
        """
        if wait is Wait.GREETING and self.wait is wait:
            return
        self._stop_timer()
        self.wait = wait
        if wait is not None:
            self._timer = self._clock.callLater(self._seconds[wait], self._due)

    def stop(self) -> None:
        """
        Nobody is waited for any more.
        """
        self.begin(None)

    def _due(self) -> None:
        self._timer = None
        wait, self.wait = self.wait, None
        assert wait is not None
        self._late(wait)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
