"""
What one side says and hears on its link, acknowledgements and probes: L{mem_continuity.core.session}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.frames import (
    Frame,
    FrameType,
    encode,
    encode_ack,
)
from mem_continuity.core.policy import KIB, MIB, Policy, RoamingPolicy
from mem_continuity.core.session import LinkError, Session
from mem_continuity.core.states import Answered, Moved, PeerEnded, ProbeFailed
from tests.core.support import NOW, WINDOW, data, held, kinds, said, session, terms


class AcknowledgementTests(SynchronousTestCase):
    def take(self, one: Session, count: int, now: float = NOW) -> None:
        """
        So many octets come in and are handed on.
        """
        while count:
            piece = min(count, 100 * KIB)
            one.receive(data(bytes(piece)), now)
            count -= piece
        while one.next_delivery(now):
            pass

    def test_every_so_many_octets(self) -> None:
        one = session(MIB)
        self.take(one, 64 * KIB - 1)
        self.assertEqual(one.frames(NOW), b"")
        self.take(one, 1)
        self.assertEqual(one.frames(NOW), encode_ack(64 * KIB))
        self.assertEqual(one.frames(NOW), b"")

    def test_a_quarter_of_a_small_window(self) -> None:
        one = session(4 * KIB)
        self.take(one, KIB - 1)
        self.assertEqual(one.frames(NOW), b"")
        self.take(one, 1)
        self.assertEqual(one.frames(NOW), encode_ack(KIB))

    def test_a_window_of_one_octet(self) -> None:
        one = Session(terms(1), RoamingPolicy(), NOW)
        one.attach(NOW)
        self.assertEqual(one.frames(NOW), b"")
        one.receive(data(b"x"), NOW)
        one.next_delivery(NOW)
        self.assertEqual(one.frames(NOW), encode_ack(1))

    def test_after_a_second(self) -> None:
        one = session()
        self.assertIsNone(one.deadline())
        self.take(one, 10)
        self.assertEqual(one.deadline(), NOW + 1.0)
        self.take(one, 10, NOW + 0.9)
        self.assertEqual(one.deadline(), NOW + 1.0)
        self.assertEqual(one.frames(NOW + 0.99), b"")
        self.assertEqual(one.tick(NOW + 1.0), [])
        self.assertEqual(one.frames(NOW + 1.0), encode_ack(20))
        self.assertIsNone(one.deadline())
        self.take(one, 5, NOW + 7)
        self.assertEqual(one.deadline(), NOW + 8.0)

    def test_along_with_anything_else(self) -> None:
        for other, kind in (
            (lambda one: one.write(b"x"), FrameType.DATA),
            (lambda one: one.probe(NOW, 1.0), FrameType.PING),
            (lambda one: one.receive(encode(FrameType.PING, b"12345678"), NOW), FrameType.PONG),
            (lambda one: one.close(b"closed", NOW), FrameType.END),
        ):
            one = session()
            self.take(one, 1)
            other(one)
            self.assertEqual(set(kinds(one.frames(NOW))), {FrameType.ACK, kind})
            self.assertEqual(one.receiver.unacknowledged, 0)

    def test_only_what_was_handed_on(self) -> None:
        one = session()
        one.receive(data(b"abc") + data(b"def"), NOW)
        self.assertIsNone(one.deadline())
        one.write(b"x")
        self.assertEqual(kinds(one.frames(NOW)), [FrameType.DATA])
        one.next_delivery(NOW)
        one.write(b"y")
        self.assertEqual(said(one.frames(NOW))[0], Frame(FrameType.ACK, (3).to_bytes(8, "big")))

    def test_at_once_after_the_peer_s_end(self) -> None:
        one = session()
        one.receive(data(b"abc") + encode(FrameType.END, b"LOGOUT"), NOW)
        self.assertEqual(one.frames(NOW), b"")
        one.next_delivery(NOW)
        self.assertEqual(one.frames(NOW), encode_ack(3))

    def test_none_is_due_without_a_link(self) -> None:
        one = session()
        self.take(one, 10)
        one.detach(NOW)
        self.assertEqual(one.deadline(), NOW + 1500)
        one.attach(NOW + 5, 0)
        self.assertEqual(one.frames(NOW + 5), encode_ack(10))

    def test_scenario_16_acks_late_and_twice(self) -> None:
        one = session()
        one.write(bytes(100))
        one.frames(NOW)
        for offset, kept in ((50, 50), (20, 50), (50, 50), (100, 0), (0, 0), (100, 0)):
            self.assertEqual(one.receive(encode_ack(offset), NOW), [])
            self.assertEqual((one.sender.retained, len(held(one.sender))), (kept, kept))


class PeerTests(SynchronousTestCase):
    """
    What the peer may do, and what it may not.
    """

    def test_scenario_38_faults_are_link_errors_and_spare_the_session(self) -> None:
        for fault in (
            b"\x09\x00\x00\x00",
            b"\x00\xff\xff\xff",
            encode_ack(1),
            encode_ack(2**64 - 1),
            data(bytes(WINDOW + 1)),
        ):
            one = session()
            one.receive(data(b"good"), NOW)
            self.assertRaises(LinkError, one.receive, fault, NOW)
            self.assertEqual((one.receiver.arrived, one.next_delivery(NOW)), (4, b"good"))
            one.detach(NOW)
            one.attach(NOW, 0)
            self.assertEqual(one.receive(data(b"more"), NOW), [])
            self.assertEqual(one.next_delivery(NOW), b"more")

    @given(st.lists(st.binary(max_size=200), max_size=10))
    def test_scenario_38_random_octets(self, pieces: list[bytes]) -> None:
        one = session(4 * KIB)
        for piece in pieces:
            try:
                one.receive(piece, NOW)
            except LinkError as fault:
                self.assertTrue(str(fault))
                one.detach(NOW)
                one.attach(NOW, 0)
            self.assertLessEqual(one.receiver.waiting, 8 * KIB)

    def test_data_before_a_stream_fault_is_kept(self) -> None:
        one = session()
        self.assertRaises(LinkError, one.receive, data(b"good") + encode_ack(1) + data(b"bad"), NOW)
        self.assertEqual((one.next_delivery(NOW), one.next_delivery(NOW)), (b"good", b""))

    def test_the_window_opens_with_the_acknowledgement(self) -> None:
        one = session(4 * KIB)
        one.receive(data(bytes(4 * KIB)), NOW)
        one.next_delivery(NOW)
        other = session(4 * KIB)
        other.receive(data(bytes(4 * KIB)), NOW)
        other.next_delivery(NOW)
        one.frames(NOW)
        one.receive(data(b"x"), NOW)
        self.assertRaises(LinkError, other.receive, data(b"x"), NOW)

    def test_after_end_no_data(self) -> None:
        one = session()
        self.assertEqual(
            one.receive(data(b"abc") + encode(FrameType.END, b"LOGOUT"), NOW), [PeerEnded(b"LOGOUT")]
        )
        self.assertEqual(one.peer_ended, b"LOGOUT")
        self.assertRaises(LinkError, one.receive, data(b"x"), NOW)
        self.assertEqual((one.next_delivery(NOW), one.next_delivery(NOW)), (b"abc", b""))

    def test_after_end_acknowledgements_and_pings_go_on(self) -> None:
        one = session()
        one.write(bytes(10))
        one.frames(NOW)
        one.receive(encode(FrameType.END), NOW)
        self.assertEqual(one.receive(encode_ack(10) + encode(FrameType.PING, bytes(8)), NOW), [])
        self.assertEqual(one.sender.retained, 0)
        self.assertEqual(kinds(one.frames(NOW)), [FrameType.PONG])

    def test_scenario_38_a_flood_of_pings_keeps_one_answer(self) -> None:
        one = session()
        for number in range(2000):
            one.receive(encode(FrameType.PING, number.to_bytes(8, "big")) * 5, NOW)
        self.assertEqual(said(one.frames(NOW)), [Frame(FrameType.PONG, (1999).to_bytes(8, "big"))])
        self.assertEqual(one.frames(NOW), b"")

    def test_moved(self) -> None:
        self.assertEqual(session().receive(encode(FrameType.MOVED), NOW), [Moved()])

    def test_a_pong_that_nobody_asked_for(self) -> None:
        self.assertEqual(session().receive(encode(FrameType.PONG, bytes(8)), NOW), [])

    def test_one_data_frame_at_a_time_and_none_beyond_the_window(self) -> None:
        one = session(policy=Policy(window=WINDOW, frame_payload=50 * KIB))
        one.write(bytes(200 * KIB))
        self.assertEqual([len(one.frames(NOW)) for _ in range(3)], [50 * KIB + 4, 14 * KIB + 4, 0])
        one.receive(encode_ack(1023), NOW)
        self.assertEqual(one.frames(NOW), b"")  # crumbs wait for more
        one.receive(encode_ack(1024), NOW)
        self.assertEqual(one.frames(NOW), data(bytes(1024)))

    def test_the_last_crumb_does_not_wait(self) -> None:
        one = session()
        one.write(bytes(100))
        one.frames(NOW)
        one.write(b"x")
        self.assertEqual(one.frames(NOW), data(b"x"))

    def test_only_the_first_data_after_a_resume_is_short(self) -> None:
        one = session()
        one.write(bytes(40 * KIB))
        self.assertEqual(len(one.frames(NOW)), 40 * KIB + 4)
        one.detach(NOW)
        one.attach(NOW, 0)
        one.probe(NOW, 1.0)
        self.assertEqual([len(frame.payload) for frame in said(one.frames(NOW))], [8, RoamingPolicy().first_data])
        self.assertEqual(len(one.frames(NOW)), 40 * KIB - RoamingPolicy().first_data + 4)


class ProbeTests(SynchronousTestCase):
    def pinged(self, one: Session) -> bytes:
        (frame,) = said(one.frames(NOW))
        self.assertIs(frame.type, FrameType.PING)
        return frame.payload

    def test_an_answer_in_time(self) -> None:
        one = session()
        one.probe(NOW, 3.0)
        self.assertEqual(one.deadline(), NOW + 3.0)
        asked = self.pinged(one)
        self.assertEqual(one.frames(NOW), b"")
        self.assertEqual(one.tick(NOW + 2.99), [])
        self.assertEqual(one.receive(encode(FrameType.PONG, asked), NOW + 2.99), [Answered()])
        self.assertIsNone(one.deadline())
        self.assertEqual(one.tick(NOW + 5), [])
        self.assertEqual(one.receive(encode(FrameType.PONG, asked), NOW), [])

    def test_no_answer(self) -> None:
        one = session()
        one.probe(NOW, 3.0)
        asked = self.pinged(one)
        self.assertEqual(one.tick(NOW + 3.0), [ProbeFailed()])
        self.assertEqual(one.tick(NOW + 4.0), [])
        self.assertIsNone(one.deadline())
        self.assertEqual(one.receive(encode(FrameType.PONG, asked), NOW + 4), [])

    def test_whatever_comes_in_is_a_sign_of_life(self) -> None:
        for octets in (encode(FrameType.DATA, b"x"), encode(FrameType.DATA, b"xyz")[:5], encode(FrameType.PONG, bytes(8))):
            one = session()
            one.probe(NOW, 3.0)
            asked = self.pinged(one)
            self.assertEqual(one.receive(octets, NOW + 2), [Answered()])
            self.assertEqual(one.heard_at, NOW + 2)
            self.assertEqual(one.tick(NOW + 5), [])
            if octets == encode(FrameType.PONG, bytes(8)):
                self.assertEqual(one.receive(encode(FrameType.PONG, asked), NOW + 5), [])

    def test_a_silent_link_is_asked_once(self) -> None:
        one = Session(terms(), RoamingPolicy(), NOW, silence=1000.0, patience=60.0)
        one.attach(NOW)
        self.assertEqual(one.deadline(), NOW + 1000)
        one.receive(data(b"x"), NOW + 10)
        one.next_delivery(NOW + 10)
        one.frames(NOW + 11)
        self.assertEqual(one.deadline(), NOW + 1010)
        self.assertEqual((one.tick(NOW + 1009), one.frames(NOW + 1009)), ([], b""))
        self.assertEqual(one.tick(NOW + 1010), [])
        self.pinged(one)
        self.assertEqual(one.deadline(), NOW + 1070)
        self.assertEqual(one.tick(NOW + 1070), [ProbeFailed()])

    def test_nobody_is_asked_without_a_link(self) -> None:
        one = Session(terms(), RoamingPolicy(), NOW, silence=10.0, patience=1.0)
        one.attach(NOW)
        one.detach(NOW + 1)
        one.tick(NOW + 20)
        self.assertEqual(one.deadline(), NOW + 1 + one.terms.grace)
        one.attach(NOW + 30, 0)
        self.assertEqual(one.frames(NOW + 30), b"")
        self.assertEqual(one.deadline(), NOW + 40)

    def test_a_second_probe_does_not_put_off_the_first(self) -> None:
        one = session()
        one.probe(NOW, 3.0)
        one.probe(NOW + 2, 3.0)
        self.assertEqual(one.deadline(), NOW + 3.0)
        self.assertEqual(kinds(one.frames(NOW)), [FrameType.PING])

    def test_each_probe_has_its_own_number(self) -> None:
        one = session()
        one.probe(NOW, 3.0)
        first = self.pinged(one)
        one.tick(NOW + 3)
        one.probe(NOW + 3, 3.0)
        self.assertNotEqual(self.pinged(one), first)

    def test_scenario_41_a_ping_from_before_the_cut_does_not_kill_the_new_link(self) -> None:
        for taken in (True, False):
            one = session()
            one.probe(NOW, 3.0)
            one.receive(encode(FrameType.PING, bytes(8)), NOW)
            if taken:
                one.frames(NOW)
            one.detach(NOW + 1)
            one.attach(NOW + 2, 0)
            self.assertIsNone(one.deadline())
            self.assertEqual(one.tick(NOW + 100), [])
            self.assertEqual(one.frames(NOW + 100), b"")

    def test_in_the_middle_of_a_literal_and_with_a_full_window(self) -> None:
        one = session(4 * KIB)
        one.write(bytes(8 * KIB))
        one.frames(NOW)
        one.probe(NOW, 3.0)
        one.receive(encode(FrameType.PING, bytes(8)), NOW)
        self.assertEqual(kinds(one.frames(NOW)), [FrameType.PONG, FrameType.PING])
