"""
Reaching an upstream by TLS, over real sockets.
"""

from __future__ import annotations

from typing import Any

from OpenSSL.SSL import TLS1_2_VERSION
from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions, PrivateCertificate, TLSVersion
from twisted.python.failure import Failure

from mem_continuity.core.policy import Policy
from mem_continuity.gateway.connecting import connect_upstream
from mem_continuity.gateway.errors import Trouble, UpstreamError
from mem_continuity.gateway.link import UpstreamLink
from mem_continuity.gateway.source import identity
from mem_continuity.gateway.upstream import parse_upstream
from tests.gateway.connecting_case import BEGUN, SOURCE, ConnectingCase, pin, read_header
from tests.gateway.scripted import HELLO, ScriptedServer
from tests.support.certificates import certificate_pem
from tests.support.waiting import until


class TLSTests(ConnectingCase):
    """
    TLS from the beginning, and by STARTTLS.
    """

    async def verified(self, description: str) -> UpstreamLink:
        self.server.answers = {b"STARTTLS": BEGUN}
        link = await self.connect(description)
        self.assertGreaterEqual(link.transport.getHandle().get_protocol_version(), TLS1_2_VERSION)
        return link

    async def test_tls(self) -> None:
        link = await self.verified("tls:127.0.0.1:PORT:name=localhost:authority=CA")
        self.assertEqual(link.greeting, HELLO)
        self.assertEqual(link.transport.getHandle().get_servername(), b"localhost")

    async def test_tls_by_name(self) -> None:
        await self.verified("tls:localhost:PORT:authority=CA")

    async def test_starttls(self) -> None:
        """
        The capabilities that were told in the clear are not shown, and what is asked is asked under TLS.
        """
        self.server.answers = {b"STARTTLS": BEGUN, b"ID": b"TAG OK\r\n", b"CAPABILITY": b"* CAPABILITY X\r\nTAG OK\r\n"}
        link = await self.connect("starttls:localhost:PORT:authority=CA:id=yes:proxy=yes", want=True)
        self.assertEqual((link.greeting, link.capabilities), (b"* OK Hello\r\n", frozenset({b"X"})))
        clear, secured = self.heard
        peer, rest = read_header(clear)
        self.assertEqual((peer.host, rest), ("192.0.2.1", b"g1 STARTTLS\r\n"))
        self.assertEqual(secured, identity(b"g2", SOURCE) + b"g3 CAPABILITY\r\n")

    async def test_pin(self) -> None:
        for kind in ("tls", "starttls"):
            alone = f"pin={pin()}:verify=pin"
            for terms in (f"authority=CA:pin={'0' * 64},{pin()}", alone, f"name=x.example.org:{alone}"):
                self.server = ScriptedServer()
                link = await self.verified(f"{kind}:localhost:PORT:{terms}")
                self.assertTrue(link.greeting.endswith(b"Hello\r\n"))
                asked = b"x.example.org" if terms.startswith("name=") else b"localhost"
                self.assertEqual(link.transport.getHandle().get_servername(), asked)

    async def test_pin_by_address(self) -> None:
        link = await self.verified(f"tls:127.0.0.1:PORT:pin={pin()}:verify=pin")
        self.assertIsNone(link.transport.getHandle().get_servername())

    async def test_proxy_before_tls(self) -> None:
        """
        The header is in the clear, in front of TLS.
        """
        seen: list[bytes] = []

        class Raw(Protocol):
            def dataReceived(self, data: bytes) -> None:
                seen.append(data)

            def connectionLost(self, reason: Failure = connectionDone) -> None:
                seen.append(b"")

        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(Raw))
        self.addCleanup(port.stopListening)
        upstream = parse_upstream(f"tls:localhost:{port.getHost().port}:proxy=yes")
        connecting = connect_upstream(reactor, upstream, self.policy, SOURCE)
        await until(lambda: len(b"".join(seen)) > 28, "the header, and TLS behind it")
        peer, rest = read_header(b"".join(seen))
        self.assertEqual((peer.host, rest[:1]), ("192.0.2.1", b"\x16"))
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        await until(lambda: seen[-1] == b"", "the connection is closed")

    async def test_one_context(self) -> None:
        """
        Connections to one upstream are made from one context.
        """
        port = self.server.listen(self.addCleanup, True)
        upstream = parse_upstream(f"tls:localhost:{port}:authority={self.authority}")
        links = [await connect_upstream(reactor, upstream, self.policy) for _ in range(2)]
        contexts = [link.transport.getHandle().get_context() for link in links]
        for link in links:
            await self.close(link)
        self.assertIs(contexts[0], contexts[1])


