"""
The gateway among clients, upstreams and networks that mean harm, or are broken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mem_continuity.core.policy import Policy
from mem_continuity.gateway.upstream import Upstream, parse_upstream
from mem_continuity.interfaces import IUpstreamRouter
from tests.support.comebacks import CLIENT_ID, HOME, TRAIN, graft, logged_in, plain, uid_map
from tests.support.gateway_ground import GatewayGround
from tests.support.raw_client import RawClient
from tests.support.site import Site

KIB = 1024
FLOOD = KIB * KIB


@implementer(IUpstreamRouter)
class Router:
    """
    Everybody is at one upstream, but it is not known before the login.
    """

    upstreams = (parse_upstream("tcp:127.0.0.1:143"),)

    def route(self, user: bytes) -> Upstream:
        """
        @see: L{IUpstreamRouter}
        """
        return self.upstreams[0]


def waiting(wire: Any) -> int:
    """
    Octets of a client that were read and wait somewhere in the gateway.
    """
    end = wire.link.served.protocol
    return len(end._front._client) + len(wire.link.preamble._client)


class FloodTests(SynchronousTestCase):
    """
    Clients that send what they like before they have logged in.  What is not read stays in the client's own system.
    """

    def flood(self, wire: Any, octets: bytes) -> None:
        for _ in range(FLOOD // len(octets)):
            wire.send(octets)
            self.site.turn()

    def test_literal_before_the_greeting(self) -> None:
        self.site = GatewayGround()
        self.site.reactor.silent = True
        wire = self.site.connect(greet=False)
        self.site.settle()
        wire.send(b"a1 LOGIN {%d+}\r\n" % (2 * FLOOD))
        self.flood(wire, b"x" * 16 * KIB)
        self.assertLess(waiting(wire), 128 * KIB)

    def test_commands_that_the_upstream_is_slow_to_answer(self) -> None:
        """
        A foreign command ends the preamble, but nobody is logged in by that.
        """
        self.site = GatewayGround()
        wire = self.site.connect()
        wire.send(b"a1 SELECT INBOX\r\n")
        self.site.settle()
        self.site.strands[-1].far.reading = False
        self.flood(wire, b"a2 NOOP " + b"x" * 8 * KIB + b"\r\n")
        self.assertLess(waiting(wire), 128 * KIB)
        wire.take()
        self.site.strands[-1].far.resumeProducing()
        self.site.settle()
        self.assertEqual(wire.take().count(b"a2 "), FLOOD // (8 * KIB + 10))

    def test_idle_in_plain_mode(self) -> None:
        """
        Whoever has not logged in by then goes, whatever was said instead.
        """
        for self.site in (GatewayGround(), GatewayGround(router=Router())):
            wire = self.site.connect()
            wire.send(b"a1 SELECT INBOX\r\n")
            self.site.settle()
            self.site.clock.advance(self.site.policy.preamble_time)
            self.site.settle()
            self.assertEqual((wire.ended, self.site.open_strands), ("closed", []))

    def test_much_behind_the_login(self) -> None:
        """
        More than the preamble takes, while the upstream thinks about the login: it is all read when that is through.
        """
        for site in (GatewayGround(), Site()):
            wire = site.connect()
            site.settle()
            if isinstance(site, GatewayGround):
                site.strands[-1].far.pauseProducing()
            else:
                hold = _Held(site.checker.requestAvatarId)
                setattr(site.checker, "requestAvatarId", hold)  # noqa: B010  a method, to a type checker
            wire.send(b"a1 LOGIN joe secret\r\n")
            site.settle()
            for number in range(5000):
                wire.send(b"b%d SELECT INBOX\r\n" % number)
            site.settle()
            if isinstance(site, GatewayGround):
                site.strands[-1].far.resumeProducing()
            else:
                hold.release()
            site.settle()
            wire.send(b"last NOOP\r\n")
            site.settle()
            self.assertIn(b"last OK", wire.heard[-1000:])


class _Held:
    """
    A checker that takes its time.
    """

    def __init__(self, check: Callable[[Any], Any]) -> None:
        self._check = check
        self._asked: Deferred[Any] = Deferred()

    def __call__(self, credentials: Any) -> Any:
        return self._asked.addCallback(lambda _: self._check(credentials))

    def release(self) -> None:
        """
        Go on.
        """
        self._asked.callback(None)


class RoutedTests(SynchronousTestCase):
    """
    Where the client's link outlives its upstream connections.
    """

    def test_upstream_is_lost_over_the_login(self) -> None:
        """
        The login fails; the next one is routed anew.
        """
        site = GatewayGround(router=Router())
        wire = site.connect()
        site.reactor.deaf = True
        wire.send(b"a1 LOGIN joe secret\r\n")
        site.settle()
        wire.take()
        site.strands[-1].end(ConnectionDone())
        site.settle()
        self.assertEqual(wire.take(), b"a1 NO [UNAVAILABLE] the mail server closed the connection\r\n")
        site.reactor.deaf = False
        self.assertIn(b" OK ", RawClient(site, client_id=None).command(b"LOGIN joe secret", wire))
        self.assertEqual((wire.ended, len(site.open_strands), site.gateway_site.slots.held), ("", 1, 1))

    def test_denied(self) -> None:
        """
        Of a login that there is no room for nothing is left: nobody is logged in, and the next one begins anew.
        """
        site = GatewayGround(Policy(upstream_connections=1, upstream_spare=3), router=Router())
        logged_in(site, client_id=None)
        client = RawClient(site, client_id=None)
        client.connect()
        for _ in range(3):
            self.assertIn(b" NO [LIMIT] ", client.command(b"LOGIN joe secret"))
            self.assertEqual((len(site.open_strands), site.gateway_site.slots.held), (1, 1))
        site.servers[-1].transport.write(b"* 5 EXISTS\r\n")
        self.assertEqual(client.command(b"NOOP"), b"t4 OK NOOP done\r\n")


class GraftTests(SynchronousTestCase):
    """
    GRAFT, and what may come between.
    """

    def setUp(self) -> None:
        self.site = GatewayGround(Policy(graft_snapshot=64 * KIB))
        for number in range(3):
            self.site.mailbox().deliver(b"message %d\r\n" % number)

    def test_much_said_meanwhile(self) -> None:
        """
        An upstream that says too much is given up: none of it can be taken for something else.
        """
        plain(self.site, HOME).lose()
        client = logged_in(self.site, TRAIN)
        self.site.strands[-1].far.reading = False
        wire = client.link
        wire.take()
        wire.send(b"g1 XCONTINUITY GRAFT\r\ng2 NOOP\r\n")
        self.site.settle()
        server = self.site.servers[-1]
        server.transport.write(b"* 1 FETCH (BODY[] {100000}\r\n" + b"g1 OK forged\r\n* 99 EXISTS\r\n" * 3000)
        self.site.settle()
        self.assertNotIn(b"forged", wire.heard)
        self.assertNotIn(b"99 EXISTS", wire.heard)
        self.site.clock.advance(self.site.policy.moved_deadline)
        self.site.settle()
        self.assertEqual((wire.take(), wire.ended), (b"g1 NO [XCONTINUITY GONE] nothing to graft\r\n", "closed"))
        self.assertEqual((self.site.open_strands, self.site.gateway_site.slots.held), ([], 0))

    def test_pipelined(self) -> None:
        """
        In one flight with everything around it.
        """
        for behind in (b"", b"f1 FETCH 1:3 UID\r\n", b"f1 XCONTINUITY START\r\n"):
            plain(self.site, HOME).lose()
            wire = self.site.connect(TRAIN)
            wire.send(b"c1 CLIENTID " + CLIENT_ID + b"\r\nl1 LOGIN joe secret\r\ng1 XCONTINUITY GRAFT\r\n" + behind)
            self.site.settle()
            said = wire.take()
            self.assertIn(b"g1 OK [XCONTINUITY GRAFTED INBOX READ-WRITE] ", said)
            self.assertEqual(len(uid_map(said)), 3)
            if behind:
                self.assertIn(b"f1 OK ", said.partition(b"g1 OK ")[2])
            wire.fin()
            self.site.settle()

    def test_in_the_middle_of_a_line(self) -> None:
        """
        What the upstream has begun to say is neither torn nor lost.
        """
        plain(self.site, HOME).lose()
        client = logged_in(self.site, TRAIN)
        server = self.site.servers[-1]
        server.transport.write(b"* OK [ALERT] half of")
        self.site.settle()
        client.link.take()
        client.link.send(b"g1 XCONTINUITY GRAFT\r\n")
        self.site.settle()
        server.transport.write(b" it\r\n")
        self.site.settle()
        self.assertIn(b"* OK [ALERT] half of it\r\n", client.link.take())
        self.assertIn(b"GRAFTED INBOX", graft(client))

    def test_search_that_fails(self) -> None:
        """
        Without the map the mailbox is of no use, and it is left, as the answer says.
        """
        plain(self.site, HOME).lose()
        client = logged_in(self.site, TRAIN)
        self.site.servers[-1].select_UID = None
        self.assertIn(b"GONE", graft(client))
        self.assertIn(b" BAD ", client.command(b"FETCH 1 FLAGS"))
