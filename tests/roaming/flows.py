"""
TCP connections as they are seen in packets, and the longest wait of a program in them.  No I/O; times are handed in.

Invariants: see L{tests.roaming.meter}; sequence numbers are counted modulo 2**32.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

_TCP = 6
_FIN, _SYN, _RST = 0x01, 0x02, 0x04
_PORTS_AND_SEQUENCE = struct.Struct("!HHI")
_HALF = 1 << 31
_WHOLE = 1 << 32


@dataclass
class Side:
    """
    What one end of a connection has sent.

    @ivar next: the sequence number behind its last new octet; C{None} before its first.
    @ivar octets: new ones of its stream.
    @ivar at: when it sent something new last.
    @ivar ended: when it sent its FIN.
    """

    next: int | None = None
    octets: int = 0
    at: float = 0.0
    ended: float | None = None

    def advance(self, sequence: int, length: int, payload: int) -> bool:
        """
        A segment is seen.

        @param length: what it takes of the sequence numbers.
        @return: whether something in it is new.
        """
        end = (sequence + length) % _WHOLE
        if not length or (self.next is not None and not 0 < (end - self.next) % _WHOLE < _HALF):
            return False
        fresh = length if self.next is None else (end - self.next) % _WHOLE
        self.octets += min(fresh, payload)
        self.next = end
        return True


@dataclass
class Flow:
    """
    One connection.

    @ivar longest: the longest wait that has ended.
    @ivar waiting: since when nothing new came from either side, in an open connection.
    @ivar logged_out: the program said so, where it can be read.
    @ivar readable: neither encrypted nor compressed, as far as is known.
    """

    begun: float
    client: Side = field(default_factory=Side)
    server: Side = field(default_factory=Side)
    longest: float = 0.0
    reset: float | None = None
    logged_out: bool = False
    readable: bool = True

    @property
    def last(self) -> float:
        return max(self.client.at, self.server.at)

    @property
    def lost(self) -> bool:
        """
        It was reset or given up before the server had ended it; or the server ended it without a LOGOUT.  Whether there was one
        is known where it can be read.
        """
        if self.logged_out:
            return False
        if self.server.ended is None:
            return self.reset is not None or self.client.ended is not None
        unasked = self.client.ended is None or self.client.ended > self.server.ended
        return self.readable and unasked

    @property
    def ending(self) -> bool:
        """
        The program has ended it, and the server is to follow.
        """
        return self.client.ended is not None and self.server.ended is None and self.reset is None

    def peek(self, octets: bytes) -> None:
        """
        Look at what the program says.
        """
        if octets[:1] == b"\x16":
            self.readable = False
        upper = octets.upper()
        if b"COMPRESS DEFLATE" in upper or b"STARTTLS" in upper:
            self.readable = False
        if b"LOGOUT" in upper:
            self.logged_out = True


class Flows:
    """
    All connections to some ports.

    @ivar all: in the order of their beginning.
    """

    def __init__(self, ports: Iterable[int]) -> None:
        self.all: list[Flow] = []
        self._ports = frozenset(ports)
        self._open: dict[tuple[bytes, int, int], Flow] = {}
        self._idle: list[tuple[float, float]] = []
        self._idle_since: float | None = None

    def packet(self, octets: bytes, now: float) -> None:
        """
        An IPv4 packet; its beginning is enough.
        """
        if len(octets) < 40 or octets[0] >> 4 != 4 or octets[9] != _TCP:
            return
        begin = (octets[0] & 15) * 4
        source, destination, sequence = _PORTS_AND_SEQUENCE.unpack_from(octets, begin)
        offset, flags = (octets[begin + 12] >> 4) * 4, octets[begin + 13]
        payload = int.from_bytes(octets[2:4], "big") - begin - offset
        length = payload + bool(flags & _SYN) + bool(flags & _FIN)
        if destination in self._ports:
            flow = self._flow((octets[12:16], source, destination), sequence, flags, now)
            if flow is not None:
                if flow.client.advance(sequence, length, payload):
                    flow.client.at = now
                    flow.peek(octets[begin + offset :])
                self._end(flow, flow.client, flags, now)
        elif source in self._ports:
            flow = self._open.get((octets[16:20], destination, source))
            if flow is not None:
                if flow.server.advance(sequence, length, payload):
                    flow.longest = max(flow.longest, self._wait(flow.last, now))
                    flow.server.at = now
                self._end(flow, flow.server, flags, now)

    def _flow(self, key: tuple[bytes, int, int], sequence: int, flags: int, now: float) -> Flow | None:
        found = self._open.get(key)
        if flags & _SYN and (found is None or found.client.next != (sequence + 1) % _WHOLE or found.reset is not None):
            found = self._open[key] = Flow(now)
            self.all.append(found)
        return found

    def _end(self, flow: Flow, side: Side, flags: int, now: float) -> None:
        if flags & _FIN and side.ended is None:
            side.ended = now
        if flags & _RST and flow.reset is None:
            flow.reset = now

    def _wait(self, since: float, until: float) -> float:
        """
        Seconds of a wait; 0 when the program was idle meanwhile.
        """
        if self._idle_since is not None and self._idle_since <= until:
            return 0.0
        if any(begin <= until and since <= end for begin, end in self._idle):
            return 0.0
        return until - since

    def idle(self, on: bool, now: float) -> None:
        """
        See L{tests.roaming.meter.Meter.idle}.
        """
        if on and self._idle_since is None:
            self._idle_since = now
        elif not on and self._idle_since is not None:
            self._idle.append((self._idle_since, now))
            self._idle_since = None

    def abandon(self, now: float) -> None:
        """
        The program is gone, so it has given up what it has not ended: where no network is left nobody sees its FIN.
        """
        for flow in self.all:
            if flow.client.ended is None and flow.server.ended is None and flow.reset is None:
                flow.client.ended = now

    def longest(self, now: float) -> float:
        """
        The longest wait so far, one that lasts included.
        """
        return max((self._longest_of(one, now) for one in self.all), default=0.0)

    def _longest_of(self, flow: Flow, now: float) -> float:
        closed = [one for one in (flow.client.ended, flow.server.ended, flow.reset) if one is not None]
        if flow.lost and flow.server.ended is None:
            # Waited in vain, until it was given up; before a reset or a FIN the program may have said something more.
            return max(flow.longest, self._wait(flow.server.at or flow.begun, min(closed)))
        if not closed and flow.client.at > flow.server.at:
            return max(flow.longest, self._wait(flow.client.at, now))
        return flow.longest
