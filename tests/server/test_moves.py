"""
The server's side of a planned move, with clients that keep the rules and clients that do not.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.frames import FrameType, data_header, encode
from mem_continuity.core.handshake import Refused, Resumed, client_proof
from mem_continuity.core.policy import KIB, Policy
from mem_continuity.core.resumption import Attempt
from mem_continuity.core.session import Session
from mem_continuity.core.states import Moved, State
from mem_continuity.layer.conduit import Conduit
from mem_continuity.server.served import Served
from tests.support.comebacks import HOME, TRAIN, framed, graft, logged_in, served_of
from tests.support.site import Site
from tests.support.wires import Wire

MOVED = encode(FrameType.MOVED)


class MoveCase(SynchronousTestCase):
    """
    A client in the layer, with a mailbox selected, that asks for another link while its old one stands.
    """

    timeout = 60

    def setUp(self) -> None:
        self.site = Site(Policy(window=64 * KIB, drain=5.0, grace=100.0))
        self.addCleanup(self.site.factory.shutdown)
        self.client = framed(self.site, HOME)
        self.served: Served = served_of(self.client)
        assert self.served.conduit is not None
        self.conduit: Conduit = self.served.conduit
        self.old = self.client.link

    @property
    def session(self) -> Session:
        """
        The server's.
        """
        return self.conduit.session

    def ask(self, behind: bytes = b"", number: int | None = None) -> tuple[Wire, Attempt, Resumed | Refused | None]:
        """
        RESUME with DRAIN on a new link.

        @param behind: octets that follow it at once.
        @param number: of the old link; the true one when None.
        """
        session = self.client.session
        attempt = Attempt(session, b"", 0, 0, drain=True)
        if number is not None:
            request = replace(attempt.request, drain=number)
            proof = client_proof(session.terms, request.attempt, request.received, request.sent, b"", number)
            attempt.request = replace(request, proof=proof)
        wire = self.site.connect(TRAIN, greet=False)
        wire.send(self.client.octets(attempt.request) + behind)
        self.site.settle()
        return wire, attempt, self.client.read_answer(wire)

    def move(self) -> Wire:
        """
        A move up to the client's MOVED, which is not said yet.
        """
        wire, attempt, answer = self.ask()
        assert isinstance(answer, Resumed) and answer.start is not None
        self.client.take_over(attempt, answer, wire)
        return wire

    def leave(self, old: Wire) -> None:
        """
        The client says MOVED, reads the old link to its end, and goes on with the new one.
        """
        old.send(MOVED)
        events = self.client.session.receive(old.take(), self.client.now, True)
        self.assertTrue(any(isinstance(event, Moved) for event in events))
        self.client.session.former_ended()
        self.client.pump()

    def parked_in_peace(self) -> None:
        """
        The session waits for its client, its links are gone, and nothing but its grace period runs.
        """
        self.site.settle()
        self.assertIs(self.session.state, State.PARKED)
        self.assertEqual(self.site.factory.table.parked, 1)
        self.assertTrue(all(wire.lost for wire in self.site.wires))
        self.assertEqual(len(self.site.clock.getDelayedCalls()), 1)
        if self.client.session.attached:
            self.client.session.detach(self.client.now)
        self.assertIsInstance(self.client.resume(), Resumed)
        self.assertIn(b" OK ", self.client.call(b"NOOP"))


class PlannedTests(MoveCase):
    """
    Clients that keep the rules.
    """

    def test_both_links_in_turn(self) -> None:
        """
        What stands on the old link counts before what came by the new one earlier; and the client closes the old one.
        """
        wire = self.move()
        self.old.send(data_header(5) + b"a1 NO")
        wire.send(data_header(4) + b"OP\r\n")
        self.site.settle()
        self.assertFalse(wire.transport.reading)
        self.assertTrue(self.server_heard().endswith(b"a1 NO"))
        self.client.session.sender.write(b"a1 NOOP\r\n")
        self.client.session.sender.take(100)
        self.leave(self.old)
        self.assertTrue(wire.transport.reading)
        self.assertIn(b"a1 NOOP\r\n", self.server_heard())
        self.assertIn(b"a1 OK ", self.client.stream)
        self.assertEqual((self.old.ended, self.site.factory.table.counts["handovers"]), ("", 1))
        self.old.fin()
        self.assertIn(b" OK ", self.client.call(b"NOOP"))

    def server_heard(self) -> bytes:
        return bytes(self.site.servers[0].heard)

    def test_pipelined_behind_the_request(self) -> None:
        """
        It is part of the new link, and waits for the old one.
        """
        command = b"a1 NOOP\r\n"
        wire, attempt, answer = self.ask(data_header(len(command)) + command)
        assert isinstance(answer, Resumed)
        self.assertNotIn(command, self.server_heard())
        self.client.take_over(attempt, answer, wire)
        self.client.session.sender.write(command)
        self.client.session.sender.take(100)
        self.leave(self.old)
        self.assertIn(b"a1 OK ", self.client.stream)

    def test_another_link_is_meant(self) -> None:
        """
        The old link counts no more then, as if there had been no DRAIN.
        """
        for number in (1, 2**32 - 1):
            wire, attempt, answer = self.ask(number=number)
            assert isinstance(answer, Resumed)
            self.assertIsNone(answer.start)
            self.assertFalse(self.conduit.moving)
            self.client.take_over(attempt, answer, wire)
            self.client.pump()
            self.assertIn(b" OK ", self.client.call(b"NOOP"))
        self.assertTrue(self.old.lost)

    def test_again_in_the_middle(self) -> None:
        """
        A client that asks once more, with or without DRAIN, has given the other two links up.
        """
        for drain in (True, False):
            second = self.move()
            if drain:
                third, attempt, answer = self.ask()
                assert isinstance(answer, Resumed)
                self.assertIsNone(answer.start)
                self.client.take_over(attempt, answer, third)
                self.client.pump()
            else:
                self.client.session.detach(self.client.now)
                self.assertIsInstance(self.client.resume(), Resumed)
            self.assertFalse(self.conduit.moving)
            self.assertIn(b" OK ", self.client.call(b"NOOP"))
            self.site.clock.advance(3.0)
            self.assertTrue(self.old.lost and second.lost and second.transport.reading)
            self.old = self.client.link

    def test_ended_by_the_client_on_the_old_link(self) -> None:
        self.client.session.close(b"CLOSED", self.client.now)
        self.client.send_frames()  # on the old link
        self.assertIs(self.session.state, State.ENDED)
        wire, _, answer = self.ask()
        self.assertIsInstance(answer, Refused)
        self.assertFalse(wire.lost)

    def test_ended_by_the_client_in_the_middle(self) -> None:
        """
        By END on the old link, behind which the client closes both.
        """
        wire = self.move()
        self.old.send(encode(FrameType.END, b"CLOSED") + MOVED)
        self.site.settle()
        self.assertIs(self.session.state, State.ENDED)
        self.assertEqual((self.old.ended, wire.ended), ("", "closed"))
        self.old.fin()
        self.site.settle()
        self.assertEqual(len(self.site.factory.table), 0)
        self.assertEqual(self.site.clock.getDelayedCalls(), [])

    def test_ended_by_the_server_in_the_middle(self) -> None:
        """
        The end stands behind what the old link has, which is not closed before the client has read it.
        """
        for how in ("end", "retire"):
            with self.subTest(how=how):
                self.setUp()
                wire = self.move()
                getattr(self.served, how)(b"EVICTED")
                self.site.settle()
                self.assertIs(self.session.state, State.ENDED)
                self.assertEqual((self.old.ended, wire.ended), ("", "closed"))
                self.assertTrue(wire.transport.reading)
                self.assertTrue(self.old.heard.endswith(MOVED))
                self.assertIn(encode(FrameType.END, b"EVICTED"), wire.heard)
                self.old.send(data_header(9) + b"a1 NOOP\r\n" + MOVED)
                self.site.clock.advance(5.0)
                self.site.settle()
                self.assertTrue(self.old.lost)
                self.assertEqual(self.site.clock.getDelayedCalls(), [])

    def test_logout_on_the_old_link(self) -> None:
        wire = self.move()
        command = b"a1 LOGOUT\r\n"
        self.old.send(data_header(len(command)) + command)
        self.site.settle()
        self.assertTrue(self.site.servers[0].losses)
        self.client.session.sender.write(command)
        self.client.session.sender.take(100)
        self.assertFalse(wire.lost)
        self.leave(self.old)
        self.assertIn(b"a1 OK ", self.client.stream)
        self.old.fin()
        self.site.settle()
        self.assertTrue(wire.lost)
        self.assertEqual(len(self.site.factory.table), 0)
        self.assertEqual(self.site.clock.getDelayedCalls(), [])

    def test_grafted_in_the_middle(self) -> None:
        """
        From then on neither of the two links brings the inner protocol anything.
        """
        site = Site(continuity_realm=True)
        self.addCleanup(site.factory.shutdown)
        self.site = site
        self.client = framed(site, HOME)
        self.served = served_of(self.client)
        assert self.served.conduit is not None
        self.conduit, self.old = self.served.conduit, self.client.link
        wire = self.move()
        other = logged_in(site, "198.51.100.7")
        heard: list[bytes] = []
        give_way = self.served.give_way

        def given() -> None:
            give_way()
            self.old.send(data_header(9) + b"a1 NOOP\r\n")
            wire.send(data_header(9) + b"a2 NOOP\r\n")
            heard.append(self.server_heard())

        self.served.give_way = given  # type: ignore[method-assign]
        self.assertIn(b"GRAFTED", graft(other))
        site.settle()
        self.assertEqual(len(heard), 1)
        self.assertNotIn(b"NOOP", heard[0])
        self.assertNotIn(b"NOOP", self.server_heard())
        self.assertTrue(wire.lost)


class HostileTests(MoveCase):
    """
    Clients that do not.
    """

    def test_never_says_moved(self) -> None:
        """
        Both links go, and what came by the new one is not taken.
        """
        wire = self.move()
        wire.send(data_header(9) + b"a1 NOOP\r\n")
        for _ in range(4):
            self.site.clock.advance(1.2)
            self.old.send(encode(FrameType.PING, bytes(8)))
        self.assertTrue(self.conduit.moving)
        self.site.clock.advance(0.2)
        self.assertNotIn(b"a1", self.site.servers[0].heard)
        self.parked_in_peace()

    def test_says_moved_on_the_new_link(self) -> None:
        """
        It is read when its time has come, and means that the link is lost.
        """
        wire = self.move()
        wire.send(MOVED)
        self.site.settle()
        self.assertTrue(self.conduit.moving)
        self.leave(self.old)
        self.site.clock.advance(5.0)
        self.parked_in_peace()

    def test_says_more_behind_moved(self) -> None:
        """
        In the same turn it breaks the rules; later it is not read.  It counts nowhere.
        """
        self.move()
        arrived = self.session.receiver.arrived
        self.old.send(MOVED + data_header(9) + b"a1 NOOP\r\n")
        self.site.settle()
        self.assertEqual(self.session.receiver.arrived, arrived)
        self.parked_in_peace()
        self.old = self.client.link
        self.move()
        arrived = self.session.receiver.arrived
        self.old.send(MOVED)
        self.old.send(MOVED)
        self.old.send(data_header(9) + b"a1 NOOP\r\n")
        self.site.settle()
        self.assertEqual(self.session.receiver.arrived, arrived)
        self.assertNotIn(b"a1", self.site.servers[0].heard)
        self.assertIs(self.session.state, State.LIVE)

    def test_garbage_on_either_link(self) -> None:
        for place in (0, 1):
            with self.subTest(place=place):
                self.setUp()
                links = [self.old, self.move()]
                links[place].send(b"\x09\x00\x00\x01x")
                self.site.settle()
                if place:
                    self.assertTrue(self.conduit.moving)
                    self.old.send(MOVED)
                    self.site.clock.advance(5.0)
                self.parked_in_peace()

    def test_a_link_is_lost(self) -> None:
        for place in (0, 1):
            for how in ("fin", "reset"):
                with self.subTest(place=place, how=how):
                    self.setUp()
                    links = [self.old, self.move()]
                    getattr(links[place], how)()
                    self.parked_in_peace()

    def test_moves_on_and_on(self) -> None:
        """
        A link that was left and is not closed by its client stands for C{drain} and no longer.
        """
        for _ in range(40):
            old = self.client.link
            self.move()
            self.leave(old)
            self.site.clock.advance(0.5)
        standing = [wire for wire in self.site.wires if not wire.lost]
        self.assertEqual(len(standing), 10)
        self.site.clock.advance(4.5)
        self.site.settle()
        self.assertEqual([wire for wire in self.site.wires if not wire.lost], [self.client.link])
        self.assertIn(b" OK ", self.client.call(b"NOOP"))

    def test_more_than_the_inner_end_takes(self) -> None:
        """
        Links that come and go do not pile up octets before a slow inner end: a move that would is an ordinary one.
        """
        window = self.session.terms.window
        self.site.servers[0].transport.pauseProducing()
        chunk = data_header(window) + bytes(window)
        starts = []
        for _ in range(6):
            self.old.send(chunk)
            self.client.session.sender.write(bytes(window))
            self.client.session.sender.take(window)
            wire, attempt, answer = self.ask()
            assert isinstance(answer, Resumed)
            starts.append(answer.start is not None)
            self.client.session.sender.acknowledged = answer.received
            if answer.start is None:
                break
            self.client.take_over(attempt, answer, wire)
            self.leave(self.old)
            self.old = wire
            self.assertLessEqual(self.session.receiver.waiting, 2 * window)
        self.assertIn(False, starts)
        self.assertLessEqual(self.session.receiver.waiting, 2 * window)
