"""
What joins a session to its inner protocol on one side and to the present link on the other.

Invariants:

- Only the present link is listened to.  Every callback of a link names itself; one that is not the present link any more is
  ignored, so late octets of a displaced link reach neither the inner end nor a counter.
- A link is exchanged in one synchronous step: fence the old link, fix the counts, attach the new one.  In a planned move it is
  succeeded instead: what is written goes by the new link at once, and that is read when the former one has brought MOVED.  A
  former link that ends before has left a gap: then the new one goes, too, and the next RESUME fills it.
- There is at most one timer, set to the session's next deadline or earlier.
- The inner protocol learns of its end once, through its transport, whatever ends first.
- While a link stands, what it cannot take at once waits in the session and not in the link's own buffer; the producer is
  paused meanwhile.  Without a link the inner end may write on until the window is full.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mem_continuity.core.frames import FrameType, encode
from mem_continuity.core.session import LinkError, Session
from mem_continuity.core.states import Answered, Delivered, Event, GraceOver, Moved, PeerEnded, ProbeFailed, State
from mem_continuity.layer.carrying import Carrying
from mem_continuity.layer.roles import Link, Owner
from mem_continuity.layer.succession import Succession
from mem_continuity.layer.transport import VirtualTransport


class Conduit(Carrying):
    """
    A L{Carrier<mem_continuity.layer.roles.Carrier>} whose octets are framed and kept.

    @ivar handovers: how often a later link has taken the session over.
    """

    _log = Logger()

    def __init__(self, session: Session, inner: VirtualTransport, clock: IReactorTime, owner: Owner) -> None:
        super().__init__(session, inner, clock, owner)
        self.handovers = 0
        self._timer: IDelayedCall | None = None
        self._spacing = False
        self._retiring = False
        self._succession: Succession | None = None
        self._anticipating = False
        self._moved_early = False

    # Links

    def begin(self, link: Link) -> None:
        """
        START was granted on this link: frames from now on.
        """
        self.session.attach(self._clock.seconds())
        self._take(link)
        self._inner.carry(self)
        self.flush()

    def exchange(self, link: Link, commit: Callable[[], None]) -> Link | None:
        """
        Give the session to another link.

        @param commit: attaches the session: called when the old link is fenced and detached.  It must not fail.
        @return: the link that had it, to be told so.
        """
        old = self.link
        former = self._forget_former()
        if former is not None:
            former.abort()
        if old is not None:
            old.fence()
            self.link = None
            if self.session.attached:
                self.session.detach(self._clock.seconds())
        commit()
        self.handovers += 1
        self._take(link)
        self._inner.link_changed()
        return old

    def fence(self) -> None:
        """
        Nothing that still arrives counts; the links stand for now.
        """
        if self._succession is not None:
            self._succession.former.fence()
        if self.link is not None:
            self.link.fence()

    # Planned moves

    @property
    def moving(self) -> bool:
        """
        Whether the link before is still read.
        """
        return self.session.moving

    def anticipate(self, wanted: bool) -> None:
        """
        Another link is asked for, with DRAIN: a MOVED on the present one, which may be faster than the answer, does not end it
        yet.

        @param wanted: false when the answer has come, or does not.
        """
        self._anticipating = wanted
        early, self._moved_early = self._moved_early, False
        if early and not wanted:
            self._moved()

    def succeed(self, link: Link, commit: Callable[[], None], quiet: float, most: float) -> None:
        """
        Give the session to another link, and read the present one to its end, the peer's MOVED.

        @param commit: as in L{exchange}.
        @param quiet: seconds in which nothing comes by the former link, and it is given up.
        @param most: seconds for all of it.
        """
        former = self.link
        assert former is not None
        former.transport.write(encode(FrameType.MOVED))
        commit()
        self.handovers += 1
        self._take(link)
        if self._moved_early:
            self._moved_early = False
            self.session.former_ended()
            former.left()
        else:
            self._succession = Succession(former, self._clock, quiet, most, self._former_failed)
            link.stand_by()
        self._inner.link_changed()

    def _former_ended(self) -> None:
        succession, self._succession = self._succession, None
        assert succession is not None
        succession.stop()
        self.session.former_ended()
        succession.former.left()
        link = self.link
        if link is not None:
            if succession.ahead:
                self.link_received(link, succession.ahead)
            link.read_on()

    def _former_failed(self, why: str) -> None:
        former = self._forget_former()
        if former is not None:
            former.drop(why)
        if self.link is not None:
            self.link.drop(why)

    def _forget_former(self) -> Link | None:
        succession, self._succession = self._succession, None
        self._moved_early = False
        if succession is None:
            return None
        succession.stop()
        return succession.former

    def _take(self, link: Link) -> None:
        self.link = link
        self._spacing = False
        self._last = link.transport

    def link_received(self, link: Link, octets: bytes) -> None:
        """
        Octets came in on a link.
        """
        succession = self._succession
        former = succession is not None and link is succession.former
        if succession is not None:
            if not former:
                succession.ahead += octets if link is self.link else b""  # it stands by; this was being read
                return
            succession.heard()
        elif link is not self.link:
            return
        now = self._clock.seconds()
        fault: LinkError | None = None
        events: list[Event] = []
        try:
            events = self.session.receive(octets, now, former)
        except LinkError as error:
            fault = error
        self.deliver()
        if succession is not self._succession or (link is not self.link and not former):
            return
        if fault is not None:
            self._log.warn("Session {session}: its link is dropped: {fault}", session=self._name, fault=str(fault))
            link.drop(str(fault))
            return
        self._handle(events, former)
        self.flush()

    def link_flow(self, link: Link) -> None:
        """
        A link's transport takes octets again, or has enough.
        """
        if link is self.link:
            self.flush()

    def link_lost(self, link: Link) -> None:
        """
        A link is gone.  When it was the present one the session is parked, or over if nothing was left to say.
        """
        if self._succession is not None and link is self._succession.former:
            self._former_failed("the link before it was lost before it had brought everything")
            return
        if link is not self.link:
            return
        former = self._forget_former()
        if former is not None:
            former.abort()
        self.link = None
        self._detach()

    def _detach(self) -> None:
        session = self.session
        if session.state is State.ENDED:
            return
        session.detach(self._clock.seconds())
        self._last = None  # a dead TLS connection weighs more than all else of a parked session
        if session.peer_ended is not None and session.receiver.waiting:
            self._rearm()
            return  # over as soon as a slow inner end has taken what is left for it
        if session.delivered or session.peer_ended is not None:
            self._over()
            return
        self._rearm()
        self._owner.session_parked()
        self._flow()

    # Octets

    def deliver(self) -> None:
        """
        Hand on what arrived, as far as the inner protocol takes it; and the peer's END behind it.
        """
        if self._delivering:
            return
        self._delivering = True
        try:
            while self.session.receiver.waiting and self._inner.reading:
                octets = self.session.next_delivery(self._clock.seconds())
                if not octets or not self._inner.deliver(octets):
                    break
        finally:
            self._delivering = False
        if self.session.peer_ended is not None and not self.session.receiver.waiting:
            self._peer_ended(self.session.peer_ended)

    def flush(self) -> None:
        """
        Give the link what there is to send, and the producer its word.
        """
        link = self.link
        if link is not None:
            now = self._clock.seconds()
            while not link.congested and not self._spacing:
                first = self.session.first_data_due
                octets = self.session.frames(now)
                if not octets:
                    break
                link.transport.write(octets)
                if link is not self.link:
                    return
                if first and not self.session.first_data_due:
                    # What a TLS transport is given in one turn it joins into records of 16 KiB, and one that does not fit the
                    # first flight can be read a round trip later only.  So what follows the first DATA waits for the next turn.
                    self._spacing = True
                    self._clock.callLater(0, self._spaced, link)
        if self.session.finished or (self._retiring and self.session.said_all):
            self._over()
        self._flow()
        self._rearm()

    def _spaced(self, link: Link) -> None:
        if link is self.link:
            self._spacing = False
            self.flush()

    def _flow(self) -> None:
        sender = self.session.sender
        if self.link is None:
            ready = sender.retained < sender.window
        else:
            ready = not self.link.congested and not sender.queued
        self._inner.flow(ready)

    def _handle(self, events: list[Event], former: bool = False) -> None:
        for event in events:
            if isinstance(event, Delivered):
                self._over()
            elif isinstance(event, Moved):
                if former:
                    self._former_ended()
                elif self._anticipating:
                    self._moved_early = True
                else:
                    self._moved()
            elif isinstance(event, ProbeFailed) and self.link is not None:
                self._log.info("Session {session}: no sign of life, its link is dropped", session=self._name)
                self.link.drop("no answer to PING")
            elif isinstance(event, GraceOver):
                self._owner.session_grace_over()
            elif isinstance(event, (PeerEnded, Answered)):
                continue  # END is acted on in deliver, behind the data before it

    def _moved(self) -> None:
        link, self.link = self.link, None
        if link is not None:
            link.fence()
            link.finish()
        if self.session.attached:
            self.session.detach(self._clock.seconds())
        self._owner.session_moved()

    # Ends

    def _peer_ended(self, reason: bytes) -> None:
        if self.session.state is State.ENDED:
            return
        self.flush()
        self._over(self._owner.failure_of(reason))

    def _over(self, failure: Failure | None = None) -> None:
        if self.session.state is State.ENDED:
            return
        former = self._forget_former()
        link, self.link = self.link, None
        self.session.end()
        self._cancel()
        self._owner.session_ended()
        if former is not None:
            former.left()
        if link is not None:
            link.finish()
        if failure is None and self._inner.disconnecting:
            failure = self._owner.failure_of(b"CLOSED")
        if failure is not None:
            self._inner.lose(failure)

    def end(self, reason: bytes) -> None:
        """
        The session is over by this side's decision (grace, eviction, veto, overrun): the peer is told END if it has a link,
        the inner protocol its C{connectionLost}.  What was not delivered is given up.
        """
        if self.session.state is State.ENDED:
            return
        if self.link is not None:
            self.session.sender.forget_queue()
            self.session.close(reason, self._clock.seconds())
            octets = self.session.frames(self._clock.seconds())
            if octets:
                self.link.transport.write(octets)
        self._over(self._owner.failure_of(reason))

    def retire(self, reason: bytes) -> None:
        """
        The session is over by this side's decision, but the peer still gets what the inner protocol has written: END stands
        behind it, and with that on the link nothing more is waited for.  The owner tells the inner protocol and sees to a
        deadline.
        """
        self._retiring = True
        self.session.close(reason, self._clock.seconds())
        self.flush()

    # Time

    def probe(self, timeout: float) -> None:
        """
        Ask for a sign of life; a link that gives none is dropped.

        @param timeout: seconds.
        """
        self.session.probe(self._clock.seconds(), timeout)
        self.flush()

    def _rearm(self) -> None:
        deadline = self.session.deadline(self.link is None or not self.link.congested)
        if deadline is None:
            return  # a timer that is set finds nothing to do
        timer = self._timer
        if timer is None:
            self._timer = self._clock.callLater(max(0.0, deadline - self._clock.seconds()), self._tick)
        elif timer.getTime() > deadline:
            timer.reset(max(0.0, deadline - self._clock.seconds()))

    def _tick(self) -> None:
        self._timer = None
        self._handle(self.session.tick(self._clock.seconds()))
        self.flush()

    def _cancel(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
