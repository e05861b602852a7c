"""
One direction of a session: a sender that keeps what may be lost, and a receiver that counts what arrived.

Offsets are octets since START, whole numbers without a limit here and of 64 bits on the wire.  The sender's octets stand in
three ranges, one after the other::

    0 ......... acknowledged ........... sent ............ end
      released    kept: in flight          kept: queued

Invariants:

- C{acknowledged <= sent <= highest <= end}, where C{highest} is the furthest that was ever put on a link.
- C{sent - acknowledged <= window}: the peer never has to take more than it promised, whatever the inner end writes.
- C{acknowledged} never falls.  An octet is released once, when its acknowledgement comes, and is never sent after that.
- Only L{Sender.rewind} moves C{sent} back, and never below C{acknowledged}.

A resume is nothing but a rewind: what the lost link did not deliver stands in the queue again, before everything newer, so
"replay first, then new writes" needs no rule of its own.
"""

from __future__ import annotations

from collections import deque
from typing import Any

_MANY = 64
_SMALL = 4 * 1024
"""
When many pieces wait, those that together have no more octets than this are kept as one, so that what many small frames cost
follows their octets.  Not a limit.
"""


_NOTHING: deque[Any] = deque(maxlen=0)
"""Stands for a queue without octets, in all streams: an empty one of its own would cost each of them 600 octets for nothing."""


class StreamError(ValueError):
    """
    The peer named an offset that cannot be, or sent more than the window; the text says which.  It ends the link.
    """


class Sender:
    """
    The sending half: takes octets from the inner end, gives them out for a link, keeps them until acknowledged.

    @ivar taken: octets given out for links, those that were given out again included.
    """

    __slots__ = ("_flight", "_queue", "acknowledged", "end", "highest", "sent", "taken", "window")

    def __init__(self, window: int) -> None:
        """
        @param window: how many octets may be in flight, acknowledged not yet.
        """
        self.window = window
        self.acknowledged = self.sent = self.highest = self.end = self.taken = 0
        self._flight: deque[bytes | memoryview] = _NOTHING
        self._queue: deque[bytes | memoryview] = _NOTHING

    @property
    def retained(self) -> int:
        """
        Octets kept: in flight and queued.
        """
        return self.end - self.acknowledged

    @property
    def in_flight(self) -> int:
        """
        Octets put on a link and not acknowledged.
        """
        return self.sent - self.acknowledged

    @property
    def queued(self) -> int:
        """
        Octets that are not on the present link yet.
        """
        return self.end - self.sent

    @property
    def sendable(self) -> int:
        """
        Octets that are queued and that the window lets through now.
        """
        return min(self.end - self.sent, self.window - (self.sent - self.acknowledged))

    def write(self, octets: bytes) -> None:
        """
        Queue octets of the inner stream.
        """
        if octets:
            if self._queue is _NOTHING:
                self._queue = deque()
            self._queue.append(octets)
            self.end += len(octets)

    def take(self, most: int) -> bytes:
        """
        The next octets for the link, at most C{most}, none when the window is full; they count as sent.
        """
        most = min(most, self.sendable)
        if most <= 0:
            return b""
        if len(self._queue[0]) == most:
            return self._put_in_flight(bytes(self._queue.popleft()))
        parts: list[bytes | memoryview] = []
        wanted = most
        while wanted and self._queue:
            piece = self._queue.popleft()
            if len(piece) > wanted:
                view = memoryview(piece)
                self._queue.appendleft(view[wanted:])
                piece = view[:wanted]
            parts.append(piece)
            wanted -= len(piece)
        return self._put_in_flight(b"".join(parts))

    def _put_in_flight(self, octets: bytes) -> bytes:
        if not self._queue:
            self._queue = _NOTHING
        if self._flight is _NOTHING:
            self._flight = deque()
        self._flight.append(octets)
        self.sent += len(octets)
        self.taken += len(octets)
        if self.sent > self.highest:
            self.highest = self.sent
        return octets

    def acknowledge(self, offset: int) -> int:
        """
        The peer has everything before C{offset}: release it.

        @return: how many octets were released; 0 for an acknowledgement that is late or came twice.
        @raise StreamError: more than was sent.
        """
        if offset > self.sent:
            raise StreamError(f"acknowledgement of {offset} octets, of which {self.sent} were sent")
        released = offset - self.acknowledged
        if released <= 0:
            return 0
        self.acknowledged = offset
        self._drop(self._flight, released)
        if not self._flight:
            self._flight = _NOTHING
        return released

    def covers(self, offset: int) -> bool:
        """
        Whether a peer that has C{offset} octets can be served: nothing before it is missing here, nothing after it unsent.
        """
        return self.acknowledged <= offset <= self.highest

    def rewind(self, offset: int) -> None:
        """
        Go on from C{offset}, which the peer has named as received: all before it is released, all after it is queued.

        @raise StreamError: the offset is not covered (L{covers}); nothing was changed.
        """
        if not self.covers(offset):
            raise StreamError(f"cannot go on from {offset}: kept are {self.acknowledged} to {self.highest}")
        if self._flight:
            self._flight.extend(self._queue)
            self._queue, self._flight = self._flight, _NOTHING
        self._drop(self._queue, offset - self.acknowledged)
        if not self._queue:
            self._queue = _NOTHING
        self.acknowledged = self.sent = offset

    def forget_queue(self) -> None:
        """
        Give up what is not on a link yet: the session ends before it could be sent.
        """
        self._queue = _NOTHING
        self.end = self.sent

    def clear(self) -> None:
        """
        Forget all octets that are kept; the offsets stay, for a tombstone.
        """
        self._flight = self._queue = _NOTHING

    @staticmethod
    def _drop(chunks: deque[bytes | memoryview], count: int) -> None:
        while count:
            first = chunks[0]
            if len(first) > count:
                chunks[0] = memoryview(first)[count:]
                return
            count -= len(first)
            chunks.popleft()


