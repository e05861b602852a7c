"""
The conduit between a session, its inner protocol and its links: who is listened to, who is told what, and how it ends.
"""

from __future__ import annotations

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.frames import FrameReader, FrameType, data_header, encode
from mem_continuity.core.handshake import Refusal, Refused, Resumed
from mem_continuity.core.policy import KIB, MIB, Policy
from mem_continuity.core.states import PeerEnded, State
from mem_continuity.layer.conduit import Conduit
from tests.support.raw_client import RawClient
from tests.support.site import Site


class ConduitCase(SynchronousTestCase):
    """
    A session in the layer over wires in memory.
    """

    timeout = 60

    def setUp(self) -> None:
        self.site = Site(Policy(window=16 * KIB, overrun=8 * KIB, grace=100.0, linger=20.0))
        self.client = RawClient(self.site).begin()
        self.server = self.site.servers[0]
        self.transport = self.server.transport
        (self.served,) = self.site.factory.table.all()
        assert self.served.conduit is not None
        self.conduit: Conduit = self.served.conduit


class LinkTests(ConduitCase):
    def test_only_the_present_link_counts(self) -> None:
        """
        Octets, flow control and the loss of a link that is not the present one any more change nothing.
        """
        old = self.client.link.link
        self.assertIsInstance(self.client.resume(), Resumed)
        present = self.conduit.link
        self.assertIsNot(present, old)
        heard, received = self.server.heard, self.conduit.session.receiver.arrived
        self.conduit.link_received(old, data_header(4) + b"late")
        old.pauseProducing()
        self.conduit.link_flow(old)
        self.conduit.link_lost(old)
        self.site.settle()
        self.assertIs(self.conduit.link, present)
        self.assertEqual((self.server.heard, self.conduit.session.receiver.arrived), (heard, received))
        self.assertEqual((self.conduit.handovers, self.site.factory.table.parked), (1, 0))
        self.assertIn(b" OK ", self.client.call(b"NOOP"))

    def test_moved_of_a_client(self) -> None:
        """
        MOVED is the server's to say; from a client it is as good as a lost link: parked.
        """
        self.client.link.send(encode(FrameType.MOVED))
        self.site.settle()
        self.assertEqual((self.client.link.ended, self.site.factory.table.parked), ("closed", 1))
        self.client.session.detach(self.client.now)
        self.assertIsInstance(self.client.resume(), Resumed)
        self.assertIn(b" OK ", self.client.call(b"NOOP"))

    def test_one_timer(self) -> None:
        """
        Acknowledgement, probe and grace share one timer, which is not wound back to a later moment in vain.
        """
        self.client.write(b"x NOOP\r\n")
        self.client.send_frames()
        self.conduit.probe(50.0)
        self.conduit.probe(40.0)
        self.assertEqual(len(self.site.clock.getDelayedCalls()), 1)
        self.site.clock.advance(self.site.policy.ack_delay)
        acknowledged = [frame.offset for frame in FrameReader(MIB).feed(self.client.link.take()) if frame.type is FrameType.ACK]
        self.assertEqual(acknowledged[-1:], [len(b"x NOOP\r\n")])
        self.site.clock.advance(48.0)
        self.assertEqual((self.client.link.ended, len(self.site.clock.getDelayedCalls())), ("", 1))
        self.site.clock.advance(2.0)
        self.assertEqual((self.client.link.ended, self.site.factory.table.parked), ("aborted", 1))
        self.site.settle()
        self.assertEqual(len(self.site.clock.getDelayedCalls()), 1)


