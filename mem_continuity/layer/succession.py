"""
A planned move as a conduit has it: the link before the present one, which is still read.

Invariants: what comes by the present link meanwhile is kept, not looked at, and it is not much, for that link is not read; the
wait for the former one is bounded, in all and in silence.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from mem_continuity.layer.roles import Link


class Succession:
    """
    @ivar former: the link before.
    @ivar ahead: octets of the present link, to be read when the former one has ended.
    """

    def __init__(self, former: Link, clock: IReactorTime, quiet: float, most: float, failed: Callable[[str], object]) -> None:
        """
        @param quiet: seconds in which nothing comes by the former link, and it is given up.
        @param most: seconds for all of it.
        @param failed: called, with the reason, when it is given up.
        """
        self.former = former
        self.ahead = b""
        self._clock = clock
        self._quiet = quiet
        self._until = clock.seconds() + most
        self._timer = clock.callLater(min(quiet, most), failed, "the link before it did not bring everything")

    def heard(self) -> None:
        """
        Octets came by the former link.
        """
        self._timer.reset(max(0.0, min(self._quiet, self._until - self._clock.seconds())))

    def stop(self) -> None:
        """
        It has ended, or is not waited for any more.
        """
        if self._timer.active():
            self._timer.cancel()
