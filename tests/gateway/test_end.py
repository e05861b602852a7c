"""
The inner end of the gateway, with a whole site of C{IMAP4Server}s for an upstream and clients that do everything by hand.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mem_continuity.core.policy import Policy
from mem_continuity.gateway.end import GatewayEnd
from mem_continuity.gateway.upstream import Upstream, parse_upstream
from mem_continuity.interfaces import IUpstreamRouter
from tests.support.comebacks import HOME, TRAIN, framed, logged_in, served_of
from tests.support.gateway_ground import BUFFER, GatewayGround
from tests.support.raw_client import RawClient

KIB = 1024


class PlainTests(SynchronousTestCase):
    """
    A client that knows nothing of continuity.
    """

    def setUp(self) -> None:
        self.site = GatewayGround()
        self.client = RawClient(self.site, client_id=None)

    def test_dialogue(self) -> None:
        """
        The upstream's greeting and answers, with our words in the capabilities; nothing is left afterwards.
        """
        wire = self.client.connect()
        self.assertTrue(wire.take().startswith(b"* OK [CAPABILITY "))
        self.assertIn(b" OK LOGIN succeeded", self.client.login())
        self.assertIn(b"* 0 EXISTS", self.client.command(b"SELECT INBOX"))
        self.assertEqual(len(self.site.open_strands), 1)
        self.client.command(b"LOGOUT")
        self.assertEqual((self.site.open_strands, wire.ended), ([], "closed"))
        self.assertEqual(self.site.gateway_site.slots.held, 0)

    def test_pipelined_before_the_greeting(self) -> None:
        """
        What a client sends before there is an upstream waits for it.
        """
        wire = self.site.connect(greet=False)
        wire.send(b"a1 CAPABILITY\r\na2 LOGIN joe secret\r\na3 SELECT INBOX\r\na4 NOOP\r\n")
        self.site.settle()
        for tag in (b"a1", b"a2", b"a3", b"a4"):
            self.assertIn(b"\r\n" + tag + b" OK ", wire.heard)

    def test_client_goes_before_the_upstream_is_there(self) -> None:
        wire = self.site.connect(greet=False)
        self.site.turn()
        wire.reset()
        self.site.settle()
        self.assertEqual((self.site.open_strands, self.site.gateway_site.slots.held), ([], 0))
        self.assertEqual([call for call in self.site.clock.getDelayedCalls() if call.getTime() < 1e9], [])

    def test_upstream_is_down(self) -> None:
        """
        Said by a BYE, without a word of where it is.
        """
        self.site.reactor.refuses = True
        wire = self.client.connect()
        self.assertEqual(wire.heard, b"* BYE [UNAVAILABLE] the mail server cannot be reached\r\n")
        self.assertEqual((wire.ended, self.site.gateway_site.slots.held), ("closed", 0))
        self.assertEqual(self.site.gateway_site.counts["upstream_failed"], 1)

    def test_upstream_is_silent(self) -> None:
        self.site.reactor.silent = True
        wire = self.client.connect()
        self.site.clock.advance(self.site.policy.upstream_greeting)
        self.site.settle()
        self.assertEqual(wire.heard, b"* BYE [UNAVAILABLE] the mail server does not answer in time\r\n")
        self.assertEqual((wire.ended, self.site.open_strands, self.site.gateway_site.slots.held), ("closed", [], 0))

    def test_upstream_does_not_answer_the_login(self) -> None:
        wire = self.client.connect()
        wire.take()
        self.site.strands[-1].far.reading = False
        wire.send(b"a1 LOGIN joe secret\r\n")
        self.site.settle()
        self.site.clock.advance(self.site.policy.upstream_answer)
        self.site.settle()
        self.assertEqual(wire.take(), b"* BYE [UNAVAILABLE] the mail server does not answer in time\r\n")
        self.site.clock.advance(self.site.policy.moved_deadline)
        self.site.settle()
        self.assertEqual((wire.ended, self.site.open_strands), ("closed", []))

    def test_no_deadline_after_the_login(self) -> None:
        """
        A client may be idle for as long as the upstream lets it.
        """
        self.client.connect()
        self.client.login()
        self.client.command(b"SELECT INBOX")
        self.site.clock.advance(100_000)
        self.site.settle()
        self.assertEqual((self.client.link.ended, len(self.site.open_strands)), ("", 1))

    def test_upstream_closes(self) -> None:
        """
        Its last words arrive, and nothing is put behind them.
        """
        self.client.connect()
        self.client.login()
        self.client.link.take()
        self.site.servers[-1].sendUntaggedResponse(b"BYE enough")
        self.site.servers[-1].transport.loseConnection()
        self.site.settle()
        self.assertEqual(self.client.link.take(), b"* BYE enough\r\n")
        self.assertEqual((self.client.link.ended, self.site.gateway_site.slots.held), ("closed", 0))

    def test_last_command_before_the_client_closes(self) -> None:
        """
        A client that sends something and closes is heard, as a server would hear it.
        """
        self.site.mailbox().deliver(b"message\r\n")
        self.client.connect()
        self.client.login()
        self.client.command(b"SELECT INBOX")
        self.client.link.send(b"x STORE 1 +FLAGS.SILENT (\\Deleted)\r\nx2 EXPUNGE\r\n")
        self.client.link.fin()
        self.site.settle()
        self.assertEqual(self.site.mailbox().getMessageCount(), 0)

    def test_upstream_that_does_not_take_the_rest(self) -> None:
        """
        It does not read: then its connection is broken off in time.
        """
        self.client.connect()
        self.client.login()
        self.site.strands[-1].far.reading = False
        self.client.link.send(b"x NOOP\r\n")
        self.client.link.fin()
        self.site.settle()
        self.assertEqual(self.site.gateway_site.slots.held, 1)
        self.site.clock.advance(self.site.policy.moved_deadline)
        self.site.settle()
        self.assertEqual((self.site.open_strands, self.site.gateway_site.slots.held), ([], 0))

    def test_passwords_are_not_taken_in_the_clear(self) -> None:
        """
        Nor is anything of them handed on; from this host itself they are, where the operator allows it.
        """
        wire = self.site.connect(secure=False)
        self.assertIn(b" LOGINDISABLED", wire.heard)
        self.assertIn(b" NO [PRIVACYREQUIRED] ", self.client.command(b"LOGIN joe secret", wire))
        self.assertNotIn(b"secret", self.site.servers[-1].heard)
        lax = GatewayGround(insecure_loopback=True)
        for host, answer in ((HOME, b" NO [PRIVACYREQUIRED] "), ("127.0.0.1", b" OK "), ("::1", b" OK ")):
            wire = lax.connect(host, secure=False)
            self.assertIn(answer, RawClient(lax, client_id=None).command(b"LOGIN joe secret", wire))

    def test_balancer_ends_tls(self) -> None:
        """
        What comes without TLS counts as secure: passwords are taken, and the layer is granted.
        """
        site = GatewayGround(balancer_ends_tls=True, tls=object())
        client = RawClient(site)
        client.connect(secure=False)
        self.assertNotIn(b"STARTTLS", client.link.heard)
        self.assertIn(b" OK ", client.login())
        client.start()
        client.lose()
        wire = site.connect(TRAIN, secure=False, greet=False)
        client.resume(wire)
        self.assertIn(b" OK ", client.call(b"NOOP"))

    def test_starttls(self) -> None:
        """
        Ended here: the upstream never sees it, what was sent behind it in the clear is never run, and a client ID is forgotten.
        """
        site = GatewayGround(tls=object())
        wire = site.connect(secure=False)
        self.assertIn(b" STARTTLS", wire.take())
        wire.send(b"a0 CLIENTID UUID 1\r\na1 STARTTLS\r\na2 LOGIN joe secret\r\n")
        site.settle()
        self.assertTrue(wire.take().startswith(b"a0 NO "))
        self.assertEqual(wire.heard.count(b"a1 OK "), 1)
        self.assertNotIn(b"a2 ", wire.heard)
        self.assertNotIn(b"STARTTLS", RawClient(site).command(b"CAPABILITY", wire))
        self.assertIn(b" BAD ", RawClient(site).command(b"STARTTLS", wire))
        self.assertIn(b" OK ", RawClient(site).command(b"LOGIN joe secret", wire))
        self.assertNotIn(b"STARTTLS", site.servers[-1].heard)

    def test_many_wrong_passwords(self) -> None:
        wire = self.client.connect()
        for _ in range(self.site.policy.login_attempts):
            self.assertEqual(wire.ended, "")
            wire.send(b"a1 LOGIN joe wrong\r\n")
            self.site.settle()
        self.assertIn(b"* BYE ", wire.take())
        self.assertEqual((wire.ended, self.site.open_strands), ("closed", []))


class FlowTests(SynchronousTestCase):
    """
    A slow reader on either side stops the other.
    """

    def setUp(self) -> None:
        self.site = GatewayGround(Policy(window=64 * KIB))
        self.site.mailbox().deliver(b"x" * 1000 * KIB)

    def test_client_that_does_not_read(self) -> None:
        """
        The upstream is not read on, and goes on when the client does; all arrives.
        """
        client = RawClient(self.site, client_id=None)
        client.connect()
        client.login()
        client.command(b"SELECT INBOX")
        wire = client.link
        wire.congest()
        before = len(wire.heard)
        wire.send(b"f FETCH 1 BODY[TEXT]\r\n")
        self.site.settle()
        self.assertLess(len(wire.heard) - before, 2 * BUFFER)
        self.assertFalse(self.site.strands[-1].near.reading)
        wire.relieve()
        self.site.settle()
        self.assertGreater(len(wire.heard) - before, 1000 * KIB)

    def test_parked(self) -> None:
        """
        At the window the upstream is not read any more; the rest comes after the resume.
        """
        client = framed(self.site, HOME)
        client.write(b"f FETCH 1 BODY[TEXT]\r\n")
        client.send_frames()
        client.lose()
        self.assertFalse(self.site.strands[-1].near.reading)
        retained = served_of_parked(self.site).retained
        self.assertTrue(64 * KIB <= retained <= 64 * KIB + 2 * BUFFER, retained)
        client.resume(host=TRAIN)
        self.assertGreater(len(client.stream), 1000 * KIB)
        self.assertIn(b"\r\nf OK ", client.stream)

    def test_upstream_that_does_not_read(self) -> None:
        """
        The client is not read on: what waits stays near what a connection buffers.
        """
        client = RawClient(self.site, client_id=None)
        client.connect()
        client.login()
        far = self.site.strands[-1].far
        far.reading = False
        client.link.send(b"a APPEND INBOX () {1000000}\r\n")
        for _ in range(100):
            client.link.send(b"y" * 10_000)
            self.site.settle()
        self.assertLess(len(far.incoming), 2 * BUFFER)
        far.resumeProducing()
        self.site.settle()
        client.link.send(b"\r\n")
        self.site.settle()
        self.assertIn(b"a OK ", client.link.heard)


class SlotTests(SynchronousTestCase):
    """
    Upstream connections in all; the old and the new link of one client count as one.
    """

    def setUp(self) -> None:
        self.site = GatewayGround(Policy(upstream_connections=2, upstream_spare=2))

    def test_full(self) -> None:
        """
        One more can connect, but not log in; those that are there are not disturbed, and whoever goes makes room.
        """
        clients = [logged_in(self.site, HOME, client_id=b"UUID %d" % number) for number in range(2)]
        other = RawClient(self.site, client_id=b"UUID other")
        other.connect(TRAIN)
        self.assertIn(b" NO [LIMIT] ", other.login())
        self.assertEqual(self.site.gateway_site.counts["limit_upstream_connections"], 1)
        for client in clients:
            self.assertIn(b" OK ", client.command(b"NOOP"))
        clients[0].command(b"LOGOUT")
        logged_in(self.site, TRAIN, client_id=b"UUID other")

    def test_more_than_spare(self) -> None:
        wires = [self.site.connect() for _ in range(5)]
        self.assertEqual(wires[4].heard, b"* BYE [UNAVAILABLE] there are too many connections to the mail server\r\n")
        self.assertEqual(len(self.site.open_strands), 4)

    def test_who_comes_back(self) -> None:
        """
        The old link has not been found dead yet: the new one of the same client is let in, from another address, and a third is
        not.
        """
        clients = [framed(self.site, HOME, client_id=b"UUID %d" % number) for number in range(2)]
        clients[0].lose("silence")
        logged_in(self.site, TRAIN, client_id=b"UUID 0")
        again = RawClient(self.site, client_id=b"UUID 0")
        again.connect("198.51.100.9")
        self.assertIn(b" NO [LIMIT] ", again.login())


def served_of_parked(site: GatewayGround) -> Any:
    """
    The only session there is.
    """
    (served,) = site.factory.table.all()
    return served


@implementer(IUpstreamRouter)
class Router:
    """
    Says what it is told to.
    """

    upstreams = (parse_upstream("tcp:127.0.0.1:143"),)

    def __init__(self) -> None:
        self.answer: Any = self.upstreams[0]
        self.asked: list[bytes] = []

    def route(self, user: bytes) -> Upstream | Deferred[Upstream | None] | None:
        self.asked.append(user)
        return self.answer  # type: ignore[no-any-return]


class RoutedTests(SynchronousTestCase):
    """
    The upstream depends on who logs in.
    """

    def setUp(self) -> None:
        self.router = Router()
        self.site = GatewayGround(router=self.router)
        self.client = RawClient(self.site)

    def test_login(self) -> None:
        """
        There is no upstream connection before, and a session like any other afterwards.
        """
        self.client.connect(HOME)
        self.assertIn(b"CLIENTID XCONTINUITY", self.client.command(b"CAPABILITY"))
        self.assertEqual(self.site.strands, [])
        self.assertIn(b" OK ", self.client.login())
        self.assertEqual((self.router.asked, len(self.site.open_strands)), ([b"joe"], 1))
        self.client.start()
        self.client.call(b"SELECT INBOX")
        self.client.lose()
        self.client.resume(host=TRAIN)
        self.assertIn(b" OK ", self.client.call(b"NOOP"))

    def test_wrong_password(self) -> None:
        """
        That upstream connection is given up; the next login is routed anew.
        """
        self.client.connect()
        self.assertIn(b" NO ", self.client.command(b"LOGIN joe wrong"))
        self.site.settle()
        self.assertEqual((self.site.open_strands, self.site.gateway_site.slots.held), ([], 0))
        self.assertIn(b" OK ", self.client.command(b"LOGIN ann hidden"))
        self.assertEqual(self.router.asked, [b"joe", b"ann"])

    def test_nobody_knows(self) -> None:
        """
        The same answer as for a wrong password here, whether the router knows none or fails.
        """
        wire = self.client.connect()
        self.router.answer = None
        said = self.client.command(b"LOGIN joe secret")
        self.assertIn(b" NO [AUTHENTICATIONFAILED] ", said)
        self.assertEqual((self.site.strands, wire.ended), ([], ""))
        self.router.answer = self.router.upstreams[0]
        self.assertIn(b" OK ", self.client.command(b"LOGIN joe secret"))

    def test_router_fails(self) -> None:
        self.client.connect()
        waiting: Deferred[Upstream | None] = Deferred()
        self.router.answer = waiting
        self.client.link.send(b"x LOGIN joe secret\r\n")
        self.site.settle()
        waiting.errback(ValueError("the table is broken"))
        self.site.settle()
        self.assertIn(b"x NO [UNAVAILABLE] ", self.client.link.heard)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_client_goes_while_the_router_thinks(self) -> None:
        self.client.connect()
        waiting: Deferred[Upstream | None] = Deferred()
        self.router.answer = waiting
        self.client.link.send(b"x LOGIN joe secret\r\n")
        self.site.settle()
        self.client.link.reset()
        self.site.settle()
        waiting.callback(self.router.upstreams[0])
        self.site.settle()
        self.assertEqual((self.site.strands, self.site.gateway_site.slots.held), ([], 0))

    def test_upstream_is_down(self) -> None:
        """
        The login is refused, and the client may try again on the same link.
        """
        wire = self.client.connect()
        self.site.reactor.refuses = True
        self.assertIn(b" NO [UNAVAILABLE] the mail server cannot be reached", self.client.command(b"LOGIN joe secret"))
        self.assertEqual((wire.ended, self.site.gateway_site.slots.held), ("", 0))
        self.site.reactor.refuses = False
        self.assertIn(b" OK ", self.client.command(b"LOGIN joe secret"))

    def test_upstream_lost_in_the_login(self) -> None:
        wire = self.client.connect()
        self.site.reactor.deaf = True
        wire.send(b"x LOGIN joe {6}\r\n")
        self.site.settle()
        self.assertIn(b"+ ", wire.take())
        wire.send(b"secret\r\n")
        self.site.settle()
        self.site.strands[-1].end(ConnectionError("gone"))
        self.site.settle()
        self.site.reactor.deaf = False
        self.assertIn(b"x NO [UNAVAILABLE] ", wire.take())
        self.assertIn(b" OK ", self.client.command(b"LOGIN joe secret"))


class MadeTests(SynchronousTestCase):
    """
    The inner protocol is one, whatever the gateway is for.
    """

    def test_inner_protocol(self) -> None:
        site = GatewayGround()
        self.assertIsInstance(served_of(logged_in(site)).protocol, GatewayEnd)

    def test_neither_or_both(self) -> None:
        self.assertRaises(ValueError, GatewayGround, upstream=None)
        self.assertRaises(ValueError, GatewayGround, upstream=parse_upstream("tcp:127.0.0.1:143"), router=Router())
