"""
Scenarios 2, 30, 32 and 33 end to end: who may have a session, with the channel binding of real TLS connections.
"""

from __future__ import annotations

from mem_continuity.core.handshake import Refusal, Refused, Resumed, client_proof
from tests.interop.client import Client
from tests.interop.grounds import GroundCase, OnCyrus, OnDovecot
from tests.interop.plain_client import HOME, TRAIN

_GONE = Refused(Refusal.GONE)


class Proofs(GroundCase):
    """
    For either server.
    """

    def setUp(self) -> None:
        super().setUp()
        self.client = self.new_client().begin(HOME, b"SELECT INBOX")
        (self.pid,) = self.server.wait_for_sessions(1, self.user)

    def undisturbed(self, client: Client) -> None:
        """
        The session is the one that it was, and its client can go on.
        """
        self.assert_ok(client.call(b"NOOP"))
        self.assertEqual(self.server.sessions(self.user), [self.pid])

    def test_scenario_02_attempts_out_of_order(self) -> None:
        """
        Attempts 5 and 6 arrive as 6, 5: the late one is told STALE, and 6 keeps the session.
        """
        client = self.client
        older, newer = client.connect(TRAIN, greet=False), client.connect(HOME, greet=False)
        fifth, sixth = client.attempt(older, number=5), client.attempt(newer, number=6)
        answer = client.ask(sixth, newer)
        assert isinstance(answer, Resumed)
        sixth.granted(answer, client.now)
        self.assertEqual(client.ask(fifth, older), Refused(Refusal.STALE))
        self.undisturbed(client)

    def test_scenario_30_flood_without_the_key(self) -> None:
        """
        Guesses are soon told RETRY for GONE; the live link and the attempt number are untouched, and a good proof is granted from
        that very address.
        """
        client = self.client
        live = client.wires.pop()
        guesser = f"127.0.1.{int(self.user.removeprefix('user')) + 1}"  # failures of an address are remembered for a minute
        wires = [client.connect(guesser, greet=False) for _ in range(30)]
        answers = [client.ask(client.attempt(wire, number=7, key=bytes(32)), wire) for wire in wires]
        self.assertEqual(answers[0], _GONE)
        assert isinstance(answers[-1], Refused)
        self.assertEqual(answers[-1].refusal, Refusal.RETRY)
        client.wires.append(live)
        self.undisturbed(client)
        self.assertIsInstance(client.resume(guesser, number=1), Resumed)
        self.undisturbed(client)

    def test_scenario_32_replayed_elsewhere(self) -> None:
        """
        A RESUME that was made for one TLS connection is worth nothing on another; and the first takes it only once.
        """
        client = self.client
        client.lose("fin")
        wire, other = client.connect(TRAIN, greet=False), client.connect(HOME, greet=False)
        attempt = client.attempt(wire)
        self.assertEqual(client.ask(attempt, other), _GONE)
        client.wires.remove(other)
        answer = client.ask(attempt, wire)
        assert isinstance(answer, Resumed)
        attempt.granted(answer, client.now)
        self.undisturbed(client)
        again = client.connect(HOME, greet=False)
        self.assertEqual(client.ask(attempt, again), _GONE)
        client.wires.remove(again)
        other.close()
        again.close()
        self.undisturbed(client)

    def test_scenario_33_binding_left_out(self) -> None:
        """
        Whoever has the key and leaves the binding out is told GONE, and can log in on that link.
        """
        client = self.client
        client.lose("fin")
        wire = client.connect(TRAIN, greet=False)
        request = client.attempt(wire).request
        proof = client_proof(client.session.terms, request.attempt, request.received, request.sent, b"")
        self.assertEqual(client.ask(client.attempt(wire, number=request.attempt, proof=proof), wire), _GONE)
        self.assert_ok(client.login())
        self.assert_ok(client.command(b"LOGOUT"))
        self.assertIsInstance(client.resume(TRAIN), Resumed)
        self.undisturbed(client)


class ProofsOnDovecot(Proofs, OnDovecot):
    pass


class ProofsOnCyrus(Proofs, OnCyrus):
    pass


del Proofs
