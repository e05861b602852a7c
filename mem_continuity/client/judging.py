"""
Does a link live?  What is known of it at one moment goes in, what to do comes out; no clock and no socket is here.

Invariants:

- A doubt counts from the last sign of life, or from what was first said after it, and not from a PING.  It is due after
  C{probe_doubt} or three round trips, whatever is more, and on a link that loses or varies after what a repetition there takes.
- Whatever comes from the peer's TCP is a sign of life where the system tells of it: an acknowledgement comes however long our own
  queue is, and a segment comes however many before it are missing.
- Where octets of ours are under way these are the question, and no PING is asked; where everything is acknowledged a PING is.
- A silence on this very link that turned out to be none makes later ones wait longer than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from math import inf

from mem_continuity.core.policy import RoamingPolicy
from mem_continuity.layer.sockets import Vitals

_ROUND_TRIPS = 2.9
"""Three, but for what timers and the peer's processor take."""
_QUEUED_TRIPS = 1.5
"""Of those that our own octets make long by their queue; while it drains signs of life come all the time."""
_DEVIATIONS = 4.0
"""After so many above the round trip TCP repeats (RFC 6298, section 2)."""
_DOUBTFUL_DEVIATIONS = 6.0
"""More than that: a queue that others fill grows faster than the smoothed values do."""
_REPETITION_LEAST = 0.2
"""Seconds, as Linux has it."""
_ANSWER_SHARE = 0.55
"""The part of the patience that a PING, or octets that were seen under way, get at least."""
_LOSSY = (0.0015, 0.03)
"""
The shares of segments lost or out of order from which on the next one may be lost as well, and its repetition too.
"""
_CAUTION = 1.5
"""How much longer than a silence that was none the next one has to be."""
_VAIN = 3
_VAIN_DEAD = 6
"""
The same octets sent again so often without an acknowledgement: what we say does not arrive, whatever comes from there.  Three are
seven times the time that TCP gives an answer.
"""


class Verdict(Enum):
    """
    What to do.
    """

    LOOK = auto()
    """Nothing yet."""
    ASK = auto()
    """A PING is due."""
    DOUBT = auto()
    """Seek another link, and keep this one."""
    DEAD = auto()
    """Give it up."""


