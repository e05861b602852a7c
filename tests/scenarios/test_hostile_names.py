"""
Names with odd octets in them (scenario 35): they survive the record and the directory, and inject nothing, not into an answer and
not into a log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.logger import LogEvent, capturedLogs, eventAsText
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.policy import Policy
from mem_continuity.directory.memory import MemoryDirectory
from mem_continuity.directory.record import ClientID
from tests.support.comebacks import CLIENT_ID, TRAIN, framed, graft, logged_in, session_id_of, uid_map
from tests.support.mailboxes import Mailbox
from tests.support.raw_client import RawClient
from tests.support.site import Site

INJECTED = (b"a\r\nz9 OK [XCONTINUITY GRAFTED x", b"a\r\n* BYE", b"]\r\n")
HOSTILE = (*INJECTED, b"a\tb", b'"', b'\\"', b"a] b", b"%41", b"\x7f", b"&AOQ-", b"*")


class HostileNames(SynchronousTestCase):
    """
    Client IDs, mailbox names, tags.
    """

    def new_site(self, policy: Policy | None = None, **options: Any) -> Site:
        site = Site(policy, **options)
        self.addCleanup(site.factory.shutdown)
        return site

    def select(self, client: RawClient, name: bytes) -> bytes:
        """
        SELECT with the name as a literal.
        """
        tag = client.new_tag()
        client.link.take()
        client.link.send(tag + b" SELECT {%d}\r\n" % len(name))
        self.assertTrue(client.link.take().startswith(b"+ "))
        client.link.send(name + b"\r\n")
        client.site.settle()
        return client.link.take()

    def assert_clean(self, events: Sequence[LogEvent], *secrets: bytes) -> None:
        """
        No log line has a line break in it, nor a credential.
        """
        for event in events:
            text = eventAsText(event, includeTimestamp=False)
            self.assertNotRegex(text.rstrip("\n"), "[\r\n\0\t]")
            for secret in secrets:
                self.assertNotIn(secret.decode("ascii", "replace"), text)

    def test_scenario_35_client_ids(self) -> None:
        """
        Any octets may be a client ID: they find their record again and no other, and end no line of a log.
        """
        directory = MemoryDirectory()
        site = self.new_site(directory=directory)
        values = (*HOSTILE, b"a\0b", b"\xff\xfe", b"a", b"a\0")
        with capturedLogs() as events:
            for value in values:
                literal = b"{4+}\r\nUU\tD {%d+}\r\n%b" % (len(value), value)
                client = logged_in(site, client_id=literal)
                self.assertIn(b" OK ", client.command(b"SELECT INBOX"))
                self.assertEqual(client.link.heard.count(b"\r\n"), len(client.link.heard.splitlines()))
                (record,) = directory.find(b"joe", ClientID(b"UU\tD", value))
                self.assertEqual(record.session_id, session_id_of(client))
                client.lose()
                again = logged_in(site, TRAIN, client_id=literal)
                self.assertIn(b" OK [XCONTINUITY GRAFTED INBOX ", graft(again))
                again.command(b"LOGOUT")
        self.assertEqual(len(directory), 0)
        self.assert_clean(events, b"secret")

    def test_scenario_35_mailbox_names(self) -> None:
        """
        Any octets that a site takes as a mailbox's name survive the record, and inject nothing into WHICH or GRAFTED.
        """
        for name in HOSTILE:
            directory = MemoryDirectory()
            site = self.new_site(directory=directory)
            site.mailboxes["joe"] = {"INBOX": Mailbox(), name.decode("imap4-utf-7").upper(): Mailbox(9)}
            clients = [logged_in(site), logged_in(site)]
            with capturedLogs() as events:
                for client in clients:
                    self.assertIn(b" OK [READ-WRITE]", self.select(client, name))
                    (selection,) = [one.selection for one in directory.find(b"joe", ClientID(*CLIENT_ID.split()))
                                    if one.session_id == session_id_of(client)]
                    assert selection is not None
                    self.assertEqual(selection.name, name)
                client = logged_in(site, TRAIN)
                which = graft(client)
                self.assertRegex(which, rb"\At3 NO \[XCONTINUITY WHICH( [!-~]+){4}\] [^\r\n]*\r\n\Z")
                clients[1].lose()
                clients[0].command(b"LOGOUT")
                answer = graft(client)
            self.assertRegex(answer, rb"\r\nt4 OK \[XCONTINUITY GRAFTED [!-\\^-~]+ READ-WRITE\] [^\r\n]*\r\n\Z")
            self.assertEqual(answer.count(b"\r\n"), 7)
            self.assert_clean(events, b"secret")

    def test_scenario_35_tags(self) -> None:
        """
        A tag is told back in an ESEARCH as one quoted string, or the command is refused.
        """
        printable = (b"a]1", b"a'1", b"[", b"a\\1", b'a"1', b'") UID ALL 1', b"a(1", b"a{1}", b"*", b"+")
        for tag in (*printable, b"a\t1", b"a\x001", b"a\xe41"):
            site = self.new_site()
            site.mailbox().deliver(b"one\r\n")
            source = logged_in(site)
            source.command(b"SELECT INBOX")
            source.lose()
            client = logged_in(site, TRAIN)
            client.link.take()
            client.link.send(tag + b" XCONTINUITY GRAFT\r\n")
            site.settle()
            said = client.link.take()
            if b" OK [XCONTINUITY GRAFTED" in said:
                self.assertIn(b'* ESEARCH (TAG "' + tag.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'") UID ALL 1\r\n', said)
                self.assertEqual(uid_map(said), [1])
                self.assertTrue(said.split(b"\r\n")[-2].startswith(tag + b" OK "))
            else:
                self.assertNotIn(b"ESEARCH", said)
                self.assertIn(b" BAD ", said)

    def test_scenario_35_what_is_said_is_not_logged(self) -> None:
        """
        Neither key nor password nor mail stands in a log, whatever goes wrong.
        """
        site = self.new_site(Policy(parked=1, grace=10))
        with capturedLogs() as events:
            client = framed(site)
            key = client.session.terms.key
            client.link.send(b"\xffnonsense secret")
            site.settle()
            client.session.detach(client.now)
            client.resume(key=b"?" * 32)
            client.resume()
            client.lose()
            framed(site, user=b"ann").lose()
            site.clock.advance(100)
            client.resume()
        self.assertTrue(events)
        self.assert_clean(events, b"secret", b"hidden", key.hex().encode())
        for event in events:
            self.assertNotIn(key, [value for value in event.values() if isinstance(value, bytes)])
            self.assertNotIn(repr(key)[2:20], repr({name: value for name, value in event.items() if name != "log_trace"}))
