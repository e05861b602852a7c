"""
A link: its modes, when the inner protocol is bound to it and when not at all, and its ends.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mem_continuity.core.frames import FrameType, encode
from mem_continuity.core.policy import KIB, Policy
from mem_continuity.server.link import Mode
from tests.support.comebacks import HOME, TRAIN, framed, logged_in, plain, served_of
from tests.support.raw_client import RawClient
from tests.support.site import Server, Site


class LinkCase(SynchronousTestCase):
    """
    Sites that are shut down.
    """

    def new_site(self, policy: Policy | None = None, **options: Any) -> Site:
        site = Site(policy, **options)
        self.addCleanup(site.factory.shutdown)
        return site


class ModeTests(LinkCase):
    """
    PREAMBLE, PLAIN, FRAMED, FENCED.
    """

    def test_plain(self) -> None:
        """
        With the first command of somebody else's the link is a pipe: octets of any kind pass both ways as they are.
        """
        site = self.new_site()
        client = RawClient(site)
        link = client.connect().link
        client.login()
        self.assertIs(link.mode, Mode.PREAMBLE)
        client.command(b"SELECT INBOX")
        self.assertIs(link.mode, Mode.PLAIN)
        server, octets = site.servers[0], bytes(range(256)) * 300
        received: list[bytes] = []
        server.dataReceived = received.append
        for piece in (octets[:1], octets[1:]):
            client.link.send(piece)
        self.assertEqual(received, [octets[:1], octets[1:]])
        client.link.take()
        server.transport.write(octets)
        self.assertEqual(client.link.take(), octets)

    def test_extension_after_the_preamble(self) -> None:
        """
        Then our words are the site's server's to answer.
        """
        client = plain(self.new_site())
        for line in (b"XCONTINUITY START", b"CLIENTID UUID x", b"XCONTINUITY GRAFT"):
            self.assertIn(b" BAD ", client.command(line))

    def test_framed_and_fenced(self) -> None:
        """
        START makes frames of the octets behind it, in the same segment; MOVED is the last that a displaced link says.
        """
        site = self.new_site()
        client = logged_in(site)
        wire = client.link
        wire.take()
        wire.send(b"s1 XCONTINUITY START\r\n" + encode(FrameType.PING, b"12345678"))
        site.settle()
        self.assertTrue(wire.take().endswith(b"\r\n" + encode(FrameType.PONG, b"12345678")))
        self.assertIs(wire.link.mode, Mode.FRAMED)
        other = framed(site)
        old = other.link
        other.resume()
        self.assertIs(old.link.mode, Mode.FENCED)
        self.assertTrue(old.heard.endswith(encode(FrameType.MOVED)))
        heard = site.servers[1].heard
        old.link.dataReceived(b"x1 NOOP\r\n")
        self.assertEqual(site.servers[1].heard, heard)


class BindingTests(LinkCase):
    """
    When an inner protocol is made.
    """

    def test_soon(self) -> None:
        """
        Not within the accept, but in the next turn, without waiting for the client: it has to be greeted.
        """
        site = self.new_site()
        wire = site.connect(greet=False)
        self.assertEqual(site.servers, [])
        site.turn()
        self.assertEqual(len(site.servers), 1)
        self.assertTrue(wire.heard.startswith(b"* OK "))

    def test_peer_is_right(self) -> None:
        """
        In C{connectionMade}, and after a RESUME from elsewhere.
        """
        seen: list[Any] = []

        class Looking(Server):
            def connectionMade(self) -> None:
                transport: Any = self.transport
                seen.append((transport.getPeer().host, transport.getHost().port))
                super().connectionMade()

        site = self.new_site()
        site.protocol_class = Looking
        client = framed(site)
        client.resume(host=TRAIN)
        self.assertEqual(seen, [(HOME, 993)])
        self.assertEqual(site.servers[0].transport.getPeer().host, TRAIN)

    def test_refused_by_the_site(self) -> None:
        """
        A factory that gives no protocol closes the connection; a RESUME does not ask it.
        """
        site = self.new_site()
        client = framed(site)
        asked: list[Any] = []
        site.buildProtocol = asked.append  # type: ignore[method-assign,assignment]
        wire = site.connect(TRAIN)
        self.assertEqual((wire.heard, wire.ended), (b"", "closed"))
        self.assertEqual([address.host for address in asked], [TRAIN])
        client.resume(host=TRAIN)
        self.assertIn(b" OK ", client.call(b"NOOP"))
        self.assertEqual(len(asked), 1)

    def test_a_factory_that_fails(self) -> None:
        """
        An error in C{buildProtocol} or C{connectionMade} is the site's; it is logged, the link is closed, the next one is served.
        """

        class Failing(Server):
            def connectionMade(self) -> None:
                raise RuntimeError("connectionMade")

        site = self.new_site()
        site.protocol_class = Failing
        wire = site.connect(greet=False)
        site.settle()
        self.assertEqual([failure.type for failure in self.flushLoggedErrors()], [RuntimeError])
        self.assertEqual(wire.heard, b"")
        self.assertTrue(wire.ended)
        site.protocol_class = Server
        self.assertTrue(site.connect().heard.startswith(b"* OK "))

    def test_half_a_resume_is_waited_for(self) -> None:
        """
        While the first command may still be a RESUME the client is greeted all the same: it may be an ordinary one.
        """
        site = self.new_site()
        wire = site.connect(greet=False)
        wire.send(b"r1 XCONT")
        site.settle()
        self.assertTrue(wire.heard.startswith(b"* OK "))
        wire.send(b"INUITY RESUME n0.abcdefghijklmnop 1 0 0 AAAA {0+}\r\n\r\n")
        site.settle()
        self.assertIn(b"r1 NO [XCONTINUITY GONE]", wire.heard)
        self.assertEqual(len(site.servers), 1)


class DeadlineTests(LinkCase):
    """
    Links that take too long.
    """

    def test_no_login(self) -> None:
        """
        Who has neither logged in nor resumed in time is told BYE and closed; it is counted.
        """
        site = self.new_site(Policy(preamble_time=50))
        silent, late = site.connect(), logged_in(site)
        session = framed(site)
        session.lose()
        site.clock.advance(49)
        session.resume()
        site.clock.advance(1)
        self.assertTrue(silent.heard.endswith(b"* BYE no login in time\r\n"))
        self.assertEqual((silent.ended, late.link.ended, session.link.ended), ("closed", "", ""))
        self.assertEqual(site.factory.table.counts["limit_preamble_time"], 1)
        self.assertEqual(len(site.servers[0].losses), 1)

    def test_a_displaced_link_that_does_not_drain(self) -> None:
        """
        It is aborted after C{moved_deadline}; nobody has waited for it.
        """
        site = self.new_site(Policy(moved_deadline=3))
        client = framed(site)
        old = client.link
        old.congest()
        client.resume()
        self.assertIn(b" OK ", client.call(b"NOOP"))
        self.assertEqual(old.ended, "closing")
        site.clock.advance(3)
        self.assertEqual(old.ended, "aborted")

    def test_no_timer_is_left(self) -> None:
        """
        When links are gone, so are their timers.
        """
        site = self.new_site()
        for client in (RawClient(site), logged_in(site, client_id=None), plain(site, client_id=None)):
            if client.wire is None:
                client.connect()
            client.lose()
        site.connect().send(b"a1 LOGOUT\r\n")
        site.settle()
        self.assertEqual(site.clock.getDelayedCalls(), [])


@implementer(IPushProducer)
class Notes:
    """
    A producer that notes what it is told.
    """

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class FlowTests(LinkCase):
    """
    Who is paused when.
    """

    def test_producer_of_a_plain_link(self) -> None:
        """
        It is told what the transport says, each once, and stopped when the connection is gone.
        """
        site = self.new_site()
        client = plain(site, client_id=None)
        notes = Notes()
        site.servers[0].transport.registerProducer(notes, True)
        client.link.congest()
        client.link.congest()
        client.link.relieve()
        client.lose()
        self.assertEqual(notes.told, ["pause", "resume", "stop"])

    def test_reading_of_a_plain_link(self) -> None:
        """
        A protocol that pauses its transport pauses the connection.
        """
        site = self.new_site()
        client = plain(site)
        transport = site.servers[0].transport
        transport.pauseProducing()
        heard = site.servers[0].heard
        client.link.send(b"n1 NOOP\r\n")
        site.settle()
        self.assertEqual(site.servers[0].heard, heard)
        transport.resumeProducing()
        site.settle()
        self.assertIn(b"n1 OK ", client.link.take())

    def test_commands_that_wait(self) -> None:
        """
        A client that pipelines more than the preamble buffers is not read until the server has caught up; nothing is lost.
        """
        site = self.new_site(Policy(preamble_buffer=4 * KIB))
        client = RawClient(site)
        wire = client.connect()
        checker: Any = site.checker
        login = checker.requestAvatarId
        held: Deferred[Any] = Deferred()
        checker.requestAvatarId = lambda credentials: held
        wire.send(b"l1 LOGIN joe secret\r\n")
        for number in range(1000):
            wire.send(b"n%d NOOP\r\n" % number)
        self.assertFalse(wire.transport.reading)
        self.assertLess(wire.link.preamble.buffered, 5 * KIB)
        checker.requestAvatarId = login
        held.callback(b"joe")
        site.settle()
        said = wire.take()
        self.assertEqual([b"n%d OK " % number in said for number in range(1000)], [True] * 1000)
        self.assertTrue(wire.transport.reading)


class EndTests(LinkCase):
    """
    Ends that the inner protocol brings about.
    """

    def test_lose_connection(self) -> None:
        """
        In the preamble and in plain mode: what was written is out, C{connectionLost} comes once, and nothing is kept.
        """
        for client_of in (logged_in, plain):
            site = self.new_site()
            client = client_of(site)
            transport = site.servers[0].transport
            transport.write(b"* BYE enough\r\n")
            transport.loseConnection()
            transport.loseConnection()
            site.settle()
            self.assertTrue(client.link.heard.endswith(b"* BYE enough\r\n"))
            self.assertEqual(client.link.ended, "closed")
            (loss,) = site.servers[0].losses
            self.assertIsInstance(loss.value, ConnectionDone)
            self.assertEqual((site.logouts, site.factory.table.parked), (["joe"], 0))

    def test_abort_connection(self) -> None:
        """
        At once.
        """
        for client_of in (logged_in, plain):
            site = self.new_site()
            client = client_of(site)
            client.link.congest()
            site.servers[0].transport.abortConnection()
            site.settle()
            self.assertEqual(client.link.ended, "aborted")
            self.assertEqual((len(site.servers[0].losses), site.logouts), (1, ["joe"]))
            self.assertEqual(site.factory.table.parked, 0)

    def test_a_protocol_that_fails(self) -> None:
        """
        An error in C{dataReceived} ends the session, logged, as a reactor would do; it is not parked.
        """
        for client_of in (plain, framed):
            site = self.new_site()
            client = client_of(site)

            def broken(octets: bytes) -> None:
                raise RuntimeError("dataReceived")

            served = served_of(client)
            site.servers[0].dataReceived = broken
            if client_of is framed:
                client.write(b"n1 NOOP\r\n")
                client.send_frames()
            else:
                client.link.send(b"n1 NOOP\r\n")
            site.settle()
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
            self.assertTrue(client.link.ended)
            self.assertTrue(served.over)
            self.assertEqual((len(site.servers[0].losses), site.logouts, len(site.factory.table)), (1, ["joe"], 0))
