"""
Scenarios 25 to 28 end to end: sessions whose server, mailbox or user goes.
"""

from __future__ import annotations

import re

from mem_continuity.core.handshake import Refusal, Refused, Resumed
from tests.interop.client import Client
from tests.interop.grounds import GroundCase, OnCyrus, OnDovecot, about, until
from tests.interop.plain_client import HOME, TRAIN
from tests.interop.tls_wire import Lost


class UpstreamEnds(GroundCase):
    """
    For either server.
    """

    def begin(self) -> Client:
        """
        A client with a mailbox selected.
        """
        self.deliver(b"Subject: x\r\n\r\nlast")
        before = self.upstream_ports()
        client = self.new_client().begin(HOME, b"SELECT INBOX")
        self.upstream = self.upstream_ports() - before
        self.assertEqual(len(self.upstream), 1)
        self.server.wait_for_sessions(1, self.user)
        return client

    def kill(self) -> None:
        """
        The server's process of this client is killed.
        """
        self.server.kill_session(self.user)
        until(lambda: not self.upstream & self.upstream_ports(), "the gateway to notice")

    def graft_anew(self, client: Client) -> None:
        """
        The link that was refused is an ordinary one: log in on it, and get the mailbox back on a fresh connection.
        """
        self.assert_ok(client.login())
        said = self.assert_ok(client.graft())
        self.assertRegex(said, rb"(?s)\* 1 EXISTS.*\* ESEARCH \(TAG .*UID ALL 1\r\n")
        self.assertTrue(self.last_line(said).startswith(b"OK [XCONTINUITY GRAFTED INBOX READ-WRITE]"), said)
        self.assertIn(b"BODY[TEXT] {4}\r\nlast", self.assert_ok(client.command(b"FETCH 1 BODY.PEEK[TEXT]")))
        self.server.wait_for_sessions(1, self.user)

    def test_scenario_25_upstream_dies_while_parked(self) -> None:
        """
        RESUME is told ENDED with the count; GRAFT selects the mailbox on a fresh upstream connection.
        """
        client = self.begin()
        client.settle()
        client.lose("reset")
        self.kill()
        self.assertEqual(client.resume(TRAIN), Refused(Refusal.ENDED, client.session.sender.end))
        self.graft_anew(client)

    def test_scenario_25_upstream_dies_with_words_unread(self) -> None:
        """
        The upstream has answered while the session was parked, and died then: RESUME brings its last words, then END; after that
        it is ENDED, and GRAFT works as well.
        """
        client = self.begin()
        begin = len(client.stream)
        client.write(b"c1 CREATE Last\r\n")
        client.flush()
        client.lose("fin")
        other = self.direct()
        until(lambda: b"Last" in other.command(b'LIST "" Last'), "the command to run")
        self.assert_ok(other.command(b"LOGOUT"))
        self.server.wait_for_sessions(1, self.user)
        self.assertIsInstance(client.resume(TRAIN), Resumed)  # the answer is on its way now, if not before
        client.wire.receive()
        client.lose("reset")
        self.kill()
        self.assertIsInstance(client.resume(TRAIN), Resumed)
        client.wait_for(lambda: client.end_reason)
        self.assertRegex(bytes(client.stream[begin:]), rb"\Ac1 OK [^\n]*\n(\* BYE [^\n]*\n)?\Z")
        client.flush()
        client.lose("fin")
        answer = client.resume(TRAIN)
        self.assertEqual(answer, Refused(Refusal.ENDED, client.session.sender.end))
        self.graft_anew(client)

    def test_scenario_25_upstream_dies_under_a_live_link(self) -> None:
        """
        The client is told END, and gets back by GRAFT.
        """
        client = self.begin()
        self.kill()
        client.wait_for(lambda: client.end_reason)
        client.connect(TRAIN)
        self.graft_anew(client)


