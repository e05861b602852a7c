"""
Shape D: C{ContinuityRealm} around a site's realm.  A client that names itself, loses its link and logs in again gets its live
avatar; nobody else does.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet import reactor

from tests.dropin.clients import LineClient, connect_lines, endpoint_to
from tests.dropin.setups import Change, RunningSite, start_site
from tests.support.certificates import server_context
from tests.support.relay import Relay
from tests.support.tls_case import TLSTestCase
from tests.support.waiting import until

LISTEN = 'return reactor.listenSSL(0, MailFactory(portal, journal), context, interface="127.0.0.1")'
PORTAL = "portal = Portal(NumberingRealm(journal), checkers)"
CHANGES = (
    (LISTEN, LISTEN.replace("MailFactory(portal, journal)", "continuous(MailFactory(portal, journal))")),
    ("from tests.dropin.sites.office import make_account", "from mem_continuity import ContinuityRealm\n"
     "from tests.dropin.sites.office import make_account"),
    (PORTAL, PORTAL.replace("NumberingRealm(journal)", "ContinuityRealm(NumberingRealm(journal))")),
)


class RealmTests(TLSTestCase):
    """
    One mail program that comes back, and others.
    """

    timeout = 60

    async def begin(self, changes: Sequence[Change]) -> tuple[RunningSite, Relay]:
        site = await start_site("cred", reactor, server_context(), changes)
        self.addCleanup(site.stop)
        return site, Relay(reactor, endpoint_to(reactor, site.port, tls=False))

    async def client(self, relay: Relay, login: bytes, client_id: bytes | None = b"UUID one") -> LineClient:
        client = await connect_lines(endpoint_to(reactor, relay.port, tls=True))
        if client_id is not None:
            await client.say(b"i1 CLIENTID " + client_id)
        await client.say(b"i2 LOGIN " + login)
        await client.say(b"i3 SELECT INBOX")
        return client

    async def lose(self, site: RunningSite, relay: Relay, client: LineClient) -> None:
        """
        Cut the client's link, and wait until the site's protocol knows.
        """
        losses = sum(entry.startswith("lost") for entry in site.journal)
        relay.cut()
        await client.lost
        await until(lambda: sum(entry.startswith("lost") for entry in site.journal) > losses, "the site's connectionLost")

    async def journal_of(self, changes: Sequence[Change], *logins: tuple[bytes, bytes | None]) -> list[str]:
        """
        One login after the other, each cut off; then the site is stopped.
        """
        site, relay = await self.begin(changes)
        for login, client_id in logins:
            await self.lose(site, relay, await self.client(relay, login, client_id))
        await relay.close()
        await site.stop()
        return site.journal

    async def test_untouched(self) -> None:
        """
        As it is: every login has an avatar of its own, which ends with its link.
        """
        journal = await self.journal_of((), (b"joe secret", None), (b"joe secret", None))
        self.assertEqual(
            journal,
            [
                "avatar 1 made for joe", "lost with avatar 1", "avatar 1 logged out",
                "avatar 2 made for joe", "lost with avatar 2", "avatar 2 logged out",
            ],
        )  # fmt: skip

    async def test_same_client(self) -> None:
        """
        The same avatar, twice over, and one logout at the end.
        """
        journal = await self.journal_of(CHANGES, *[(b"joe secret", b"UUID one")] * 3)
        self.assertEqual(
            journal,
            ["avatar 1 made for joe", *["lost with avatar 1"] * 3, "avatar 1 logged out"],
        )

    async def test_others(self) -> None:
        """
        Another client ID, another user and a client without a name get avatars of their own.
        """
        journal = await self.journal_of(
            CHANGES,
            (b"joe secret", b"UUID one"),
            (b"joe secret", b"UUID two"),
            (b"ann hidden", b"UUID one"),
            (b"joe secret", None),
            (b"joe secret", b"UUID one"),
        )
        losses = [entry for entry in journal if entry.startswith("lost")]
        self.assertEqual(losses, [f"lost with avatar {number}" for number in (1, 2, 3, 4, 1)])
        self.assertEqual(
            sorted(entry for entry in journal if entry.endswith("logged out")),
            [f"avatar {number} logged out" for number in (1, 2, 3, 4)],
        )

    async def test_wrong_password(self) -> None:
        """
        A client ID opens nothing.
        """
        site, relay = await self.begin(CHANGES)
        await self.lose(site, relay, await self.client(relay, b"joe secret"))
        thief = await connect_lines(endpoint_to(reactor, relay.port, tls=True))
        await thief.say(b"i1 CLIENTID UUID one")
        await thief.say(b"i2 LOGIN joe guessed")
        self.assertIn(b"i2 NO ", thief.heard)
        await self.lose(site, relay, thief)
        self.assertEqual(site.journal, ["avatar 1 made for joe", "lost with avatar 1", "lost with avatar None"])
        await relay.close()
        await site.stop()
        self.assertEqual(site.journal[3:], ["avatar 1 logged out"])

    async def test_link_that_lives(self) -> None:
        """
        A second window of the same mail program does not take the first one's avatar.
        """
        site, relay = await self.begin(CHANGES)
        first = await self.client(relay, b"joe secret")
        second = await self.client(relay, b"joe secret")
        await first.say(b"n1 NOOP")
        await second.say(b"n1 NOOP")
        self.assertEqual(site.journal, ["avatar 1 made for joe", "avatar 2 made for joe"])
        await self.lose(site, relay, first)
        await second.lost
        await relay.close()
