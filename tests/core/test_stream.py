"""
One direction of a session: L{mem_continuity.core.stream}, against models of a few lines.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.stream import Receiver, Sender, StreamError
from tests import LONG
from tests.core.support import BASES, PATTERNS, held, receiver_at, sender_at, snapshot

PATTERN = PATTERNS["server"]
SETTINGS = settings(settings.default, max_examples=5000 if LONG else 250)
parts = st.integers(0, 1000)
"""A place in a range, in thousandths."""


class SenderMachine(RuleBasedStateMachine):
    """
    A sender beside a plain string and three numbers.
    """

    @initialize(window=st.integers(1, 300), base=st.sampled_from(BASES), first=st.binary(max_size=400))
    def begin(self, window: int, base: int, first: bytes) -> None:
        self.sender = sender_at(base, window)
        self.base = self.acknowledged = self.sent = self.highest = base
        self.window = window
        self.written = bytearray()
        self.released = 0
        self.write(first)
        self.take(window // 2)

    @property
    def end(self) -> int:
        return self.base + len(self.written)

    def piece(self, start: int, stop: int) -> bytes:
        return bytes(self.written[start - self.base : stop - self.base])

    @rule(octets=st.binary(max_size=400))
    def write(self, octets: bytes) -> None:
        self.sender.write(octets)
        self.written += octets

    @rule(most=st.integers(0, 350))
    def take(self, most: int) -> None:
        count = min(most, self.end - self.sent, self.acknowledged + self.window - self.sent)
        taken = self.sender.take(most)
        assert isinstance(taken, bytes)
        assert taken == self.piece(self.sent, self.sent + count)
        self.sent += count
        self.highest = max(self.highest, self.sent)

    @rule(part=parts)
    def acknowledge(self, part: int) -> None:
        """
        Any offset up to what was sent: fitting, late, or for the second time.
        """
        low = max(0, self.acknowledged - 50)
        offset = low + (self.sent - low) * part // 1000
        expected = max(0, offset - self.acknowledged)
        assert self.sender.acknowledge(offset) == expected
        self.acknowledged += expected
        self.released += expected

    @rule(beyond=st.one_of(st.integers(1, 500), st.just(2**64)))
    def acknowledge_more_than_was_sent(self, beyond: int) -> None:
        before = snapshot(self.sender)
        try:
            self.sender.acknowledge(self.sent + beyond)
        except StreamError:
            assert snapshot(self.sender) == before
        else:
            raise AssertionError("octets that were not sent were acknowledged")

    @rule(part=parts)
    def rewind(self, part: int) -> None:
        offset = self.acknowledged + (self.highest - self.acknowledged) * part // 1000
        assert self.sender.covers(offset)
        self.sender.rewind(offset)
        self.released += offset - self.acknowledged
        self.acknowledged = self.sent = offset

    @rule(part=parts, most=st.integers(1, 50))
    def rewind_and_go_on(self, part: int, most: int) -> None:
        self.rewind(part)
        self.take(most)

    @rule(distance=st.integers(1, 500), down=st.booleans())
    def rewind_to_what_is_not_covered(self, distance: int, down: bool) -> None:
        offset = self.acknowledged - distance if down else self.highest + distance
        assert not self.sender.covers(offset)
        before = snapshot(self.sender)
        try:
            self.sender.rewind(offset)
        except StreamError:
            assert snapshot(self.sender) == before
        else:
            raise AssertionError("a rewind to octets that are not there")

    @invariant()
    def the_counts_are_those_of_the_model(self) -> None:
        sender = self.sender
        assert (sender.acknowledged, sender.sent, sender.highest, sender.end) == (
            self.acknowledged,
            self.sent,
            self.highest,
            self.end,
        )
        assert sender.acknowledged <= sender.sent <= sender.highest <= sender.end
        assert sender.in_flight == self.sent - self.acknowledged <= self.window
        assert sender.queued == self.end - self.sent
        assert sender.retained == sender.in_flight + sender.queued == len(self.written) - self.released
        assert 0 <= sender.sendable == min(sender.queued, self.window - sender.in_flight)

    @invariant()
    def exactly_what_is_not_acknowledged_is_held(self) -> None:
        assert held(self.sender) == self.piece(self.acknowledged, self.end)
        assert sum(map(len, self.sender._flight)) == self.sender.in_flight
        assert all(len(chunk) for chunk in (*self.sender._flight, *self.sender._queue))


class ReceiverMachine(RuleBasedStateMachine):
    """
    A receiver beside a peer that keeps to the rules and, on every new link, goes on from the offset it is told.
    """

    @initialize(window=st.integers(1, 300), base=st.sampled_from(BASES))
    def begin(self, window: int, base: int) -> None:
        self.receiver = receiver_at(base, window)
        self.window = window
        self.start = base
        self.named = base
        self.sent = base
        self.got = bytearray()

    def octets(self, start: int, stop: int) -> bytes:
        return PATTERN[start - self.start : stop - self.start]

    @rule(count=st.integers(1, 350))
    def arrive(self, count: int) -> None:
        count = min(count, self.named + self.window - self.sent)
        if count:
            self.receiver.arrive(self.octets(self.sent, self.sent + count))
            self.sent += count

    @rule(excess=st.integers(1, 300))
    def arrive_beyond_the_window(self, excess: int) -> None:
        count = self.named + self.window - self.sent + excess
        before = snapshot(self.receiver)
        try:
            self.receiver.arrive(bytes(count))
        except StreamError:
            assert snapshot(self.receiver) == before
        else:
            raise AssertionError("more than the window was taken")

    @rule()
    def hand_on(self) -> None:
        octets = self.receiver.hand_on()
        assert bool(octets) == (len(self.got) < self.sent - self.start)
        self.got += octets

    @rule()
    def acknowledge(self) -> None:
        offset = self.receiver.acknowledge()
        assert offset == self.start + len(self.got) <= self.sent
        assert self.receiver.unacknowledged == 0
        self.named = max(self.named, offset)

    @rule()
    def resume(self) -> None:
        self.receiver.trim()
        offset = self.receiver.resume()
        received = self.start + len(self.got)
        assert self.named <= offset <= self.sent, "the peer has released that already"
        assert offset - received <= self.window
        if self.sent - received <= self.window:
            assert offset == self.sent, "octets that lie here would be sent again"
        self.named = self.sent = offset

    @invariant()
    def the_counts_are_those_of_the_model(self) -> None:
        assert self.receiver.received == self.start + len(self.got)
        assert self.receiver.arrived == self.sent
        assert self.receiver.waiting == sum(map(len, self.receiver._waiting)) == self.sent - self.receiver.received
        assert self.receiver.waiting <= 2 * self.window
        assert self.receiver.unacknowledged == self.receiver.received - self.receiver.acknowledged
        assert self.got == PATTERN[: len(self.got)]


class SenderTests(SynchronousTestCase):
    def test_scenario_16_any_order_of_acks_takes_and_rewinds(self) -> None:
        run_state_machine_as_test(SenderMachine, settings=SETTINGS)

    def test_scenario_16_acks_late_twice_out_of_order(self) -> None:
        sender = Sender(100)
        sender.write(b"x" * 100)
        self.assertEqual(len(sender.take(100)), 100)
        released = [sender.acknowledge(offset) for offset in (40, 10, 40, 90, 60, 90, 100, 100, 0)]
        self.assertEqual(released, [40, 0, 0, 50, 0, 0, 10, 0, 0])
        self.assertEqual((sender.retained, held(sender)), (0, b""))

    @given(st.sampled_from([2**31, 2**32, 2**53, 2**63]), st.integers(1, 64), st.integers(0, 128))
    def test_scenario_15_offsets_across_a_power_of_two(self, power: int, step: int, rewind: int) -> None:
        sender, receiver = sender_at(power - 100, 128), receiver_at(power - 100, 128)
        stream = PATTERN[:300]
        sender.write(stream)
        got = b""
        while len(got) < len(stream):
            receiver.arrive(sender.take(step))
            got += receiver.hand_on()
            if sender.in_flight >= rewind:
                sender.rewind(receiver.resume())
            else:
                sender.acknowledge(receiver.acknowledge())
        self.assertEqual(got, stream)
        self.assertEqual((sender.end, receiver.received), (power + 200, power + 200))

    def test_scenario_44_a_replay_comes_before_what_was_written_later(self) -> None:
        sender = Sender(100)
        sender.write(b"old")
        sender.take(100)
        sender.write(b"new")
        sender.rewind(1)
        self.assertEqual(sender.take(100), b"ldnew")

    def test_a_full_window_gives_nothing(self) -> None:
        sender = Sender(4)
        sender.write(b"abcdef")
        self.assertEqual((sender.take(100), sender.take(100), sender.sendable), (b"abcd", b"", 0))
        sender.acknowledge(1)
        self.assertEqual(sender.take(100), b"e")

    def test_a_chunk_that_fits_is_not_copied(self) -> None:
        sender = Sender(100)
        octets = b"x" * 50
        sender.write(octets)
        self.assertIs(sender.take(50), octets)

    def test_clear_lets_the_octets_go_and_keeps_the_counts(self) -> None:
        sender = Sender(4)
        sender.write(b"abcdef")
        sender.take(3)
        sender.acknowledge(1)
        sender.clear()
        self.assertEqual(held(sender), b"")
        self.assertEqual((sender.acknowledged, sender.sent, sender.highest, sender.end), (1, 3, 3, 6))


class ReceiverTests(SynchronousTestCase):
    def test_any_order(self) -> None:
        run_state_machine_as_test(ReceiverMachine, settings=SETTINGS)

    def test_a_slow_inner_end_holds_at_most_two_windows_and_names_at_most_one(self) -> None:
        receiver = Receiver(10)
        for _ in range(10):
            receiver.arrive(b"x")
        self.assertRaises(StreamError, receiver.arrive, b"x")
        self.assertEqual(receiver.resume(), 10)
        for _ in range(10):
            receiver.arrive(b"y")
        self.assertRaises(StreamError, receiver.arrive, b"y")
        self.assertEqual(receiver.waiting, 20)
        receiver.trim()
        self.assertEqual(receiver.resume(), 10)
        self.assertEqual(receiver.waiting, 10)
        self.assertEqual(receiver.received, 0)

    def test_an_acknowledgement_names_what_was_handed_on_and_not_what_waits(self) -> None:
        receiver = Receiver(10)
        receiver.arrive(b"abc")
        receiver.arrive(b"def")
        self.assertEqual((receiver.acknowledge(), receiver.hand_on(), receiver.acknowledge()), (0, b"abc", 3))
        self.assertEqual(receiver.resume(), 6)

    def test_clear_forgets_what_was_not_handed_on(self) -> None:
        receiver = Receiver(10)
        receiver.arrive(b"abc")
        receiver.arrive(b"def")
        receiver.hand_on()
        receiver.clear()
        self.assertEqual((receiver.received, receiver.arrived, receiver.waiting, receiver.hand_on()), (3, 3, 0, b""))
