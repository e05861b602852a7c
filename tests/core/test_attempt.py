"""
The client's side of a RESUME: L{mem_continuity.core.resumption.Attempt}.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.frames import MOST_OFFSET, encode_ack
from mem_continuity.core.handshake import (
    Binding,
    Refusal,
    Refused,
    Resumed,
    Terms,
    server_proof,
)
from mem_continuity.core.policy import Policy, RoamingPolicy
from mem_continuity.core.resumption import Attempt, ResumeFailed, grant, judge
from mem_continuity.core.session import Session
from mem_continuity.core.states import State
from tests.core.support import BASES, EXPORTED, PATTERNS, move_up, receiver_at, sender_at, snapshot, terms

WINDOW = 4096
NOW = 1000.0
GONE = Refused(Refusal.GONE)


def client_session(written: int, sent: int, base: int = 0) -> Session:
    """
    A client's parked session: so much written, so much of it sent, nothing acknowledged.
    """
    session = Session(terms(WINDOW), RoamingPolicy(), NOW)
    session.sender = sender_at(base, WINDOW)
    session.receiver = receiver_at(base, WINDOW)
    session.write(PATTERNS["client"][:written])
    session.sender.take(sent)
    return session


class AttemptTests(SynchronousTestCase):
    def answer(self, attempt: Attempt, received: int, agreed: Terms | None = None, start: int | None = None) -> Resumed:
        asked = attempt.request
        proof = server_proof(agreed or terms(WINDOW), asked.attempt, asked.received, asked.sent, EXPORTED, received, start)
        return Resumed(received, proof, start)

    def test_what_was_never_sent_travels_along(self) -> None:
        session = client_session(100, 0)
        request = Attempt(session, EXPORTED, 8192, 1024).request
        self.assertEqual((request.attempt, request.received, request.sent), (1, 0, 0))
        self.assertEqual(request.literal, PATTERNS["client"][:100])

    def test_the_literal_has_its_limit(self) -> None:
        session = client_session(5000, 0)
        self.assertEqual(Attempt(session, EXPORTED, 3000, 1024).request.literal, PATTERNS["client"][:3000])
        session = client_session(5000, 0)
        self.assertEqual(len(Attempt(session, EXPORTED, 8192, 1024).request.literal), WINDOW)

    def test_little_travels_again_unasked_and_much_waits_for_the_count(self) -> None:
        for base in BASES:
            for sent, literal in ((1024, PATTERNS["client"][:2000]), (1025, b"")):
                session = client_session(2000, sent, base)
                request = Attempt(session, EXPORTED, 8192, 1024).request
                self.assertEqual((request.sent, request.literal), (base, literal))

    def test_what_would_not_all_fit_is_not_repeated(self) -> None:
        session = client_session(2000, 500)
        self.assertEqual(Attempt(session, EXPORTED, 400, 1024).request.literal, b"")

    def test_a_literal_that_may_have_arrived_counts_as_sent_in_the_next_try(self) -> None:
        session = client_session(3000, 0)
        self.assertEqual(len(Attempt(session, EXPORTED, 8192, 1024).request.literal), 3000)
        request = Attempt(session, EXPORTED, 8192, 1024).request
        self.assertEqual((request.attempt, request.sent, request.literal), (2, 0, b""))

    @given(st.integers(0, 5000), st.integers(0, WINDOW), st.integers(0, 8192), st.integers(0, 2048), st.integers(0, 1000))
    def test_granted_goes_on_where_the_server_says(
        self, written: int, sent: int, literal_most: int, repeat_most: int, part: int
    ) -> None:
        sent = min(sent, written)
        session = client_session(written, sent, 2**32 - 100)
        attempt = Attempt(session, EXPORTED, literal_most, repeat_most)
        literal = attempt.request.literal
        self.assertLessEqual(len(literal), literal_most)
        if literal:
            self.assertLessEqual(sent, repeat_most)
        had = sent * part // 1000
        taken = max(had, len(literal))
        attempt.granted(self.answer(attempt, 2**32 - 100 + had), NOW)
        self.assertIs(session.state, State.LIVE)
        self.assertEqual(session.sender.acknowledged, 2**32 - 100 + had)
        self.assertEqual(session.sender.sent, 2**32 - 100 + taken)
        session.sender.acknowledge(session.sender.sent)
        rest = b""
        while chunk := session.sender.take(WINDOW):
            rest += chunk
            session.sender.acknowledge(session.sender.sent)
        self.assertEqual(rest, PATTERNS["client"][taken:written])

    def test_attempts_rise(self) -> None:
        session = client_session(0, 0)
        self.assertEqual([Attempt(session, EXPORTED, 0, 0).request.attempt for _ in range(3)], [1, 2, 3])

    def test_a_planned_switch_leaves_the_sender_alone_until_it_is_granted(self) -> None:
        session = client_session(3000, 1000)
        session.attach(NOW)
        before = snapshot(session.sender)
        attempt = Attempt(session, EXPORTED, 8192, 8192)
        self.assertEqual((attempt.request.literal, attempt.request.sent), (b"", 0))
        self.assertEqual(snapshot(session.sender), before)
        self.assertIs(session.state, State.LIVE)
        # It fails; the old link goes on, and what it sent can still be acknowledged.
        session.receive(encode_ack(1000), NOW)
        self.assertEqual(session.sender.acknowledged, 1000)
        attempt = Attempt(session, EXPORTED, 0, 0)
        attempt.granted(self.answer(attempt, 1000), NOW)
        self.assertIs(session.state, State.LIVE)
        self.assertEqual(session.sender.take(5000), PATTERNS["client"][1000:3000])

    def test_a_planned_switch_whose_old_link_dies_before_the_answer(self) -> None:
        session = client_session(3000, 1000)
        session.attach(NOW)
        attempt = Attempt(session, EXPORTED, 0, 0)
        session.detach(NOW)
        attempt.granted(self.answer(attempt, 600), NOW)
        self.assertEqual(session.sender.take(5000), PATTERNS["client"][600:3000])

    def assert_not_granted(self, session: Session, attempt: Attempt, answer: Resumed) -> None:
        before = snapshot(session)
        self.assertRaises(ResumeFailed, attempt.granted, answer, NOW)
        self.assertEqual(snapshot(session), before)

    def test_a_server_without_the_key(self) -> None:
        for attached in (False, True):
            session = client_session(500, 300)
            if attached:
                session.attach(NOW)
            attempt = Attempt(session, EXPORTED, 0, 0)
            good = self.answer(attempt, 300)
            for bad in (
                replace(good, received=299),
                replace(good, proof=b""),
                replace(good, proof=attempt.request.proof),
                self.answer(attempt, 300, terms(WINDOW, key=bytes(32))),
                self.answer(attempt, 300, terms(WINDOW, binding=Binding.NONE)),
            ):
                self.assert_not_granted(session, attempt, bad)
            attempt.granted(good, NOW)

    def test_a_count_that_cannot_be(self) -> None:
        session = client_session(500, 300)
        session.sender.acknowledge(100)
        for attached in (False, True):
            if attached:
                session.attach(NOW)
            attempt = Attempt(session, EXPORTED, 0, 0)
            for count in (0, 99, 301, 500, MOST_OFFSET):
                self.assert_not_granted(session, attempt, self.answer(attempt, count))

    def test_a_start_that_cannot_be(self) -> None:
        """
        Of a server that reads the old link on: not before what has come by it, not beyond the window that is open there.
        """
        session = client_session(500, 300)
        session.attach(NOW)
        attempt = Attempt(session, EXPORTED, 0, 0, drain=True)
        session.receiver.arrive(bytes(1000))
        session.receiver.hand_on()
        for most in (WINDOW, 1000 + WINDOW):
            for start in (0, 999, most + 1, MOST_OFFSET):
                self.assert_not_granted(session, attempt, self.answer(attempt, 300, start=start))
            for start in (1000, most):
                attempt.verify(self.answer(attempt, 300, start=start))
            session.receiver.acknowledge()
        self.assert_not_granted(session, attempt, replace(self.answer(attempt, 300, start=1000), start=1001))
        self.assert_not_granted(session, Attempt(session, EXPORTED, 0, 0), self.answer(attempt, 300, start=1000))
        session.detach(NOW)
        self.assert_not_granted(session, attempt, self.answer(attempt, 300, start=1000))

    def test_an_answer_of_another_link_does_not_fit(self) -> None:
        session = client_session(500, 300)
        first = Attempt(session, b"link one", 0, 0)
        proof = server_proof(session.terms, 1, 0, 0, b"link two", 0)
        self.assert_not_granted(session, first, Resumed(0, proof))


class OvertakenTests(SynchronousTestCase):
    """
    What a RESUME named as received may be true no longer when its answer comes.
    """

    def setUp(self) -> None:
        agreed = terms(WINDOW)
        self.client = Session(agreed, RoamingPolicy(), NOW)
        self.server = Session(agreed, Policy(window=WINDOW), NOW)
        move_up(self.client, self.server, 0)
        self.client.attach(NOW)
        self.server.attach(NOW)
        self.stream = PATTERNS["server"]
        self.server.write(self.stream[:1000])

    def flow(self) -> bytes:
        while octets := self.server.frames(NOW):
            self.client.receive(octets, NOW)
        return b"".join(iter(lambda: self.client.next_delivery(NOW), b""))

    def grant(self, attempt: Attempt) -> Resumed:
        self.assertIsNone(judge(self.server, attempt.request, EXPORTED))
        if self.server.attached:
            self.server.detach(NOW)
        return grant(self.server, attempt.request, EXPORTED, NOW)

    def test_octets_that_the_old_link_brings_before_the_answer_are_not_taken_twice(self) -> None:
        """
        A planned switch: the server sends on the old link until the commit, and the client takes it.
        """
        attempt = Attempt(self.client, EXPORTED, 0, 0)
        got = self.flow()
        answer = self.grant(attempt)
        try:
            attempt.granted(answer, NOW)
        except ResumeFailed:  # to be refused is safe too: the next try names the right count
            attempt = Attempt(self.client, EXPORTED, 0, 0)
            attempt.granted(self.grant(attempt), NOW)
        self.server.write(self.stream[1000:1500])
        got += self.flow()
        self.assertEqual(got, self.stream[:1500])

    def test_the_answer_to_a_try_that_a_later_one_has_overtaken_is_not_taken(self) -> None:
        """
        The server granted both, one after the other; the answers come the other way round.
        """
        self.client.detach(NOW)
        first = Attempt(self.client, EXPORTED, 0, 0)
        second = Attempt(self.client, EXPORTED, 0, 0)
        early = self.grant(first)
        late = self.grant(second)
        second.granted(late, NOW)
        self.assertEqual(self.flow(), self.stream[:1000])
        before = snapshot(self.client)
        self.assertRaises(ResumeFailed, first.granted, early, NOW)
        self.assertEqual(snapshot(self.client), before)

    def test_the_link_of_a_later_try_is_not_given_up_for_that_of_an_earlier_one(self) -> None:
        """
        The same with nothing sent in between: what is taken would be right, but the server has left that link.
        """
        self.client.detach(NOW)
        first = Attempt(self.client, EXPORTED, 0, 0)
        second = Attempt(self.client, EXPORTED, 0, 0)
        early = self.grant(first)
        late = self.grant(second)
        second.granted(late, NOW)
        self.assertRaises(ResumeFailed, first.granted, early, NOW)

    def pile_up(self) -> None:
        """
        The client's inner end takes nothing, and links that come and go let more than a window wait there.
        """
        self.server.write(self.stream[1000:6000])
        while octets := self.server.frames(NOW):
            self.client.receive(octets, NOW)
        self.client.detach(NOW)
        attempt = Attempt(self.client, EXPORTED, 0, 0)
        attempt.granted(self.grant(attempt), NOW)
        while octets := self.server.frames(NOW):
            self.client.receive(octets, NOW)
        self.assertGreater(self.client.receiver.waiting, WINDOW)
        self.assertEqual(self.server.sender.queued, 0)

    def test_a_planned_switch_that_fails_leaves_what_waits_for_the_inner_end(self) -> None:
        """
        The old link goes on from where it was, so what it has brought must still be there: with more than a window of it there is
        no attempt at all.
        """
        self.pile_up()
        arrived, tried = self.client.receiver.arrived, self.client.attempt
        with self.assertRaises(ResumeFailed):
            Attempt(self.client, EXPORTED, 0, 0)
        self.assertEqual((self.client.receiver.arrived, self.client.attempt), (arrived, tried))
        self.server.write(self.stream[6000:6500])
        got = b"".join(iter(lambda: self.client.next_delivery(NOW), b""))
        self.server.receive(self.client.frames(NOW + 10), NOW)
        got += self.flow()
        self.assertEqual(got, self.stream[:6500])
