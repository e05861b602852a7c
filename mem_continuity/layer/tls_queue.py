"""
What waits to be written on a TLS connection, cut into records.

Invariants: the octets come out in their order; a slice stays the next one until it was taken, because OpenSSL has to be given
again what it did not take; a big write is cut without being copied, small ones are joined.
"""

from __future__ import annotations

from collections import deque

RECORD = 16 * 1024
"""Octets: the most that one TLS record carries (RFC 8446 section 5.1)."""


class WriteQueue:
    """
    The queue of one transport.

    @ivar size: octets that wait.
    """

    __slots__ = ("_head", "_parts", "size")

    def __init__(self) -> None:
        self.size = 0
        self._head: bytes | memoryview = b""
        self._parts: deque[bytes | memoryview] = deque()

    def append(self, octets: bytes) -> None:
        """
        Wait behind all others.
        """
        self._parts.append(octets)
        self.size += len(octets)

    def next_slice(self) -> bytes | memoryview:
        """
        @return: the next octets, one record at most; none when nothing waits.  The same ones until they are L{took}.
        """
        if not self._head and self._parts:
            self._head = self._cut()
        return self._head

    def took(self, count: int) -> None:
        """
        So many octets of the next slice are on their way.
        """
        self.size -= count
        self._head = self._head[count:] if count < len(self._head) else b""

    def _cut(self) -> bytes | memoryview:
        parts = [self._parts.popleft()]
        room = RECORD - len(parts[0])
        while room > 0 and self._parts:
            parts.append(self._parts.popleft())
            room -= len(parts[-1])
        if room < 0:
            view = memoryview(parts[-1])
            self._parts.appendleft(view[room:])
            parts[-1] = view[:room]
        return parts[0] if len(parts) == 1 else b"".join(parts)
