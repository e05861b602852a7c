"""
The state machine, the timers and the end of one side: L{mem_continuity.core.session}.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.frames import (
    END_REASON_LIMIT,
    Frame,
    FrameType,
    encode,
    encode_ack,
)
from mem_continuity.core.policy import KIB, Policy
from mem_continuity.core.session import Session
from mem_continuity.core.states import TRANSITIONS, Delivered, GraceOver, Input, State
from mem_continuity.core.stream import StreamError
from tests.core.support import NOW, SESSION_ID, WINDOW, data, held, kinds, said, session, snapshot


def in_state(state: State) -> Session:
    """
    A session with octets that the peer does not have, in a state reached by its methods.
    """
    made = session()
    made.write(b"last words")
    if state in (State.DRAINING, State.WAITING):
        made.close(b"closed", NOW)
    if state in (State.PARKED, State.WAITING):
        made.detach(NOW)
    if state is State.ENDED:
        made.end()
    return made


class StateTests(SynchronousTestCase):
    def test_exactly_the_transitions_of_the_table(self) -> None:
        ways: dict[Input, Callable[[Session], None]] = {
            Input.ATTACH: lambda one: one.attach(NOW),
            Input.DETACH: lambda one: one.detach(NOW),
            Input.INNER_CLOSED: lambda one: one.close(b"closed", NOW),
            Input.OVER: lambda one: one.end(),
        }
        silent = {
            (State.DRAINING, Input.INNER_CLOSED),  # closed already
            (State.WAITING, Input.INNER_CLOSED),
            (State.ENDED, Input.INNER_CLOSED),
            (State.ENDED, Input.OVER),
        }
        self.assertEqual(set(ways), set(Input))
        self.assertFalse(silent & set(TRANSITIONS))
        for state, what in product(State, Input):
            one = in_state(state)
            self.assertIs(one.state, state)
            before = snapshot(one)
            if (state, what) in TRANSITIONS:
                ways[what](one)
                self.assertIs(one.state, TRANSITIONS[state, what])
            elif (state, what) in silent:
                ways[what](one)
                self.assertEqual(snapshot(one), before)
            else:
                self.assertRaises(KeyError, ways[what], one)
                self.assertEqual(snapshot(one), before)
            self.assertEqual(one.attached, one.state in (State.LIVE, State.DRAINING))

    def test_nothing_brings_an_ended_session_back(self) -> None:
        self.assertFalse([one for one in TRANSITIONS if one[0] is State.ENDED])

    def test_a_session_begins_parked_and_its_grace_runs(self) -> None:
        one = session(live=False)
        self.assertIs(one.state, State.PARKED)
        self.assertEqual(one.deadline(), NOW + 1500)

    def test_an_attach_that_cannot_be_changes_nothing(self) -> None:
        for state in (State.PARKED, State.WAITING):
            one = in_state(state)
            before = snapshot(one)
            self.assertRaises(StreamError, one.attach, NOW, 5)
            self.assertEqual(snapshot(one), before)

    def test_without_a_link_nothing_is_said_and_nothing_is_heard(self) -> None:
        for state in (State.PARKED, State.WAITING, State.ENDED):
            one = in_state(state)
            before = snapshot(one)
            self.assertEqual(one.frames(NOW), b"")
            self.assertEqual(one.receive(data(b"late") + b"\xff", NOW), [])
            one.probe(NOW, 1.0)
            self.assertEqual(snapshot(one), before)

    def test_end_lets_the_octets_go_and_keeps_the_counts(self) -> None:
        one = session()
        one.write(bytes(100))
        one.frames(NOW)
        one.receive(data(b"abc") + data(b"def"), NOW)
        one.next_delivery(NOW)
        one.probe(NOW, 1.0)
        one.end()
        self.assertEqual((held(one.sender), one.receiver.waiting, one.next_delivery(NOW)), (b"", 0, b""))
        self.assertEqual((one.sender.sent, one.receiver.received), (100, 3))
        self.assertIsNone(one.deadline())
        self.assertEqual(one.tick(NOW + 10**9), [])
        one.write(b"more")
        self.assertEqual(one.sender.end, 100)

    def test_overrun(self) -> None:
        one = session(policy=Policy(window=WINDOW, overrun=1000))
        one.write(bytes(WINDOW + 1000))
        self.assertFalse(one.overrun)
        one.write(b"x")
        self.assertTrue(one.overrun)
        one.frames(NOW)
        one.receive(encode_ack(1), NOW)
        self.assertFalse(one.overrun)

    def test_the_session_id_is_told_and_the_key_is_not(self) -> None:
        self.assertIn(SESSION_ID.decode(), repr(session().terms))


class TimeTests(SynchronousTestCase):
    def test_the_grace_period_ends_once(self) -> None:
        one = session()
        self.assertIsNone(one.deadline())
        one.detach(NOW + 100)
        self.assertEqual(one.deadline(), NOW + 1600)
        self.assertEqual(one.tick(NOW + 1599.9), [])
        self.assertEqual(one.tick(NOW + 1600), [GraceOver()])
        self.assertEqual(one.tick(NOW + 1700), [])

    def test_scenario_39_the_grace_period_ends_in_the_turn_of_a_resume(self) -> None:
        first = session()
        first.detach(NOW)
        first.attach(NOW + 1500, 0)
        self.assertEqual(first.tick(NOW + 1500), [])
        self.assertIs(first.state, State.LIVE)
        second = session()
        second.detach(NOW)
        self.assertEqual(second.tick(NOW + 1500), [GraceOver()])
        second.end()
        self.assertRaises(KeyError, second.attach, NOW + 1500, 0)
        self.assertIs(second.state, State.ENDED)

    def test_the_linger_time_of_a_closed_session(self) -> None:
        for parked_first in (True, False):
            one = session()
            one.write(b"last words")
            if parked_first:
                one.detach(NOW)
                one.close(b"closed", NOW + 10)
            else:
                one.close(b"closed", NOW)
                one.detach(NOW + 10)
            self.assertIs(one.state, State.WAITING)
            self.assertEqual(one.deadline(), NOW + 70)
            self.assertEqual(one.tick(NOW + 70), [GraceOver()])

    def test_the_linger_time_runs_on_a_link_that_brings_nothing_forward(self) -> None:
        one = session()
        one.write(b"last words")
        one.close(b"closed", NOW)
        one.frames(NOW)
        self.assertEqual(one.deadline(), NOW + 60)
        self.assertEqual(one.tick(NOW + 59.9), [])
        self.assertEqual(one.tick(NOW + 60), [GraceOver()])

    def test_the_linger_time_does_not_cut_off_a_slow_link_that_brings_the_rest_forward(self) -> None:
        one = session(policy=Policy(window=WINDOW, frame_payload=KIB))
        one.write(bytes(40 * KIB))
        one.close(b"closed", NOW)
        now = NOW
        for number in range(40):
            one.frames(now)
            now += 5
            self.assertEqual(one.tick(now), [], f"after {number} KiB, all acknowledged")
            one.receive(encode_ack((number + 1) * KIB), now)
        self.assertTrue(one.delivered)

    def test_the_linger_time_begins_anew_with_each_link(self) -> None:
        one = session()
        one.write(b"last words")
        one.close(b"closed", NOW)
        for moment in (NOW + 10, NOW + 90, NOW + 170):
            one.detach(moment)
            self.assertEqual(one.deadline(), moment + 60)
            one.attach(moment + 30, 0)
            self.assertEqual(one.deadline(), moment + 90)

    def test_the_deadline_is_the_first_of_all(self) -> None:
        one = session()
        one.receive(data(b"x"), NOW)
        one.next_delivery(NOW)
        one.probe(NOW, 0.5)
        self.assertEqual(one.deadline(), NOW + 0.5)
        one.tick(NOW + 0.5)
        self.assertEqual(one.deadline(), NOW + 1.0)

    @given(st.lists(st.sampled_from(["in", "out", "take", "ping", "pong", "cut", "back", "close"]), max_size=25))
    def test_whoever_wakes_at_the_deadline_never_spins(self, steps: list[str]) -> None:
        one = session()
        now = NOW
        for step in steps:
            now += 0.3
            if step == "in" and one.attached:
                one.receive(data(b"x"), now)
            elif step == "out":
                one.write(b"y")
            elif step == "take":
                one.next_delivery(now)
            elif step == "ping":
                one.probe(now, 2.0)
            elif step == "pong" and one.attached:
                one.receive(encode(FrameType.PING, bytes(8)), now)
            elif step == "cut" and one.attached:
                one.detach(now)
            elif step == "back" and not one.attached:
                one.attach(now, one.sender.acknowledged)
            elif step == "close":
                one.close(b"closed", now)
            one.frames(now)
        for _ in range(5):  # grace or linger, a probe, an acknowledgement
            moment = one.deadline()
            if moment is None:
                break
            now = max(now, moment)
            one.tick(now)
            one.frames(now)
        self.assertIsNone(one.deadline())


class CloseTests(SynchronousTestCase):
    def test_what_was_written_comes_before_the_end(self) -> None:
        one = session(policy=Policy(window=WINDOW, frame_payload=100))
        one.write(bytes(150))
        one.close(b"LOGOUT", NOW)
        self.assertIs(one.state, State.DRAINING)
        one.write(b"too late")
        self.assertEqual(one.frames(NOW), data(bytes(100)))
        self.assertEqual(one.frames(NOW), data(bytes(50)) + encode(FrameType.END, b"LOGOUT"))
        self.assertEqual(one.frames(NOW), b"")
        self.assertFalse(one.delivered)
        self.assertEqual(one.receive(encode_ack(149), NOW), [])
        self.assertEqual(one.receive(encode_ack(150), NOW), [Delivered()])
        self.assertTrue(one.delivered)

    def test_the_end_waits_for_the_window(self) -> None:
        one = session(4 * KIB)
        one.write(bytes(5 * KIB))
        one.close(b"LOGOUT", NOW)
        self.assertEqual(kinds(one.frames(NOW)), [FrameType.DATA])
        self.assertEqual(one.frames(NOW), b"")
        one.receive(encode_ack(4 * KIB), NOW)
        self.assertEqual(kinds(one.frames(NOW)), [FrameType.DATA, FrameType.END])

    def test_with_nothing_left_it_is_delivered_at_once(self) -> None:
        one = session()
        one.close(b"LOGOUT", NOW)
        self.assertTrue(one.delivered)
        self.assertEqual(one.frames(NOW), encode(FrameType.END, b"LOGOUT"))

    def test_the_end_is_said_again_on_the_next_link(self) -> None:
        one = session()
        one.write(bytes(10))
        one.close(b"LOGOUT", NOW)
        one.frames(NOW)
        one.detach(NOW)
        one.attach(NOW, 4)
        self.assertIs(one.state, State.DRAINING)
        self.assertEqual(one.frames(NOW), data(bytes(6)) + encode(FrameType.END, b"LOGOUT"))
        self.assertEqual(one.receive(encode_ack(10), NOW), [Delivered()])

    def test_the_first_reason_counts_and_is_short(self) -> None:
        one = session()
        one.close(b"x" * 1000, NOW)
        one.close(b"second", NOW)
        (frame,) = said(one.frames(NOW))
        self.assertEqual(frame, Frame(FrameType.END, b"x" * END_REASON_LIMIT))

    def test_what_comes_for_a_closed_inner_end_is_neither_kept_nor_counted(self) -> None:
        one = session()
        one.receive(data(b"abc"), NOW)
        one.close(b"closed", NOW)
        for _ in range(100):
            one.receive(data(bytes(KIB)), NOW)
        self.assertEqual((one.receiver.arrived, one.receiver.waiting), (3, 3))