class EndTests(ConduitCase):
    def test_an_acknowledgement_waits_for_a_link_that_is_full(self) -> None:
        """
        Asleep, and goes out when it takes octets again.
        """
        self.client.link.congest()
        self.client.write(b"x NOOP\r\n")
        self.client.send_frames()
        self.site.settle()
        due = self.site.clock.seconds() + self.site.policy.ack_delay
        self.assertTrue(all(call.getTime() > due for call in self.site.clock.getDelayedCalls()))
        self.site.clock.advance(self.site.policy.ack_delay)
        self.site.settle()
        self.assertEqual(self.client.link.take(), b"")
        self.client.link.relieve()
        frames = list(FrameReader(MIB).feed(self.client.link.take()))
        self.assertEqual(frames[0].offset, len(b"x NOOP\r\n"))

    def test_end_of_the_client(self) -> None:
        """
        The client says END behind its last octets: they are handed on first, then the inner protocol is told, once.
        """
        self.client.write(b"last NOOP\r\n")
        self.client.session.close(b"CLOSED", self.client.now)
        self.client.pump()
        self.assertTrue(self.server.heard.endswith(b"last NOOP\r\n"))
        (reason,) = self.server.losses
        reason.trap(ConnectionDone)
        self.assertEqual((self.site.logouts, self.client.link.ended), (["joe"], "closed"))
        self.assertEqual(self.conduit.session.state, State.ENDED)
        self.assertEqual(list(self.site.clock.getDelayedCalls()), [])

    def test_end_behind_a_slow_inner_protocol(self) -> None:
        """
        The same when the inner protocol has paused: END waits until it has taken everything.
        """
        self.transport.pauseProducing()
        self.client.write(b"last NOOP\r\n")
        self.client.session.close(b"CLOSED", self.client.now)
        self.client.pump()
        self.assertEqual(self.server.losses, [])
        self.transport.resumeProducing()
        self.site.settle()
        self.assertTrue(self.server.heard.endswith(b"last NOOP\r\n"))
        self.assertEqual(len(self.server.losses), 1)

    def test_both_close_at_once(self) -> None:
        """
        Both sides close in the same moment: one C{connectionLost}, one logout, nothing left.
        """
        self.client.session.close(b"CLOSED", self.client.now)
        self.transport.loseConnection()
        self.client.pump()
        self.assertEqual((len(self.server.losses), self.site.logouts, self.client.link.ended), (1, ["joe"], "closed"))
        self.assertEqual(len(self.site.factory.table), 0)
        self.site.clock.advance(200.0)
        self.assertEqual(list(self.site.clock.getDelayedCalls()), [])

    def test_closed_from_within_a_delivery(self) -> None:
        """
        The inner protocol closes while it is handed octets: it is told in a later turn, and gets nothing more.
        """
        seen: list[bytes] = []

        def closing(data: bytes) -> None:
            seen.append(data)
            self.transport.write(b"bye")
            self.transport.loseConnection()
            self.assertEqual(self.server.losses, [])

        self.patch(self.server, "dataReceived", closing)
        self.client.write(b"1")
        self.client.write(b"2")
        self.client.pump()
        self.assertEqual((self.client.stream, len(self.server.losses)), (b"bye", 1))
        self.assertIn(PeerEnded(b"CLOSED"), self.client.events)

    def test_linger(self) -> None:
        """
        The last octets of a session that closed inside wait for the client through the linger time, and not longer.
        """
        for late in (False, True):
            self.setUp()
            self.client.lose()
            self.transport.write(b"last")
            self.transport.loseConnection()
            self.site.clock.advance(19.0 + 2 * late)
            answer = self.client.resume()
            if late:
                self.assertEqual(answer, Refused(Refusal.ENDED, 0))
            else:
                self.assertIsInstance(answer, Resumed)
                self.assertEqual(self.client.stream, b"last")

    def test_overrun(self) -> None:
        """
        An inner protocol that writes on and on, whatever it is told, is ended when more than window and overrun wait; not from
        within its call.
        """
        self.client.link.congest()
        self.transport.write(b"x" * 24 * KIB)
        self.site.settle()
        self.assertEqual(self.server.losses, [])
        self.transport.write(b"x")
        self.assertEqual(self.server.losses, [])
        self.site.settle()
        (reason,) = self.server.losses
        reason.trap(ConnectionLost)
        self.assertIn("OVERRUN", str(reason.value))
        self.assertEqual((len(self.site.factory.table), self.conduit.session.sender.retained), (0, 0))

    def test_nothing_after_the_end(self) -> None:
        """
        When it is over, writes, closes, hints and links change nothing any more.
        """
        wire = self.client.link
        self.served.end(b"EVICTED")
        self.site.settle()
        self.assertEqual(FrameReader(MIB).feed(wire.take())[-1].payload, b"EVICTED")
        self.transport.write(b"late")
        self.transport.loseConnection()
        self.transport.abortConnection()
        self.transport.resumeProducing()
        self.conduit.probe(1.0)
        self.conduit.end(b"AGAIN")
        self.conduit.link_lost(wire.link)
        self.served.end_with(Failure(ConnectionDone()))
        self.site.settle()
        self.assertEqual((len(self.server.losses), self.site.logouts, wire.take()), (1, ["joe"], b""))
        self.assertEqual(list(self.site.clock.getDelayedCalls()), [])