class MailboxEnds(GroundCase):
    """
    For either server.
    """

    def test_scenario_26_mailbox_changed_while_parked(self) -> None:
        """
        Deleted, made anew, or replaced by another one: GRAFT says which, and leaves the client authenticated.  With the layer and
        without.
        """
        other = self.direct()
        for framed in (True, False):
            for happens in (b"MISSING", b"CHANGED", b"REPLACED"):
                with about((framed, happens)):
                    self._check_26(other, framed, happens)

    def _check_26(self, other: Client, framed: bool, happens: bytes) -> None:
        name = b"%b ]%d" % (happens, framed)  # never twice, for Cyrus does not delete the same name twice in a second
        box = b'"%b"' % name
        self.assert_ok(other.command(b"CREATE " + box))
        client = self.new_client(client_id=b"UUID %b-%d" % (happens, framed)).logged_in(HOME)
        if framed:
            client.start()
        said = (client.call if framed else client.command)(b"SELECT " + box)
        found = re.search(rb"UIDVALIDITY (\d+)", self.assert_ok(said))
        assert found is not None
        client.lose("fin")
        if happens == b"REPLACED":
            self.assert_ok(other.command(b"CREATE Another%d" % framed))
        self.assert_ok(other.command(b"DELETE " + box))
        if happens == b"CHANGED":
            self.assert_ok(other.command(b"CREATE " + box))
        elif happens == b"REPLACED":
            self.assert_ok(other.command(b"RENAME Another%d %b" % (framed, box)))
        client.connect(TRAIN)
        self.assert_ok(client.login())
        said = client.graft()
        encoded = name.replace(b" ", b"%20").replace(b"]", b"%5D")
        code = b"MISSING " + encoded if happens == b"MISSING" else rb"CHANGED %b \d+" % encoded
        self.assertRegex(said, rb"\A\S+ NO \[XCONTINUITY %b\] [^\n]*\n\Z" % code)
        self.assertNotIn(found[1], said)
        self.assertNotRegex(client.command(b"FETCH 1 UID"), rb" OK ")
        self.assert_ok(client.command(b"STATUS INBOX (MESSAGES)"))
        self.assert_ok(client.command(b"SELECT INBOX"))


class ClientEnds(GroundCase):
    """
    For either server.
    """

    def test_scenario_27_logout_and_bare_close(self) -> None:
        """
        LOGOUT ends at once, also when its answer was lost; a bare close parks.
        """
        client = self.new_client().begin(HOME, b"SELECT INBOX")
        (pid,) = self.server.wait_for_sessions(1, self.user)
        for how in ("fin", "reset"):
            client.lose(how)
            self.assertIsInstance(client.resume(TRAIN), Resumed)
            self.assert_ok(client.call(b"NOOP"))
            self.assertEqual(self.server.sessions(self.user), [pid])
        self.assert_ok(client.call(b"LOGOUT"))
        client.wait_for(lambda: client.end_reason)
        self.assertEqual(client.end_reason, b"CLOSED")
        client.flush()
        self.server.wait_for_sessions(0, self.user)
        client.lose("fin")
        self.assertEqual(client.resume(TRAIN), Refused(Refusal.ENDED, client.session.sender.end))
        self.assert_ok(client.login())
        self.assertIn(b" NO [XCONTINUITY GONE]", client.graft())

    def test_scenario_27_bye_is_still_delivered(self) -> None:
        """
        The link is lost right behind LOGOUT: a RESUME brings the answer, and then it is over.
        """
        client = self.new_client().begin(HOME, b"SELECT INBOX")
        begin = len(client.stream)
        client.write(b"l1 LOGOUT\r\n")
        client.flush()
        client.lose("fin")
        self.server.wait_for_sessions(0, self.user)
        self.assertIsInstance(client.resume(TRAIN), Resumed)
        client.wait_for(lambda: client.end_reason)
        self.assertRegex(bytes(client.stream[begin:]), rb"\A\* BYE [^\n]*\nl1 OK [^\n]*\n\Z")
        client.flush()
        with self.assertRaises(Lost):
            client.step()
        self.assertEqual(client.resume(TRAIN), Refused(Refusal.ENDED, client.session.sender.end))

    def test_scenario_28_plain_login_sees_no_other_session(self) -> None:
        """
        Whoever logs in is where a login leaves: no mailbox, no untagged data of a session of that user that is live or parked.
        """
        source = self.new_client().begin(HOME, b"SELECT INBOX")
        for parked in (False, True):
            if parked:
                source.lose("reset")
            clients = [self.new_client(client_id=name).logged_in(TRAIN) for name in (None, b"UUID other", source.client_id)]
            self.deliver(b"Subject: secret\r\n\r\n")
            for client in clients:
                self.assertEqual(client.command(b"NOOP").count(b"\r\n"), 1)
                self.assertRegex(client.command(b"FETCH 1 UID"), rb"\At\d+ (BAD|NO) [^\n]*\n\Z")
                client.command(b"LOGOUT")
        self.assertIsInstance(source.resume(TRAIN), Resumed)
        self.assertIn(b"* 2 EXISTS", self.assert_ok(source.call(b"NOOP")))


class UpstreamEndsOnDovecot(UpstreamEnds, OnDovecot):
    pass


class UpstreamEndsOnCyrus(UpstreamEnds, OnCyrus):
    pass


class MailboxEndsOnDovecot(MailboxEnds, OnDovecot):
    pass


class MailboxEndsOnCyrus(MailboxEnds, OnCyrus):
    pass


class ClientEndsOnDovecot(ClientEnds, OnDovecot):
    pass


class ClientEndsOnCyrus(ClientEnds, OnCyrus):
    pass


del UpstreamEnds, MailboxEnds, ClientEnds
