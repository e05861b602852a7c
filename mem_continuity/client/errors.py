"""
How a roaming connection ends when it has to.
"""

from __future__ import annotations

from twisted.internet.error import ConnectionLost


class ContinuityLost(ConnectionLost):
    """
    The session is really gone: the server has ended it, does not know it, or could not be reached for too long.

    @ivar why: a word: the reason of the server's END, or ENDED, GONE, BEHIND, MOVED, UNREACHABLE.
    @ivar received: how many octets of what the protocol wrote the server's end had got, when the server told; so that the
        caller knows which of its commands had arrived.
    @ivar written: how many octets the protocol had written.
    """

    def __init__(self, why: str, received: int | None, written: int) -> None:
        self.why = why
        self.received = received
        self.written = written
        known = "an unknown part" if received is None else str(received)
        super().__init__(f"continuity session lost ({why}): the server had received {known} of {written} octets")
