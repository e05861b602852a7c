"""
GRAFT at the gateway: by the record, on a fresh upstream connection.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.handshake import Refusal, Refused
from mem_continuity.core.policy import Policy
from mem_continuity.core.states import PeerEnded
from mem_continuity.directory.record import ClientID
from tests.support.comebacks import CLIENT_ID, HOME, TRAIN, framed, graft, logged_in, plain, served_of, session_id_of, uid_map
from tests.support.gateway_ground import GatewayGround
from tests.support.mailboxes import Mailbox


class GraftTests(SynchronousTestCase):
    """
    One client, its lost link, and its new one.
    """

    def setUp(self) -> None:
        self.site = GatewayGround(Policy(grace=100))
        for number in range(3):
            self.site.mailbox().deliver(b"message %d\r\n" % number)

    def records(self) -> int:
        """
        How many records of the client there are.
        """
        return len(self.site.factory.table.records(b"joe", ClientID(*CLIENT_ID.split()), self.site.gateway_site.upstream))

    def test_after_a_lost_link(self) -> None:
        """
        The upstream connection of a link that was not STARTed is closed with it; its record is enough, once.
        """
        for how in ("fin", "reset"):
            plain(self.site, HOME).lose(how)
            self.assertEqual((self.site.open_strands, self.records()), ([], 1))
            client = logged_in(self.site, TRAIN)
            said = graft(client)
            self.assertIn(b"* 3 EXISTS\r\n", said)
            self.assertIn(b"* OK [UIDVALIDITY ", said)
            self.assertEqual(len(uid_map(said)), 3)
            self.assertIn(b" OK [XCONTINUITY GRAFTED INBOX READ-WRITE] ", said)
            self.assertIn(b"message 1", client.command(b"FETCH 2 BODY[TEXT]"))
            self.assertEqual(len(self.site.open_strands), 1)
            client.command(b"LOGOUT")
            self.assertEqual(self.records(), 0)

    def test_read_only(self) -> None:
        plain(self.site, HOME, select=b"EXAMINE INBOX").lose()
        self.assertIn(b"GRAFTED INBOX READ-ONLY]", graft(logged_in(self.site, TRAIN)))

    def test_of_a_parked_session(self) -> None:
        """
        A client that has lost its counts asks for the state of its own parked session: that ends, with its upstream connection.
        """
        old = framed(self.site, HOME)
        old.lose()
        client = logged_in(self.site, TRAIN)
        self.assertEqual(len(self.site.open_strands), 2)
        self.assertIn(b"GRAFTED INBOX", graft(client))
        self.site.settle()
        self.assertEqual(len(self.site.open_strands), 1)
        answer = old.resume(host=TRAIN)
        assert isinstance(answer, Refused)
        self.assertIs(answer.refusal, Refusal.ENDED)

    def test_of_a_live_link(self) -> None:
        """
        A link that still looks alive gives way behind the answer.
        """
        old = plain(self.site, HOME)
        client = logged_in(self.site, TRAIN)
        self.assertIn(b"GRAFTED INBOX", graft(client))
        self.site.settle()
        self.assertEqual((old.link.ended, len(self.site.open_strands), self.records()), ("closed", 1, 1))

    def test_of_a_busy_link(self) -> None:
        """
        In the middle of a command, or of a literal, the other link is left as it is; the mailbox is selected all the same.
        """
        old = plain(self.site, HOME)
        old.link.send(b"x1 APPEND INBOX () {100}\r\n")
        self.site.settle()
        old.link.send(b"half of it")
        client = logged_in(self.site, TRAIN)
        self.assertIn(b"GRAFTED INBOX", graft(client))
        self.site.settle()
        self.assertEqual((old.link.ended, len(self.site.open_strands)), ("", 2))
        old.link.take()
        old.link.send(b"." * 90 + b"\r\n")
        self.site.settle()
        self.assertIn(b"x1 OK", old.link.take())
        self.assertEqual(self.site.mailbox().getMessageCount(), 4)

    def test_cut_inside_a_literal(self) -> None:
        """
        What was begun is nobody else's: nothing is stored, whoever comes next.
        """
        old = plain(self.site, HOME)
        old.link.send(b"x1 APPEND INBOX () {100}\r\n")
        self.site.settle()
        old.link.send(b"half of it")
        old.lose()
        self.assertEqual(self.site.open_strands, [])
        said = graft(logged_in(self.site, TRAIN))
        self.assertIn(b"* 3 EXISTS\r\n", said)

    def test_gone_and_changed(self) -> None:
        """
        Said plainly, without a word of the mailbox that is there now; the client is authenticated.
        """
        for happens, answer in (
            ("deleted", b" NO [XCONTINUITY MISSING WORK] "),
            ("changed", b" NO [XCONTINUITY CHANGED WORK 13] "),
        ):
            self.site.mailboxes["joe"]["WORK"] = box = Mailbox(11)
            plain(self.site, HOME, select=b"SELECT WORK").lose()
            if happens == "deleted":
                del self.site.mailboxes["joe"]["WORK"]
            else:
                box.uid_validity = 13
            client = logged_in(self.site, TRAIN)
            said = graft(client)
            self.assertIn(answer, said)
            self.assertEqual(said.count(b"\r\n"), 1, said)
            self.assertIn(b" BAD ", client.command(b"FETCH 1 FLAGS"))
            client.command(b"LOGOUT")

    def test_nothing_to_graft(self) -> None:
        """
        After LOGOUT, without a selected mailbox, after the grace period, and for another user or client.
        """
        plain(self.site, HOME).command(b"LOGOUT")
        logged_in(self.site, HOME).lose()
        self.assertIn(b"GONE", graft(logged_in(self.site, TRAIN)))
        plain(self.site, HOME).lose()
        self.assertIn(b"GONE", graft(logged_in(self.site, TRAIN, user=b"ann")))
        self.assertIn(b"GONE", graft(logged_in(self.site, TRAIN, client_id=b"UUID other")))
        self.site.clock.advance(101)
        self.assertIn(b"GONE", graft(logged_in(self.site, TRAIN)))
        self.assertEqual(len(self.site.factory.table._outliving), 0)

    def test_several(self) -> None:
        """
        Two lost links: one has to be named, and the other stays.
        """
        self.site.mailbox(name="SENT")
        lost = [plain(self.site, HOME, select=b"SELECT " + name) for name in (b"INBOX", b"SENT")]
        ids = [session_id_of(client) for client in lost]
        for client in lost:
            client.lose()
        client = logged_in(self.site, TRAIN)
        said = graft(client)
        self.assertIn(b" NO [XCONTINUITY WHICH %b INBOX %b SENT] " % tuple(ids), said)
        self.assertIn(b"GRAFTED SENT", graft(client, ids[1]))
        self.assertIn(b"GRAFTED INBOX", graft(logged_in(self.site, TRAIN), ids[0]))

    def test_going_on_without(self) -> None:
        """
        A client that does not ask needs no record of its lost link any more: they do not pile up.
        """
        for _ in range(5):
            plain(self.site, HOME).lose()
        self.assertEqual(self.records(), 1)

    def test_link_lost_meanwhile(self) -> None:
        """
        The new link goes away while the mailbox is selected for it: the record stays for the next one.
        """
        plain(self.site, HOME).lose()
        client = logged_in(self.site, TRAIN)
        client.link.send(b"g XCONTINUITY GRAFT\r\n")
        client.link.reset()
        self.site.settle()
        self.assertEqual(self.site.open_strands, [])
        self.assertIn(b"GRAFTED INBOX", graft(logged_in(self.site, TRAIN)))

    def test_upstream_that_falls_silent(self) -> None:
        """
        It does not answer the SELECT: refused in time, and that connection is not used any more.
        """
        plain(self.site, HOME).lose()
        client = logged_in(self.site, TRAIN)
        self.site.strands[-1].far.reading = False
        client.link.send(b"g XCONTINUITY GRAFT\r\n")
        self.site.settle()
        self.site.clock.advance(self.site.policy.upstream_answer)
        self.site.settle()
        self.assertIn(b"g NO [XCONTINUITY GONE] ", client.link.heard)
        self.assertEqual(client.link.ended, "closed")

    def test_upstream_lost_meanwhile(self) -> None:
        plain(self.site, HOME).lose()
        client = logged_in(self.site, TRAIN)
        self.site.strands[-1].far.reading = False
        client.link.send(b"g XCONTINUITY GRAFT\r\n")
        self.site.settle()
        self.site.strands[-1].end(ConnectionError("gone"))
        self.site.settle()
        self.assertIn(b"g NO [XCONTINUITY GONE] ", client.link.heard)
        self.assertEqual(client.link.ended, "closed")

    def test_goes_on_in_the_layer(self) -> None:
        """
        GRAFT, then START: the snapshot counts, and what comes is told inside the layer.
        """
        plain(self.site, HOME).lose()
        client = logged_in(self.site, TRAIN)
        graft(client)
        client.start()
        self.site.mailbox().deliver(b"one more\r\n")
        client.pump()
        self.assertIn(b"* 4 EXISTS", client.stream)
        client.lose()
        client.resume(host=HOME)
        self.assertIn(b"one more", client.call(b"FETCH 4 BODY[TEXT]"))
        self.assertEqual(served_of(client).record.selection.name, b"INBOX")  # type: ignore[union-attr]


class UpstreamDiesTests(SynchronousTestCase):
    """
    Scenario 25: the upstream dies while its session is parked.
    """

    def setUp(self) -> None:
        self.site = GatewayGround()
        self.site.mailbox().deliver(b"message\r\n")
        self.client = framed(self.site, HOME)
        self.count = self.client.session.sender.end
        self.client.lose()

    def test_scenario_25_resume_is_told_the_count(self) -> None:
        self.site.strands[-1].end(ConnectionError("killed"))
        self.site.settle()
        self.assertEqual(self.client.resume(host=TRAIN), Refused(Refusal.ENDED, self.count))

    def test_scenario_25_last_words_are_delivered(self) -> None:
        """
        What it said before it went is still told, with the count, and the end behind it.
        """
        self.site.servers[-1].sendUntaggedResponse(b"BYE down for today")
        self.site.servers[-1].transport.loseConnection()
        self.site.settle()
        self.client.resume(host=TRAIN)
        self.assertTrue(self.client.stream.endswith(b"* BYE down for today\r\n"))
        self.assertIn(PeerEnded(b"CLOSED"), self.client.events)
        again = self.client.resume(host=TRAIN)
        assert isinstance(again, Refused)
        self.assertEqual(again.refusal, Refusal.ENDED)

    def test_scenario_25_graft_selects_on_a_fresh_upstream(self) -> None:
        """
        With and without last words that nobody has heard yet.
        """
        for words in (False, True):
            client = framed(self.site, HOME, client_id=b"UUID %d" % words)
            client.lose()
            if words:
                self.site.servers[-1].sendUntaggedResponse(b"BYE")
                self.site.servers[-1].transport.loseConnection()
            else:
                self.site.strands[-1].end(ConnectionError("killed"))
            self.site.settle()
            said = graft(logged_in(self.site, TRAIN, client_id=b"UUID %d" % words))
            self.assertIn(b"GRAFTED INBOX READ-WRITE]", said)
            self.assertEqual(len(uid_map(said)), 1)
