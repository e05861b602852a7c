"""
Waiting for something to become so, in tests with a real reactor.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater


async def until(is_so: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    """
    Come back as soon as something is so.

    @param what: what is waited for, for the error.
    @raise AssertionError: it did not become so in time.
    """
    clock = IReactorTime(reactor)
    deadline = clock.seconds() + seconds
    while not is_so():
        assert clock.seconds() < deadline, f"not within {seconds} seconds: {what}"
        await deferLater(clock, 0.005)
