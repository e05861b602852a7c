"""
The layer on TLS on the descriptor: login, START, and RESUME on another connection, bound to its TLS.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as _reactor

from mem_continuity.client import Path, RoamingEndpoint, roamer_of
from mem_continuity.core.handshake import Binding
from mem_continuity.core.policy import RoamingPolicy
from mem_continuity.layer.tls_contexts import client_context, server_context
from mem_continuity.layer.tls_endpoints import TLSClientEndpoint, TLSServerEndpoint
from mem_continuity.layer.tls_socket import TLSSocket
from tests.dropin.clients import connect_lines, connect_mail, endpoint_to
from tests.support.certificates import certificate_pem
from tests.support.site import Site
from tests.support.tls_case import TLSTestCase
from tests.support.tls_talk import LOOPBACK
from tests.support.waiting import until

reactor: Any = _reactor


class ContinuityTests(TLSTestCase):
    """
    C{continuous()} behind L{TLSServerEndpoint}.
    """

    timeout = 60

    async def serve(self, **options: Any) -> Site:
        site = Site(clock=reactor, binding=True)
        endpoint = TLSServerEndpoint(reactor, 0, server_context(certificate_pem()), LOOPBACK, **options)
        port: Any = await endpoint.listen(site.factory)
        self.addCleanup(port.stopListening)
        self.addCleanup(site.factory.shutdown)
        self.port: int = port.getHost().port
        return site

    async def roam(self, endpoint: Any) -> None:
        site = await self.serve()
        way = RoamingEndpoint(
            [Path("only", endpoint)], reactor=reactor, policy=RoamingPolicy(), client_id=(b"UUID", b"descriptor")
        )
        client = await connect_mail(way)
        await client.getCapabilities()
        await client.login(b"joe", b"secret")
        await client.select(b"INBOX")
        roamer = roamer_of(client)
        await until(lambda: len(site.factory.table) == 1, "the session is begun")
        served = next(iter(site.factory.table.all()))
        assert served.conduit is not None
        assert served.conduit.session.terms.binding is Binding.TLS_EXPORTER
        first = served.link
        assert first is not None
        assert isinstance(first.transport, TLSSocket)

        roamer.link_is_dead()
        await until(lambda: roamer.handovers == 1, "it is resumed")
        await client.noop()
        assert served.link is not None
        assert served.link is not first
        assert isinstance(served.link.transport, TLSSocket)
        assert site.logins == ["joe"], site.logins
        await client.logout()
        await client.lost

    async def test_a_client_of_twisted_comes_back(self) -> None:
        site_port = lambda: endpoint_to(reactor, self.port, tls=True)  # noqa: E731  the port is known later
        await self.roam(_Late(site_port))

    async def test_a_client_on_the_descriptor_comes_back(self) -> None:
        context = client_context(certificate_pem())
        await self.roam(_Late(lambda: TLSClientEndpoint(reactor, LOOPBACK, self.port, context, "localhost")))

    async def test_a_plain_conversation(self) -> None:
        await self.serve()
        client = await connect_lines(endpoint_to(reactor, self.port, tls=True))
        for command in (b"a CAPABILITY", b"b LOGIN joe secret", b"c SELECT INBOX", b"d LOGOUT"):
            await client.say(command)
        await client.lost
        assert b"XCONTINUITY" in client.heard
        assert b"* BYE" in client.heard
        assert b"d OK" in client.heard


class _Late:
    """
    An endpoint that is made when it is used.
    """

    def __init__(self, make: Any) -> None:
        self.make = make

    def connect(self, factory: Any) -> Any:
        return self.make().connect(factory)
