"""
Who gets a session: L{mem_continuity.core.resumption}.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.frames import MOST_OFFSET
from mem_continuity.core.handshake import (
    Binding,
    Refusal,
    Refused,
    ResumeRequest,
    Terms,
    client_proof,
    server_proof,
)
from mem_continuity.core.policy import Policy
from mem_continuity.core.resumption import Tombstone, grant, judge
from mem_continuity.core.session import Session
from mem_continuity.core.states import State
from tests.core.support import BASES, EXPORTED, PATTERNS, receiver_at, sender_at, snapshot, terms

WINDOW = 4096
NOW = 1000.0
GONE = Refused(Refusal.GONE)


def server_session(base: int = 0, agreed: Terms | None = None) -> Session:
    """
    A parked session: 1000 octets sent, 400 of them acknowledged, 500 more queued; 300 arrived, 200 of them handed on.
    """
    session = Session(agreed or terms(WINDOW), Policy(window=WINDOW), NOW)
    session.sender = sender_at(base, WINDOW)
    session.receiver = receiver_at(base, WINDOW)
    session.attach(NOW)
    session.write(PATTERNS["server"][:1500])
    session.sender.take(1000)
    session.sender.acknowledge(base + 400)
    session.receiver.arrive(PATTERNS["client"][:200])
    session.receiver.arrive(PATTERNS["client"][200:300])
    session.next_delivery(NOW)
    session.detach(NOW + 5)
    session.attempt = 7
    return session


def request_for(
    session: Session,
    attempt: int = 8,
    received: int | None = None,
    sent: int | None = None,
    literal: bytes = b"",
    exported: bytes = EXPORTED,
    agreed: Terms | None = None,
) -> ResumeRequest:
    """
    A RESUME with a good proof, as its client would make it.
    """
    agreed = agreed or session.terms
    received = session.sender.sent if received is None else received
    sent = session.receiver.arrived if sent is None else sent
    bound = b"" if agreed.binding is Binding.NONE else exported
    proof = client_proof(agreed, attempt, received, sent, bound)
    return ResumeRequest(agreed.session_id, attempt, received, sent, proof, literal)


class JudgeTests(SynchronousTestCase):
    def judged(
        self, session: Session | Tombstone | None, request: ResumeRequest, exported: bytes = EXPORTED
    ) -> Refused | None:
        """
        The judgement; and that it left everything as it was, the timer too.
        """
        before = snapshot(session)
        refused = judge(session, request, exported)
        self.assertEqual(snapshot(session), before)
        return refused

    def test_a_good_one_passes(self) -> None:
        for base in BASES:
            session = server_session(base)
            for received in (base + 400, base + 700, base + 1000):
                self.assertIsNone(self.judged(session, request_for(session, received=received)))

    @given(
        st.integers(0, 12),
        st.integers(-50, 1200),
        st.integers(-50, 500),
        st.sampled_from([EXPORTED, b"", b"other"]),
        st.booleans(),
    )
    def test_any_request_changes_nothing(
        self, attempt: int, received: int, sent: int, exported: bytes, live: bool
    ) -> None:
        session = server_session(2**32)
        if live:
            session.attach(NOW, 2**32 + 400)
        request = request_for(session, attempt, 2**32 + received, 2**32 + sent, b"new", exported)
        refused = self.judged(session, request)
        if exported != EXPORTED:
            self.assertEqual(refused, GONE)
        elif attempt <= 7:
            self.assertEqual(refused, Refused(Refusal.STALE))
        elif not 400 <= received <= 1000:
            self.assertEqual(refused, Refused(Refusal.BEHIND, 2**32 + 200))
        elif 0 <= sent <= 300:
            self.assertIsNone(refused)

    def test_scenario_01_a_session_whose_link_seems_alive_is_given_all_the_same(self) -> None:
        session = server_session()
        session.attach(NOW, 400)
        self.assertIsNone(self.judged(session, request_for(session, received=400)))

    def test_scenario_02_an_old_attempt_is_stale(self) -> None:
        session = server_session()
        for attempt in (0, 6, 7):
            self.assertEqual(self.judged(session, request_for(session, attempt)), Refused(Refusal.STALE))
        session.attach(NOW, 1000)
        session.detach(NOW)
        grant(session, request_for(session, 10), EXPORTED, NOW)
        self.assertEqual(self.judged(session, request_for(session, 9)), Refused(Refusal.STALE))
        self.assertIsNone(self.judged(session, request_for(session, 11)))

    def test_scenario_13_more_received_than_was_ever_sent(self) -> None:
        for base in BASES:
            session = server_session(base)
            deadline = session.deadline()
            for received in (base + 1001, base + 1500, base + 10**6, MOST_OFFSET):
                self.assertEqual(
                    self.judged(session, request_for(session, received=received)), Refused(Refusal.BEHIND, base + 200)
                )
            self.assertIs(session.state, State.PARKED)
            self.assertEqual(session.deadline(), deadline)
            self.assertEqual(deadline, NOW + 5 + session.terms.grace)

    def test_scenario_14_less_received_than_was_released(self) -> None:
        for base in BASES:
            session = server_session(base)
            for received in (base + 399, base, 0):
                self.assertEqual(
                    self.judged(session, request_for(session, received=received)), Refused(Refusal.BEHIND, base + 200)
                )
            self.assertIsNone(self.judged(session, request_for(session, received=base + 400)))

    def test_scenario_14_a_literal_behind_a_gap(self) -> None:
        """
        The octets between what arrived and what the client says that it goes on from are nowhere.
        """
        session = server_session()
        for literal in (b"", b"new"):
            self.assertEqual(
                self.judged(session, request_for(session, sent=301, literal=literal)), Refused(Refusal.BEHIND, 200)
            )

    def test_scenario_30_the_id_without_the_key(self) -> None:
        session = server_session()
        session.attach(NOW, 1000)
        for guess in range(100):
            forged = request_for(session, 100 + guess, agreed=terms(WINDOW, key=bytes((guess,)) * 32))
            self.assertEqual(self.judged(session, forged), GONE)
        for proof in (b"", b"x", b"x" * 32, b"x" * 1000):
            self.assertEqual(self.judged(session, replace(request_for(session), proof=proof)), GONE)
        self.assertEqual(session.attempt, 7)
        self.assertIs(session.state, State.LIVE)
        self.assertIsNone(self.judged(session, request_for(session)))

    def test_scenario_31_unknown_ended_and_wrong_are_alike(self) -> None:
        session = server_session()
        request = request_for(session, agreed=terms(WINDOW, key=bytes(32)))
        ended = server_session()
        ended.end()
        for known in (None, session, ended, Tombstone(session.terms, 5)):
            self.assertEqual(self.judged(known, request), GONE)

    def test_scenario_31_nobody_can_prove_himself_to_a_session_that_is_not_there(self) -> None:
        for binding in Binding:
            stranger = terms(key=bytes(32), binding=binding)
            session = server_session(agreed=stranger)
            request = replace(request_for(session, exported=b""), session_id=b"-.--------")
            self.assertEqual(self.judged(None, request, b""), GONE)

    def test_scenario_32_the_binding_of_another_link(self) -> None:
        session = server_session()
        captured = request_for(session)
        self.assertIsNone(self.judged(session, captured))
        for exported in (b"another link", EXPORTED + b"x", EXPORTED[:-1], b""):
            self.assertEqual(self.judged(session, captured, exported), GONE)

    def test_scenario_33_the_binding_left_out(self) -> None:
        session = server_session()
        for agreed, exported in (
            (terms(WINDOW, binding=Binding.NONE), EXPORTED),
            (terms(WINDOW, binding=Binding.NONE), b""),
            (session.terms, b""),
        ):
            request = request_for(session, agreed=agreed, exported=exported)
            for at_link in (EXPORTED, b""):
                self.assertEqual(self.judged(session, request, at_link), GONE)

    def test_without_a_binding_the_link_does_not_matter(self) -> None:
        session = server_session(agreed=terms(WINDOW, binding=Binding.NONE))
        for exported in (b"", EXPORTED):
            self.assertIsNone(self.judged(session, request_for(session), exported))

    def test_any_change_on_the_way_is_gone(self) -> None:
        session = server_session()
        good = request_for(session)
        for bad in (
            replace(good, attempt=9),
            replace(good, received=good.received - 1),
            replace(good, sent=good.sent - 1),
            replace(good, proof=good.proof[:-1] + bytes((good.proof[-1] ^ 1,))),
        ):
            self.assertEqual(self.judged(session, bad), GONE)

    def test_scenario_27_an_ended_session_tells_its_count(self) -> None:
        session = server_session()
        request = request_for(session)
        session.end()
        self.assertEqual(self.judged(session, request), Refused(Refusal.ENDED, 200))
        self.assertEqual(self.judged(Tombstone(session.terms, 200), request), Refused(Refusal.ENDED, 200))

    def test_the_order_of_the_checks(self) -> None:
        """
        One request with every fault; as one after the other is taken away, the next shows.
        """
        session = server_session()
        session.close(b"closed", NOW)
        ended = server_session()
        ended.end()
        worst = {"attempt": 7, "received": 9999}
        wrong = terms(WINDOW, key=bytes(32))
        self.assertEqual(self.judged(ended, request_for(session, agreed=wrong, **worst)), GONE)  # type: ignore[arg-type]
        self.assertEqual(self.judged(ended, request_for(session, **worst)), Refused(Refusal.ENDED, 200))  # type: ignore[arg-type]
        self.assertEqual(self.judged(session, request_for(session, **worst)), Refused(Refusal.STALE))  # type: ignore[arg-type]
        self.assertEqual(self.judged(session, request_for(session, received=9999)), Refused(Refusal.BEHIND, 200))
        self.assertIsNone(self.judged(session, request_for(session)))

    def test_a_closed_session_is_over_for_a_client_that_has_everything(self) -> None:
        session = server_session()
        session.attach(NOW, 1000)
        while session.frames(NOW):
            pass
        session.close(b"LOGOUT", NOW)
        for live in (True, False):
            if not live:
                session.detach(NOW)
            self.assertIsNone(self.judged(session, request_for(session, received=1499)))
            self.assertEqual(self.judged(session, request_for(session, received=1500)), Refused(Refusal.ENDED, 200))
        session.sender.acknowledge(1500)
        self.assertTrue(session.delivered)
        self.assertEqual(self.judged(session, request_for(session, received=1500)), Refused(Refusal.ENDED, 200))


class GrantTests(SynchronousTestCase):
    @given(st.sampled_from(BASES), st.integers(0, 300), st.integers(0, 1000), st.integers(400, 1000))
    def test_the_streams_go_on(self, base: int, back: int, length: int, received: int) -> None:
        session = server_session(base)
        stream = PATTERNS["client"]
        literal = stream[300 - back : 300 - back + length]
        request = request_for(session, received=base + received, sent=base + 300 - back, literal=literal)
        self.assertIsNone(judge(session, request, EXPORTED))
        answer = grant(session, request, EXPORTED, NOW)
        self.assertEqual(answer.received, base + 300)
        self.assertEqual(
            answer.proof, server_proof(session.terms, 8, request.received, request.sent, EXPORTED, base + 300)
        )
        self.assertEqual(session.receiver.arrived, base + max(300, 300 - back + length))
        rest = b"".join(iter(lambda: session.next_delivery(NOW), b""))
        self.assertEqual(rest, stream[200 : max(300, 300 - back + length)])
        self.assertEqual(session.attempt, 8)
        self.assertIs(session.state, State.LIVE)
        self.assertEqual(session.sender.acknowledged, base + received)
        sent = b""
        while chunk := session.sender.take(64):
            sent += chunk
        self.assertEqual(sent, PATTERNS["server"][received:1500])

    def test_the_grace_period_stops(self) -> None:
        session = server_session()
        grant(session, request_for(session), EXPORTED, NOW)
        self.assertEqual(session.tick(NOW + 10**9), [])

    def test_a_closed_inner_end_gets_no_literal(self) -> None:
        session = server_session()
        session.close(b"closed", NOW)
        answer = grant(session, request_for(session, literal=b"new"), EXPORTED, NOW)
        self.assertEqual((answer.received, session.receiver.arrived), (300, 300))
        self.assertIs(session.state, State.DRAINING)

    def test_the_first_data_fits_the_first_flight(self) -> None:
        session = Session(terms(2**20), Policy(), NOW)
        session.write(bytes(300_000))
        grant(session, request_for(session, 1), EXPORTED, NOW)
        lengths = [len(session.frames(NOW)) - 4 for _ in range(3)]
        self.assertEqual(lengths, [Policy().first_data, Policy().frame_payload, Policy().frame_payload])

    def test_a_literal_behind_what_was_given_up_is_lost(self) -> None:
        """
        Between judgement and grant the old link is detached, which may give up octets that waited for a slow inner end.
        """
        session = server_session()
        arrived = session.receiver.arrived
        resumed = grant(session, request_for(session, sent=arrived + 10, literal=b"behind a gap"), EXPORTED, NOW)
        self.assertEqual((resumed.received, session.receiver.arrived), (arrived, arrived))

    def test_a_literal_longer_than_the_window_is_cut(self) -> None:
        session = server_session()
        session.next_delivery(NOW)
        grant(session, request_for(session, literal=bytes(WINDOW + 100)), EXPORTED, NOW)
        self.assertEqual(session.receiver.arrived, 300 + WINDOW)
