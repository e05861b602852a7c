"""
A session: two streams, the present link's framing, the timers, and the state they are in.  The same on both sides.

A session begins when START was granted and knows nothing of what came before.  Invariants:

- At most one link at a time.  L{Session.attach} and L{Session.detach} come in turn; what belongs to a link (its frame reader,
  a PING that waits, the limit of its first DATA) is made anew by every C{attach}, so nothing of a dead link can hurt the next.
  Only in a planned move (L{Session.succeed}) there is a second one for a while: the former, which is read to its end, MOVED.
- L{TRANSITIONS} is the whole of the state machine.  An input that is not in the table is a bug of the caller.
- Time is handed in, as seconds of one monotonic clock.  L{Session.deadline} is the next moment at which L{Session.tick} has
  something to do: the caller needs exactly one timer.
- The inner end's octets are numbered as they are written and given out by L{Session.frames} alone, so there is one place that
  counts.

A session whose inner end has closed is not over before the peer has its last octets: it drains on a link, or waits for one
through the (shorter) linger time, like a socket after C{close}.
"""

from __future__ import annotations

from math import inf

from mem_continuity.core.frames import (
    END_REASON_LIMIT,
    OFFSET_LENGTH,
    FrameError,
    FrameReader,
    FrameType,
    data_header,
    encode,
    encode_ack,
)
from mem_continuity.core.handshake import Terms
from mem_continuity.core.policy import StreamPolicy
from mem_continuity.core.states import (
    TRANSITIONS,
    Answered,
    Delivered,
    Event,
    GraceOver,
    Input,
    Moved,
    PeerEnded,
    ProbeFailed,
    State,
)
from mem_continuity.core.stream import Receiver, Sender, StreamError

_CRUMB = 1024
"""
Octets: with more queued and some in flight, less than this is not sent alone (RFC 9293, section 3.8.6.2.1), for each frame is
kept as a piece of its own.  Not a limit.
"""


class LinkError(Exception):
    """
    The peer broke the rules of the layer; the text says how.  The link has to go, the session stays.
    """


