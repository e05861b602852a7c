"""
GRAFT: what the answer tells, which session it takes, and what moves.
"""

from __future__ import annotations

from itertools import pairwise
from urllib.parse import unquote_to_bytes

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.handshake import Refusal, Refused
from mem_continuity.core.states import PeerEnded
from mem_continuity.directory.memory import MemoryDirectory
from mem_continuity.directory.record import ClientID, Record, Selection
from mem_continuity.imap.sequence import uid_ranges
from mem_continuity.server.grafting import encode_name
from mem_continuity.server.moving import decode_name
from tests.support.comebacks import TRAIN, framed, graft, logged_in, plain, served_of, session_id_of, uid_map
from tests.support.raw_client import RawClient
from tests.support.site import Site

GONE = b" NO [XCONTINUITY GONE] "


class TextTests(SynchronousTestCase):
    """
    How UIDs and names are written.
    """

    @given(st.lists(st.integers(1, 2**32 - 1) | st.integers(1, 30), unique=True))
    def test_uid_ranges(self, uids: list[int]) -> None:
        """
        A sequence set names the UIDs it was made of, in order, none twice, and no range could be joined to the next.
        """
        uids.sort()
        written = uid_ranges(iter(uids))
        parts = [tuple(map(int, part.split(b":"))) for part in written.split(b",") if part]
        read = [uid for part in parts for uid in ([part[0]] if len(part) == 1 else [part[0], part[1]])]
        self.assertEqual(sorted(set(read)), read)
        self.assertLessEqual(set(read), set(uids))
        named = sum(1 if len(part) == 1 else part[1] - part[0] + 1 for part in parts)
        self.assertEqual(named, len(uids))
        for one, following in pairwise(parts):
            self.assertGreater(following[0], one[-1] + 1)

    @given(st.binary())
    def test_encode_name(self, name: bytes) -> None:
        """
        A name in a response code ends nothing and comes back as it was.
        """
        written = encode_name(name)
        self.assertEqual(unquote_to_bytes(written), name)
        self.assertFalse(set(written) & set(b'] "\\\r\n\0\t()'))
        self.assertTrue(written.isascii())

    @given(st.text(st.characters(exclude_characters="\t\n\r", exclude_categories=["Cs"])))
    def test_decode_name_modified_utf7(self, name: str) -> None:
        """
        Modified UTF-7, as IMAP4rev1 names mailboxes.
        """
        self.assertEqual(decode_name(name.encode("imap4-utf-7")), name)

    @given(st.binary())
    def test_decode_name_anything(self, name: bytes) -> None:
        """
        Nothing makes it raise.
        """
        self.assertIsInstance(decode_name(name), str)


class GraftCase(SynchronousTestCase):
    """
    A site with three messages of UIDs 1, 3 and 4.
    """

    continuity_realm = False

    def setUp(self) -> None:
        self.directory = MemoryDirectory()
        self.site = Site(continuity_realm=self.continuity_realm, directory=self.directory)
        self.addCleanup(self.site.factory.shutdown)
        self.box = self.site.mailbox()
        for number in range(4):
            self.box.deliver(b"message %d\r\n" % number)
        self.box.vanish(2)

    def assert_grafted(self, answer: bytes) -> None:
        self.assertEqual(answer.count(b"\r\n"), 7, answer)
        lines = answer.split(b"\r\n")
        tag = lines[-2].split(b" ")[0]
        self.assertEqual(
            lines[:-2],
            [
                b"* FLAGS (\\Seen \\Deleted \\Flagged)",
                b"* 3 EXISTS",
                b"* 0 RECENT",
                b"* OK [UIDVALIDITY 7] UIDs valid",
                b"* OK [UIDNEXT 5] predicted next UID",
                b'* ESEARCH (TAG "%b") UID ALL 1,3:4' % tag,
            ],
        )
        self.assertTrue(lines[-2].startswith(tag + b" OK [XCONTINUITY GRAFTED INBOX READ-WRITE] "))
        self.assertEqual(uid_map(answer), [self.box.getUID(number) for number in (1, 2, 3)])

    def assert_selected(self, client: RawClient) -> None:
        """
        The client is in the selected state, without a SELECT.
        """
        self.assertIn(b"* 2 FETCH (UID 3 FLAGS ())", client.command(b"FETCH 2 (UID FLAGS)"))


