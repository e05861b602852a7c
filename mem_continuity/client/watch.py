"""
Is the link alive?  Found out when it matters, and never chattily.

Invariants:

- While octets come in nothing is asked: whatever comes is a sign of life, and so is what TCP alone has seen.
- After traffic, when nothing has come in for C{probe_quiet}, one PING is sent, unless octets of ours that are under way ask
  already.  When that is answered there is none before the next traffic, or before C{probe_idle}; while the peer owes an answer,
  as far as can be seen from here, the next ones come after pauses that double.
- Silence is first a doubt, told to the owner, who may seek another link while this one is kept; after C{probe_timeout}, or twice
  the patience if that is more, the link is given up.
- A timer that comes late judges nothing before what has come in meanwhile is read.

How long is too long is said by L{mem_continuity.client.judging}.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from mem_continuity.client.judging import Cause, Signs, Verdict, asked_from, is_over, judge
from mem_continuity.core.policy import RoamingPolicy
from mem_continuity.layer.conduit import Conduit
from mem_continuity.layer.sockets import vitals

_FORGETTING = 0.9
_LATE = 0.1
"""Seconds; a timer that is later shows that the process was busy, or did not run."""
_FLOWING = 0.5
"""In parts of C{probe_quiet}: octets that come after less than that come without a pause."""
_LEAST_WAIT = 0.001
_LITTLE = 8 * 1024
"""Octets: behind so few of our own a PING gets through."""


@dataclass(frozen=True, slots=True)
class _Doubt:
    cause: Cause
    at: float
    since: float


class LinkWatch:
    """
    Watches the present link of one conduit.  Its owner puts L{received} and L{written} where the inner octets pass, and says
    L{attached} for each link.
    """

    _log = Logger()

    def __init__(self, policy: RoamingPolicy, clock: IReactorTime, conduit: Conduit, doubted: Callable[[], object]) -> None:
        """
        @param doubted: called when there was no sign of life in a time in which there should have been one; once for each
            silence.
        """
        self._policy = policy
        self._clock = clock
        self._conduit = conduit
        self._doubted = doubted
        self._timer: IDelayedCall | None = None
        self._due_at = 0.0
        self._put_off = False
        self._owed = False
        self._received_at = -inf
        self._flowing = False
        self._forget()

    def _forget(self) -> None:
        # What is known of a link says nothing of the next.
        self._life = self._spoke_at = self._asked_at = self._asked_from = self._ask_at = self._noticed_at = -inf
        self._stirred_at = -inf
        self._asking = False
        self._round_trip = self._slowest = 0.0
        self._doubt: _Doubt | None = None

    def received(self, octets: bytes) -> None:
        """
        The inner protocol receives octets.
        """
        now = self._clock.seconds()
        self._owed = not octets.endswith(b"\n")  # in the middle of a line, or of a literal, more has to come
        self._flowing = self._owed and now - self._received_at < _FLOWING * self._policy.probe_quiet
        self._received_at = now
        self._stir()

    def written(self, octets: bytes) -> None:
        """
        The inner protocol has written octets.
        """
        if self._spoke_at <= max(self._life, self._conduit.session.heard_at):
            self._spoke_at = self._clock.seconds()
        self._owed = True
        self._stir()

    def attached(self) -> None:
        """
        The session has a link, or another one.
        """
        self._forget()
        self._stirred_at = self._clock.seconds()
        self._set(self._policy.probe_quiet)

    def ask(self) -> None:
        """
        Something has changed in the network: ask now.
        """
        if self._conduit.session.attached:
            signs = self._signs()
            if not signs.asking:
                self._ask(signs, hinted=True)

    def stop(self) -> None:
        """
        The session is over.
        """
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    @property
    def silent(self) -> bool:
        """
        Whether the present link was doubted and there was no sign of life since.
        """
        return self._doubt is not None and not is_over(self._doubt.cause, self._doubt.at, self._signs())

    def _signs(self) -> Signs:
        session, link = self._conduit.session, self._conduit.link
        return Signs(
            now=self._clock.seconds(),
            heard_at=session.heard_at,
            spoke_at=self._spoke_at,
            asked_at=self._asked_at,
            asked_from=self._asked_from,
            ask_at=self._ask_at,
            noticed_at=self._noticed_at,
            slowest=self._slowest,
            round_trip=self._round_trip,
            flowing=self._flowing,
            backlog=session.sender.retained > _LITTLE,
            vitals=None if link is None else vitals(link.transport),
        )

    def _stir(self) -> None:
        now = self._clock.seconds()
        self._stirred_at = now
        self._ask_at = -inf
        if self._timer is None or self._timer.getTime() > now + self._policy.probe_quiet:
            self._set(self._policy.probe_quiet)

    def _set(self, delay: float) -> None:
        delay = max(delay, _LEAST_WAIT)
        self._due_at = self._clock.seconds() + delay
        if self._timer is None:
            self._timer = self._clock.callLater(delay, self._due)
        else:
            self._timer.reset(delay)

    def _due(self) -> None:
        self._timer = None
        if not self._conduit.session.attached:
            return  # there is nothing to watch before the next link
        self._put_off = not self._put_off and self._clock.seconds() - self._due_at > _LATE
        if self._put_off:
            self._set(0.0)
        else:
            self._look()

    def _look(self) -> None:
        quiet_at = self._conduit.session.heard_at + self._policy.probe_quiet
        if self._doubt is None and not self._asking and self._clock.seconds() < quiet_at:
            self._set(quiet_at - self._clock.seconds())  # TCP need not be asked
            return
        signs = self._signs()
        self._life = signs.life
        self._relieve(signs)
        if self._asking and not signs.asking:
            self._answered(signs)
        if signs.under_way and self._noticed_at <= signs.life:
            self._noticed_at = signs.now
        known = replace(
            signs, noticed_at=self._noticed_at, ask_at=self._ask_at, slowest=self._slowest, round_trip=self._round_trip
        )
        judgement = judge(self._policy, known)
        if judgement.verdict is Verdict.ASK:
            self._ask(known, hinted=False)
        elif judgement.verdict is Verdict.DEAD:
            self._give_up()
        else:
            self._set(judgement.again - signs.now)
            if judgement.verdict is Verdict.DOUBT and self._doubt is None:
                self._doubt = _Doubt(judgement.cause, signs.now, judgement.since)
                self._log.debug("A link is in doubt: {cause}", cause=judgement.cause.name)
                self._doubted()

    def _ask(self, signs: Signs, hinted: bool) -> None:
        self._asked_from = asked_from(self._policy, signs, hinted)
        self._asked_at = self._noticed_at = signs.now
        self._asking = True
        self._set(self._policy.probe_quiet)
        self._conduit.probe(inf)  # what it means when no answer comes is judged here

    def _answered(self, signs: Signs) -> None:
        self._asking = False
        sample = self._conduit.session.answered_at - self._asked_at
        self._round_trip = max(sample, _FORGETTING * self._round_trip)
        self._slowest *= _FORGETTING
        if self._stirred_at > self._asked_at:
            self._ask_at = -inf
        elif self._owed:
            pause = max(2 * self._policy.probe_quiet, self._asked_at - self._stirred_at)
            self._ask_at = signs.now + min(pause, self._policy.probe_idle)
        else:
            self._ask_at = signs.now + self._policy.probe_idle

    def _relieve(self, signs: Signs) -> None:
        if self._doubt is not None and is_over(self._doubt.cause, self._doubt.at, signs):
            if self._doubt.cause is Cause.SILENT:
                self._slowest = max(self._slowest, signs.life - self._doubt.since)
            self._doubt = None

    def _give_up(self) -> None:
        link = self._conduit.link
        if link is not None:
            link.drop("no sign of life")
