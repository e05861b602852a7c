"""
Shape A: a script that listens.  One line of it is changed, and sessions outlive their connections; everything that the site's own
code sees stays as it was.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory

from mem_continuity import RoamingEndpoint, roamer_of
from tests.dropin.clients import LineClient, connect_mail, converse, endpoint_to, read_mail
from tests.dropin.setups import Change, RunningSite, start_site
from tests.dropin.sites.office import MESSAGE
from tests.support.certificates import client_context, server_context
from tests.support.relay import Relay
from tests.support.tls_case import TLSTestCase
from tests.support.waiting import until

CONVERSATION = (
    b"a1 CAPABILITY",
    b"a2 NOOP",
    b"a3 LOGIN joe wrong",
    b"a4 LOGIN joe secret",
    b"a5 CAPABILITY",
    b"a6 NONSENSE",
    b"a7 SELECT INBOX",
    b"a8 FETCH 1 (UID RFC822)",
    b"a9 SEARCH ALL",
    b"a10 LOGOUT",
)
WORDS = b" CLIENTID XCONTINUITY"


def cut_in_the_middle(relay: Relay) -> None:
    """
    Let the link in use break when a part of the message has come through.
    """
    link = relay.links[-1]
    link.cut_at = link.from_server + 100_000


class SiteTestCase(TLSTestCase):
    """
    Runs a site as it is and with changes, and compares.
    """

    timeout = 60

    async def start(self, name: str, changes: Sequence[Change] = ()) -> RunningSite:
        site = await start_site(name, reactor, server_context(), changes)
        self.addCleanup(site.stop)
        return site

    async def through_relay(self, site: RunningSite, use: Any, preface: Sequence[bytes] = ()) -> Any:
        relay = Relay(reactor, endpoint_to(reactor, site.port, tls=False), preface)
        try:
            return await use(relay)
        finally:
            await relay.close()

    async def plain_session(self, name: str, changes: Sequence[Change], tls: bool, preface: Sequence[bytes]) -> list[str]:
        """
        C{IMAP4Client} on an ordinary connection.

        @return: the site's journal.
        """
        site = await self.start(name, changes)

        async def use(relay: Relay) -> bytes:
            client = await connect_mail(endpoint_to(reactor, relay.port, tls=tls), client_context())
            return await read_mail(client)

        self.assertEqual(await self.through_relay(site, use, preface), MESSAGE)
        await until(lambda: "logout joe" in site.journal, "the logout")
        await site.stop()
        return site.journal

    async def roaming_session(self, name: str, changes: Sequence[Change], tls: bool, preface: Sequence[bytes]) -> list[str]:
        """
        The same on a roaming one, whose link breaks within the message.

        @return: the site's journal.
        """
        site = await self.start(name, changes)

        async def use(relay: Relay) -> bytes:
            endpoint = RoamingEndpoint([endpoint_to(reactor, relay.port, tls=tls)])
            client = await connect_mail(endpoint, client_context())
            roamer = roamer_of(client)
            message = await read_mail(client, lambda: cut_in_the_middle(relay))
            self.assertEqual(roamer.handovers, 1)
            return message

        self.assertEqual(await self.through_relay(site, use, preface), MESSAGE)
        await until(lambda: "logout joe" in site.journal, "the logout")
        await site.stop()
        return site.journal

    async def conversation(
        self, name: str, changes: Sequence[Change], tls: bool, preface: Sequence[bytes], commands: Sequence[bytes]
    ) -> tuple[bytes, list[str]]:
        site = await self.start(name, changes)

        async def use(relay: Relay) -> bytes:
            return await converse(endpoint_to(reactor, relay.port, tls=tls), commands)

        heard = await self.through_relay(site, use, preface)
        await until(lambda: "logout joe" in site.journal, "the logout")
        await site.stop()
        return heard, site.journal

    async def check(
        self,
        name: str,
        changes: Sequence[Change],
        *,
        tls: bool = True,
        preface: Sequence[bytes] = (),
        commands: Sequence[bytes] = CONVERSATION,
        differs: Sequence[Change] = (),
        extra: Sequence[str] = (),
    ) -> list[str]:
        """
        The site as it is works; changed, it serves an old client in the same octets and a roaming one across a cut.

        @param differs: entries of the journal that are meant to be different, before and after.
        @param extra: entries that the new link may add in the roaming session: an instance that is made and not needed.  (It
            is not made when RESUME comes together with what it would be made after.)
        @return: the journal of the roaming session.
        """
        before = await self.plain_session(name, (), tls, preface)
        after = await self.roaming_session(name, changes, tls, preface)
        meant = dict(differs)
        expected = [meant.get(entry, entry) for entry in before]
        for entry in extra:
            if after.count(entry) > expected.count(entry):
                del after[len(after) - 1 - after[::-1].index(entry)]
        self.assertEqual(after, expected)
        heard_before, journal_before = await self.conversation(name, (), tls, preface, commands)
        heard_after, journal_after = await self.conversation(name, changes, tls, preface, commands)
        self.assertEqual(journal_after, [meant.get(entry, entry) for entry in journal_before])
        self.assertIn(WORDS, heard_after)
        self.assertEqual(re.sub(WORDS, b"", heard_after), heard_before)
        self.assertEqual(after.count("logout joe"), 1)
        return after


class ScriptTests(SiteTestCase):
    """
    One test for each way in which sites are written.
    """

    async def test_overrides(self) -> None:
        """
        Every override is called as often as before, with the same.
        """
        line = 'return reactor.listenSSL(0, factory, context, interface="127.0.0.1")'
        journal = await self.check("overriding", [(line, line.replace("factory", "continuous(factory)"))])
        self.assertEqual(sum(entry.startswith("lost") for entry in journal), 1)
        self.assertIn("S: 0005 OK LOGOUT successful", journal)

    async def test_portal_on_the_class(self) -> None:
        line = 'return reactor.listenSSL(0, Factory.forProtocol(Server), context, interface="127.0.0.1")'
        await self.check(
            "class_portal", [(line, line.replace("Factory.forProtocol(Server)", "continuous(Factory.forProtocol(Server))"))]
        )

    async def test_portal_made_by_the_protocol(self) -> None:
        """
        And the factory is started and stopped as ever.
        """
        line = 'return reactor.listenSSL(0, MailFactory(journal), context, interface="127.0.0.1")'
        new = line.replace("MailFactory(journal)", "continuous(MailFactory(journal))")
        journal = await self.check("init_portal", [(line, new)])
        self.assertEqual(journal[0], "factory started")
        self.assertEqual(journal[-1], "factory stopped")

    async def test_portal_set_late(self) -> None:
        line = 'port = reactor.listenSSL(0, factory, context, interface="127.0.0.1")'
        await self.check("late_portal", [(line, line.replace("factory", "continuous(factory)"))])

    async def test_no_portal(self) -> None:
        line = 'return reactor.listenSSL(0, factory, context, interface="127.0.0.1")'
        await self.check("no_portal", [(line, line.replace("factory", "continuous(factory)"))])

    async def test_patched_transport(self) -> None:
        """
        What a site sets on its transport stays there and is used, on every link.
        """
        line = 'return reactor.listenSSL(0, MailFactory(journal), context, interface="127.0.0.1")'
        journal = await self.check(
            "patched_transport", [(line, line.replace("MailFactory(journal)", "continuous(MailFactory(journal))"))]
        )
        self.assertTrue(journal[-2].endswith("transport is mine: True"), journal)

    async def test_starttls(self) -> None:
        """
        The session's protocol does STARTTLS once.  On a later link another instance does it, and is dropped for the session's.
        """
        line = 'return reactor.listenTCP(0, MailFactory(context, journal), interface="127.0.0.1")'
        new = line.replace("MailFactory(context, journal)", "continuous(MailFactory(context, journal))")
        commands = (CONVERSATION[0], b"s1 STARTTLS", *CONVERSATION)
        extra = ["C: mct STARTTLS, TLS: False", "lost in state unauth"]
        await self.check("starttls", [(line, new)], tls=False, commands=commands, extra=extra)

    async def test_turned_away(self) -> None:
        """
        C{buildProtocol} returns None: the connection is closed without a word, and others are served.
        """
        line = 'return reactor.listenTCP(0, MailFactory(journal), interface="127.0.0.1")'
        new = line.replace("MailFactory(journal)", "continuous(MailFactory(journal), allow_insecure=True)")
        await self.check("bouncer", [(line, new)], tls=False, extra=["asked for 127.0.0.1"])
        for changes in ((), ((line, new),)):
            site = await self.start("bouncer", changes)
            client: Any = await endpoint_to(reactor, site.port, tls=False, source="127.0.0.2").connect(
                Factory.forProtocol(LineClient)
            )
            await client.lost
            self.assertEqual(client.heard, b"")
            await site.stop()
            self.assertEqual(site.journal, ["asked for 127.0.0.2"])


V2 = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"
    + bytes([198, 51, 100, 22])
    + bytes([203, 0, 113, 7])
    + (35646).to_bytes(2, "big")
    + (143).to_bytes(2, "big")
)


class BalancerTests(SiteTestCase):
    """
    A site behind a balancer that ends TLS and says by the PROXY protocol who the client is.
    """

    LINE = "return endpoint.listen(MailFactory(journal))"
    NEW = "return endpoint.listen(continuous(MailFactory(journal), allow_insecure=True, binding=False))"
    # The protocol is made when the header was read, no longer before.
    BETTER = (("asked for 127.0.0.1", "asked for 198.51.100.22"), ("made for 127.0.0.1", "made for 198.51.100.22"))

    async def behind(self, preface: Sequence[bytes]) -> None:
        journal = await self.check(
            "behind_balancer",
            [(self.LINE, self.NEW)],
            tls=False,
            preface=preface,
            differs=self.BETTER,
            extra=["asked for 198.51.100.22", "made for 198.51.100.22"],
        )
        self.assertIn("authenticateLogin from 198.51.100.22", journal)

    async def test_version_1(self) -> None:
        await self.behind([b"PROXY TCP4 198.51.100.22 203.0.113.7 35646 143\r\n"])

    async def test_version_1_split(self) -> None:
        await self.behind([b"PROXY TCP4 198.5", b"1.100.22 203.0.113.7 35646 143\r\n"])

    async def test_version_2(self) -> None:
        await self.behind([V2])

    async def test_version_2_split(self) -> None:
        await self.behind([V2[:18], V2[18:]])

    async def test_tls_passed_through(self) -> None:
        """
        The header in front of TLS, which the site ends itself: RESUME is bound to TLS as ever.
        """
        line = "return endpoint.listen(TLSMemoryBIOFactory(context, False, MailFactory(journal)))"
        journal = await self.check(
            "tls_behind_balancer",
            [(line, line.replace("MailFactory(journal)", "continuous(MailFactory(journal))"))],
            preface=[b"PROXY TCP4 198.51.100.22 203.0.113.7 35646 143\r\n"],
            differs=self.BETTER,
            extra=["asked for 198.51.100.22", "made for 198.51.100.22"],
        )
        self.assertIn("authenticateLogin from 198.51.100.22", journal)
