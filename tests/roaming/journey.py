"""
A handset on its way: one network falls silent, the other one comes up, again and again.

Invariants: of the two networks at most one is good at any moment, and after each handover, and at the end, exactly one is; a
network that fell silent told nobody (no FIN, no RST, the carrier stays) until the handset itself has left it; the same seed
makes the same journey.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.roaming.ground import Ground

LEAVING = 2.0
"""Seconds after which the handset notices that the silent network is gone."""

_GAP = 1.0
_LOOK = 0.01


class Journey:
    """
    Moves the handset, in a thread of its own.  A context manager: it begins and ends with the block.

    Only one at a time; meanwhile nobody else touches the networks of the lab.

    @ivar done: handovers made so far.
    @ivar moments: when the network fell silent, for each, by C{time.monotonic}.
    @ivar arrivals: when the other one was there, likewise.
    """

    def __init__(
        self,
        ground: Ground,
        handovers: int,
        *,
        pause: tuple[float, float] = (1.0, 3.0),
        seed: int = 0,
        begin: Callable[[], bool] | None = None,
        ready: Callable[[], bool] | None = None,
        leaving: float = LEAVING,
        between: Callable[[], object] | None = None,
    ) -> None:
        """
        @param handovers: how many.
        @param pause: seconds on a good network before each of them, least and most.
        @param begin: the journey begins when this is so; at once if not given.
        @param ready: each handover waits, after its pause, until this is so.
        @param leaving: seconds from the other network's coming to the handset's leaving the silent one.
        @param between: called in each handover while there is no good network.
        """
        self.done = 0
        self.moments: list[float] = []
        self.arrivals: list[float] = []
        self._ground = ground
        self._handovers = handovers
        self._pause = pause
        self._begin = begin
        self._ready = ready
        self._leaving = leaving
        self._between = between
        self._random = random.Random(seed)
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="journey", daemon=True)

    def start(self) -> Self:
        """
        Set out.
        """
        self._thread.start()
        return self

    def stop(self) -> None:
        """
        Make no more handovers; one that has begun is brought to its end, without its waits.
        """
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def wait(self, seconds: float | None = None) -> bool:
        """
        Until all handovers are made, or it was stopped.

        @param seconds: at most.
        @return: whether it is over.
        @raise LabError: what went wrong on the way.
        """
        self._thread.join(seconds)
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        if error is None and self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            if not self._until(self._begin):
                return
            for _ in range(self._handovers):
                if self._stopped.wait(self._random.uniform(*self._pause)) or not self._until(self._ready):
                    return
                self._hand_over()
        except BaseException as error:
            self._error = error

    def _until(self, so: Callable[[], bool] | None) -> bool:
        while so is not None and not so():
            if self._stopped.wait(_LOOK):
                return False
        return True

    def _hand_over(self) -> None:
        silent, coming = self._ground.present, self._ground.other
        silent.silence()
        self.moments.append(time.monotonic())
        if self._between is not None:
            self._between()
        self._stopped.wait(self._random.uniform(0.0, _GAP))
        coming.attach()
        self.arrivals.append(time.monotonic())
        self._ground.present = coming
        self._stopped.wait(self._leaving)
        silent.detach()
        silent.restore()
        self.done += 1
