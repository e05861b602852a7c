"""
Scenarios 19 to 24 end to end: IMAP state that links take with them.
"""

from __future__ import annotations

import hashlib
import re
import time
from random import Random

from mem_continuity.core.handshake import Refusal, Refused, Resumed
from mem_continuity.core.policy import KIB, MIB
from tests.interop.client import Client
from tests.interop.grounds import HASTY, PASSWORD, GroundCase, OnCyrus, OnDovecot, kernel_rows, make_mail, resident, until
from tests.interop.plain_client import HOME, TRAIN
from tests.interop.sasl import plain

_AFTER = [(1, 3), (2, 5), (3, 6), (4, 7)]
"""Numbers and UIDs, when of five messages three were expunged and two came."""


class Literals(GroundCase):
    """
    For either server.
    """

    options = HASTY

    def test_scenario_19_client_dies_inside_a_literal(self) -> None:
        """
        Nobody else gets the session, and nobody else's commands become mail; at the end of the grace the upstream connection is
        closed, and nothing was stored.
        """
        mail = make_mail(Random(19), 2 * MIB)
        dead = []
        for how in ("reset", "fin"):
            client = self.new_client(client_id=b"UUID " + how.encode()).logged_in(HOME)
            client.start(grace=1)
            self.assert_ok(client.call(b"SELECT INBOX"))
            client.write(b"p1 APPEND INBOX {%d+}\r\n%b" % (len(mail), mail[: 900 * KIB]))
            client.wait_for(lambda client=client: client.session.sender.acknowledged > 850 * KIB)  # type: ignore[misc]
            client.lose(how)
            dead.append(client)
        others = [self.new_client(client_id=client.client_id).logged_in(TRAIN) for client in dead]
        for client, other in zip(dead, others, strict=True):
            self.assertIn(b" [XCONTINUITY GRAFTED INBOX ", self.assert_ok(other.graft(client.session.terms.session_id)))
            for line in (b"NOOP", b"SELECT INBOX", b"CHECK"):
                self.assert_ok(other.command(line))
        self.server.wait_for_sessions(2, self.user)
        for client, other in zip(dead, others, strict=True):
            self.assertEqual(client.resume(), Refused(Refusal.ENDED, client.session.sender.end))
            self.assertIn(b"* 0 EXISTS", self.assert_ok(other.command(b"SELECT INBOX")))
        self.assertEqual(self.stored(), [])

    def test_scenario_20_literal_goes_on(self) -> None:
        """
        Cut wherever in the literal, in each way, with octets lost on the way: stored once, byte for byte.
        """
        chance = Random(20)
        mail = make_mail(chance, 3 * MIB)
        client = self.new_client().begin(HOME, b"SELECT INBOX")
        client.write(b"p1 APPEND INBOX {%d}\r\n" % len(mail))
        client.wait_for_text(b"+ ")
        client.write(mail + b"\r\n")
        cuts, sender = 0, client.session.sender
        while sender.acknowledged < len(mail) - 300 * KIB:
            client.flap(chance.choice(("fin", "reset", "silence")), 256 * KIB, chance)
            self.assertIsInstance(client.resume((HOME, TRAIN)[cuts % 2]), Resumed)
            cuts += 1
        self.assert_ok(client.finish(b"p1"))
        self.assertGreater(cuts, 10)
        self.assertEqual(self.stored(), [mail])
        self.assert_ok(client.call(b"LOGOUT"))


