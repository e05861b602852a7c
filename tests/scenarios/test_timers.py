"""
Scenarios 36 and 39 to 45: timers, and how sessions live and end.  (38, malformed input, is in L{test_malformed}.)
"""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mem_continuity.core.frames import FrameReader, FrameType
from mem_continuity.core.handshake import Refusal, Refused, Resumed
from mem_continuity.core.policy import KIB, MIB, Policy, RoamingPolicy
from mem_continuity.core.states import Moved, PeerEnded, ProbeFailed
from mem_continuity.layer.conduit import Conduit
from mem_continuity.server import Claim
from mem_continuity.server.link import ServerLink
from tests.support.raw_client import RawClient
from tests.support.site import Site


def conduit_of(site: Site) -> Conduit:
    """
    The conduit of the only session.
    """
    (served,) = site.factory.table.all()
    assert served.conduit is not None
    return served.conduit


def timers(site: Site) -> list[IDelayedCall]:
    """
    The timers that are alive.
    """
    return list(site.clock.getDelayedCalls())


class SilentClientScenarios(SynchronousTestCase):
    timeout = 60

    def _others(self, site: Site, count: int) -> list[RawClient]:
        others = []
        for number in range(count):
            one = RawClient(site, user=b"ann", password=b"hidden", client_id=b"UUID %d" % number).begin()
            one.lose()
            others.append(one)
        return others

    def _all_resume_at_once(self, site: Site, others: list[RawClient]) -> None:
        now, asked = site.clock.seconds(), []
        for one in others:
            wire, attempt = site.connect("203.0.113.1", greet=False), one.attempt()
            wire.send(one.octets(attempt.request))
            asked.append((one, wire, attempt))
        for one, wire, attempt in asked:  # no turn has passed since they asked
            answer = one.read_answer(wire)
            assert isinstance(answer, Resumed)
            one.take_over(attempt, answer, wire)
        self.assertEqual(site.clock.seconds(), now)

    def test_scenario_36_a_client_that_proves_itself_and_falls_silent(self) -> None:
        """
        One client proves itself and sends nothing more, one stops in the middle of its RESUME, one lets its send buffer fill:
        a thousand others resume within the same turn of the reactor, which shows that nothing is held for the silent ones.
        """
        site = Site(Policy(sessions_per_user=2000, parked_per_user=2000))
        silent, halfway, full = (RawClient(site, client_id=b"UUID %b" % name).begin() for name in (b"a", b"b", b"c"))
        others = self._others(site, 1000)
        silent.lose()
        wire = site.connect("198.51.100.7", greet=False)
        wire.send(silent.octets(silent.attempt().request))
        halfway.lose()
        halfway.write(b"n NOOP\r\n")
        stopped = site.connect("198.51.100.8", greet=False)
        stopped.send(halfway.octets(halfway.attempt().request)[:-5])
        full.link.congest()
        self._all_resume_at_once(site, others)
        self.assertIn(b"r1 OK", wire.heard)
        self.assertNotIn(b"r1", stopped.heard)
        self.assertIn(b" OK ", others[0].call(b"NOOP"))
        # the one that stopped halfway has got nothing, and its time is limited
        site.clock.advance(site.policy.preamble_time + 1)
        self.assertEqual(stopped.ended, "closed")
        self.assertIsInstance(halfway.resume(), Resumed)

    def test_scenario_36_a_veto_that_takes_its_time(self) -> None:
        """
        The same while a site's veto thinks about one of them for ever.
        """

        class Thinking:
            def allows(self, claim: Claim) -> bool | Deferred[bool]:
                return Deferred() if claim.user == b"joe" else True

        site = Site(Policy(sessions_per_user=2000, parked_per_user=2000), veto=Thinking())
        slow = RawClient(site).begin()
        others = self._others(site, 200)
        slow.lose()
        wire = site.connect("198.51.100.7", greet=False)
        wire.send(slow.octets(slow.attempt().request))
        self._all_resume_at_once(site, others)
        self.assertEqual(wire.heard, b"")
        self.assertEqual(site.factory.table.parked, 1)