class SourceTests(GraftCase):
    """
    The four kinds of session that a GRAFT finds.
    """

    def check(self, source: RawClient) -> None:
        old, old_served, box = self.site.servers[0], served_of(source), self.box
        client = logged_in(self.site, TRAIN)
        answer = graft(client)
        self.assert_grafted(answer)
        new = self.site.servers[1]
        self.assertEqual(box.listeners, [new])
        self.assertIs(new.mbox, box)
        self.assertIs(new.account, self.site.accounts[0])
        self.assertEqual(box.closed, 0)
        before = len(source.link.heard), len(old.heard)
        box.deliver(b"after\r\n")
        self.site.settle()
        self.assertEqual(client.link.take(), b"* 4 EXISTS\r\n")
        self.assertEqual((len(source.link.heard), len(old.heard)), before)
        self.assertTrue(source.link.ended)
        self.assertTrue(old_served.over)
        self.assertEqual(len(old.losses), 1)
        self.assertIsNone(old.mbox)
        self.assert_selected(client)
        self.assertEqual(self.site.logouts, ["joe"])
        (record,) = self.directory.find(b"joe", ClientID(*(source.client_id or b"").split()))
        self.assertEqual(record.session_id, session_id_of(client))
        self.assertEqual(record.selection, Selection(b"INBOX", False, 7))

    def test_live_plain(self) -> None:
        """
        A link that still looks alive is taken too: the request is explicit.
        """
        self.check(plain(self.site))

    def test_live_framed(self) -> None:
        """
        And its client is told END, so that it does not resume.
        """
        source = framed(self.site)
        self.check(source)
        source.read_frames()
        self.assertEqual(source.events[-1], PeerEnded(b"MOVED"))

    def test_parked_plain(self) -> None:
        """
        The mailbox object and the avatar that the lost link left.
        """
        source = plain(self.site)
        source.lose("reset")
        self.assertEqual(self.box.listeners, [])
        self.check(source)

    def test_parked_framed(self) -> None:
        """
        The instance that waited for a RESUME is given up.
        """
        source = framed(self.site)
        source.lose("reset")
        self.check(source)
        self.assertEqual(self.site.factory.table.parked, 0)
        self.assertEqual(source.resume(), Refused(Refusal.ENDED, source.session.sender.end))

    def test_idling(self) -> None:
        """
        A source in IDLE stands between two commands.
        """
        source = framed(self.site)
        source.write(b"i1 IDLE\r\n")
        source.pump()
        self.assertTrue(source.stream.endswith(b"+\r\n"), source.stream)
        self.check(source)


class ChoiceTests(GraftCase):
    """
    Which session is taken.
    """

    def test_which(self) -> None:
        """
        With several candidates and no name the client is told all, and nothing changes; with a name it is that one.
        """
        self.site.mailbox(name="SENT ITEMS]")
        sources = [plain(self.site), framed(self.site, select=b'SELECT "Sent items]"')]
        client = logged_in(self.site, TRAIN)
        ids = [session_id_of(source) for source in sources]
        listed = b"%b INBOX %b Sent%%20items%%5D" % tuple(ids)
        self.assertIn(b" NO [XCONTINUITY WHICH " + listed + b"] ", graft(client))
        self.assertEqual([source.link.ended for source in sources], ["", ""])
        self.assertIn(b" OK [XCONTINUITY GRAFTED Sent%20items%5D READ-WRITE]", graft(client, ids[1]))
        self.assertEqual([bool(source.link.ended) for source in sources], [False, True])
        self.assertIn(b" OK ", sources[0].command(b"NOOP"))

    def test_named_is_not_there(self) -> None:
        """
        A name that is unknown, another user's or another client's is answered alike.
        """
        sources = [plain(self.site, user=b"ann"), plain(self.site, client_id=b"UUID other"), plain(self.site, client_id=None)]
        client = logged_in(self.site, TRAIN)
        named = [session_id_of(source) for source in sources[:2]]
        answers = {graft(client, one).split(b" ", 1)[1] for one in [b"n0.abcdefghijklmnop", *named, session_id_of(client)]}
        self.assertEqual(len(answers), 1)
        self.assertIn(GONE, b" " + answers.pop())
        self.assertEqual(self.site.factory.table.counts["grafted"], 0)
        for source in sources:
            self.assertIn(b" OK ", source.command(b"NOOP"))

    def test_nobody(self) -> None:
        """
        Without a client ID, or with a sibling that has no mailbox selected, there is nothing to take.
        """
        plain(self.site, client_id=None)
        logged_in(self.site)
        for client_id in (None, b"UUID 23bf83be-aad8-46aa-9f0b-39191ccd402f", b"UUID new"):
            self.assertIn(GONE, graft(logged_in(self.site, TRAIN, client_id=client_id)))

    def test_before_login(self) -> None:
        """
        Nothing is told to somebody who has not logged in.
        """
        plain(self.site)
        client = RawClient(self.site)
        client.connect(TRAIN)
        client.command(b"CLIENTID UUID 23bf83be-aad8-46aa-9f0b-39191ccd402f")
        self.assertIn(b" BAD ", graft(client))
        self.assertIn(b" BAD ", client.command(b"XCONTINUITY GRAFT not-a-session-id"))
        self.assertIn(b" BAD ", client.command(b"XCONTINUITY GRAFT n0.abcdefghijklmnop more"))

    def test_closed_meanwhile(self) -> None:
        """
        A mailbox that was closed before the link went is nothing to graft.
        """
        source = plain(self.site)
        source.command(b"CLOSE")
        source.lose()
        self.assertIn(GONE, graft(logged_in(self.site, TRAIN)))

    def test_elsewhere(self) -> None:
        """
        A record is enough: the session may be another process's, or gone with it; then the mailbox is selected anew.
        """
        client_id = ClientID(b"UUID", b"23bf83be-aad8-46aa-9f0b-39191ccd402f")
        self.directory.put(Record(b"n9.abcdefghijklmnop", b"joe", client_id, 0.0, Selection(b"inbox", False, 7)))
        client = logged_in(self.site, TRAIN)
        self.assertIn(b"ALL 1,3:4\r\n", answer := graft(client))
        self.assertIn(b" OK [XCONTINUITY GRAFTED inbox READ-WRITE]", answer)
        self.assert_selected(client)

    def test_in_one_flight(self) -> None:
        """
        A client need not wait: all in one segment, the first command in the selected state among it.
        """
        plain(self.site).lose()
        wire = self.site.connect(TRAIN)
        wire.send(
            b"a1 CLIENTID UUID 23bf83be-aad8-46aa-9f0b-39191ccd402f\r\na2 LOGIN joe secret\r\n"
            b"a3 XCONTINUITY GRAFT\r\na4 FETCH 3 UID\r\n"
        )
        self.site.settle()
        said = wire.take()
        self.assertEqual(uid_map(said), [1, 3, 4])
        places = [said.index(part) for part in (b"a1 OK", b"a2 OK", b"* 3 EXISTS", b"a3 OK", b"* 3 FETCH (UID 4)", b"a4 OK")]
        self.assertEqual(places, sorted(places))

    def test_start_after_graft(self) -> None:
        """
        A grafted session can be STARTed, and then RESUMEd.
        """
        plain(self.site).lose()
        client = logged_in(self.site, TRAIN)
        graft(client)
        client.start()
        client.lose()
        self.box.deliver(b"meanwhile\r\n")
        client.resume()
        self.assertIn(b"* 4 EXISTS\r\n", client.stream)
        self.assertIn(b"* 2 FETCH (UID 3)", client.call(b"FETCH 2 UID"))


    def test_known_afterwards(self) -> None:
        """
        What was grafted is known like what was selected: another GRAFT finds it, also after an ENABLE, and not after a CLOSE.
        """
        plain(self.site).lose()
        for host in (TRAIN, "198.51.100.3"):
            client = logged_in(self.site, host)
            self.assert_grafted(graft(client))
            client.command(b"ENABLE CONDSTORE")
            self.assert_selected(client)
            client.lose()
        client = logged_in(self.site)
        self.assert_grafted(graft(client))
        self.assertIn(b" OK ", client.command(b"CLOSE"))
        client.lose()
        self.assertIn(GONE, graft(logged_in(self.site)))


