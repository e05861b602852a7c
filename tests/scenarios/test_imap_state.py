"""
IMAP state that links take with them, or must not (scenarios 19 to 28; 24 is in L{test_passwords}, 25 belongs to the gateway).
"""

from __future__ import annotations

import hashlib
import io
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.handshake import Refusal, Refused, Resumed
from mem_continuity.core.policy import KIB, MIB, Policy
from mem_continuity.core.states import PeerEnded
from tests.support.comebacks import TRAIN, framed, graft, logged_in, plain, served_of
from tests.support.mailboxes import Mailbox
from tests.support.site import Site


class StateCase(SynchronousTestCase):
    """
    Sites that are shut down.
    """

    def new_site(self, policy: Policy | None = None, **options: Any) -> Site:
        site = Site(policy, **options)
        self.addCleanup(site.factory.shutdown)
        return site


class LiteralTests(StateCase):
    """
    Scenarios 19 and 20.
    """

    def test_scenario_19_client_dies_inside_a_literal(self) -> None:
        """
        Nobody but its own RESUME gets the session: not a GRAFT, not a re-login, not another user, whose commands would become
        mail; at the end of grace the inner end is closed.
        """
        for begin in (framed, plain):
            site = self.new_site(Policy(grace=100), continuity_realm=True)
            dead = begin(site)
            opening = b"p1 APPEND INBOX () {1000000}\r\nSubject: "
            if begin is framed:
                dead.write(opening)
                dead.pump()
            else:
                dead.link.send(opening)
                site.settle()
            server, served = site.servers[0], served_of(dead)
            self.assertTrue(served.inside_literal)
            dead.lose("reset")
            heard = server.heard
            named = served.session_id
            assert named is not None
            others = [
                logged_in(site),
                logged_in(site, TRAIN),
                logged_in(site, client_id=None),
                logged_in(site, user=b"ann"),
                logged_in(site, user=b"ann", client_id=b"UUID other"),
            ]
            for other in others:
                graft(other, named)
                other.command(b"SELECT INBOX")
                other.command(b"NOOP")
            self.assertEqual([one.account is site.accounts[0] for one in site.servers], [True] + [False] * 5)
            self.assertEqual(site.logins, ["joe"] * 4 + ["ann"] * 2)
            self.assertEqual((server.heard, [box.stored for box in (site.mailbox(), site.mailbox("ann"))]), (heard, [[], []]))
            self.assertEqual(len(server.losses), 0 if begin is framed else 1)
            site.clock.advance(100)
            self.assertEqual(len(server.losses), 1)
            self.assertEqual(site.logouts, ["joe"])
            self.assertEqual(site.mailbox().stored, [])
            self.assertTrue(all(b" OK " in other.command(b"NOOP") for other in others))

    def test_scenario_20_literal_goes_on(self) -> None:
        """
        Cut wherever in the literal, with octets lost on the way: stored once, byte for byte.
        """
        mail = Random(20).randbytes(300 * KIB)
        for way in ("fin", "reset", "silence"):
            site = self.new_site()
            client = framed(site)
            client.write(b"p1 APPEND INBOX () {%d}\r\n" % len(mail))
            client.pump()
            for place in range(0, len(mail), 50_000):
                piece = mail[place : place + 50_000]
                client.write(piece[:20_000])
                client.pump()
                client.link.silence()
                client.write(piece[20_000:])
                client.send_frames()  # into the void
                client.lose(way)
                self.assertEqual(site.mailbox().stored, [])
                self.assertIsInstance(client.resume(), Resumed)
            client.write(b"\r\n")
            client.pump()
            self.assertTrue(site.mailbox().stored == [mail], "stored once, byte for byte")
            self.assertEqual(client.stream.count(b"p1 OK "), 1)
            self.assertEqual(len(site.servers), 1)


