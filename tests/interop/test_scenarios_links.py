"""
Scenarios 1, 5, 6, 7, 8 and 29 end to end: links that die, overlap and race.
"""

from __future__ import annotations

from random import Random

from mem_continuity.core.frames import FrameType, encode
from mem_continuity.core.handshake import Resumed
from mem_continuity.core.policy import KIB
from tests.interop.client import Client
from tests.interop.grounds import HASTY, GroundCase, OnCyrus, OnDovecot, kernel_rows, make_mail, until
from tests.interop.plain_client import HOME, TRAIN
from tests.interop.servers import HOST
from tests.interop.tls_wire import Wire


class Links(GroundCase):
    """
    For either server.
    """

    options = HASTY

    def one_session(self, client: Client) -> None:
        """
        The server has one session of this user, and the client can go on in it.
        """
        self.assert_ok(client.call(b"NOOP"))
        self.server.wait_for_sessions(1, self.user)

    def test_scenario_01_old_link_still_open(self) -> None:
        """
        The old link still stands when the client resumes from another address: it is told MOVED, last of all, and is closed by
        the gateway.
        """
        client = self.new_client().begin(HOME, b"SELECT INBOX")
        (before,) = self.server.wait_for_sessions(1, self.user)
        old = client.wire
        self.assertIsInstance(client.resume(TRAIN), Resumed)
        self.assertEqual(old.read_to_end()[-4:], encode(FrameType.MOVED))
        until(lambda: not old.stands, "the end of the old link")
        self.one_session(client)
        self.assertEqual(self.server.sessions(self.user), [before])
        self.assertEqual((old.source[0], client.wire.source[0]), (HOME, TRAIN))

    def test_scenario_05_unread_octets_of_the_old_link(self) -> None:
        """
        A command lies in the old link, all but one octet of its record: it is not counted, comes again on the new link, and runs
        once; the rest on the old link comes too late.
        """
        client = self.new_client().begin(HOME, b"SELECT INBOX")
        old, count = client.wire, client.session.sender.end
        client.write(b"once CREATE twice\r\n")
        rest = old.send_but_one(client.session.frames(client.now))
        answer = client.resume(TRAIN)
        self.assertEqual(answer.received if isinstance(answer, Resumed) else None, count)
        if old.stands:
            old.send_raw(rest)
        self.assert_ok(client.finish(b"once"))
        self.one_session(client)
        self.assertEqual(client.stream.count(b"\nonce "), 1)

    def test_scenario_05_unread_in_the_kernel(self) -> None:
        """
        A command on the old link and the RESUME on the new one wait in the gateway's kernel when it comes to look: whichever it
        reads first, the command runs once.
        """
        client = self.new_client().begin(HOME, b"SELECT INBOX")
        for turn in range(10):
            wire = client.connect(TRAIN, greet=False)
            old = client.wires[-2]
            client.write(b"once%d CREATE twice%d\r\n" % (turn, turn))
            self.gateway.pause()
            try:
                old.send(client.session.frames(client.now))
                attempt = client.attempt(wire)
                wire.send(client.octets(attempt))
            finally:
                self.gateway.cont()
            answer = client.read_answer(wire)
            assert isinstance(answer, Resumed)
            attempt.granted(answer, client.now)
            self.assert_ok(client.finish(b"once%d" % turn))
        self.one_session(client)
        self.assertEqual(client.stream.count(b"\nonce"), 10)

    def test_scenario_06_old_peer_unresponsive(self) -> None:
        """
        The old peer does not read in the middle of a FETCH, all buffers to it are full: the takeover does not wait for it, what
        is stuck comes again, and the old link is broken off.
        """
        mail = make_mail(Random(6), 3000 * KIB)
        self.deliver(mail)
        client = self.new_client()
        client.wires.append(Wire(HOST, self.gateway.port, self.gateway.authority, HOME, room=4 * KIB))
        client.read_line()
        self.assert_ok(client.login())
        client.start()
        client.call(b"SELECT INBOX")
        old, begin = client.wire, len(client.stream)
        client.write(b"f FETCH 1 BODY.PEEK[]\r\n")
        client.flush()
        until(lambda: any(row.remote == old.source[1] and row.unsent > 16 * KIB for row in kernel_rows()), "full buffers")
        client.lose("silence")
        self.assertIsInstance(client.resume(TRAIN), Resumed)
        self.assertTrue(old.stands)
        self.assertEqual(client.finish(b"f", begin).partition(b"}\r\n")[2][: len(mail)], mail)
        until(lambda: not old.stands, "the end of the old link")
        self.one_session(client)

    def test_scenario_07_flapping_links(self) -> None:
        """
        Two addresses take turns 50 times in the middle of a FETCH and of an APPEND; the link dies in each way, at any octet: the
        streams are as if nothing had happened, one message is stored, nothing is left behind.
        """
        chance = Random(7)
        body, mail = make_mail(chance, 300 * KIB), make_mail(chance, 300 * KIB)
        self.deliver(body)
        client = self.new_client().begin(HOME, b"SELECT INBOX")
        before, begin = self.descriptors(), len(client.stream)
        client.write(b"f FETCH 1 BODY.PEEK[]\r\n")
        appending = False
        for flap in range(50):
            if not appending and flap >= 25:
                client.finish(b"f", begin)
                appending = True
                client.write(b"a APPEND INBOX {%d+}\r\n%b\r\n" % (len(mail), mail))
            client.flap(chance.choice(("fin", "reset", "silence", "stays")), 16 * KIB, chance)
            self.assertIsInstance(client.resume((HOME, TRAIN)[flap % 2]), Resumed)
        said = client.finish(b"a", begin)
        self.assertIn(b"{%d}\r\n%b" % (len(body), body), said)
        self.assertEqual([said.count(b"\n" + tag) for tag in (b"f OK", b"a OK", b"* 1 FETCH")], [1, 1, 0])
        self.assertTrue(said.startswith(b"* 1 FETCH"))
        self.assertEqual(self.stored(), [body, mail])
        until(lambda: sum(wire.stands for wire in client.wires) == 1, "the end of the old links")
        until(lambda: self.descriptors() <= before, "the end of their descriptors")
        self.one_session(client)

    def test_scenario_08_answer_lost(self) -> None:
        """
        The gateway has committed, but its answer is lost with the link: the next attempt works, and what was sent behind the lost
        answer comes again.
        """
        client = self.new_client().begin(HOME, b"SELECT INBOX")
        client.lose()
        self.deliver(b"Subject: while away\r\n\r\n")
        client.write(b"n NOOP\r\n")
        for how in ("reset", "fin", "silence"):
            wire = client.connect(TRAIN, greet=False)
            wire.send(client.octets(client.attempt(wire)))
            self.assertIsInstance(client.read_answer(wire), Resumed)  # which the client never sees
            getattr(wire, how)()
        begin = len(client.stream)
        self.assertIsInstance(client.resume(TRAIN), Resumed)
        said = client.finish(b"n", begin)
        self.assertRegex(said, rb"(?s)\A\* 1 EXISTS\r\n.*\nn OK [^\n]*\n\Z")
        self.assertEqual((said.count(b"EXISTS"), client.stream.count(b"\nn OK")), (1, 1))
        self.one_session(client)


