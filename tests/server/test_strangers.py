"""
Sites and users that would get in each other's way: two realms behind one factory, logins that are refused late, protocols and
producers that fail, goodbyes with something behind them.
"""

from __future__ import annotations

from typing import Any

from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mem_continuity.core.frames import data_header
from mem_continuity.core.handshake import Refused
from mem_continuity.server import ContinuityRealm
from mem_continuity.server.resident import Resident
from tests.support.comebacks import TRAIN, framed, graft, logged_in, plain, served_of
from tests.support.site import Realm, Server, Site


class StrangerTests(SynchronousTestCase):
    """
    The same names, other people.
    """

    def test_two_realms_behind_one_factory(self) -> None:
        """
        joe of one realm and joe of the other have the same client ID: neither gets the other's avatar, mailbox or even its name.
        """
        for around in (ContinuityRealm, lambda realm: realm):
            site = Site()
            first, second = (Portal(around(Realm(site)), [site.checker]) for _ in range(2))
            site.portal = first
            victim = plain(site)
            avatar = served_of(victim).protocol.account  # type: ignore[attr-defined]
            victim.lose()
            site.portal = second
            other = logged_in(site, TRAIN)
            self.assertIsNot(served_of(other).protocol.account, avatar)  # type: ignore[attr-defined]
            self.assertIn(b" NO [XCONTINUITY GONE]", graft(other))
            site.portal = first
            self.assertIn(b" OK [XCONTINUITY GRAFTED", graft(logged_in(site, TRAIN)))

    def test_a_login_that_is_refused_late(self) -> None:
        """
        The realm has given the parked avatar, then the portal refuses after all: the avatar goes back, and nothing of the name
        stays.
        """

        class Late(Portal):
            refuses = False

            def login(self, credentials: Any, mind: Any, *interfaces: Any) -> Any:
                def later(login: Any) -> Any:
                    if self.refuses:
                        raise UnauthorizedLogin
                    return login

                answer: Deferred[Any] = super().login(credentials, mind, *interfaces)
                return answer.addCallback(later)

        site = Site(continuity_realm=True)
        portal = site.portal = Late(site.portal.realm, [site.checker])
        victim = plain(site)
        avatar = served_of(victim).protocol.account  # type: ignore[attr-defined]
        victim.lose()
        portal.refuses = True
        wire = site.connect(TRAIN)
        wire.send(b"c CLIENTID UUID 23bf83be-aad8-46aa-9f0b-39191ccd402f\r\na LOGIN joe secret\r\n")
        site.settle()
        self.assertIn(b"a NO ", wire.heard)
        refused = wire.link.served
        assert isinstance(refused, Resident)
        self.assertEqual((refused.user, refused.lease, site.logouts), (None, None, []))
        portal.refuses = False
        wire.send(b"b LOGIN ann hidden\r\n")
        site.settle()
        self.assertEqual(refused.user, b"ann")
        again = logged_in(site, TRAIN)
        self.assertIs(served_of(again).protocol.account, avatar)  # type: ignore[attr-defined]
        self.assertIn(b" OK [XCONTINUITY GRAFTED", graft(again))


class GoodbyeTests(SynchronousTestCase):
    """
    LOGOUT is the end, whatever stands behind it in the same segment.
    """

    def test_start_behind_logout(self) -> None:
        site = Site()
        client = logged_in(site)
        client.link.send(b"x LOGOUT\r\ny XCONTINUITY START\r\n")
        site.settle()
        self.assertIn(b"x OK ", client.link.heard)
        self.assertNotIn(b"[XCONTINUITY n0.", client.link.heard)
        self.assertEqual((len(site.factory.table), site.logouts), (0, ["joe"]))

    def test_resume_behind_logout(self) -> None:
        site = Site()
        client = framed(site)
        request = client.attempt().request
        wire = site.connect(TRAIN)
        wire.send(b"x LOGOUT\r\n" + client.octets(request))
        site.settle()
        self.assertNotIn(b"resumed", wire.heard)
        self.assertIn(b" OK ", client.call(b"NOOP"))


@implementer(IPushProducer, IPullProducer)
class Broken:
    """
    A producer that fails where it is told to.
    """

    def __init__(self, where: str) -> None:
        self.where = where

    def pauseProducing(self) -> None:
        self._fail("pause")

    def resumeProducing(self) -> None:
        self._fail("resume")

    def stopProducing(self) -> None:
        self._fail("stop")

    def _fail(self, where: str) -> None:
        if where == self.where:
            raise OSError("the disk is gone")


class FailureTests(SynchronousTestCase):
    """
    What fails in one session ends that session, and no other.
    """

    def test_a_producer_that_fails_in_the_middle(self) -> None:
        for streaming in (True, False):
            site = Site()
            client = framed(site)
            served = served_of(client)
            producer = Broken("nowhere")
            served.transport.registerProducer(producer, streaming)
            producer.where = "pause" if streaming else "resume"
            served.transport.write(b"* OK more\r\n")  # a pull producer is asked again when it has written
            served.transport.flow(False)
            served.transport.flow(True)
            site.settle()
            self.assertEqual(len(self.flushLoggedErrors(OSError)), 1, streaming)
            self.assertEqual((len(site.servers[0].losses), site.logouts, len(site.factory.table)), (1, ["joe"], 0))
            self.assertIsInstance(client.resume(), Refused)

    def test_one_that_cannot_be_stopped_does_not_keep_the_others(self) -> None:
        site = Site()
        clients = [framed(site), framed(site, client_id=b"UUID two"), plain(site, client_id=b"UUID three")]
        served_of(clients[0]).transport.registerProducer(Broken("stop"), True)
        site.factory.shutdown()
        site.clock.advance(site.policy.moved_deadline)
        site.settle()
        self.assertEqual([len(server.losses) for server in site.servers], [1, 1, 1])
        self.assertEqual((site.logouts, len(site.factory.table)), (["joe"] * 3, 0))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_one_that_cannot_say_goodbye_does_not_keep_the_others(self) -> None:
        class Speechless(Server):
            def sendUntaggedResponse(self, message: bytes, isAsync: Any = None) -> None:
                if message.startswith(b"BYE server"):
                    raise RuntimeError("no words")
                super().sendUntaggedResponse(message, isAsync)

        site = Site()
        site.protocol_class = Speechless
        framed(site)
        site.protocol_class = Server
        framed(site, client_id=b"UUID two")
        site.factory.shutdown()
        site.settle()
        self.assertEqual((site.logouts, len(site.factory.table)), (["joe"] * 2, 0))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_reading_that_was_paused_before_start_goes_on(self) -> None:
        """
        The inner protocol pauses reading in the preamble: from START on the window does that, and the link is read.
        """

        class Pausing(Server):
            def lineReceived(self, line: bytes) -> None:
                if line == b"x NOOP":
                    self.transport.pauseProducing()  # type: ignore[union-attr]
                super().lineReceived(line)

        site = Site()
        site.protocol_class = Pausing
        client = logged_in(site)
        client.link.send(b"x NOOP\r\ny XCONTINUITY START\r\n")
        site.settle()
        served_of(client).transport.resumeProducing()
        site.settle()
        command = b"z NOOP\r\n"
        client.link.send(data_header(len(command)) + command)
        site.settle()
        self.assertIn(b"z OK ", client.link.heard)