class AnswerTests(StateCase):
    """
    Scenarios 21 to 23.
    """

    def test_scenario_21_answer_written_while_the_link_is_down(self) -> None:
        """
        The command runs once, its answer arrives once.
        """
        site = self.new_site()
        box = site.mailbox()
        box.deliver(b"one\r\n")
        calls: list[Deferred[Any]] = []

        def fetch(messages: Any, uid: bool) -> Any:
            calls.append(Deferred())
            return calls[-1]

        client = framed(site)
        box.fetch = fetch  # type: ignore[method-assign]
        client.write(b"f1 FETCH 1 UID\r\n")
        client.send_frames()
        client.lose("reset")
        for _ in range(3):  # it comes back before there is an answer, too
            self.assertIsInstance(client.resume(), Resumed)
            client.lose("reset")
        calls[0].callback([(1, box.messages[0])])
        site.settle()
        for _ in range(3):
            self.assertIsInstance(client.resume(), Resumed)
            client.lose("reset")
        client.resume()
        self.assertEqual(len(calls), 1)
        self.assertEqual(client.stream.count(b"* 1 FETCH (UID 1)\r\nf1 OK "), 1)
        self.assertEqual(site.servers[0].heard.count(b"f1 FETCH"), 1)
        self.assertEqual(client.stream.count(b"f1 "), 1)

    def test_scenario_22_idle_while_parked(self) -> None:
        """
        Mail and expunges come in order when the client is back, a DONE typed meanwhile travels with the RESUME, and sequence
        numbers hold.
        """
        site = self.new_site()
        box = site.mailbox()
        for number in range(3):
            box.deliver(b"message %d\r\n" % number)
        client = framed(site)
        client.write(b"i1 IDLE\r\n")
        client.pump()
        before = len(client.stream)
        client.lose("reset")
        box.deliver(b"4\r\n")
        box.vanish(2)
        box.vanish(1)
        box.deliver(b"5\r\n")
        site.clock.advance(1000)
        client.write(b"DONE\r\nf1 FETCH 1:* UID\r\n")
        self.assertIsInstance(client.resume(), Resumed)
        said = client.stream[before:]
        self.assertTrue(
            said.startswith(b"* 4 EXISTS\r\n* 2 EXPUNGE\r\n* 1 EXPUNGE\r\n* 3 EXISTS\r\ni1 OK "), said
        )
        numbered = b"".join(b"* %d FETCH (UID %d)\r\n" % pair for pair in ((1, 3), (2, 4), (3, 5)))
        self.assertIn(numbered + b"f1 OK ", said)

    def test_scenario_23_large_fetch_with_a_small_window(self) -> None:
        """
        25 MB through 256 KiB, twice without a link for a minute: the producer stands still at the window, nothing is lost.
        """
        window, chunk = 256 * KIB, 64 * KIB
        site = self.new_site(Policy(window=window))
        mail = Random(23).randbytes(25 * MIB)
        message = site.mailbox().deliver(mail)
        opened: list[io.BytesIO] = []

        def open_file() -> io.BytesIO:
            opened.append(io.BytesIO(mail))
            return opened[-1]

        message.open = open_file  # type: ignore[method-assign]
        client = framed(site)
        table, body, got = site.factory.table, hashlib.sha256(), 0
        client.stream = b""
        client.write(b"f1 FETCH 1 BODY[]\r\n")
        client.send_frames()
        cuts = [0, 4 * MIB, 20 * MIB]
        while b"f1 OK" not in client.stream[-100:]:
            site.settle()
            if cuts and got >= cuts[0]:
                del cuts[0]
                client.lose("reset")
                for _ in range(6):
                    site.clock.advance(10)
                    self.assertGreaterEqual(table.retained, window)
                    self.assertLess(table.retained, window + 2 * chunk)
                self.assertLess(opened[0].tell(), got + window + 3 * chunk)
                attempt, wire = client.attempt(), site.connect(TRAIN, greet=False)
                answer = client.ask(attempt, wire)
                assert isinstance(answer, Resumed)
                client.take_over(attempt, answer, wire)
            client.read_frames()
            client.send_frames()
            body.update(client.stream[:-100])
            got += len(client.stream[:-100])
            client.stream = client.stream[-100:]
        body.update(client.stream)
        expected = b"* 1 FETCH (BODY[] {%d}\r\n%b)\r\nf1 OK FETCH completed\r\n" % (len(mail), mail)
        self.assertEqual(body.hexdigest(), hashlib.sha256(expected).hexdigest())
        self.assertEqual((len(opened), len(site.servers), cuts, table.retained), (1, 1, [], 0))