class TLSFailureTests(ConnectingCase):
    """
    Upstreams that are not to be trusted: nothing is said to them.
    """

    async def distrusted(self, kind: str, host: str, terms: str, trouble: Trouble = Trouble.CERTIFICATE) -> UpstreamError:
        self.server = ScriptedServer(answers={b"STARTTLS": BEGUN})
        error = await self.fails(f"{kind}:{host}:PORT:id=yes:{terms}", trouble)
        clear = b"g1 STARTTLS\r\n" if kind == "starttls" else b""
        self.assertEqual([*self.heard, b""][:2], [clear, b""])
        return error

    async def test_distrusted(self) -> None:
        for kind in ("tls", "starttls"):
            for host, terms, said in (
                ("127.0.0.1", "authority=CA", "another name"),
                ("localhost", "name=imap.example.org:authority=CA", "another name"),
                ("localhost", "name=localhost", "no authority"),
                ("localhost", f"authority=CA:pin={'0' * 64}", "public key"),
                ("localhost", f"verify=pin:pin={'0' * 64}", "public key"),
                ("localhost", f"pin={pin()}", "no authority"),
            ):
                error = await self.distrusted(kind, host, terms)
                self.assertIn(said, error.detail)

    async def test_no_tls(self) -> None:
        """
        Whoever answers does not speak TLS.
        """
        for greeting in (HELLO, b"x" * 2000):
            port = ScriptedServer(greeting).listen(self.addCleanup)
            await self.fails(f"tls:localhost:{port}", Trouble.INSECURE)

    async def test_old_tls(self) -> None:
        """
        TLS 1.1 is not spoken.
        """
        options = PrivateCertificate.loadPEM(certificate_pem()).options()
        old = CertificateOptions(
            privateKey=options.privateKey,
            certificate=options.certificate,
            insecurelyLowerMinimumTo=TLSVersion.TLSv1_0,
            lowerMaximumSecurityTo=TLSVersion.TLSv1_1,
        )
        any_reactor: Any = reactor
        port = any_reactor.listenSSL(0, self.server, old, interface="127.0.0.1")
        self.addCleanup(self.server.stop, port)
        error = await self.fails(f"tls:localhost:{port.getHost().port}:authority=CA", Trouble.INSECURE)
        self.assertIn("protocol version", error.detail)

    async def test_closed_in_handshake(self) -> None:
        """
        It hangs up in the middle of TLS.
        """
        server = ScriptedServer(b"")
        port = server.listen(self.addCleanup)
        connecting = connect_upstream(reactor, parse_upstream(f"tls:localhost:{port}"), self.policy)
        await until(lambda: server.connections and server.connections[0].heard[0], "TLS begins")
        server.connections[0].transport.loseConnection()
        try:
            await connecting
        except UpstreamError as error:
            self.assertEqual(error.kind, Trouble.INSECURE)
        else:
            raise AssertionError("it was ready")

    async def test_slow_handshake(self) -> None:
        """
        The time for the connection has TLS in it; with STARTTLS, the time for the greeting.
        """
        port = ScriptedServer(b"").listen(self.addCleanup)
        error = await self.fails(f"tls:localhost:{port}", Trouble.SLOW, policy=Policy(upstream_connect=0.2))
        self.assertIn("0.2 seconds", error.detail)
        port = ScriptedServer(answers={b"": BEGUN}).listen(self.addCleanup)
        error = await self.fails(f"starttls:localhost:{port}", Trouble.SLOW, policy=Policy(upstream_greeting=0.2))

    async def test_injection(self) -> None:
        """
        Octets in the clear behind the OK to STARTTLS.
        """
        self.server.answers = {b"STARTTLS": BEGUN + b"* OK [CAPABILITY X]\r\n"}
        await self.fails("starttls:localhost:PORT:authority=CA", Trouble.INSECURE)

    async def test_starttls_refused(self) -> None:
        self.server.answers = {b"START": b"TAG NO not today\r\n"}
        await self.fails("starttls:localhost:PORT:authority=CA", Trouble.INSECURE)
