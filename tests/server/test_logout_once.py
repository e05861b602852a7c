"""
Every avatar is logged out exactly once, and every protocol told C{connectionLost} exactly once, whoever had them last: a table of
all the ways in which a session is left, the login was made, and somebody comes back or not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import product
from typing import Any

from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred, succeed
from twisted.mail.interfaces import IAccountIMAP
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mem_continuity.core.policy import Policy
from mem_continuity.server import ContinuityRealm
from tests.support.comebacks import TRAIN, framed, graft, logged_in, plain
from tests.support.mailboxes import Account
from tests.support.raw_client import RawClient
from tests.support.site import Server, Site

SOURCES = ("live_framed", "live_plain", "parked_framed", "parked_plain")
LOGINS = ("portal", "continuity_realm", "no_portal")
COMEBACKS = ("graft", "login_only", "login_and_lost_again", "nobody", "shutdown")


@implementer(IRealm)
class CountingRealm:
    """
    The site's realm, and how often each avatar was logged out.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.logouts: Counter[int] = Counter()
        self.avatars: list[Account] = []

    def made(self) -> tuple[Account, Callable[[], object]]:
        number = len(self.avatars)
        self.avatars.append(Account("joe", self.site.mailboxes.setdefault("joe", {"INBOX": self.site.mailbox()})))
        return self.avatars[-1], lambda: self.logouts.update([number])

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        return IAccountIMAP, *self.made()

    @property
    def counts(self) -> list[int]:
        """
        How often each avatar was logged out, in the order of the logins.
        """
        return [self.logouts[number] for number in range(len(self.avatars))]


class OwnLoginServer(Server):
    """
    A site's subclass that looks passwords up by itself and has no portal.
    """

    realm: CountingRealm

    def authenticateLogin(self, user: bytes, passwd: bytes) -> Deferred[Any]:
        return succeed((IAccountIMAP, *self.realm.made()))


class LogoutTests(SynchronousTestCase):
    """
    One test for each row of the table.
    """

    def check(self, source: str, login: str, comeback: str) -> None:
        site = Site(Policy(grace=100, linger=5))
        realm = CountingRealm(site)
        if login == "no_portal":
            made = site.buildProtocol

            def build(addr: Any) -> Any:
                protocol = made(addr)
                protocol.portal, protocol.realm = None, realm
                return protocol

            site.protocol_class = OwnLoginServer
            site.buildProtocol = build  # type: ignore[method-assign]
        else:
            site.portal.realm = ContinuityRealm(realm) if login == "continuity_realm" else realm
        client = (framed if source.endswith("framed") else plain)(site)
        if source.startswith("parked"):
            client.lose("reset")
            kept = login != "no_portal" or source == "parked_framed"
            self.assertEqual((realm.counts, site.mailbox().closed), ([0 if kept else 1], 0 if kept else 1))
        getattr(self, f"come_{comeback}")(site, realm, source, login)
        for number in realm.counts:
            self.assertLessEqual(number, 1)
        stopped = site.factory.shutdown()
        site.settle()
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual(realm.counts, [1] * len(realm.avatars))
        self.assertEqual({len(server.losses) for server in site.servers}, {1})
        self.assertEqual(len(site.factory.table), 0)

    def come_graft(self, site: Site, realm: CountingRealm, source: str, login: str) -> None:
        client = logged_in(site, TRAIN)
        self.assertIn(b" OK [XCONTINUITY GRAFTED INBOX READ-WRITE]", graft(client))
        if login != "no_portal":  # the avatar goes on, and whatever the new login had made is given back
            self.assertEqual(realm.counts, [0, 1][: len(realm.avatars)])
            self.assertEqual(len(realm.avatars), 1 if (source, login) == ("parked_plain", "continuity_realm") else 2)
            self.assertIs(site.servers[-1].account, realm.avatars[0])
        client.command(b"LOGOUT")
        site.settle()
        if login != "no_portal":
            self.assertEqual(realm.counts, [1] * len(realm.avatars))

    def come_login_only(self, site: Site, realm: CountingRealm, source: str, login: str) -> None:
        client = logged_in(site, TRAIN)
        self.assertIn(b" OK ", client.command(b"SELECT INBOX"))
        self.assertIn(b" OK ", client.command(b"NOOP"))
        client.command(b"LOGOUT")
        site.settle()
        self.assertEqual(realm.counts[-1], 1)

    def come_login_and_lost_again(self, site: Site, realm: CountingRealm, source: str, login: str) -> None:
        client: RawClient = logged_in(site, TRAIN)
        client.lose("reset")
        site.clock.advance(101)
        if source.startswith("parked"):
            self.assertEqual(realm.counts, [1] * len(realm.avatars))

    def come_nobody(self, site: Site, realm: CountingRealm, source: str, login: str) -> None:
        site.clock.advance(101)
        self.assertEqual(realm.counts, [1 if source.startswith("parked") else 0])

    def come_shutdown(self, site: Site, realm: CountingRealm, source: str, login: str) -> None:
        site.factory.shutdown()
        site.settle()
        self.assertEqual(realm.counts, [1])


def _add(source: str, login: str, comeback: str) -> None:
    def test(self: LogoutTests) -> None:
        self.check(source, login, comeback)

    test.__name__ = f"test_{source}_{login}_{comeback}"
    setattr(LogoutTests, test.__name__, test)


for _row in product(SOURCES, LOGINS, COMEBACKS):
    _add(*_row)
