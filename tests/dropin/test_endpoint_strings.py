"""
Shape C: C{continuity:} in front of the description that the site is given, over each kind of endpoint.  No code changes.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, clientFromString, serverFromString
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.filepath import FilePath

from mem_continuity import RoamingEndpoint, roamer_of
from tests.dropin.clients import connect_lines, connect_mail, endpoint_to, read_mail
from tests.dropin.sites.office import MESSAGE
from tests.dropin.test_service import ServiceTestCase
from tests.support.certificates import certificate_pem, client_context
from tests.support.relay import Relay
from tests.support.waiting import until

HEADER = b"PROXY TCP4 198.51.100.22 203.0.113.7 35646 143\r\n"


class KindTests(ServiceTestCase):
    """
    One test for each kind of endpoint.
    """

    async def session(self, description: str, target: IStreamClientEndpoint | None, tls: bool, preface: bytes) -> list[str]:
        """
        A session through a service; with the prefix its link is cut.

        @param target: where it listens; on a TCP port of its own choice when None.
        @return: the journal at the moment when C{stopService} has fired.
        """
        with_prefix = description.startswith("continuity:")
        service = await self.serve(description)
        if target is None:
            target = endpoint_to(reactor, await self.port_of(service), tls=False)
        relay = Relay(reactor, target, [preface] if preface else [])
        endpoint = endpoint_to(reactor, relay.port, tls=tls)
        client = await connect_mail(RoamingEndpoint([endpoint]) if with_prefix else endpoint, client_context())

        def fetching() -> None:
            if with_prefix:
                relay.links[-1].cut_at = relay.links[-1].from_server + 100_000

        self.assertEqual(await read_mail(client, fetching), MESSAGE)
        self.assertEqual(len(relay.links), 2 if with_prefix else 1)
        await relay.close()
        await until(lambda: "logout joe" in self.journal, "the logout")
        await self.stop(service)
        journal = list(self.journal)
        self.journal.clear()
        return journal

    async def check(
        self,
        description: str,
        *,
        options: str = "",
        target: IStreamClientEndpoint | None = None,
        tls: bool = True,
        preface: bytes = b"",
    ) -> list[str]:
        before = await self.session(description, target, tls, preface)
        after = await self.session(f"continuity:{description}{options}", target, tls, preface)
        # A new link in the clear may get an instance before its RESUME is read.
        extra = "lost in state unauth"
        self.assertEqual([entry for entry in after if entry != extra], before)
        self.assertLess(after.count(extra), 2)
        self.assertEqual(after.count("logout joe"), 1)
        return after

    async def test_tcp(self) -> None:
        await self.check("tcp:0:interface=127.0.0.1", options=":continuityInsecure=yes", tls=False)

    async def test_tls(self) -> None:
        folder = FilePath(self.mktemp())
        folder.makedirs()
        folder.child("localhost.pem").setContent(certificate_pem())
        await self.check(f"tls:{folder.path}:0:interface=127.0.0.1")

    async def test_ssl(self) -> None:
        await self.check(self.ssl, options=":continuityGrace=60:continuityWindow=65536")

    async def test_unix(self) -> None:
        """
        A path with what must be escaped in it.
        """
        path = FilePath(self.mktemp()).path
        FilePath(path).makedirs()
        socket = FilePath(path).child("a:b=c").path
        relative = socket[len(FilePath(".").path) + 1 :]  # a socket's path is short
        escaped = relative.replace(":", "\\:").replace("=", "\\=")
        target: Any = UNIXClientEndpoint(reactor, relative)
        await self.check(f"unix:{escaped}", options=":continuityInsecure=yes", target=target, tls=False)

    async def test_haproxy(self) -> None:
        """
        The PROXY header is read outside of the layer.
        """
        options = ":continuityInsecure=yes:continuityBinding=no"
        journal = await self.check("haproxy:tcp:0:interface=127.0.0.1", options=options, tls=False, preface=HEADER)
        self.assertIn("authenticateLogin, peer 198.51.100.22", journal)

    async def test_haproxy_inside(self) -> None:
        """
        The other way round cannot work, and says so.
        """
        endpoint = serverFromString(reactor, "haproxy:continuity:tcp:0:interface=127.0.0.1")
        error = await self.assertFailure(endpoint.listen(Factory.forProtocol(Protocol)), ValueError)
        self.assertIn("write continuity:haproxy:", str(error))


class StopTests(ServiceTestCase):
    """
    A site that has nothing but the description stops in good order, too.
    """

    async def test_stop(self) -> None:
        """
        When C{stopService} fires, all have heard BYE and are logged out.
        """
        service = await self.serve(f"continuity:{self.ssl}")
        port = await self.port_of(service)
        plain = await connect_lines(endpoint_to(reactor, port, tls=True))
        await plain.say(b"a1 LOGIN ann hidden")
        roaming = await self.log_in(port, roaming=True)
        await service.stopService()
        self.assertEqual(sorted(one for one in self.journal if "logout" in one), ["logout ann", "logout joe"])
        await plain.lost
        self.assertIn(b"* BYE server shutting down\r\n", plain.heard)
        await roaming.lost

    async def test_two_descriptions_share(self) -> None:
        """
        Two endpoints of one factory with the same options share their sessions: a client may come back to the other port.
        """
        service = await self.serve(f"continuity:{self.ssl}")
        other: Any = await serverFromString(reactor, f"continuity:{self.ssl}").listen(service.factory)
        targets = [await self.port_of(service), other.getHost().port]
        relays = [Relay(reactor, endpoint_to(reactor, port, tls=False)) for port in targets]
        endpoint = RoamingEndpoint([endpoint_to(reactor, relay.port, tls=True) for relay in relays])
        client = await connect_mail(endpoint, client_context())
        await client.login(b"joe", b"secret")
        await until(lambda: roamer_of(client).phase.name == "LIVE", "the layer")
        closing = Deferred.fromCoroutine(relays[0].close())
        relays[0].cut()
        await closing
        await client.noop()
        self.assertEqual(roamer_of(client).path, "path 1")
        await service.stopService()
        await client.noop()
        self.assertEqual(self.journal.count("logout joe"), 0)
        await other.stopListening()
        self.assertEqual(self.journal.count("logout joe"), 1)
        await client.lost
        await relays[1].close()

    async def test_client_description(self) -> None:
        """
        The client has nothing but a description, either: two ways by their source addresses.
        """
        service = await self.serve(f"continuity:{self.ssl}")
        port = await self.port_of(service)
        pem = FilePath(self.mktemp())
        pem.makedirs()
        pem.child("localhost.pem").setContent(certificate_pem())
        description = f"continuity:tls:localhost:{port}:trustRoots={pem.path}:continuityVia=127.0.0.3,127.0.0.4"
        client = await connect_mail(clientFromString(reactor, f"{description}:continuityClientID=UUID/one"))
        await client.login(b"joe", b"secret")
        self.assertEqual(self.journal[0], "authenticateLogin, peer 127.0.0.3")
        roamer = roamer_of(client)
        await until(lambda: roamer.phase.name == "LIVE", "the layer")
        await roamer.switch("127.0.0.4")
        await client.noop()
        self.assertEqual((roamer.handovers, roamer.path), (1, "127.0.0.4"))
        await client.logout()
        await client.lost
        await until(lambda: "logout joe" in self.journal, "the logout")