class RealmTests(GraftCase):
    """
    After a re-login through a L{ContinuityRealm}.
    """

    continuity_realm = True

    def test_same_avatar_same_mailbox(self) -> None:
        """
        The login gives the live avatar, the GRAFT the very mailbox object; nobody is logged out.
        """
        plain(self.site).lose()
        client = logged_in(self.site, TRAIN)
        self.assertEqual(self.site.logins, ["joe"])
        self.assert_grafted(graft(client))
        self.assertIs(self.site.servers[1].account, self.site.accounts[0])
        self.assertIs(self.site.servers[1].mbox, self.box)
        self.assertEqual(self.box.closed, 0)
        self.assertEqual(self.site.logouts, [])
        client.command(b"LOGOUT")
        self.assertEqual(self.site.logouts, ["joe"])

    def test_passed_on(self) -> None:
        """
        The heir loses its link before it can GRAFT, and the next one too: the mailbox is still there.
        """
        plain(self.site).lose()
        for _ in range(3):
            logged_in(self.site, TRAIN).lose()
        client = logged_in(self.site)
        self.assert_grafted(graft(client))
        self.assertEqual((self.site.logins, self.site.logouts, self.box.closed), (["joe"], [], 0))
        self.assertEqual(len(self.site.factory.table), 1)

    def test_kept_no_longer_than_wanted(self) -> None:
        """
        An heir that goes on without a GRAFT lets the old mailbox go: by a first command, by START, by LOGOUT, by silence.
        """
        ways = {
            "select": lambda client: client.command(b"SELECT INBOX"),
            "start": lambda client: client.start(),
            "logout": lambda client: client.command(b"LOGOUT"),
            "grace": lambda client: self.site.clock.advance(1501),
        }
        for way in ways.values():
            before = self.box.closed
            plain(self.site).lose()
            client = logged_in(self.site, TRAIN)
            self.assertEqual(self.box.closed, before)
            way(client)
            self.site.settle()
            self.assertEqual(self.box.closed, before + 1)
            if not client.link.ended:
                client.lose()
            self.site.clock.advance(1501)
        self.assertEqual(self.site.logouts, self.site.logins)
