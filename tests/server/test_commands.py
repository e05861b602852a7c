"""
CLIENTID and XCONTINUITY on a link: who may say what when, what changes and what does not, and all that a veto can do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mem_continuity.core.handshake import Refusal, Refused, Resumed
from mem_continuity.core.policy import Policy
from mem_continuity.directory.record import ClientID
from mem_continuity.interfaces import IVeto
from mem_continuity.server import Claim
from mem_continuity.server.link import Mode
from tests.support.comebacks import TRAIN, framed, logged_in, served_of
from tests.support.raw_client import RawClient
from tests.support.site import Site


class CommandCase(SynchronousTestCase):
    """
    Sites that are shut down.
    """

    def new_site(self, policy: Policy | None = None, **options: Any) -> Site:
        site = Site(policy, **options)
        self.addCleanup(site.factory.shutdown)
        return site


class ClientIDTests(CommandCase):
    """
    CLIENTID.
    """

    def test_syntax(self) -> None:
        """
        Two parts, none of them empty or too long; a refused one changes nothing.
        """
        site = self.new_site(Policy(client_id_value=10))
        client = RawClient(site)
        link = client.connect().link
        self.assertIn(b" OK ", client.command(b"CLIENTID UUID 0123456789"))
        for line in (b"", b" UUID", b" UUID a b", b' UUID ""', b' "" a', b" UUID 0123456789a", b" 0123456789a b"):
            self.assertIn(b" BAD ", client.command(b"CLIENTID" + line))
        self.assertEqual(link.client_id, ClientID(b"UUID", b"0123456789"))

    def test_the_last_counts(self) -> None:
        """
        Up to the login a client may change its mind; afterwards it may not.
        """
        site = self.new_site()
        client = RawClient(site, client_id=b"UUID two")
        client.connect()
        client.command(b"CLIENTID UUID one")
        client.login()
        self.assertEqual(served_of(client).client_id, ClientID(b"UUID", b"two"))
        self.assertIn(b" NO ", client.command(b"CLIENTID UUID three"))
        self.assertEqual(len(site.factory.table.siblings(b"joe", ClientID(b"UUID", b"two"), site.portal.realm)), 1)

    def test_without_tls(self) -> None:
        """
        Nothing is announced and nothing taken where it could be read on the way, unless the operator allows it.
        """
        for allowed in (False, True):
            site = self.new_site(allow_insecure=allowed)
            client = RawClient(site, client_id=None)
            client.connect(secure=False)
            condition = b" OK " if allowed else b" NO "
            self.assertEqual(b"XCONTINUITY" in client.command(b"CAPABILITY"), allowed)
            self.assertIn(condition, client.command(b"CLIENTID UUID x"))
            client.login()
            self.assertIn(condition, client.command(b"XCONTINUITY START"))

    def test_announced(self) -> None:
        """
        Under TLS both words stand in the capabilities, before and after login.
        """
        client = RawClient(self.new_site())
        client.connect()
        before = client.command(b"CAPABILITY")
        client.login()
        for said in (before, client.command(b"CAPABILITY")):
            self.assertEqual([said.split().count(word) for word in (b"CLIENTID", b"XCONTINUITY")], [1, 1])


class StartTests(CommandCase):
    """
    XCONTINUITY START.
    """

    def test_refused(self) -> None:
        """
        Wrong words, wrong time.
        """
        client = RawClient(self.new_site())
        client.connect()
        self.assertIn(b" BAD XCONTINUITY START comes after login", client.command(b"XCONTINUITY START"))
        client.login()
        for line in (b"", b" STOP", b" START GRACE", b" START GRACE x", b" START GRACE -1", b" START GRACE 1 2", b" START NOW"):
            self.assertIn(b" BAD ", client.command(b"XCONTINUITY" + line))
        self.assertEqual(client.link.link.mode, Mode.PREAMBLE)

    def test_grace(self) -> None:
        """
        The client may ask for less than the policy's grace, not for more; what it is told is what it gets.
        """
        for asked, granted in ((None, 100), (40, 40), (0, 0), (1000, 100)):
            site = self.new_site(Policy(grace=100))
            client = logged_in(site)
            client.start(grace=asked)
            self.assertEqual(client.session.terms.grace, granted)
            client.lose()
            if granted:
                site.clock.advance(granted - 0.1)
                self.assertEqual(site.logouts, [])
                site.clock.advance(0.1)
            site.settle()
            self.assertEqual(site.logouts, ["joe"])

    def test_without_a_name(self) -> None:
        """
        RESUME needs no client ID: the session has its own.
        """
        client = framed(self.new_site(), client_id=None)
        client.lose()
        self.assertIsInstance(client.resume(), Resumed)
        self.assertIn(b" OK ", client.call(b"NOOP"))


class ResumeTests(CommandCase):
    """
    XCONTINUITY RESUME.
    """

    def test_syntax(self) -> None:
        """
        What is not in the grammar is answered BAD, for everybody alike, and changes nothing.
        """
        site = self.new_site()
        client = framed(site)
        client.lose()
        named = client.session.terms.session_id
        wire = site.connect(TRAIN)
        for arguments in (
            b"",
            b" " + named,
            b" n0 1 0 0 AAAA {0+}\r\n",
            b" %b x 0 0 AAAA {0+}\r\n" % named,
            b" %b 1 0 -1 AAAA {0+}\r\n" % named,
            b" %b 1 18446744073709551616 0 AAAA {0+}\r\n" % named,
            b" %b 1 0 0 !!!! {0+}\r\n" % named,
            b" %b 1 0 0 AAAA" % named,
            b" %b 1 0 0 AAAA more {0+}\r\n" % named,
        ):
            self.assertIn(b" BAD ", client.command(b"XCONTINUITY RESUME" + arguments, wire))
        self.assertEqual(site.factory.table.parked, 1)
        self.assertFalse(site.factory.table.failures.too_many(TRAIN))
        self.assertIsInstance(client.resume(), Resumed)

    def test_refused_and_login_in_one_flight(self) -> None:
        """
        The literal of a refused RESUME is thrown away, and the login that follows in the same segment is carried out.
        """
        site = self.new_site()
        client = framed(site)
        client.lose()
        client.write(b"x1 NOOP\r\n")
        forged = client.attempt(key=bytes(32)).request
        self.assertTrue(forged.literal)
        wire = site.connect(TRAIN, greet=False)
        wire.send(client.octets(forged) + b"a1 LOGIN joe secret\r\n")
        site.settle()
        said = wire.take()
        places = [said.index(part) for part in (b"* OK", b"r1 NO [XCONTINUITY GONE] not resumed\r\n", b"a1 OK ")]
        self.assertEqual(places, sorted(places))
        self.assertNotIn(b"NOOP", site.servers[1].heard)

    def test_never_on_less(self) -> None:
        """
        A session begun under TLS never goes on without, also where the binding is off; one begun without may go on under TLS.
        """
        site = self.new_site(allow_insecure=True)
        ways = ((True, False, Refused), (True, True, Resumed), (False, False, Resumed), (False, True, Resumed))
        for begun, resumed, answer in ways:
            client = RawClient(site)
            client.connect(secure=begun)
            client.login()
            client.start()
            self.assertIsInstance(client.resume(site.connect(TRAIN, secure=resumed, greet=False)), answer)
            self.assertEqual(len(site.servers[-1].losses), 0)

    def test_nothing_is_bound(self) -> None:
        """
        A granted RESUME that comes first needs no protocol of its own.
        """
        site = self.new_site()
        client = framed(site)
        client.lose()
        wire = site.connect(TRAIN, greet=False)
        client.resume(wire)
        self.assertEqual(len(site.servers), 1)
        self.assertTrue(wire.heard.startswith(b"r1 OK "))

    def test_behind_a_greeting_or_a_login(self) -> None:
        """
        A protocol that was bound and is not needed after all ends, and its login with it.
        """
        site = self.new_site()
        for log_in in (False, True):
            client = framed(site)
            client.lose()
            wire = site.connect(TRAIN)
            if log_in:
                self.assertIn(b" OK ", client.login(wire))
            self.assertIsInstance(client.resume(wire), Resumed)
            self.assertEqual([len(server.losses) for server in site.servers[-2:]], [0, 1])
            self.assertEqual(site.logouts, ["joe"] if log_in else [])
            self.assertIn(b" OK ", client.call(b"NOOP"))
        self.assertEqual(len(site.factory.table), 2)


@implementer(IVeto)
class Veto:
    """
    Answers as it is told.
    """

    def __init__(self) -> None:
        self.claims: list[Claim] = []
        self.answer: Callable[[], Any] = lambda: True

    def allows(self, claim: Claim) -> Any:
        self.claims.append(claim)
        return self.answer()


def broken() -> bool:
    raise RuntimeError("the user database is away")


class VetoTests(CommandCase):
    """
    What a veto can say, and when.
    """

    def setUp(self) -> None:
        self.veto = Veto()
        self.site = self.new_site(Policy(grace=100), veto=self.veto)
        self.client = framed(self.site)
        self.client.lose()
        self.later: Deferred[bool] = Deferred()

    def test_allowed(self) -> None:
        """
        At once or later.
        """
        for answer in (lambda: True, lambda: succeed(True)):
            self.veto.answer = answer
            self.assertIsInstance(self.client.resume(), Resumed)
            self.client.lose()

    def test_refused(self) -> None:
        """
        False, anything that is not True, an exception, a failed Deferred: the session is over, its client learns the count.
        """
        for answer, errors in (
            (lambda: False, 0),
            (lambda: succeed(False), 0),
            (lambda: None, 0),
            (lambda: 1, 0),
            (broken, 1),
            (lambda: fail(RuntimeError("no")), 1),
        ):
            self.veto.answer = answer
            client = framed(self.site)
            client.lose()
            wire = self.site.connect(greet=False)
            self.assertEqual(client.resume(wire), Refused(Refusal.ENDED, client.session.sender.end))
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), errors)
            self.assertEqual(len(self.site.servers[-2].losses), 1)
            self.assertIn(b" OK ", client.login(wire))
        self.assertEqual(self.site.factory.table.counts["vetoed"], 6)
        self.assertEqual(self.site.logouts, ["joe"] * 6)

    def test_asked_only_after_the_proof(self) -> None:
        """
        Strangers do not reach the site's database.
        """
        self.assertEqual(self.client.resume(key=bytes(32)), Refused(Refusal.GONE))
        self.assertEqual(self.veto.claims, [])

    def ask(self) -> Any:
        """
        A RESUME that waits for the veto.
        """
        self.veto.answer = lambda: self.later
        wire = self.site.connect(TRAIN, greet=False)
        attempt = self.client.attempt()
        self.assertIsNone(self.client.ask(attempt, wire))
        return wire

    def test_link_gone_meanwhile(self) -> None:
        """
        Nothing has changed, whatever the veto says: there is nobody left to refuse, and the session still waits.
        """
        for allowed in (True, False):
            self.later = Deferred()
            wire = self.ask()
            wire.reset()
            self.later.callback(allowed)
            self.assertEqual((self.site.factory.table.parked, self.site.logouts), (1, []))
        self.veto.answer = lambda: True
        self.assertIsInstance(self.client.resume(), Resumed)

    def test_grace_over_meanwhile(self) -> None:
        """
        The judgement is made anew.
        """
        wire = self.ask()
        self.site.clock.advance(100)
        self.later.callback(True)
        self.assertEqual(self.client.read_answer(wire), Refused(Refusal.ENDED, self.client.session.sender.end))

    def test_superseded_meanwhile(self) -> None:
        """
        A later attempt was faster: the earlier is STALE, and a veto against it concerns nobody any more.
        """
        for allowed in (True, False):
            self.later = Deferred()
            wire = self.ask()
            self.veto.answer = lambda: True
            self.assertIsInstance(self.client.resume(), Resumed)
            self.later.callback(allowed)
            self.assertEqual(self.client.read_answer(wire), Refused(Refusal.STALE))
            self.assertIn(b" OK ", self.client.call(b"NOOP"))
            self.client.lose()

    def test_old_link_works_on_meanwhile(self) -> None:
        """
        Nothing changes before the commit: the old link is served while the veto is being asked.
        """
        self.veto.answer = lambda: True
        self.client.resume()
        self.veto.answer = lambda: self.later
        wire = self.site.connect(TRAIN, greet=False)
        attempt = self.client.attempt(literal=0)
        self.assertIsNone(self.client.ask(attempt, wire))
        self.client.session.attempt -= 1
        self.assertIn(b" OK ", self.client.call(b"NOOP"))
        self.assertEqual(self.client.link.ended, "")
        self.later.callback(False)
        self.assertEqual(self.site.logouts, ["joe"])

    def test_pipelined_behind_it(self) -> None:
        """
        What the client sends behind a RESUME that waits is kept, up to the policy's bound, and then not read.
        """
        wire = self.ask()
        wire.send(b"." * (self.site.policy.preamble_buffer + 1))
        self.assertFalse(wire.transport.reading)
        self.later.callback(True)
        self.assertTrue(wire.transport.reading)
        self.assertIsInstance(self.client.read_answer(wire), Resumed)
        self.site.settle()
        self.assertEqual(wire.ended, "aborted")  # dots are no frames
        self.assertEqual(self.site.factory.table.parked, 1)
