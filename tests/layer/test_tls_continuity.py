"""
The layer on TLS on the descriptor: login, START, and RESUME on another connection, bound to its TLS.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import SSL4ServerEndpoint

from mem_continuity.client import Path, RoamingEndpoint, roamer_of
from mem_continuity.core.handshake import Binding
from mem_continuity.core.policy import Policy, RoamingPolicy
from mem_continuity.layer.tls_contexts import client_context, server_context
from mem_continuity.layer.tls_endpoints import TLSClientEndpoint, TLSServerEndpoint
from mem_continuity.layer.tls_socket import TLSSocket
from tests.dropin.clients import connect_lines, connect_mail, endpoint_to
from tests.support import certificates
from tests.support.certificates import certificate_pem
from tests.support.site import Site
from tests.support.tls_case import TLSTestCase
from tests.support.tls_talk import LOOPBACK
from tests.support.waiting import until

reactor: Any = _reactor

LONG_MESSAGE = b"Subject: long\r\n\r\n" + b"".join(b"%063d\r\n" % number for number in range(60000))


class ContinuityTests(TLSTestCase):
    """
    C{continuous()} behind L{TLSServerEndpoint}.
    """

    timeout = 60

    async def serve(self, listening: Any = None) -> Site:
        site = Site(Policy(drain=30.0), clock=reactor, binding=True)
        if listening is None:
            listening = TLSServerEndpoint(reactor, 0, server_context(certificate_pem()), LOOPBACK)
        port: Any = await listening.listen(site.factory)
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

    async def move(self, endpoint: Any, listening: Any = None) -> None:
        """
        Planned moves there and back while a long answer is on its way: it stands on several links, each octet once.
        """
        site = await self.serve(listening)
        site.mailbox().deliver(LONG_MESSAGE)
        told: list[str] = []
        policy = RoamingPolicy(drain=30.0, drain_quiet=30.0, probe_doubt=30.0, probe_timeout=60.0)  # this is not about time
        way = RoamingEndpoint([Path("one", endpoint), Path("two", endpoint)], reactor=reactor, policy=policy)
        client = await connect_mail(way)
        await client.login(b"joe", b"secret")
        await client.select(b"INBOX")
        roamer = roamer_of(client)
        roamer.watchers.append(lambda word, text: told.append(word))
        (served,) = site.factory.table.all()
        assert served.conduit is not None and roamer.conduit is not None
        sender, receiver = served.conduit.session.sender, roamer.conduit.session.receiver
        for turn in range(6):
            fetching = client.fetchMessage("1")
            begun = receiver.arrived
            await until(lambda begun=begun: receiver.arrived > begun, "the answer has begun")  # type: ignore[misc]
            await roamer.switch("one" if turn % 2 else "two")
            fetched = await fetching
            assert fetched[1]["RFC822"].encode("latin-1") == LONG_MESSAGE
            await until(lambda: not roamer.conduit.moving and not served.conduit.moving, "the move is over")  # type: ignore[union-attr]
        assert sender.taken == sender.end, "nothing was sent again"
        assert "away" not in told, told
        assert roamer.handovers == 6
        await client.logout()
        await client.lost

    async def test_a_client_of_twisted_moves(self) -> None:
        await self.move(_Late(lambda: endpoint_to(reactor, self.port, tls=True)))

    async def test_a_client_on_the_descriptor_moves(self) -> None:
        context = client_context(certificate_pem())
        await self.move(_Late(lambda: TLSClientEndpoint(reactor, LOOPBACK, self.port, context, "localhost")))

    async def test_a_client_moves_at_a_server_of_twisted(self) -> None:
        listening = SSL4ServerEndpoint(reactor, 0, certificates.server_context(), interface=LOOPBACK)
        await self.move(_Late(lambda: endpoint_to(reactor, self.port, tls=True)), listening)

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