class Receiver:
    """
    The receiving half: keeps what arrived until it is handed on, counts both, remembers what was said of it.

    Two counts, because the inner end may be slow: C{arrived} is what this side has in hand or has handed on, and is what a
    RESUME names, so that nothing that lies here is sent again; C{received} is what the inner end has got, and is what
    acknowledgements and the last word of an ended session name.

    @ivar skipped: octets that came once more though they had arrived before.
    """

    __slots__ = ("_base", "_waiting", "acknowledged", "arrived", "received", "skipped", "window")

    def __init__(self, window: int) -> None:
        """
        @param window: how many octets beyond the last acknowledgement, or beyond what a RESUME named, the peer may send.
        """
        self.window = window
        self.received = self.arrived = self.acknowledged = self._base = self.skipped = 0
        self._waiting: deque[bytes] = _NOTHING

    @property
    def unacknowledged(self) -> int:
        """
        Octets handed on that the peer does not know of.
        """
        return self.received - self.acknowledged

    @property
    def waiting(self) -> int:
        """
        Octets that arrived and are not handed on.
        """
        return self.arrived - self.received

    @property
    def most(self) -> int:
        """
        The offset up to which the peer may send.
        """
        return self._base + self.window

    def arrive(self, octets: bytes) -> None:
        """
        Octets came in on the link.

        @raise StreamError: they are beyond the window; none was taken.
        """
        count = len(octets)
        if self.arrived + count > self.most:
            raise StreamError(f"data beyond the window of {self.window} octets")
        self.arrived += count
        if len(self._waiting) >= _MANY and len(self._waiting[-1]) + count <= _SMALL:
            self._waiting[-1] += octets
        else:
            if self._waiting is _NOTHING:
                self._waiting = deque()
            self._waiting.append(octets)

    def hand_on(self) -> bytes:
        """
        The next octets for the inner end, counted as received; none when there are none.
        """
        if not self._waiting:
            return b""
        octets = self._waiting.popleft()
        if not self._waiting:
            self._waiting = _NOTHING
        self.received += len(octets)
        return octets

    def acknowledge(self) -> int:
        """
        The offset to acknowledge now; it counts as said.
        """
        self.acknowledged = self.received
        self._base = max(self._base, self.acknowledged)
        return self.acknowledged

    def trim(self) -> None:
        """
        The link is gone.  What waits for a slow inner end is kept up to one window; more is given up and comes again, so
        that links that come and go cannot pile up octets here.  Nothing that a RESUME has named is ever given up.
        """
        excess = self.waiting - self.window
        while excess > 0:
            last = self._waiting.pop()
            kept = last[: max(0, len(last) - excess)]
            if kept:
                self._waiting.append(kept)
            excess -= len(last) - len(kept)
            self.arrived -= len(last) - len(kept)

    def resume(self) -> int:
        """
        The peer goes on from what has arrived, on another link.

        @return: the offset.
        """
        self._base = self.arrived
        return self.arrived

    def promise(self, offset: int) -> None:
        """
        The peer was told that so much has arrived, and may send a window beyond it.
        """
        self._base = max(self._base, offset)

    def clear(self) -> None:
        """
        Forget what was not handed on; the counts of what was stay, for a tombstone.
        """
        self._waiting = _NOTHING
        self.arrived = self.received
