"""
Who may have what (scenarios 30 to 34, and 37): floods, strangers, replays, bindings, vetoes, crowds.  (35 is in
L{test_hostile_names}, 36 in L{test_timers}.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.logger import capturedLogs, eventAsText
from twisted.trial import util
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mem_continuity.core import resumption
from mem_continuity.core.handshake import Binding, Refusal, Refused, Resumed, client_proof
from mem_continuity.core.policy import KIB, Policy
from mem_continuity.directory.record import ClientID
from mem_continuity.interfaces import IVeto
from mem_continuity.server import Claim
from tests.support.comebacks import CLIENT_ID, HOME, TRAIN, framed, graft, logged_in, served_of
from tests.support.raw_client import RawClient
from tests.support.site import Site
from tests.support.tls_wires import TLSClient, TLSWire

GONE = Refused(Refusal.GONE)


class IdentityCase(SynchronousTestCase):
    """
    Sites that are shut down.
    """

    def new_site(self, policy: Policy | None = None, **options: Any) -> Site:
        site = Site(policy, **options)
        self.addCleanup(site.factory.shutdown)
        return site


class StrangerTests(IdentityCase):
    """
    Scenarios 30 and 31.
    """

    def test_scenario_30_flood_without_the_key(self) -> None:
        """
        The live link is not disturbed, no attempt number is burnt, the flood's address is put off; others and, when its time is
        over, that address too are served.
        """
        site = self.new_site(Policy(resume_failures=5, resume_failure_time=60))
        client = framed(site)
        served = served_of(client)
        assert served.conduit is not None
        forged = client.attempt(number=2**32 - 1, key=bytes(32)).request
        client.session.attempt = 0
        heard = client.link.heard
        answers = []
        for _ in range(40):
            wire = site.connect(TRAIN, greet=False)
            wire.send(client.octets(forged))
            site.settle()
            answers.append(client.read_answer(wire))
        self.assertEqual(answers, [GONE] * 5 + [Refused(Refusal.RETRY, 60)] * 35)
        self.assertEqual(site.factory.table.counts["limit_resume_failures"], 35)
        self.assertEqual((served.conduit.session.attempt, served.conduit.handovers), (0, 0))
        self.assertEqual(client.link.heard, heard)
        self.assertIn(b" OK ", client.call(b"NOOP"))
        self.assertIsInstance(client.resume(host=TRAIN), Resumed)  # the key is as good as ever, also from there
        self.assertIsInstance(client.resume(host="198.51.100.77"), Resumed)
        site.clock.advance(60)
        self.assertIsInstance(client.resume(host=TRAIN), Resumed)
        self.assertEqual((len(site.servers[0].losses), site.logouts), (0, []))
        self.assertIn(b" OK ", client.login(wire))  # a refused link is an ordinary one

    def test_scenario_31_another_users_session(self) -> None:
        """
        Somebody who has logged in knows another's session ID: refused, noted with the address, and unknown, expired and wrong
        cannot be told apart by words or by what is computed.
        """
        site = self.new_site(Policy(resume_failures=1000, grace=100, tombstone_time=200))
        computed: list[int] = []
        prove = client_proof

        def counting(*arguments: Any) -> bytes:
            computed.append(1)
            return prove(*arguments)

        self.patch(resumption, "client_proof", counting)
        parked, ended, expired = framed(site), framed(site), framed(site)
        parked.lose()
        ended.call(b"LOGOUT")
        expired.lose()
        unknown = replace(expired.attempt().request, session_id=b"n0.abcdefghijklmnop")
        said = []
        for moment in range(2):
            requests = [one.attempt(key=b"?" * 32).request for one in (parked, ended, expired)]
            for request in (*requests, unknown):
                intruder = logged_in(site, TRAIN, user=b"ann")
                intruder.link.take()
                with capturedLogs() as events:
                    del computed[:]
                    intruder.link.send(intruder.octets(request))
                    site.settle()
                self.assertEqual(len(computed), 1)
                said.append(intruder.link.take())
                noted = [eventAsText(event) for event in events]
                self.assertTrue(any("RESUME refused" in one and TRAIN in one for one in noted), noted)
                self.assertIn(b" OK ", intruder.command(b"NOOP"))
                self.assertIn(b" NO [XCONTINUITY GONE]", graft(intruder, request.session_id))
            if not moment:
                self.assertIsInstance(parked.resume(), Resumed)
                site.clock.advance(400)  # the parked one's grace, and its tombstone
        self.assertEqual(set(said), {b"r1 NO [XCONTINUITY GONE] not resumed\r\n"})
        self.assertIn(b" OK ", parked.call(b"NOOP"))


class BindingTests(IdentityCase):
    """
    Scenarios 32 and 33, over real TLS.
    """

    # Twisted's own CertificateOptions still hands pyOpenSSL's objects to pyOpenSSL.
    suppress = [util.suppress(category=DeprecationWarning, message="Passing pyOpenSSL")]  # noqa: RUF012

    def setUp(self) -> None:
        self.site = self.new_site(Policy(resume_failures=1000), binding=True)
        self.client = TLSClient(self.site)
        self.client.connect(HOME)
        self.client.login()
        self.client.start()
        self.assertIn(b" OK ", self.client.call(b"SELECT INBOX"))

    def assert_unharmed(self) -> None:
        """
        The session is still its client's.
        """
        self.assertIsInstance(self.client.return_on(TLSWire(self.site, TRAIN)), Resumed)
        self.assertIn(b" OK ", self.client.call(b"NOOP"))
        self.assertEqual((len(self.site.factory.table), self.site.logouts), (1, []))

    def test_scenario_32_replayed_elsewhere(self) -> None:
        """
        A RESUME that was captured is worth nothing on another TLS connection, before or after it was used on its own.
        """
        self.client.link.reset()
        self.client.session.detach(self.client.now)
        wire = TLSWire(self.site, TRAIN)
        attempt = self.client.request(wire.exported)
        for before in (True, False):
            for elsewhere in (TLSWire(self.site, TRAIN), TLSWire(self.site, HOME), self.site.connect(TRAIN, secure=False)):
                self.assertEqual(self.client.said_to(attempt.request, elsewhere), GONE)
            if before:
                answer = self.client.ask(attempt, wire)  # type: ignore[arg-type]
                assert isinstance(answer, Resumed)
                self.client.take_over(attempt, answer, wire)  # type: ignore[arg-type]
        self.assertIn(b" OK ", self.client.call(b"NOOP"))
        self.assert_unharmed()

    def test_scenario_33_binding_left_out_or_changed(self) -> None:
        """
        Somebody in the middle has another TLS connection to the server, or none, or an older one: no way of putting the binding
        is taken, not even with the right key.
        """
        terms = self.client.session.terms
        there, here = TLSWire(self.site, TRAIN), TLSWire(self.site, TRAIN)
        self.assertNotEqual(there.exported, here.exported)
        request = self.client.request(b"").request
        numbers = request.attempt, request.received, request.sent
        stripped = replace(terms, binding=Binding.NONE)
        flipped = bytes([here.exported[0] ^ 1]) + here.exported[1:]
        proofs = [
            client_proof(stripped, *numbers, b""),
            client_proof(stripped, *numbers, here.exported),
            client_proof(terms, *numbers, b""),
            client_proof(terms, *numbers, there.exported),
            client_proof(terms, *numbers, flipped),
            client_proof(terms, *numbers, here.exported[:-1]),
        ]
        for proof in proofs:
            self.assertEqual(self.client.said_to(replace(request, proof=proof), here), GONE)
        old = TLSWire(self.site, TRAIN, old=True)
        self.assertEqual(old.exported, b"")
        clear = self.site.connect(TRAIN, secure=False)
        for wire in (old, clear):
            for proof in proofs[:3]:
                self.assertEqual(self.client.said_to(replace(request, proof=proof), wire), GONE)
        good = client_proof(terms, *numbers, here.exported)
        self.assertIsInstance(self.client.said_to(replace(request, proof=good), here), Resumed)  # the test can tell
        self.client.session.detach(self.client.now)
        self.assert_unharmed()

    def test_scenario_33_no_start_without_a_binding(self) -> None:
        """
        A TLS connection that has no binding cannot START; where the operator has turned the binding off, it can.
        """
        client = TLSClient(self.site)
        client.connect(old=True)
        client.login()
        self.assertIn(b" NO XCONTINUITY START needs TLS 1.3", client.command(b"XCONTINUITY START"))
        self.assertIn(b" OK ", client.command(b"SELECT INBOX"))
        site = self.new_site(binding=False)
        client = TLSClient(site)
        client.connect(old=True)
        client.login()
        RawClient.start(client)
        self.assertIn(b" OK ", client.call(b"SELECT INBOX"))


@implementer(IVeto)
class Disabled:
    """
    A site's list of accounts that may not be used any more.
    """

    def __init__(self) -> None:
        self.users: set[bytes | None] = set()
        self.claims: list[Claim] = []

    def allows(self, claim: Claim) -> bool:
        self.claims.append(claim)
        return claim.user not in self.users


class VetoTests(IdentityCase):
    """
    Scenario 34; all that a veto can do is in L{tests.server.test_commands}.
    """

    def test_scenario_34_account_disabled_while_parked(self) -> None:
        """
        The hook refuses, the session is over, and the password does not work either; other users are not concerned.
        """
        veto = Disabled()
        site = self.new_site(veto=veto)
        client, other = framed(site), framed(site, user=b"ann")
        for one in (client, other):
            one.lose()
            self.assertIsInstance(one.resume(), Resumed)
            one.lose()
        kind, value = CLIENT_ID.split()
        self.assertEqual(
            veto.claims[0], Claim(client.session.terms.session_id, b"joe", ClientID(kind, value), HOME, "203.0.113.1")
        )
        veto.users.add(b"joe")
        del site.checker.users[b"joe"]
        wire = site.connect(greet=False)
        self.assertEqual(client.resume(wire), Refused(Refusal.ENDED, client.session.sender.end))
        self.assertEqual((site.logouts, site.factory.table.counts["vetoed"]), (["joe"], 1))
        self.assertIn(b" NO ", client.login(wire))
        self.assertIn(b" BAD ", client.command(b"XCONTINUITY GRAFT", wire))
        self.assertIsInstance(other.resume(), Resumed)


class CrowdTests(IdentityCase):
    """
    Scenario 37.
    """

    def check(self, policy: Policy, number: int, limit: str, fits: Callable[[Site], bool]) -> None:
        site = self.new_site(policy)
        neighbour = framed(site, user=b"ann")
        neighbour.lose()
        clients = []
        with capturedLogs() as events:
            for _ in range(number):
                client = framed(site)
                served = served_of(client)
                client.lose("reset")
                served.transport.write(b"." * 10 * KIB)
                site.settle()
                site.clock.advance(0.001)
                clients.append(client)
                self.assertTrue(fits(site))
        evicted = site.factory.table.counts[f"limit_{limit}"]
        self.assertGreater(evicted, 0)
        self.assertEqual(len([event for event in events if event.get("limit") == limit]), evicted)
        self.assertEqual(len(site.logouts), evicted)
        first = clients[: site.logouts.count("joe")]
        for client in clients:
            answer = client.resume()
            expected = Refused(Refusal.ENDED, client.session.sender.end)
            self.assertTrue(answer == expected if client in first else isinstance(answer, Resumed), answer)
        if limit != "retained":
            self.assertIsInstance(neighbour.resume(), Resumed)

    def test_scenario_37_one_user_parks_many(self) -> None:
        """
        Each limit holds at every moment, the longest-parked goes first, each is counted, and its client can learn that it went.
        """
        self.check(
            Policy(parked_per_user=5, records_per_client=100), 20, "parked_per_user", lambda site: site.factory.table.parked <= 6
        )
        self.check(
            Policy(sessions_per_user=5, records_per_client=99), 20, "sessions_per_user", lambda site: len(site.factory.table) <= 6
        )
        self.check(
            Policy(records_per_client=5, parked_per_user=100), 20, "records_per_client", lambda site: len(site.factory.table) <= 6
        )
        self.check(
            Policy(retained=64 * KIB, records_per_client=100, parked_per_user=100),
            20,
            "retained",
            lambda site: site.factory.table.retained <= 64 * KIB,
        )