class Answers(GroundCase):
    """
    For either server.
    """

    options = HASTY

    def test_scenario_21_answer_written_while_the_link_is_down(self) -> None:
        """
        The server hangs when a command comes, and goes on when the link is gone, and again gone after a resume: the command runs
        once, its answer arrives once.
        """
        client = self.new_client().begin(HOME, b"SELECT INBOX")
        begin = len(client.stream)
        self.server.pause()
        try:
            client.write(b"c1 CREATE Once\r\n")
            client.flush()
            client.lose("fin")
            for _ in range(2):
                self.assertIsInstance(client.resume(TRAIN), Resumed)
                client.lose("reset")
        finally:
            self.server.cont()
        other = self.direct()
        until(lambda: b"Once" in other.command(b'LIST "" Once'), "the command to run")
        for _ in range(3):  # its answer is read, but the link dies before anything of it is acknowledged
            self.assertIsInstance(client.resume(TRAIN), Resumed)
            client.wire.receive()
            client.lose("reset")
        self.assertIsInstance(client.resume(TRAIN), Resumed)
        said = client.finish(b"c1", begin)
        self.assertRegex(said, rb"\Ac1 OK [^\n]*\n\Z")
        self.assert_ok(client.call(b"NOOP"))
        self.assertEqual(client.stream.count(b"c1 "), 1)
        self.assert_ok(client.call(b"DELETE Once"))

    def test_scenario_22_idle_while_parked(self) -> None:
        """
        Mail is delivered and expunged by others while an IDLE is parked: the untagged lines come in order, with the DONE that was
        typed meanwhile, and sequence numbers hold.
        """
        self.deliver(*(b"Subject: %d\r\n\r\n" % number for number in range(5)))
        client = self.new_client().begin(HOME, b"SELECT INBOX")
        begin = len(client.stream)
        client.write(b"i1 IDLE\r\n")
        client.wait_for_text(b"+ ", begin)
        client.lose("reset")
        other = self.direct()
        self.assert_ok(other.command(b"SELECT INBOX"))
        self.assert_ok(other.command(b"STORE 2,4 +FLAGS (\\Deleted)"))
        self.assert_ok(other.command(b"EXPUNGE"))
        self.deliver(b"Subject: new\r\n\r\n", b"Subject: newer\r\n\r\n")
        self.assertIsInstance(client.resume(TRAIN), Resumed)
        client.wait_for(lambda: self._view(client.stream[begin:]) == [1, 3, 5, None, None])  # the IDLE goes on
        client.lose("fin")
        self.assert_ok(other.command(b"STORE 1 +FLAGS (\\Deleted)"))
        self.assert_ok(other.command(b"EXPUNGE"))
        client.write(b"DONE\r\nn1 NOOP\r\n")
        self.assertIsInstance(client.resume(HOME), Resumed)
        said = client.finish(b"n1", begin)
        self.assertEqual(self._view(said), [3, 5, None, None])
        self.assertEqual([said.count(b"\n" + tag) for tag in (b"i1 OK", b"n1 OK")], [1, 1])
        fetched = client.call(b"FETCH 1:* UID")
        self.assertEqual(re.findall(rb"\d+ FETCH \(UID \d+\)", fetched), [b"%d FETCH (UID %d)" % one for one in _AFTER])

    @staticmethod
    def _view(said: bytes | bytearray) -> list[int | None]:
        """
        The UIDs that a client knows of, when it saw five messages and was told this; None for those that came.
        """
        model: list[int | None] = [1, 2, 3, 4, 5]
        for number, word in re.findall(rb"(?m)^\* (\d+) (EXISTS|EXPUNGE)\r$", said):
            if word == b"EXPUNGE":
                del model[int(number) - 1]
            else:
                model += [None] * (int(number) - len(model))
        return model

    def test_scenario_24_link_lost_in_the_middle_of_a_login(self) -> None:
        """
        The link dies within AUTHENTICATE: the upstream connection is closed, nobody is logged in, and no log has the password.
        """
        before = self.upstream_ports()
        clients = []
        for _ in range(2):
            client = self.new_client()
            client.connect()
            client.name_itself()
            client.wire.send(b"a1 AUTHENTICATE PLAIN\r\n")
            self.assertTrue(client.read_line().startswith(b"+"))
            client.wire.send(plain(self.user, PASSWORD)[:-3].hex().encode())  # and no line end
            clients.append(client)
        mine = self.upstream_ports() - before
        self.assertEqual(len(mine), 2)
        clients[0].lose("fin")
        clients[1].lose("reset")
        until(lambda: not mine & self.upstream_ports(), "the end of the upstream connections")
        self.assertEqual(self.server.sessions(self.user), [])
        client = self.new_client().logged_in(TRAIN)
        self.assertIn(b" NO [XCONTINUITY GONE]", client.graft())
        for rig in (self.gateway, self.server):
            self.assertNotIn(PASSWORD, rig.log())
            self.assertNotIn(plain(self.user, PASSWORD)[:-3].hex(), rig.log())


class LargeFetch(GroundCase):
    """
    For either server.
    """

    options = ("--window", "262144")

    def _unread(self) -> int:
        """
        Octets of upstreams that wait in the gateway's kernel.
        """
        return sum(row.unread for row in kernel_rows() if row.remote == self.server.imaps_port)

    def _park(self, client: Client, seconds: float) -> None:
        """
        The link is gone for some time: the upstream is not read any more, no memory is taken.
        """
        client.lose("fin")
        until(lambda: self._unread() > 64 * KIB, "the upstream to be paused")
        held, unread = resident(self.gateway.pid), self._unread()
        time.sleep(seconds)
        self.assertGreaterEqual(self._unread(), unread)
        self.assertLess(resident(self.gateway.pid) - held, MIB)
        self.assertIsInstance(client.resume(TRAIN), Resumed)

    def test_scenario_23_large_fetch_with_a_small_window(self) -> None:
        """
        25 MB through 256 KiB, twice without a link: the upstream stands still, nothing is lost, memory is bounded.
        """
        mail = make_mail(Random(23), 25 * MIB)
        self.deliver(mail)
        client = self.new_client().begin(HOME, b"SELECT INBOX")
        self.assertEqual(client.session.terms.window, 256 * KIB)
        before, begin = resident(self.gateway.pid), len(client.stream)
        client.write(b"f1 FETCH 1 BODY.PEEK[]\r\n")
        for place, seconds in ((2 * MIB, 1.0), (15 * MIB, 0.2)):
            client.wait_for(lambda place=place: len(client.stream) > place)  # type: ignore[misc]
            self._park(client, seconds)
        client.wait_for(lambda: b"\nf1 OK" in client.stream[-200:])
        self.assertLess(resident(self.gateway.pid) - before, 8 * MIB)
        found = re.compile(rb"\* 1 FETCH \([^{]*\{(\d+)\}\r\n").match(client.stream, begin)
        assert found is not None
        self.assertEqual(int(found[1]), len(mail))
        got = hashlib.sha256(memoryview(client.stream)[found.end() : found.end() + len(mail)])
        self.assertEqual(got.hexdigest(), hashlib.sha256(mail).hexdigest())
        self.assertRegex(bytes(client.stream[found.end() + len(mail) :]), rb"\A[^\n]*\)\r\nf1 OK [^\n]*\n\Z")


class LiteralsOnDovecot(Literals, OnDovecot):
    pass


class LiteralsOnCyrus(Literals, OnCyrus):
    pass


class AnswersOnDovecot(Answers, OnDovecot):
    pass


class AnswersOnCyrus(Answers, OnCyrus):
    pass


class LargeFetchOnDovecot(LargeFetch, OnDovecot):
    pass


class LargeFetchOnCyrus(LargeFetch, OnCyrus):
    pass


del Literals, Answers, LargeFetch
