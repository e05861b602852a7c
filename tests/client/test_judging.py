"""
L{mem_continuity.client.judging}: pure, so everything by value.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.client.judging import Cause, Signs, Verdict, asked_from, is_over, judge, patience
from mem_continuity.core.policy import RoamingPolicy
from mem_continuity.layer.sockets import Vitals

NOW = 1000.0
POLICY = RoamingPolicy()
QUIET, DOUBT, TIMEOUT = POLICY.probe_quiet, POLICY.probe_doubt, POLICY.probe_timeout
WELL = Vitals(
    heard_ago=0.0, unacknowledged=0, unsent=0, round_trip=0.02, least_round_trip=0.02, variation=0.001, timeouts=0, disorder=0.0
)


def tcp(**changes: float) -> Vitals:
    """
    A link of 20 ms, but for this.
    """
    return replace(WELL, **changes)  # type: ignore[arg-type]


def signs(ago: float, **changes: object) -> Signs:
    """
    The peer was heard so long ago.
    """
    return replace(Signs(now=NOW, heard_at=NOW - ago), **changes)  # type: ignore[arg-type]


class PatienceTests(SynchronousTestCase):
    """
    How long is too long.
    """

    def check(self, seconds: float, found: float) -> None:
        self.assertAlmostEqual(seconds, found, places=3)

    def test_a_short_round_trip(self) -> None:
        self.check(patience(POLICY, signs(0.0, vitals=tcp())), DOUBT)
        self.check(patience(POLICY, signs(0.0, round_trip=0.02)), DOUBT)

    def test_half_a_second_or_three_round_trips(self) -> None:
        for trip in (0.02, 0.06, 0.15, 0.3, 1.0):
            vitals = tcp(round_trip=trip, least_round_trip=trip, variation=trip / 50)
            for one in (signs(0.0, vitals=vitals), signs(0.0, round_trip=trip)):
                self.assertLess(patience(POLICY, one), max(0.5, 3 * trip))
                self.assertGreater(patience(POLICY, one), max(0.4, 2.5 * trip))

    def test_a_queue(self) -> None:
        self.check(patience(POLICY, signs(0.0, vitals=tcp(round_trip=2.0, variation=0.1))), 3.0)
        self.check(patience(POLICY, signs(0.0, vitals=tcp(round_trip=2.0, variation=1.0))), 8.0)

    def test_a_queue_that_has_drained(self) -> None:
        vitals = tcp(round_trip=0.4, least_round_trip=0.15, variation=0.1)
        self.check(patience(POLICY, signs(0.0, vitals=vitals)), 1.0)
        self.check(patience(POLICY, signs(0.0, vitals=vitals, flowing=True)), DOUBT)
        self.check(patience(POLICY, signs(0.0, vitals=vitals, flowing=True, slowest=2.0)), 3.0)

    def test_losses_leave_room_for_a_repetition(self) -> None:
        def after(trip: float, disorder: float) -> float:
            return patience(POLICY, signs(0.0, vitals=tcp(round_trip=trip, least_round_trip=trip, disorder=disorder)))

        self.check(after(0.02, 0.01), DOUBT)
        self.check(after(0.1, 0.0001), DOUBT)
        for trip in (0.1, 0.15, 0.3):
            self.assertGreater(after(trip, 0.01), QUIET + (trip + 0.2) + trip)
            self.assertGreater(after(trip, 0.05), QUIET + 3 * (trip + 0.2) + trip)

    def test_a_silence_that_was_none(self) -> None:
        self.check(patience(POLICY, signs(0.0, slowest=2.0, vitals=tcp())), 3.0)

    def test_our_own_octets_where_tcp_tells_nothing(self) -> None:
        self.check(patience(POLICY, signs(0.0, backlog=True)), DOUBT + POLICY.ack_delay)
        self.check(patience(POLICY, signs(0.0, backlog=True, vitals=tcp())), DOUBT)


class VerdictTests(SynchronousTestCase):
    """
    What to do.
    """

    def check(self, one: Signs, verdict: Verdict, again: float | None = None, cause: Cause = Cause.NONE) -> None:
        judgement = judge(POLICY, one)
        self.assertEqual((judgement.verdict, judgement.cause), (verdict, cause), one)
        if again is not None:
            self.assertAlmostEqual(judgement.again - NOW, again, places=3)

    def test_octets_come(self) -> None:
        for vitals in (None, tcp(heard_ago=0.05)):
            self.check(signs(0.05, vitals=vitals), Verdict.LOOK, QUIET - 0.05)

    def test_quiet(self) -> None:
        self.check(signs(QUIET), Verdict.ASK)
        self.check(signs(QUIET, vitals=tcp(heard_ago=9.0)), Verdict.ASK)
        self.check(signs(9.0, vitals=tcp(heard_ago=0.1)), Verdict.LOOK, QUIET - 0.1)
        self.check(signs(9.0, spoke_at=NOW - 0.1), Verdict.LOOK, QUIET - 0.1)

    def test_not_before_it_is_wanted(self) -> None:
        self.check(signs(5.0, ask_at=NOW + 7.0), Verdict.LOOK, 7.0)

    def test_a_ping_without_an_answer(self) -> None:
        for vitals in (None, tcp(heard_ago=9.0, unacknowledged=1)):
            asked = signs(0.4, asked_at=NOW - 0.2, asked_from=NOW - 0.4, noticed_at=NOW - 0.2, vitals=vitals)
            if vitals is not None:
                asked = replace(asked, vitals=replace(vitals, heard_ago=0.4))
            self.check(asked, Verdict.LOOK, DOUBT - 0.4, Cause.SILENT)
            late = replace(asked, now=NOW + 0.1, vitals=None if vitals is None else replace(vitals, heard_ago=0.5))
            self.assertEqual(judge(POLICY, late).verdict, Verdict.DOUBT)
            gone = replace(asked, now=NOW + 3.0, vitals=None if vitals is None else replace(vitals, heard_ago=3.4))
            self.assertEqual(judge(POLICY, gone).verdict, Verdict.DEAD)

    def test_octets_under_way_need_no_ping(self) -> None:
        vitals = tcp(heard_ago=0.3, unacknowledged=40, unsent=100_000)
        self.check(signs(7.0, noticed_at=NOW - 0.1, vitals=vitals), Verdict.LOOK, DOUBT - 0.3, Cause.SILENT)
        vitals = replace(vitals, heard_ago=0.5)
        self.check(signs(7.0, noticed_at=NOW - 0.3, vitals=vitals), Verdict.DOUBT, cause=Cause.SILENT)
        self.check(signs(7.0, noticed_at=NOW - 9.0, vitals=replace(vitals, heard_ago=3.0)), Verdict.DEAD, cause=Cause.SILENT)

    def test_as_long_as_tcp_hears_acknowledgements(self) -> None:
        vitals = tcp(heard_ago=0.1, unacknowledged=40, unsent=100_000, round_trip=3.0)
        self.check(signs(60.0, spoke_at=NOW - 60, vitals=vitals), Verdict.LOOK, QUIET - 0.1, Cause.SILENT)

    def test_the_first_command_after_a_long_time(self) -> None:
        vitals = tcp(heard_ago=300.0, unacknowledged=1)
        said = signs(300.0, spoke_at=NOW - 0.3, noticed_at=NOW - 0.1, vitals=vitals)
        self.check(said, Verdict.LOOK, DOUBT - 0.3, Cause.SILENT)
        self.check(replace(said, now=NOW + 0.2), Verdict.DOUBT, cause=Cause.SILENT)

    def test_what_was_just_seen_gets_its_time(self) -> None:
        """
        An acknowledgement of ours may go out long after the last sign of life.
        """
        vitals = tcp(heard_ago=50.0, unacknowledged=1)
        self.assertEqual(judge(POLICY, signs(50.0, noticed_at=NOW, vitals=vitals)).verdict, Verdict.LOOK)

    def test_a_ping_that_was_acknowledged_is_no_question_any_more(self) -> None:
        """
        Other octets are under way behind it.
        """
        vitals = tcp(heard_ago=0.1, unacknowledged=3)
        one = signs(9.0, asked_at=NOW - 5.0, asked_from=NOW - 5.2, noticed_at=NOW - 5.0, vitals=vitals)
        self.assertEqual(judge(POLICY, one).verdict, Verdict.LOOK)

    def test_nobody_answers_though_tcp_does(self) -> None:
        asked = signs(9.0, asked_at=NOW - 2.0, vitals=tcp(heard_ago=1.9))
        self.check(asked, Verdict.LOOK, cause=Cause.UNANSWERED)
        for later, verdict in ((1.5, Verdict.DOUBT), (6.0, Verdict.DEAD)):
            vitals = tcp(heard_ago=1.9 + later)
            self.assertEqual(judge(POLICY, replace(asked, now=NOW + later, vitals=vitals)).verdict, verdict)

    def test_a_closed_window(self) -> None:
        """
        The peer lives and takes nothing; a PING would not get there.
        """
        for ago in (1.0, 100.0):
            vitals = tcp(heard_ago=ago, unsent=5000)
            self.check(signs(ago, vitals=vitals), Verdict.LOOK)
            self.check(signs(ago, asked_at=NOW - ago / 2, vitals=vitals), Verdict.LOOK, cause=Cause.UNANSWERED)

    def test_what_we_say_does_not_arrive(self) -> None:
        """
        Though much comes from there.
        """
        for times, verdict in ((2, Verdict.LOOK), (3, Verdict.DOUBT), (6, Verdict.DEAD)):
            self.assertEqual(judge(POLICY, signs(0.0, vitals=tcp(unacknowledged=1, timeouts=times))).verdict, verdict)

    def test_neither_way_leads_anywhere(self) -> None:
        """
        What is sent in vain does not put off the end of a silence.
        """
        vitals = tcp(heard_ago=3.1, unacknowledged=1, timeouts=4)
        self.check(signs(3.1, noticed_at=NOW - 2.9, vitals=vitals), Verdict.DEAD, cause=Cause.SILENT)


class AskedFromTests(SynchronousTestCase):
    """
    What a PING's silence counts from.
    """

    def test_from_the_last_octets_when_they_have_just_come(self) -> None:
        self.assertEqual(asked_from(POLICY, signs(QUIET), hinted=False), NOW - QUIET)

    def test_from_now_on(self) -> None:
        self.assertEqual(asked_from(POLICY, signs(QUIET), hinted=True), NOW)
        self.assertEqual(asked_from(POLICY, signs(60.0), hinted=False), NOW)

    def test_the_answer_has_its_time(self) -> None:
        policy = RoamingPolicy(probe_quiet=5.0)
        self.assertGreater(asked_from(policy, signs(5.0), hinted=False), NOW - 0.5 * DOUBT)


class OverTests(SynchronousTestCase):
    """
    A doubt is over with a sign of life of the kind that it missed.
    """

    def test_each(self) -> None:
        for cause, one, over in (
            (Cause.SILENT, signs(2.0), False),
            (Cause.SILENT, signs(0.5), True),
            (Cause.SILENT, signs(2.0, vitals=tcp(heard_ago=0.5)), True),
            (Cause.UNANSWERED, signs(2.0, vitals=tcp(heard_ago=0.5)), False),
            (Cause.UNANSWERED, signs(0.5, vitals=tcp(heard_ago=0.5)), True),
            (Cause.UNHEARD, signs(0.1, vitals=tcp(timeouts=4)), False),
            (Cause.UNHEARD, signs(0.1, vitals=tcp(timeouts=0)), True),
            (Cause.UNHEARD, signs(2.0), True),
        ):
            self.assertEqual(is_over(cause, NOW - 1.0, one), over, (cause, one))


some_vitals = st.builds(
    Vitals,
    heard_ago=st.floats(0, 100),
    unacknowledged=st.integers(0, 50),
    unsent=st.sampled_from((0, 100_000)),
    round_trip=st.floats(0.001, 5),
    least_round_trip=st.floats(0.001, 1),
    variation=st.floats(0, 2),
    timeouts=st.integers(0, 8),
    disorder=st.floats(0, 0.2),
)
before_now = st.one_of(st.just(-inf), st.floats(NOW - 100, NOW))
some_signs = st.builds(
    Signs,
    now=st.just(NOW),
    heard_at=st.floats(NOW - 100, NOW),
    spoke_at=before_now,
    asked_at=before_now,
    asked_from=before_now,
    ask_at=st.one_of(st.just(-inf), st.floats(NOW - 10, NOW + 240)),
    noticed_at=before_now,
    slowest=st.floats(0, 10),
    round_trip=st.floats(0, 5),
    backlog=st.booleans(),
    vitals=st.one_of(st.none(), some_vitals),
)


class PropertyTests(SynchronousTestCase):
    """
    Whatever is known.
    """

    @given(some_signs)
    def test_the_next_look_is_later(self, one: Signs) -> None:
        judgement = judge(POLICY, one)
        if judgement.verdict in (Verdict.LOOK, Verdict.DOUBT):
            self.assertGreater(judgement.again, NOW)

    @given(some_signs)
    def test_no_doubt_before_its_time(self, one: Signs) -> None:
        judgement = judge(POLICY, one)
        if judgement.cause is Cause.SILENT and judgement.verdict in (Verdict.DOUBT, Verdict.DEAD):
            self.assertGreaterEqual(NOW - one.life, patience(POLICY, one) - 1e-6)
            if judgement.verdict is Verdict.DEAD:
                self.assertGreaterEqual(NOW - one.life, TIMEOUT - 1e-6)

    @given(some_signs, st.floats(0, 1))
    def test_a_later_sign_of_life_is_never_worse(self, one: Signs, part: float) -> None:
        order = (Verdict.LOOK, Verdict.ASK, Verdict.DOUBT, Verdict.DEAD)
        before = judge(POLICY, one).verdict
        heard = one.vitals is None or one.vitals.timeouts < 3
        if before in (Verdict.LOOK, Verdict.ASK) and heard:
            heard_at = one.heard_at + part * (NOW - one.heard_at)
            after = judge(POLICY, replace(one, heard_at=heard_at)).verdict
            self.assertLess(order.index(after), order.index(Verdict.DOUBT))

    @given(some_signs)
    def test_an_unbroken_silence_ends(self, one: Signs) -> None:
        """
        A question that is under way is never forgotten: a doubt, then the end, in a time that can be told.
        """
        if not (one.under_way or (one.asking and one.vitals is None)):
            return
        bound = 2.0 * max(TIMEOUT, 2 * patience(POLICY, one)) + 1.0
        now, seen = NOW, [Verdict.LOOK]
        while seen[-1] is not Verdict.DEAD and now <= NOW + bound:
            vitals = one.vitals if one.vitals is None else replace(one.vitals, heard_ago=one.vitals.heard_ago + now - NOW)
            judgement = judge(POLICY, replace(one, now=now, vitals=vitals))
            seen.append(judgement.verdict)
            self.assertGreater(judgement.again, now)
            now = judgement.again
        self.assertEqual(seen[-1], Verdict.DEAD)
        self.assertNotIn(Verdict.ASK, seen)