class GraceScenarios(SynchronousTestCase):
    timeout = 60

    def test_scenario_39_grace_timer_in_the_turn_of_a_resume(self) -> None:
        """
        The grace timer fires in the turn in which RESUME comes, before it or after it: one outcome, and it stays.
        """
        for resume_first in (True, False):
            site = Site(Policy(grace=100.0))
            client = RawClient(site).begin()
            client.link.fin()
            client.session.detach(client.now)
            wire = site.connect("203.0.113.1", greet=False)
            attempt = client.attempt()
            if resume_first:
                # the time is over, but the reactor reads the link before it looks at its timers
                site.clock.rightNow += 100.0
                wire.send(client.octets(attempt.request))
                site.clock.advance(0)
                answer = client.read_answer(wire)
                assert isinstance(answer, Resumed)
                client.take_over(attempt, answer, wire)
                client.pump()
                site.clock.advance(300.0)
                self.assertIn(b" OK ", client.call(b"NOOP"))
                self.assertEqual((site.logouts, site.factory.table.parked), ([], 0))
            else:
                site.clock.rightNow += 100.0
                site.clock.callLater(0, wire.send, client.octets(attempt.request))
                site.clock.advance(0)
                site.settle()
                self.assertEqual(client.read_answer(wire), Refused(Refusal.ENDED, 0))
                site.clock.advance(300.0)
                self.assertEqual((site.logouts, len(site.factory.table)), (["joe"], 0))
            self.assertEqual(site.factory.table.counts["handovers"] + site.factory.table.counts["grace_over"], 1)

    def test_scenario_40_a_thousand_resumes(self) -> None:
        """
        Resume, lose, resume, 1,000 times: while parked exactly one timer is alive, while live at most one, and memory is flat.
        """
        site = Site()
        client = RawClient(site).begin()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        figures = []
        for turn in range(1000):
            client.lose("fin" if turn % 2 else "reset")
            self.assertEqual(len(timers(site)), 1)
            site.clock.advance(1.0)
            self.assertIsInstance(client.resume(), Resumed)
            client.call(b"NOOP")
            self.assertLessEqual(len(timers(site)), 1)
            del site.wires[:], site.trace[:], site.servers[1:]
            site.servers[0].heard = client.stream = b""
            client.link.heard, client.link.taken = b"", 0
            if turn in (199, 999):
                gc.collect()
                ours = Counter(
                    type(one).__name__ for one in gc.get_objects() if str(type(one).__module__).startswith("mem_continuity.")
                )
                octets = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/mem_continuity/*")])
                figures.append((ours, sum(line.size for line in octets.statistics("filename"))))
        self.assertEqual(figures[0][0], figures[1][0])
        self.assertLess(figures[1][1] - figures[0][1], 4 * KIB)
        self.assertEqual(site.factory.table.counts["handovers"], 1000)
        self.assertEqual((site.logins, site.logouts), (["joe"], []))

    def test_scenario_41_ping_from_before_the_cut(self) -> None:
        """
        A PING that waits for its answer when the link is cut does not kill the new link, on neither side.
        """
        site = Site()
        client = RawClient(site).begin()
        conduit_of(site).probe(5.0)
        client.session.probe(client.now, 3.0)
        pings = [frame for frame in FrameReader(MIB).feed(client.link.peek()) if frame.type is FrameType.PING]
        self.assertEqual(len(pings), 1)
        client.lose("silence")
        site.clock.advance(2.0)
        self.assertIsInstance(client.resume(), Resumed)
        site.clock.advance(30.0)
        self.assertNotIn(ProbeFailed(), client.session.tick(client.now))
        self.assertEqual(client.link.ended, "")
        self.assertIn(b" OK ", client.call(b"NOOP"))
        # while one that is not answered on the new link does
        conduit_of(site).probe(5.0)
        client.link.silence()
        site.clock.advance(6.0)
        self.assertEqual(client.link.ended, "aborted")
        self.assertEqual(site.factory.table.parked, 1)

    def test_scenario_42_connection_lost_twice(self) -> None:
        """
        C{connectionLost} comes twice, or after an abort, or after the end of the session: no second logout.
        """
        for layer in (False, True):
            for how in ("fin", "reset", "abort", "logout"):
                site = Site(Policy(grace=10.0))
                client = RawClient(site)
                client.connect()
                client.login()
                if layer:
                    client.start()
                wire = client.link
                if how == "abort":
                    site.servers[0].transport.abortConnection()
                elif how == "logout":
                    client.call(b"LOGOUT") if layer else client.command(b"LOGOUT")
                else:
                    getattr(wire, how)()
                site.settle()
                for _ in range(2):
                    wire.link.connectionLost(Failure(ConnectionAborted()))
                    site.settle()
                site.clock.advance(20.0)
                wire.link.connectionLost(Failure(ConnectionLost()))
                site.settle()
                self.assertEqual((site.logouts, len(site.servers[0].losses)), (["joe"], 1), (layer, how))
                self.assertEqual((len(site.factory.table), site.factory.table.parked), (0, 0))
                self.assertEqual(timers(site), [])

    def test_scenario_43_asleep_for_nine_hours(self) -> None:
        """
        A laptop sleeps for nine hours: ENDED, with the last count, so that it knows which commands had arrived; after the
        tombstone's time GONE.
        """
        site = Site()
        client = RawClient(site).begin()
        client.call(b"SELECT INBOX")
        client.write(b"in CREATE arrived\r\n")
        client.send_frames()
        count = client.session.sender.end
        client.lose()
        client.write(b"out CREATE never\r\n")
        site.clock.advance(9 * 3600.0)
        self.assertEqual(site.logouts, ["joe"])
        self.assertEqual(client.resume(), Refused(Refusal.ENDED, count))
        site.clock.advance(site.policy.tombstone_time)
        self.assertEqual(client.resume(), Refused(Refusal.GONE))
        self.assertNotIn(b"never", b"".join(server.heard for server in site.servers))


@implementer(IPushProducer)
class Recorded:
    """
    A push producer that notes what it is told.
    """

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class ProducerScenarios(SynchronousTestCase):
    timeout = 60

    def setUp(self) -> None:
        self.site = Site(Policy(window=16 * KIB))
        self.client = RawClient(self.site, policy=RoamingPolicy(ack_every=4 * KIB)).begin()
        self.transport = self.site.servers[0].transport
        self.producer = Recorded()

    def test_scenario_44_producer_paused_by_the_old_link(self) -> None:
        """
        A producer that the old link paused, with the window full, stays paused while parked, is resumed exactly once by the new
        link, and what it writes then stands behind the replay.
        """
        self.transport.registerProducer(self.producer, True)
        self.client.link.congest()
        self.assertEqual(self.producer.told, ["pause"])
        self.transport.write(b"1" * 16 * KIB)
        self.client.lose("reset")
        self.assertEqual(self.producer.told, ["pause"])
        wire = self.site.connect("203.0.113.1", greet=False)
        attempt = self.client.attempt()
        answer = self.client.ask(attempt, wire)
        assert isinstance(answer, Resumed)
        self.assertEqual(self.producer.told, ["pause", "resume"])
        self.transport.write(b"2" * 1000)
        self.client.take_over(attempt, answer, wire)
        self.client.pump()
        self.assertEqual(self.client.stream, b"1" * 16 * KIB + b"2" * 1000)
        self.assertEqual(self.producer.told[:2], ["pause", "resume"])
        self.assertEqual(self.producer.told[-1], "resume")

    def test_scenario_44_never_told_the_same_twice(self) -> None:
        """
        Through congestion, cuts, a window that fills and empties, the producer hears pause and resume strictly in turn.
        """
        self.transport.registerProducer(self.producer, True)
        expected = b""
        for turn in range(20):
            if turn % 2:
                self.client.link.congest()
            octets = b"%d" % (turn % 10) * (3000 * (turn % 7))
            self.transport.write(octets)
            expected += octets
            if turn % 3:
                self.client.lose("reset")
                self.transport.write(b"-" * 6000)
                expected += b"-" * 6000
                self.assertIsInstance(self.client.resume(), Resumed)
            elif turn % 2:
                self.client.link.relieve()
            self.client.pump()
        told = self.producer.told
        self.assertEqual(told, ["pause", "resume"] * (len(told) // 2))
        self.assertGreater(len(told), 10)
        self.assertEqual(self.client.stream, expected)


class ShutdownScenarios(SynchronousTestCase):
    timeout = 60

    def test_scenario_45_the_service_stops(self) -> None:
        """
        The service stops: everybody who can be told hears BYE, each login has one logout, the links are closed, and what waits
        behind a full send buffer is flushed when it drains within the deadline.
        """
        site = Site(Policy(sessions_per_user=100))
        live, busy, parked = (RawClient(site, client_id=b"UUID %d" % number).begin() for number in range(3))
        plain = RawClient(site, client_id=None)
        plain.connect()
        plain.login()
        plain.command(b"SELECT INBOX")
        waiting = RawClient(site)
        waiting.connect()
        silent = site.connect(greet=False)
        busy.call(b"SELECT INBOX")
        busy.link.congest()
        site.servers[1].sendUntaggedResponse(b"OK " + b"m" * 50000)
        parked.lose()
        waiting.link.take()
        stopped: Deferred[None] = site.factory.shutdown()
        site.settle()
        self.assertNoResult(stopped)
        self.assertEqual(busy.link.ended, "")
        busy.link.relieve()
        for client in (live, busy):
            client.pump()
        self.assertTrue(live.stream.endswith(b"* BYE server shutting down\r\n"))
        self.assertEqual(live.events, [PeerEnded(b"SHUTDOWN")])
        self.assertTrue(plain.link.take().endswith(b"* BYE server shutting down\r\n"))
        self.assertTrue(waiting.link.take().endswith(b"* BYE server shutting down\r\n"))
        self.assertTrue(busy.stream.endswith(b"* OK %b\r\n* BYE server shutting down\r\n" % (b"m" * 50000)), busy.stream[-60:])
        self.assertEqual(busy.events, [PeerEnded(b"SHUTDOWN")])
        site.settle()
        self.successResultOf(stopped)
        self.assertEqual({wire.ended for wire in site.wires}, {"closed", "lost"})
        self.assertEqual(silent.ended, "closed")
        self.assertEqual((sorted(site.logins), sorted(site.logouts)), (["joe"] * 4, ["joe"] * 4))
        self.assertTrue(all(len(server.losses) == 1 for server in site.servers))
        self.assertNotIsInstance(site.factory.buildProtocol(None), ServerLink)
        self.assertEqual(len(site.factory.table), 0)
        site.clock.advance(10.0)
        self.assertEqual(timers(site), [])

    def test_scenario_45_a_client_that_does_not_read(self) -> None:
        """
        A client that does not read holds the stop up no longer than the deadline.
        """
        site = Site()
        client = RawClient(site).begin()
        client.link.congest()
        site.servers[0].transport.write(b"x" * 100000)
        stopped: Deferred[None] = site.factory.shutdown()
        again: Deferred[None] = site.factory.shutdown()
        site.settle()
        self.assertNoResult(stopped)
        site.clock.advance(site.policy.moved_deadline + 0.1)
        site.settle()
        self.successResultOf(stopped)
        self.successResultOf(again)
        self.assertEqual((site.logouts, client.link.ended), (["joe"], "aborted"))
        self.assertNotIn(Moved(), client.events)
        self.assertEqual(timers(site), [])