class Session:
    """
    One side of one session.  It begins L{PARKED<State.PARKED>}: the link on which START was granted is attached first.

    @ivar attempt: the number of the last RESUME that was granted (server) or tried (client).
    @ivar granted: the number of the last RESUME that was granted as far as this side knows; 0 before the first.
    @ivar heard_at: when octets came in last, or a link was attached.
    @ivar answered_at: when octets came in first after the last PING that was answered.
    """

    __slots__ = (
        "_ack_at",
        "_closing",
        "_end_said",
        "_first",
        "_former",
        "_grace_at",
        "_limits",
        "_patience",
        "_ping",
        "_ping_at",
        "_ping_due",
        "_pong",
        "_reader",
        "_silence",
        "answered_at",
        "attempt",
        "granted",
        "heard_at",
        "peer_ended",
        "receiver",
        "sender",
        "state",
        "terms",
    )

    def __init__(self, terms: Terms, limits: StreamPolicy, now: float, silence: float = inf, patience: float = inf) -> None:
        """
        @param silence: a link on which nothing has come in for so many seconds is probed by L{tick}.
        @param patience: the seconds that such a probe waits.
        """
        self._silence, self._patience = silence, patience
        self.terms = terms
        self._limits = limits
        self.state = State.PARKED
        self.attempt = self.granted = 0
        self.heard_at = self.answered_at = now
        self.sender = Sender(terms.window)
        self.receiver = Receiver(terms.window)
        self.peer_ended: bytes | None = None
        self._closing: bytes | None = None
        self._reader: FrameReader | None = None
        self._grace_at: float | None = now + terms.grace
        self._ack_at: float | None = None
        self._forget_link()

    def _forget_link(self) -> None:
        self._reader = None
        self._former: FrameReader | None = None
        self._end_said = False
        self._first = False
        self._ping = 0
        self._ping_due = False
        self._ping_at: float | None = None
        self._pong: bytes | None = None

    def _go(self, what: Input) -> None:
        self.state = TRANSITIONS[self.state, what]

    # The link

    @property
    def attached(self) -> bool:
        """
        Whether a link carries the session.
        """
        return self._reader is not None

    def attach(self, now: float, resumed_at: int | None = None) -> None:
        """
        A link carries the session from now on.

        @param resumed_at: after a RESUME the count that the peer named: our stream goes on from there.
        @raise StreamError: we cannot go on from there; nothing was changed.
        """
        if resumed_at is not None:
            self.sender.rewind(resumed_at)
        self._go(Input.ATTACH)
        self._forget_link()
        self.heard_at = now
        self._reader = FrameReader(self._limits.frame_limit)
        self._first = resumed_at is not None
        self._grace_at = None if self._closing is None else now + self._limits.linger

    def succeed(self, now: float, acknowledged: int, promised: int) -> None:
        """
        Another link carries the session from now on, in a planned move.  Our stream goes on behind what was put on the former
        one, and what the peer has put there is still to be read, before anything of the new one.

        @param acknowledged: the peer's count of our octets, which it has named for this move: these are released.
        @param promised: our count of the peer's octets that was named to it.
        """
        if acknowledged > self.sender.sent:
            self.sender.rewind(acknowledged)
        else:
            self.sender.acknowledge(acknowledged)
        self.receiver.promise(promised)
        self._former, self._reader = self._reader, FrameReader(self._limits.frame_limit)
        self._first = True
        self._ping_due = False
        self._ping_at = None
        self.heard_at = now

    @property
    def moving(self) -> bool:
        """
        Whether there is a former link that is still read.
        """
        return self._former is not None

    def former_ended(self) -> None:
        """
        The former link has brought everything.
        """
        self._former = None

    @property
    def first_data_due(self) -> bool:
        """
        Whether the present link was resumed on and has not carried a DATA frame of ours yet: the next one is a short one.
        """
        return self._first

    def detach(self, now: float) -> None:
        """
        The link is gone: the grace period (or, when the inner end had closed, the linger time) begins.
        """
        self._go(Input.DETACH)
        self._forget_link()
        if self.peer_ended is None:  # otherwise nothing could come again
            self.receiver.trim()
        self._grace_at = now + (self.terms.grace if self.state is State.PARKED else self._limits.linger)

    def receive(self, octets: bytes, now: float, former: bool = False) -> list[Event]:
        """
        Octets came in on the present link, or on the former one (L{succeed}).  Data among them waits for L{next_delivery}.

        @raise LinkError: they break the rules.  What came in the same chunk may be lost with the link; it is not counted.
        """
        reader = self._former if former else self._reader
        if reader is None:
            return []
        events: list[Event] = []
        self.heard_at = now
        if self._ping_at is not None:
            self.answered_at = now
            self._ping_at = None  # whatever it is, it is a sign of life; the PONG may stand behind much data
            events.append(Answered())
        moved = False
        try:
            for frame in reader.feed(octets):
                if moved:
                    raise LinkError("a frame behind MOVED")
                if frame.type is FrameType.DATA:
                    if self.peer_ended is not None:
                        raise LinkError("data after END")
                    if self._closing is None:
                        self.receiver.arrive(frame.payload)
                        if self._ack_at is None and self.receiver.unacknowledged:
                            self._ack_at = now + self._limits.ack_delay
                elif frame.type is FrameType.ACK:
                    if self.sender.acknowledge(frame.offset) and self._closing is not None:
                        self._grace_at = now + self._limits.linger  # slow, but it goes on
                    if self.finished:
                        events.append(Delivered())
                elif frame.type is FrameType.PING:
                    self._pong = frame.payload
                elif frame.type is FrameType.PONG:
                    continue
                elif frame.type is FrameType.END:
                    self.peer_ended = frame.payload
                    events.append(PeerEnded(frame.payload))
                else:
                    moved = True
                    events.append(Moved())
        except (FrameError, StreamError) as fault:
            raise LinkError(str(fault)) from None
        return events

    def frames(self, now: float) -> bytes:
        """
        The next octets for the link, at most one DATA frame among them; none when there is nothing to send now.
        """
        if self._reader is None:
            return b""
        parts: list[bytes] = []
        if self._pong is not None:
            parts.append(encode(FrameType.PONG, self._pong))
            self._pong = None
        if self._ping_due:
            self._ping_due = False
            parts.append(encode(FrameType.PING, self._ping.to_bytes(OFFSET_LENGTH, "big")))
        sender, receiver = self.sender, self.receiver
        data = self._next_data() if sender.end > sender.sent else b""
        end = self._closing is not None and not self._end_said and not sender.queued
        if receiver.received > receiver.acknowledged and (data or parts or end or self._ack_due(now)):
            parts.append(encode_ack(receiver.acknowledge()))
            self._ack_at = None
        if data:
            self._first = False
            parts.append(data_header(len(data)))
            parts.append(data)
        if end and self._closing is not None:
            self._end_said = True
            parts.append(encode(FrameType.END, self._closing))
        return b"".join(parts)

    def _next_data(self) -> bytes:
        sender = self.sender
        most = self._limits.first_data if self._first else self._limits.frame_payload
        in_flight = sender.sent - sender.acknowledged
        if in_flight:
            room = sender.window - in_flight
            if sender.end - sender.sent > room and room < min(most, _CRUMB, sender.window // 4):
                return b""  # a peer that opens its window by crumbs gets no crumbs
        return sender.take(most)

    def _ack_due(self, now: float) -> bool:
        threshold = min(self._limits.ack_every, self.terms.window // 4)
        if self.receiver.unacknowledged >= threshold or self.peer_ended is not None:
            return True
        return self._ack_at is not None and now >= self._ack_at

    # The inner end

    def write(self, octets: bytes) -> None:
        """
        Octets of the inner end, for the peer.  Dropped when the inner end has closed.
        """
        if self._closing is None and self.state is not State.ENDED:
            self.sender.write(octets)

    @property
    def overrun(self) -> bool:
        """
        Whether the inner end has queued more than the policy lets it, beyond the window.
        """
        return self.sender.retained > self.terms.window + self._limits.overrun

    def next_delivery(self, now: float) -> bytes:
        """
        The next octets for the inner end, counted as received; none when there are none.
        """
        octets = self.receiver.hand_on()
        if octets and self._ack_at is None:
            self._ack_at = now + self._limits.ack_delay
        return octets

    def close(self, reason: bytes, now: float) -> None:
        """
        The inner end has closed: what it wrote is still delivered, then END says why.

        @param reason: a short word in US-ASCII.
        """
        if self._closing is not None or self.state is State.ENDED:
            return
        self._closing = reason[:END_REASON_LIMIT]
        self._go(Input.INNER_CLOSED)
        self._grace_at = now + self._limits.linger

    @property
    def delivered(self) -> bool:
        """
        Whether the inner end had closed and the peer is known to have all that it wrote.
        """
        return self._closing is not None and not self.sender.retained

    @property
    def said_all(self) -> bool:
        """
        Whether, on the present link, END was said: all that the inner end wrote stands before it.
        """
        return self._end_said

    @property
    def finished(self) -> bool:
        """
        Whether, on the present link, END was said and nothing is left that the peer might lack.
        """
        return self._end_said and self.delivered

    def end(self) -> None:
        """
        The session is over now; kept octets are let go, the counts stay.
        """
        if self.state is State.ENDED:
            return
        self._go(Input.OVER)
        self._forget_link()
        self._grace_at = self._ack_at = None
        self.sender.clear()
        self.receiver.clear()

    # Time

    def probe(self, now: float, timeout: float) -> None:
        """
        Ask the peer for a sign of life on the present link; L{tick} tells when none came in time.
        A probe that waits already is not made later by a new one.
        """
        if self._reader is not None and self._ping_at is None:
            self._ping += 1
            self._ping_due = True
            self._ping_at = now + timeout

    def deadline(self, writable: bool = True) -> float | None:
        """
        When L{tick} has something to do next, or None.

        @param writable: the link takes octets; when it does not, nobody has to be woken for what cannot be said.
        """
        # Asked for whatever passes, so without a list.
        first = inf if self._grace_at is None else self._grace_at
        if self._ping_at is not None and self._ping_at < first:
            first = self._ping_at
        if self._reader is not None:
            if writable and self._ack_at is not None and self._ack_at < first and self.receiver.unacknowledged:
                first = self._ack_at
            if self._ping_at is None and self.heard_at + self._silence < first:
                first = self.heard_at + self._silence
        return None if first == inf else first

    def tick(self, now: float) -> list[Event]:
        """
        Time has passed.  An acknowledgement that is due comes out of L{frames}.
        """
        events: list[Event] = []
        if self._ping_at is not None and now >= self._ping_at:
            self._ping_at = None
            events.append(ProbeFailed())
        elif now >= self.heard_at + self._silence:
            self.probe(now, self._patience)
        if self._grace_at is not None and now >= self._grace_at:
            self._grace_at = None
            events.append(GraceOver())
        return events