class Cause(Enum):
    """
    What a doubt is about.
    """

    NONE = auto()
    SILENT = auto()
    """Nothing comes."""
    UNHEARD = auto()
    """What we say does not arrive."""
    UNANSWERED = auto()
    """TCP says that it does, and yet nobody answers: a relay on the way, or a server that hangs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """
    What is known at one moment; times are seconds of one clock.

    @ivar heard_at: when octets of the peer were read last, or the link was attached.
    @ivar spoke_at: when the inner protocol wrote first since the last sign of life; else any earlier time.
    @ivar asked_at: when the last PING was sent.
    @ivar asked_from: from when on the silence counts that this PING is to end.
    @ivar ask_at: no PING before then.
    @ivar noticed_at: when a look found octets under way for the first time in this silence; else any earlier time.
    @ivar slowest: seconds of a silence on this link that was none.
    @ivar round_trip: seconds, as PINGs have shown it; used where TCP tells nothing.
    @ivar flowing: whether the silence began in the middle of a response that was coming in without a pause.
    @ivar backlog: whether a PING stands in line behind many octets of our own; used likewise.
    @ivar vitals: what TCP knows.
    """

    now: float
    heard_at: float
    spoke_at: float = -inf
    asked_at: float = -inf
    asked_from: float = -inf
    ask_at: float = -inf
    noticed_at: float = -inf
    slowest: float = 0.0
    round_trip: float = 0.0
    flowing: bool = False
    backlog: bool = False
    vitals: Vitals | None = None

    @property
    def life(self) -> float:
        """
        When the last sign of life came.
        """
        return self.heard_at if self.vitals is None else max(self.heard_at, self.now - self.vitals.heard_ago)

    @property
    def asking(self) -> bool:
        """
        Whether a PING waits for its answer.
        """
        return self.heard_at < self.asked_at

    @property
    def under_way(self) -> bool:
        """
        Whether TCP waits for an acknowledgement.
        """
        return self.vitals is not None and self.vitals.unacknowledged > 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """
    @ivar again: when to look again, if nothing happens before.
    @ivar since: from when on the silence counts.
    """

    verdict: Verdict
    again: float
    cause: Cause = Cause.NONE
    since: float = 0.0


def patience(policy: RoamingPolicy, signs: Signs) -> float:
    """
    Seconds of silence before a doubt.
    """
    least = max(policy.probe_doubt, _CAUTION * signs.slowest)
    vitals = signs.vitals
    if vitals is None:
        # Behind our own octets the first sign of life is an acknowledgement, and the peer may take its time; it is taken to be as
        # slow as we are.
        return max(least, _ROUND_TRIPS * signs.round_trip) + (policy.ack_delay if signs.backlog else 0.0)
    trip, deviation, wide = vitals.round_trip, _DEVIATIONS * vitals.variation, _DOUBTFUL_DEVIATIONS * vitals.variation
    if signs.flowing:
        trip, wide = vitals.least_round_trip, 0.0  # what made the queue has come; in silence there is none
    losses = sum(vitals.disorder >= share for share in _LOSSY)
    if losses:
        # Each repetition of the same octets comes after twice the time of the one before.
        repetitions = (2**losses - 1) * (trip + max(_REPETITION_LEAST, deviation))
        least = max(least, policy.probe_quiet + repetitions + 1.5 * trip)
    return max(least, _ROUND_TRIPS * vitals.least_round_trip, _QUEUED_TRIPS * trip, trip + wide)


def judge(policy: RoamingPolicy, signs: Signs) -> Judgement:
    """
    What to do now, and when to look again.
    """
    found = _judge_silence(policy, signs)
    vain = 0 if signs.vitals is None else signs.vitals.timeouts
    if vain < _VAIN or found.verdict in (Verdict.DOUBT, Verdict.DEAD):
        return found
    verdict = Verdict.DEAD if vain >= _VAIN_DEAD else Verdict.DOUBT
    return Judgement(verdict, signs.now + policy.probe_quiet, Cause.UNHEARD, signs.life)


def _judge_silence(policy: RoamingPolicy, signs: Signs) -> Judgement:
    patient = patience(policy, signs)
    vitals = signs.vitals
    if vitals is not None and signs.asking and not signs.under_way:
        # The PING has arrived at the peer's TCP, or stands behind octets that its closed window does not take.
        late = max(policy.probe_timeout, 2 * patient)
        since = signs.now if vitals.unsent else max(signs.asked_at, signs.life)
        return _wait(policy, signs, Cause.UNANSWERED, since, since + late, since + 2 * late)
    if signs.under_way or signs.asking:
        since = _question_at(signs)
        due = since + patient
        if signs.under_way:
            due = max(due, signs.noticed_at + _ANSWER_SHARE * patient)
        return _wait(policy, signs, Cause.SILENT, since, due, max(due, since + max(policy.probe_timeout, 2 * patient)))
    ask_at = max(signs.ask_at, max(signs.life, signs.spoke_at) + policy.probe_quiet)
    if vitals is not None and vitals.unsent:
        ask_at = max(ask_at, signs.now + policy.probe_quiet)  # the peer's window is closed, and a PING would not get there
    return Judgement(Verdict.LOOK if signs.now < ask_at else Verdict.ASK, ask_at)


def _question_at(signs: Signs) -> float:
    # What is waited for was asked after the last sign of life, or it is the rest of what was under way then.
    spoke_at = signs.spoke_at if signs.spoke_at > signs.life else inf
    asked_at = max(signs.asked_from, signs.life) if signs.asked_at > signs.life else inf
    found = min(spoke_at, asked_at)
    return signs.life if found == inf else found


def _wait(policy: RoamingPolicy, signs: Signs, cause: Cause, since: float, due: float, dead: float) -> Judgement:
    now = signs.now
    if now >= dead:
        return Judgement(Verdict.DEAD, inf, cause, since)
    if now >= due:
        return Judgement(Verdict.DOUBT, min(dead, now + policy.probe_quiet), cause, since)
    quiet_at = signs.life + policy.probe_quiet
    return Judgement(Verdict.LOOK, min(due, quiet_at) if quiet_at > now else due, cause, since)


def asked_from(policy: RoamingPolicy, signs: Signs, hinted: bool) -> float:
    """
    From when on the silence counts that a PING sent now is to end: from the last octets when these have just come, but so that
    the answer has its time.

    @param hinted: it is asked because the network has changed.
    """
    base = max(signs.life, signs.spoke_at)
    if hinted or signs.now - base > 1.5 * policy.probe_quiet:
        return signs.now
    return max(base, signs.now - (1.0 - _ANSWER_SHARE) * patience(policy, signs))


def is_over(cause: Cause, doubted_at: float, signs: Signs) -> bool:
    """
    Whether there was a sign of life since a doubt: of what it was about.
    """
    if cause is Cause.UNHEARD:
        return signs.vitals is None or signs.vitals.timeouts < _VAIN
    return (signs.heard_at if cause is Cause.UNANSWERED else signs.life) > doubted_at