class MailboxTests(StateCase):
    """
    Scenario 26.
    """

    def test_scenario_26_mailbox_changed_while_parked(self) -> None:
        """
        Deleted, made anew, or given another UIDVALIDITY: GRAFT says which, and leaves the client authenticated.
        """
        for begin in (plain, framed):
            for happens, answer in (
                ("deleted", b" NO [XCONTINUITY MISSING Work%20%5D] "),
                ("recreated", b" NO [XCONTINUITY CHANGED Work%20%5D 12] "),
                ("changed", b" NO [XCONTINUITY CHANGED Work%20%5D 13] "),
            ):
                site = self.new_site()
                site.mailboxes["joe"] = {"INBOX": Mailbox(), "WORK ]": Mailbox(11)}
                box = site.mailboxes["joe"]["WORK ]"]
                begin(site, select=b'SELECT "Work ]"').lose("reset")
                if happens == "changed":
                    box.uid_validity = 13
                else:
                    del site.mailboxes["joe"]["WORK ]"]
                    if happens == "recreated":
                        site.mailboxes["joe"]["WORK ]"] = Mailbox(12)
                client = logged_in(site, TRAIN)
                said = graft(client)
                self.assertIn(answer, said)
                self.assertEqual(said.count(b"\r\n"), 1, said)
                box.deliver(b"nobody may hear this\r\n")
                self.assertEqual(client.link.take(), b"")
                self.assertIn(b" OK ", client.command(b"STATUS INBOX (MESSAGES)"))
                self.assertIn(b" OK ", client.command(b"SELECT INBOX"))
                if begin is plain:
                    self.assertEqual((box.closed, site.factory.table.parked), (1, 0))


class EndTests(StateCase):
    """
    Scenarios 27 and 28.
    """

    def test_scenario_27_logout_and_bare_close(self) -> None:
        """
        LOGOUT ends at once, wherever the last octets are; a bare close parks.
        """
        for bye_arrives in (True, False):
            site = self.new_site()
            client = framed(site)
            if bye_arrives:
                client.call(b"LOGOUT")
                self.assertEqual(client.events[-1], PeerEnded(b"CLOSED"))
            else:
                client.write(b"l1 LOGOUT\r\n")
                client.send_frames()
                client.lose("reset")
                site.clock.advance(site.policy.linger)
            self.assertEqual(site.logouts, ["joe"])
            self.assertEqual(client.resume(), Refused(Refusal.ENDED, client.session.sender.end))
            self.assertIn(b" OK ", client.login(site.wires[-1]))
        for how in ("fin", "reset"):
            site = self.new_site()
            client = framed(site)
            client.lose(how)
            self.assertEqual((site.factory.table.parked, site.logouts), (1, []))
            self.assertIsInstance(client.resume(), Resumed)
            self.assertIn(b" OK ", client.call(b"NOOP"))

    def test_scenario_27_bye_is_still_delivered(self) -> None:
        """
        The link is lost right behind LOGOUT: within the linger time a RESUME brings the answer, and then it is over.
        """
        site = self.new_site()
        client = framed(site)
        client.write(b"l1 LOGOUT\r\n")
        client.send_frames()
        client.lose("reset")
        self.assertEqual(site.logouts, ["joe"])
        self.assertIsInstance(client.resume(), Resumed)
        self.assertEqual(client.stream.count(b"* BYE "), 1)
        self.assertEqual(client.stream.count(b"l1 OK "), 1)
        self.assertEqual(len(site.factory.table), 0)

    def test_scenario_28_plain_login_sees_no_other_session(self) -> None:
        """
        Whoever logs in is where a login leaves: no mailbox, no untagged data of a session that is live or parked, also when a
        ContinuityRealm hands on the avatar.
        """
        for continuity_realm in (False, True):
            for begin in (plain, framed):
                for parked in (False, True):
                    self.check_28(self.new_site(continuity_realm=continuity_realm), begin, parked)

    def check_28(self, site: Site, begin: Any, parked: bool) -> None:
        secret = b"* 77 EXISTS\r\n"
        source = begin(site)
        if parked:
            source.lose("reset")
        clients = [
            logged_in(site, TRAIN, client_id=None),
            logged_in(site, TRAIN, client_id=b"UUID other"),
            logged_in(site, TRAIN, user=b"ann"),
            logged_in(site, TRAIN),
        ]
        if begin is framed or not parked:
            self.assertEqual(len(site.logins), 5)
        self.assertEqual(site.servers[3].account.name, "ann")
        box = site.mailbox()
        for _ in range(77):
            box.deliver(b"secret\r\n")
        if begin is framed:
            site.servers[0].transport.write(secret)
        site.settle()
        for client, server in zip(clients, site.servers[1:], strict=True):
            self.assertEqual((client.link.take(), server.state, server.mbox), (b"", "auth", None))
            self.assertIn(b" BAD ", client.command(b"FETCH 1 UID"))
        if begin is framed:
            client = source
            if parked:
                self.assertIsInstance(client.resume(), Resumed)
            client.pump()
            self.assertEqual(client.stream.count(secret), 2)
