"""
Scenarios 1 to 9, 11 and 12: links that die, overlap and race.  (10, the cut at every octet, is in L{test_cuts}.)
"""

from __future__ import annotations

from itertools import cycle
from random import Random

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.frames import FrameReader, FrameType, encode
from mem_continuity.core.handshake import Refusal, Refused, Resumed
from mem_continuity.core.policy import KIB, MIB, Policy
from mem_continuity.server import Claim
from tests.support.raw_client import RawClient
from tests.support.site import Site
from tests.support.wires import Wire

MOVED = encode(FrameType.MOVED)


def ended_and_moved(wire: Wire) -> bool:
    """
    Whether the server has said MOVED on a link, last of all, and closed it.
    """
    return wire.heard.endswith(MOVED) and wire.ended == "closed"


class LinkScenarios(SynchronousTestCase):
    timeout = 60

    def setUp(self) -> None:
        self.site = Site(Policy(window=256 * KIB))
        self.client = RawClient(self.site)

    def one_session(self) -> None:
        """
        There is one inner end, it was never told of a loss, and its client can go on.
        """
        self.assertIn(b" OK ", self.client.call(b"NOOP"))
        self.assertEqual(len(self.site.factory.table), 1)
        self.assertEqual((self.site.logins, self.site.logouts), (["joe"], []))
        self.assertEqual(self.site.servers[0].losses, [])

    def test_scenario_01_old_link_still_open(self) -> None:
        """
        The old TCP connection still stands when the client resumes from a new address: the old link is told MOVED and is closed
        by the server, without any FIN of the client.
        """
        self.client.begin("192.0.2.1")
        self.client.call(b"SELECT INBOX")
        old = self.client.link
        before = len(old.heard)
        answer = self.client.resume(host="203.0.113.9")
        self.assertIsInstance(answer, Resumed)
        self.assertEqual(old.heard[before:], MOVED)
        self.assertEqual(old.ended, "closed")
        self.assertTrue(old.lost)
        self.one_session()
        self.assertEqual(self.site.factory.table.parked, 0)

    def test_scenario_02_attempts_out_of_order(self) -> None:
        """
        Attempts 5 and 6 arrive as 6, 5: the late one is told STALE, and 6 keeps the session.
        """
        self.client.begin()
        fifth = self.client.attempt(number=5)
        sixth = self.client.attempt(number=6)
        self.assertEqual((fifth.request.attempt, sixth.request.attempt), (5, 6))
        newer = self.site.connect("203.0.113.1", greet=False)
        answer = self.client.ask(sixth, newer)
        assert isinstance(answer, Resumed)
        self.client.take_over(sixth, answer, newer)
        older = self.site.connect("203.0.113.1", greet=False)
        self.assertEqual(self.client.ask(fifth, older), Refused(Refusal.STALE))
        self.assertEqual(newer.ended, "")
        self.assertEqual(self.site.factory.table.counts["handovers"], 1)
        self.one_session()

    def test_scenario_03_two_resumes_in_one_turn(self) -> None:
        """
        Two RESUMEs in one turn of the reactor, 2,000 times over, of one number or of two in either order: one of the links has
        the session each time, the other was refused as STALE, or told MOVED and closed.
        """
        self.client.begin()
        chance = Random(3)
        for turn in range(2000):
            self.client.lose(chance.choice(("fin", "reset")))
            base = self.client.session.attempt + 1
            numbers = [(base, base), (base, base + 1), (base + 1, base)][turn % 3]
            asked = [self.client.attempt(number=number, literal=0) for number in numbers]
            wires = [self.site.connect(f"203.0.113.{one}", greet=False) for one in (1, 2)]
            for wire, attempt in zip(wires, asked, strict=True):
                wire.send(self.client.octets(attempt.request))
            self.site.settle()
            answers = [self.client.read_answer(wire) for wire in wires]
            winner = 1 if numbers[1] > numbers[0] else 0
            loser = 1 - winner
            answer = answers[winner]
            assert isinstance(answer, Resumed)
            self.client.session.attempt = max(numbers)
            self.client.take_over(asked[winner], answer, wires[winner])
            self.assertEqual(wires[winner].ended, "")
            if answers[loser] == Refused(Refusal.STALE):
                wires[loser].fin()
            else:
                self.assertIsInstance(answers[loser], Resumed)
                self.assertTrue(ended_and_moved(wires[loser]))
            self.one_session()
            del self.site.wires[1:], self.site.trace[:], self.site.servers[1:]

    def test_scenario_03_two_resumes_before_one_slow_veto(self) -> None:
        """
        The same where a veto takes its time and answers in either order: what was true when it was asked is judged anew.
        """
        waiting: list[Deferred[bool]] = []

        class Slow:
            def allows(self, claim: Claim) -> Deferred[bool]:
                waiting.append(Deferred())
                return waiting[-1]

        site = Site(veto=Slow())
        client = RawClient(site).begin()
        for turn, first in zip(range(50), cycle((0, 1)), strict=False):
            client.lose()
            base = client.session.attempt + 1
            asked = [client.attempt(number=base + turn % 2, literal=0), client.attempt(number=base, literal=0)]
            wires = [site.connect(f"203.0.113.{one}", greet=False) for one in (1, 2)]
            for wire, attempt in zip(wires, asked, strict=True):
                wire.send(client.octets(attempt.request))
            site.settle()
            self.assertEqual([client.read_answer(wire) for wire in wires], [None, None])
            waiting[first].callback(True)
            waiting[1 - first].callback(True)
            waiting.clear()
            site.settle()
            standing = [wire for wire in wires if wire.link.conduit is not None and not wire.ended]
            self.assertEqual(len(standing), 1)
            answers = [client.read_answer(wire) for wire in wires]
            self.assertTrue(all(isinstance(one, Resumed) or one == Refused(Refusal.STALE) for one in answers))
            winner = wires.index(standing[0])
            granted = answers[winner]
            assert isinstance(granted, Resumed)
            client.session.attempt = max(attempt.request.attempt for attempt in asked)
            client.take_over(asked[winner], granted, standing[0])
            self.assertIn(b" OK ", client.call(b"NOOP"))
            self.assertEqual(site.logins, ["joe"])
            wires[1 - winner].fin()

    def test_scenario_04_late_octets_of_the_old_link(self) -> None:
        """
        A command that arrives on the old link after the commit reaches neither the inner end nor a counter.
        """
        self.client.begin()
        old = self.client.link
        old.congest()  # so that the old link is still there, waiting to be closed
        self.client.write(b"late CREATE intruder\r\n")
        late = self.client.session.frames(self.client.now)
        self.client.session.sender.rewind(0)
        self.client.session.sender.forget_queue()
        answer = self.client.resume()
        assert isinstance(answer, Resumed)
        self.assertEqual(old.ended, "closing")
        heard = self.site.servers[0].heard
        served = self.site.factory.table.all()[0]
        assert served.conduit is not None
        counted = served.conduit.session.receiver.arrived
        old.send(late)
        old.send(encode(FrameType.END, b"CLOSED"))
        self.site.settle()
        self.assertEqual(self.site.servers[0].heard, heard)
        self.assertEqual(served.conduit.session.receiver.arrived, counted)
        self.one_session()

    def test_scenario_05_unread_octets_of_the_old_link(self) -> None:
        """
        Octets that lie unread in the old link's kernel buffer at the switch are not counted; the client sends them again, and
        they are run once.
        """
        self.client.begin()
        old = self.client.link
        old.transport.pauseProducing()  # what is sent now waits in the kernel
        self.client.write(b"once CREATE twice\r\n")
        self.assertTrue(self.client.send_frames())
        answer = self.client.resume()
        self.assertEqual(answer.received if isinstance(answer, Resumed) else None, 0)
        old.transport.resumeProducing()
        self.site.settle()
        self.client.pump()
        self.assertEqual(self.site.servers[0].heard.count(b"once CREATE twice\r\n"), 1)
        self.assertEqual(self.client.stream.count(b"once OK"), 1)
        self.one_session()

    def test_scenario_06_old_peer_unresponsive(self) -> None:
        """
        The old peer does not read and its send buffer is full in the middle of a FETCH: the takeover is answered in the same
        turn, what is stuck is sent again, and the old link is aborted after a short deadline.
        """
        body = Random(6).randbytes(200 * KIB)
        self.site.mailbox().deliver(body)
        self.client.begin()
        self.client.call(b"SELECT INBOX")
        old = self.client.link
        self.client.write(b"f FETCH 1 (RFC822)\r\n")
        self.client.send_frames()
        old.congest()
        old.silence()
        self.site.settle()
        now = self.client.now
        new = self.site.connect("203.0.113.1", greet=False)
        attempt = self.client.attempt()
        new.send(self.client.octets(attempt.request))
        answer = self.client.read_answer(new)  # no turn has passed, no time either
        assert isinstance(answer, Resumed)
        self.client.take_over(attempt, answer, new)
        self.client.pump()
        self.assertIn(body, self.client.stream)
        self.assertEqual((self.client.now, old.ended), (now, "closing"))
        self.site.clock.advance(self.site.policy.moved_deadline - 0.1)
        self.assertEqual(old.ended, "closing")
        self.site.clock.advance(0.2)
        self.assertEqual(old.ended, "aborted")
        self.one_session()

    def test_scenario_07_flapping_links(self) -> None:
        """
        Two links take turns 50 times in 10 seconds, in the middle of a FETCH and of an APPEND: one inner end, nothing left
        behind, both streams as if nothing had happened.
        """
        chance = Random(7)
        body, mail = chance.randbytes(150 * KIB), chance.randbytes(100 * KIB)
        self.site.mailbox().deliver(body)
        self.client.begin()
        self.client.call(b"SELECT INBOX")
        before = len(self.client.stream)
        self.client.write(b"f FETCH 1 (RFC822)\r\n")
        appending, cuts_inside = False, 0
        for flap in range(50):
            if not appending and b"\r\nf OK" in self.client.stream[-100:]:
                appending = True
                self.client.write(b"a APPEND INBOX () {%d}\r\n" % len(mail) + mail + b"\r\n")
            cuts_inside += appending and not self.site.mailbox().stored
            # the link dies after so many octets of either direction
            frames = b""
            while octets := self.client.session.frames(self.client.now):
                frames += octets
            self.client.link.send(frames[: chance.randrange(8 * KIB)])
            self.site.settle()
            self.client.session.receive(self.client.link.take()[: chance.randrange(16 * KIB)], self.client.now)
            while octets := self.client.session.next_delivery(self.client.now):
                self.client.stream += octets
            if chance.random() < 0.5:
                self.client.lose(chance.choice(("fin", "reset")))
            else:
                self.client.lose("silence")
            self.site.clock.advance(0.2)
            wire = self.site.connect(("192.0.2.1", "203.0.113.1")[flap % 2], greet=False)
            attempt = self.client.attempt()
            answer = self.client.ask(attempt, wire)
            assert isinstance(answer, Resumed)
            self.client.take_over(attempt, answer, wire)
        self.assertGreater(cuts_inside, 5)
        self.client.pump()
        self.site.clock.advance(self.site.policy.moved_deadline)
        said = self.client.stream[before:]
        self.assertEqual(self.site.mailbox().stored, [mail])
        self.assertTrue(said.startswith(b"* 1 FETCH (RFC822 {%d}\r\n%b)\r\nf OK" % (len(body), body)), said[:80])
        self.assertTrue(said.endswith(b"a OK APPEND complete\r\n"), said[-80:])
        self.assertEqual(said.count(b"Ready for"), 1)
        self.one_session()
        self.assertEqual(len(self.site.servers), 1)
        self.assertEqual([wire.ended for wire in self.site.wires].count(""), 1)
        self.assertEqual(len(self.site.factory._links), 1)

    def test_scenario_08_answer_lost(self) -> None:
        """
        The server has committed, but its answer is lost with the link: the next attempt works, and what was sent behind the lost
        answer comes again.
        """
        self.client.begin()
        self.client.call(b"SELECT INBOX")
        self.client.lose()
        self.site.mailbox().deliver(b"while away")
        self.client.write(b"n NOOP\r\n")
        wire = self.site.connect("203.0.113.1", greet=False)
        wire.send(self.client.octets(self.client.attempt().request))
        self.site.settle()
        self.assertIn(b"r1 OK", wire.take())  # which the client never sees
        wire.reset()
        self.site.settle()
        before = len(self.client.stream)
        self.assertIsInstance(self.client.resume(), Resumed)
        self.assertEqual(self.client.stream[before:], b"* 1 EXISTS\r\nn OK NOOP No operation performed\r\n")
        self.assertEqual(self.site.servers[0].heard.count(b"n NOOP"), 1)
        self.one_session()

    def test_scenario_09_resume_split_at_every_octet(self) -> None:
        """
        RESUME is sent before the greeting is read, cut into two at every octet, with and without a turn between the halves: it is
        run once, and its literal too.
        """
        self.client.begin()
        place, runs = 0, 0
        while True:
            for pause in (False, True):
                runs += 1
                self.client.lose()
                self.client.write(b"s%d NOOP\r\n" % runs)
                attempt = self.client.attempt()
                octets = self.client.octets(attempt.request)
                wire = self.site.connect("203.0.113.1", greet=False)
                wire.send(octets[:place])
                if pause:
                    self.site.settle()
                wire.send(octets[place:])
                self.site.settle()
                answer = self.client.read_answer(wire)
                assert isinstance(answer, Resumed)
                if not pause:
                    self.assertFalse(b"Ready" in wire.heard, "greeted although the first command is RESUME")
                self.client.take_over(attempt, answer, wire)
                self.client.pump()
                self.assertEqual(self.site.factory.table.counts["handovers"], runs)
                self.assertEqual(self.site.servers[0].heard.count(b"s%d NOOP\r\n" % runs), 1)
                self.assertTrue(self.client.stream.endswith(b"s%d OK NOOP No operation performed\r\n" % runs))
            place += 1
            if place > len(octets):
                break
        self.assertGreater(place, 100)
        self.one_session()
        # an inner end that was bound for nothing was told so, and nobody logged in on it
        self.assertTrue(all(len(server.losses) == 1 for server in self.site.servers[1:]))

    def test_scenario_11_cut_during_the_replay(self) -> None:
        """
        The link is cut in the middle of the replay, again and again, each time somewhat later: still exact.
        """
        body = Random(11).randbytes(100 * KIB)
        self.site.mailbox().deliver(body)
        self.client.begin()
        self.client.call(b"SELECT INBOX")
        before = len(self.client.stream)
        self.client.write(b"f FETCH 1 (RFC822)\r\n")
        for cut in (0, 1, 3, 4, 5, 100, 8 * KIB, 8 * KIB + 4, 20000, 40000):
            self.client.send_frames()
            self.site.settle()
            self.client.session.receive(self.client.link.take()[:cut], self.client.now)
            while octets := self.client.session.next_delivery(self.client.now):
                self.client.stream += octets
            self.client.lose("reset")
            wire = self.site.connect("203.0.113.1", greet=False)
            attempt = self.client.attempt()
            answer = self.client.ask(attempt, wire)
            assert isinstance(answer, Resumed)
            self.client.take_over(attempt, answer, wire)
        self.client.pump()
        self.assertEqual(
            self.client.stream[before:], b"* 1 FETCH (RFC822 {%d}\r\n%b)\r\nf OK FETCH completed\r\n" % (len(body), body)
        )
        self.one_session()

    def test_scenario_12_link_dies_between_commit_and_data(self) -> None:
        """
        The link dies after the commit and before the first DATA, in one direction, in the other, in both: still exact.
        """
        for reads_answer, sends_data in ((True, False), (False, False), (True, True)):
            site = Site()
            client = RawClient(site).begin()
            client.call(b"SELECT INBOX")
            client.lose()
            site.mailbox().deliver(b"while away")
            client.write(b"n1 NOOP\r\n")
            wire = site.connect("203.0.113.1", greet=False)
            attempt = client.attempt(literal=0)
            answer = client.ask(attempt, wire)
            assert isinstance(answer, Resumed)
            first = FrameReader(MIB).feed(wire.peek())
            self.assertEqual(first[0].type, FrameType.DATA)
            if reads_answer:
                client.take_over(attempt, answer, wire)
            if sends_data:
                client.send_frames()  # arrives; what the server wrote is lost
            client.lose("reset") if reads_answer else wire.reset()
            site.settle()
            before = len(client.stream)
            self.assertIsInstance(client.resume(), Resumed)
            self.assertEqual(client.stream[before:], b"* 1 EXISTS\r\nn1 OK NOOP No operation performed\r\n")
            self.assertEqual(site.servers[0].heard.count(b"n1 NOOP"), 1)
