"""
Shape B: a service on an endpoint.  Stopping it says BYE and logs out once, and it can be started again.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from twisted.application.internet import StreamServerEndpointService
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory

from mem_continuity import ContinuityFactory, ContinuityLost, RoamingEndpoint, roamer_of
from tests.dropin.clients import LineClient, MailClient, connect_lines, connect_mail, endpoint_to, read_mail
from tests.dropin.setups import IMPORT, SITES, Change, changed_text
from tests.dropin.sites.office import MESSAGE
from tests.support.certificates import certificate_pem, client_context
from tests.support.relay import Relay
from tests.support.tls_case import TLSTestCase
from tests.support.waiting import until

LINE = "return StreamServerEndpointService(serverFromString(reactor, description), factory)"
CHANGE = (LINE, LINE.replace("factory)", "continuous(factory))"))


class ServiceTestCase(TLSTestCase):
    """
    Starts the service of L{tests.dropin.sites.service}.
    """

    timeout = 60

    def setUp(self) -> None:
        self.journal: list[str] = []
        self.pem = self.mktemp()
        with open(self.pem, "wb") as file:
            file.write(certificate_pem())

    @property
    def ssl(self) -> str:
        return f"ssl:0:privateKey={self.pem}:interface=127.0.0.1"

    async def serve(self, description: str, changes: Sequence[Change] = ()) -> StreamServerEndpointService:
        """
        Start a service; it is stopped at the end of the test.
        """
        text = changed_text("service.py", [IMPORT, *changes] if changes else [])
        module = ModuleType("service")
        exec(compile(text, str(SITES / "service.py"), "exec"), module.__dict__)
        service: StreamServerEndpointService = module.make_service(reactor, description, self.journal)
        self.addCleanup(self.stop, service)
        service.startService()
        await self.port_of(service)
        return service

    async def stop(self, service: Any) -> None:
        if service.running:
            await service.stopService()
        if isinstance(service.factory, ContinuityFactory):
            await service.factory.stopped()

    async def port_of(self, service: Any) -> int:
        """
        The port that a service listens on; 0 when that is none of TCP.
        """
        await until(lambda: getattr(service._waitingForPort, "result", None) is not None, "the service listens")
        port: int = getattr(service._waitingForPort.result.getHost(), "port", 0)
        return port

    async def log_in(self, port: int, *, roaming: bool, tls: bool = True) -> MailClient:
        """
        A client that is logged in and has selected its mailbox.
        """
        endpoint = endpoint_to(reactor, port, tls=tls)
        client = await connect_mail(RoamingEndpoint([endpoint]) if roaming else endpoint, client_context())
        await client.login(b"joe", b"secret")
        await client.select(b"INBOX")
        return client


class ServiceTests(ServiceTestCase):
    """
    C{StreamServerEndpointService(endpoint, continuous(factory))}.
    """

    async def session(self, changes: Sequence[Change]) -> list[str]:
        service = await self.serve(self.ssl, changes)
        relay = Relay(reactor, endpoint_to(reactor, await self.port_of(service), tls=False))
        endpoint = endpoint_to(reactor, relay.port, tls=True)
        client = await connect_mail(RoamingEndpoint([endpoint]) if changes else endpoint, client_context())

        def fetching() -> None:
            if changes:
                relay.links[-1].cut_at = relay.links[-1].from_server + 100_000

        self.assertEqual(await read_mail(client, fetching), MESSAGE)
        self.assertEqual(len(relay.links), 2 if changes else 1)
        await relay.close()
        await until(lambda: "logout joe" in self.journal, "the logout")
        await self.stop(service)
        journal = list(self.journal)
        self.journal.clear()
        return journal

    async def test_one_line(self) -> None:
        """
        As it is the service serves; with the changed line it serves across a cut, and its own code sees the same.
        """
        before = await self.session(())
        self.assertEqual(before[-2:], ["lost in state select", "logout joe"])
        self.assertEqual(await self.session((CHANGE,)), before)

    async def test_stop(self) -> None:
        """
        A plain client and one in the layer hear BYE, and each is logged out once.
        """
        service = await self.serve(self.ssl, (CHANGE,))
        port = await self.port_of(service)
        plain = await connect_lines(endpoint_to(reactor, port, tls=True))
        await plain.say(b"a1 LOGIN ann hidden")
        before_login = await connect_lines(endpoint_to(reactor, port, tls=True))
        roaming = await self.log_in(port, roaming=True)
        await service.stopService()
        await plain.lost
        self.assertIn(b"* BYE server shutting down\r\n", plain.heard)
        await before_login.lost
        reason = await roaming.lost
        self.assertIsInstance(reason, ContinuityLost)
        self.assertEqual(roaming.byes, [b"* BYE server shutting down"])
        await self.stop(service)
        self.assertEqual(self.journal.count("logout joe"), 1)
        self.assertEqual(self.journal.count("logout ann"), 1)
        self.assertEqual(sum(entry.startswith("lost") for entry in self.journal), 3)

    async def test_stop_while_parked(self) -> None:
        """
        A session that waits for its client is logged out, too.
        """
        service = await self.serve(self.ssl, (CHANGE,))
        relay = Relay(reactor, endpoint_to(reactor, await self.port_of(service), tls=False))
        roaming = await self.log_in(relay.port, roaming=True)
        factory: Any = service.factory
        closing = Deferred.fromCoroutine(relay.close())
        relay.cut()
        await closing
        await until(lambda: factory.table.parked == 1, "the session is parked")
        await service.stopService()
        self.assertEqual(self.journal.count("logout joe"), 1)
        self.assertEqual((len(factory.table), factory.table.parked), (0, 0))
        transport: Any = roaming.transport
        transport.abortConnection()
        await roaming.lost

    async def test_too_late(self) -> None:
        """
        Who connects while the port still listens and the sessions have been ended is closed without a word.
        """
        service = await self.serve(self.ssl, (CHANGE,))
        factory: Any = service.factory
        await factory.shutdown()
        client: Any = await endpoint_to(reactor, await self.port_of(service), tls=True).connect(
            Factory.forProtocol(LineClient)
        )
        await client.lost
        self.assertEqual(client.heard, b"")
        self.assertEqual(self.journal, [])

    async def test_start_again(self) -> None:
        """
        A service that was stopped and is started again serves as at first.
        """
        service = await self.serve(self.ssl, (CHANGE,))
        first = await self.log_in(await self.port_of(service), roaming=True)
        await service.stopService()
        service._waitingForPort = None
        service.startService()  # while the sessions may still be on their way out
        second = await self.log_in(await self.port_of(service), roaming=True)
        await first.lost
        await second.noop()
        self.assertEqual(roamer_of(second).phase.name, "LIVE")
        self.assertEqual(self.journal.count("logout joe"), 1)
        await second.logout()
        await second.lost
        await until(lambda: self.journal.count("logout joe") == 2, "the second logout")

    async def test_two_ports(self) -> None:
        """
        While one port of a factory listens the sessions live.
        """
        service = await self.serve(self.ssl, (CHANGE,))
        factory: Any = service.factory
        other: Any = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        client = await self.log_in(await self.port_of(service), roaming=True)
        await other.stopListening()
        self.assertIsNone(await factory.stopped())
        await client.noop()
        await client.logout()
        await client.lost
        await until(lambda: "logout joe" in self.journal, "the logout")
