"""
Notices that the machine was asleep.

While it sleeps one clock goes on and another stands still; when it is awake again they are further apart than before.  A process
that was stopped, or a virtual machine that was, finds its timer late by as much.

Invariant: a step of the clock of the day alone can at most be taken for a sleep, never hide one, where the system has a clock
of its own for this (Linux: C{CLOCK_BOOTTIME}).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from mem_continuity.core.policy import AgentPolicy


def elapsed() -> float:
    """
    Seconds on a clock that goes on while the machine sleeps.  On systems without one of its own it is the clock of the day.
    """
    boot: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.time() if boot is None else time.clock_gettime(boot)


class SleepWatch:
    """
    Calls somebody after each sleep.
    """

    def __init__(
        self,
        clock: IReactorTime,
        woke: Callable[[], None],
        policy: AgentPolicy,
        elapsed: Callable[[], float] = elapsed,
        awake: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        @param woke: called once for each sleep.
        @param elapsed: seconds on a clock that goes on during a sleep.
        @param awake: seconds on one that does not.
        """
        self._clock = clock
        self._woke = woke
        self._policy = policy
        self._elapsed = elapsed
        self._awake = awake
        self._timer: IDelayedCall | None = None
        self._seen = 0.0
        self._apart = 0.0

    def start(self) -> None:
        """
        Begin to watch.
        """
        self._again()

    def stop(self) -> None:
        """
        Watch no more.
        """
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def look(self) -> None:
        """
        Look at the clocks now.  Called by the timer and by whoever has been woken by something else: after a sleep the timer
        may have as long to go as before it.
        """
        if self._timer is None:
            return
        seen, apart = self._seen, self._apart
        self._again()
        late = self._seen - seen - self._policy.sleep_look
        if self._apart - apart >= self._policy.sleep_least or late >= self._policy.sleep_stopped:
            self._woke()

    def _again(self) -> None:
        self.stop()
        self._seen = self._elapsed()
        self._apart = self._seen - self._awake()
        self._timer = self._clock.callLater(self._policy.sleep_look, self.look)