class Siblings(GroundCase):
    """
    For either server.
    """

    options = HASTY

    def test_scenario_29_five_links_of_one_client(self) -> None:
        """
        All live.  One comes back from another address: the dead siblings are retired within seconds, the healthy stay, and the
        dead ones' sessions can be resumed, too.
        """
        clients = [self.new_client().begin(HOME) for _ in range(5)]
        pids = self.server.wait_for_sessions(5, self.user)
        first, dead, healthy = clients[0], clients[1:3], clients[3:]
        for client in (first, *dead):
            client.lose("silence")
        self.assertIsInstance(first.resume(TRAIN), Resumed)
        for client in healthy:
            client.step()  # they answer the PING
            client.flush()
        until(lambda: not any(client.wire.stands for client in dead), "the end of the dead links")
        for client in (first, *healthy):
            self.assertTrue(client.wire.stands)
            self.assert_ok(client.call(b"NOOP"))
        for client in dead:
            self.assertIsInstance(client.resume(TRAIN), Resumed)
            self.assert_ok(client.call(b"NOOP"))
        self.assertEqual(sorted(self.server.sessions(self.user)), sorted(pids))


class LinksOnDovecot(Links, OnDovecot):
    pass


class LinksOnCyrus(Links, OnCyrus):
    pass


class SiblingsOnDovecot(Siblings, OnDovecot):
    pass


class SiblingsOnCyrus(Siblings, OnCyrus):
    pass


del Links, Siblings
