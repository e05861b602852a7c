"""
GRAFT against the embedded mailhost: views of its own for each SELECT, on Maildir.
"""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any

from twisted.cred.portal import Portal
from twisted.mail.interfaces import IAccountIMAP
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.policy import Policy
from mem_continuity.mailhost import MaildirRealm, MailhostFactory
from mem_continuity.server import ContinuityRealm
from tests.support.comebacks import TRAIN, framed, graft, logged_in, plain, uid_map
from tests.support.raw_client import RawClient
from tests.support.site import Server, Site


class MailhostSite(Site):
    """
    A site with mail on disk, under the mailhost's own protocol or under Twisted's.
    """

    def __init__(self, root: Path, *, stock: bool, continuity_realm: bool) -> None:
        super().__init__(Policy(folder_interval=5))
        self.realm = MaildirRealm(root, self.clock, self.policy)
        realm: Any = ContinuityRealm(self.realm) if continuity_realm else self.realm
        self.portal = Portal(realm, [self.checker])
        self._mailhost = MailhostFactory(self.portal, self.clock, self.policy)
        self._stock = stock

    def buildProtocol(self, addr: Any) -> Any:
        made: Any = Server(self) if self._stock else self._mailhost.buildProtocol(addr)
        made.portal, made.factory = self.portal, self
        made.timeOut = made.POSTAUTH_TIMEOUT = None  # its autologout would be the running reactor's
        self.servers.append(made)
        return made


class MailhostTests(SynchronousTestCase):
    """
    The same for both protocols, and for both ways of keeping the avatar.
    """

    kinds = [(stock, realm) for stock in (False, True) for realm in (False, True)]  # noqa: RUF012

    def make(self, stock: bool, continuity_realm: bool) -> MailhostSite:
        root = Path(self.mktemp())
        site = MailhostSite(root, stock=stock, continuity_realm=continuity_realm)
        self.addCleanup(site.factory.shutdown)
        self.deliver(site, 6)
        return site

    def deliver(self, site: MailhostSite, number: int, name: str = "INBOX") -> None:
        folder = site.realm.requestAvatar(b"joe", None, IAccountIMAP)[1].select(name)
        assert folder is not None
        for _ in range(number):
            self.successResultOf(folder.addMessage(BytesIO(b"Subject: x\r\n\r\nbody\r\n"), (), None))

    def expunge(self, site: Site, uids: bytes) -> None:
        """
        Another of the user's programs removes messages.
        """
        other = plain(site, client_id=None)
        self.assertIn(b" OK ", other.command(b"UID STORE " + uids + b" +FLAGS.SILENT (\\Deleted)"))
        self.assertIn(b" OK ", other.command(b"EXPUNGE"))
        other.command(b"LOGOUT")

    @staticmethod
    def fetched(client: RawClient) -> dict[int, int]:
        """
        Sequence number to UID, as FETCH has it.
        """
        said = client.command(b"FETCH 1:* (UID)")
        return {int(number): int(uid) for number, uid in re.findall(rb"\* (\d+) FETCH \(UID (\d+)\)", said)}

    def test_map_after_expunges(self) -> None:
        """
        Messages were removed before the link was lost, while it was parked, and after the GRAFT; mail came meanwhile: the map is
        what FETCH says at every moment.
        """
        for stock, continuity_realm in self.kinds:
            for begin in (plain, framed):
                site = self.make(stock, continuity_realm)
                source = begin(site)
                box = site.servers[0].mbox
                self.expunge(site, b"2")
                source.lose("reset")
                self.expunge(site, b"4:5")
                self.deliver(site, 2)
                client = logged_in(site, TRAIN)
                answer = graft(client)
                self.assertIn(b" OK [XCONTINUITY GRAFTED INBOX READ-WRITE]", answer)
                self.assertIs(site.servers[-1].mbox, box)
                numbered = dict(enumerate(uid_map(answer), 1))
                self.assertIn(b"* %d EXISTS\r\n" % len(numbered), answer)
                self.assertEqual({7, 8, 1, 3, 6} - set(numbered.values()), set())
                there = self.fetched(client)
                self.assertEqual(sorted(there.values()), [1, 3, 6, 7, 8])
                self.assertEqual({number: numbered[number] for number in there}, there)
                said = client.command(b"EXPUNGE")  # numbers that were told are now taken back, in an order that holds
                for number in re.findall(rb"\* (\d+) EXPUNGE", said):
                    uids = list(numbered.values())
                    del uids[int(number) - 1]
                    numbered = dict(enumerate(uids, 1))
                self.assertEqual(self.fetched(client), numbered)
                self.assertEqual(list(numbered.values()), [1, 3, 6, 7, 8])
                client.command(b"LOGOUT")

    def test_new_mail_reaches_the_new_instance_only(self) -> None:
        """
        After the GRAFT the folder is watched for the new instance; when that is gone, for nobody.
        """
        for stock, continuity_realm in self.kinds:
            site = self.make(stock, continuity_realm)
            source = plain(site)
            source.lose("reset")
            self.assertEqual([call for call in site.clock.getDelayedCalls() if call.getTime() < 1010], [])
            client = logged_in(site, TRAIN)
            graft(client)
            heard = len(source.link.heard)
            self.deliver(site, 1)
            site.settle()
            self.assertIn(b"* 7 EXISTS\r\n", client.link.take())
            self.assertEqual(len(source.link.heard), heard)
            client.command(b"LOGOUT")
            site.settle()
            self.assertEqual(site.clock.getDelayedCalls(), [])

    def test_examined(self) -> None:
        """
        What was opened by EXAMINE stays read-only, moved or opened anew.
        """
        for stock, continuity_realm in self.kinds:
            for begin in (plain, framed):
                site = self.make(stock, continuity_realm)
                source = begin(site, select=b"EXAMINE INBOX")
                source.lose("reset")
                client = logged_in(site, TRAIN)
                self.assertIn(b" OK [XCONTINUITY GRAFTED INBOX READ-ONLY]", graft(client))
                self.assertNotIn(b" OK ", client.command(b"STORE 1 +FLAGS (\\Deleted)"))
                self.assertEqual(len(self.fetched(client)), 6)
                client.command(b"LOGOUT")

    def test_folder_deleted_and_made_anew(self) -> None:
        """
        The folder is gone, or another one has its name: GRAFT says so.
        """
        for stock, continuity_realm in self.kinds:
            for again in (False, True):
                site = self.make(stock, continuity_realm)
                other = logged_in(site, client_id=None)
                other.command(b"CREATE Work")
                plain(site, select=b"SELECT Work").lose("reset")
                self.assertIn(b" OK ", other.command(b"DELETE Work"))
                if again:
                    other.command(b"CREATE Work")
                client = logged_in(site, TRAIN)
                expected = b" NO [XCONTINUITY CHANGED Work " if again else b" NO [XCONTINUITY MISSING Work]"
                self.assertIn(expected, graft(client))
                self.assertIn(b" OK ", client.command(b"SELECT INBOX"))

    def test_recent_is_kept(self) -> None:
        """
        What was recent to the lost link still is: the view itself has moved.
        """
        for continuity_realm in (False, True):
            site = self.make(False, continuity_realm)
            plain(site).lose("reset")
            client = logged_in(site, TRAIN)
            self.assertIn(b"* 6 RECENT\r\n", graft(client))
