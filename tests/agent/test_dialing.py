"""
Whom the agent takes for its server, and what it says to it in the clear; over real connections.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL.SSL import VERIFY_PEER
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mem_continuity.agent.accounts import parse_server
from mem_continuity.agent.dialing import Dialer, trouble_of
from mem_continuity.core.policy import AgentPolicy, Policy
from mem_continuity.gateway.errors import Trouble
from mem_continuity.layer.tls_contexts import server_context
from mem_continuity.layer.tls_endpoints import TLSServerEndpoint
from mem_continuity.layer.tls_starting import start_tls
from tests.support.certificates import certificate_pem


class _Server(Protocol):
    """
    @ivar greeting: said first.
    @ivar answers: said one by one to each chunk that comes; None begins TLS.
    """

    greeting = b"* OK ready\r\n"
    answers: tuple[bytes | None, ...] = ()
    transport: Any

    def __init__(self) -> None:
        self.heard = b""
        self.lost: Deferred[None] = Deferred()
        self._left = list(self.answers)

    def connectionMade(self) -> None:
        self.transport.write(self.greeting)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        while self._left:
            answer = self._left.pop(0)
            if answer is not None:
                self.transport.write(answer)
                continue
            context = server_context(certificate_pem())
            # Whoever gave up hears of it by the connection's end.
            start_tls(reactor, self.transport, context, self, server=True, policy=Policy()).addErrback(lambda _: None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.lost.called:
            self.lost.callback(None)


class _Client(Protocol):
    transport: Any

    def __init__(self) -> None:
        self.heard = b""
        self.has_heard: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if not self.has_heard.called:
            self.has_heard.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class DialingTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.authority = self.mktemp()
        Path(self.authority).write_bytes(certificate_pem())
        certificate = x509.load_pem_x509_certificate(certificate_pem())
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.pin = sha256(key).hexdigest()
        self.servers: list[_Server] = []

    async def listen(self, endpoint: IStreamServerEndpoint, answers: Iterable[bytes | None], greeting: bytes) -> int:
        def build() -> _Server:
            made = _Server()
            made.greeting, made._left = greeting, list(answers)
            self.servers.append(made)
            return made

        factory = Factory.forProtocol(build)
        port: Any = await endpoint.listen(factory)
        self.addCleanup(port.stopListening)
        found: int = port.getHost().port
        return found

    async def dial(
        self, kind: str, options: str, answers: Iterable[bytes | None] = (), greeting: bytes = b"* OK ready\r\n"
    ) -> _Client:
        """
        Connect once, and hear the greeting.
        """
        endpoint: Any = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        if kind == "tls":
            endpoint = TLSServerEndpoint(reactor, 0, server_context(certificate_pem()), "127.0.0.1")
        port = await self.listen(endpoint, answers, greeting)
        server = parse_server(f"{kind}:127.0.0.1:{port}{options}")
        path = Dialer(reactor, server, AgentPolicy()).path()
        client = await path.endpoint.connect(Factory.forProtocol(_Client))
        assert isinstance(client, _Client)
        await client.has_heard
        return client

    async def close(self, client: _Client) -> None:
        client.transport.loseConnection()
        await client.lost
        for server in self.servers:
            await server.lost

    async def refuses(self, wanted: Trouble, *arguments: Any) -> str:
        try:
            await self.dial(*arguments)
        except Exception:
            failure = Failure()
        else:
            self.fail("it connected")
        error = trouble_of(failure)
        self.assertIs(error.kind, wanted, failure)
        for server in self.servers:
            await server.lost
            self.assertNotIn(b"LOGIN", server.heard)
        return error.detail

    @property
    def known(self) -> str:
        return f":authority={self.authority}:name=localhost"

    async def test_tcp(self) -> None:
        client = await self.dial("tcp", "")
        self.assertEqual(client.heard, b"* OK ready\r\n")
        await self.close(client)

    async def test_tls(self) -> None:
        """
        By an authority, by its name and a pin, and by the pin alone.
        """
        for options in (self.known, f"{self.known}:pin={self.pin}", f":verify=pin:pin={self.pin}"):
            client = await self.dial("tls", options)
            self.assertEqual(client.heard, b"* OK ready\r\n")
            await self.close(client)

    async def test_tls_refused(self) -> None:
        """
        Another name, nobody who is known, another key.
        """
        other = "0" * 64
        for options, said in (
            (f":authority={self.authority}:name=elsewhere.example", "is for another name"),
            (":name=localhost", "is from no authority"),
            (f"{self.known}:pin={other}", "its public key is none"),
            (f":verify=pin:pin={other}", "its public key is none"),
        ):
            self.assertIn(said, await self.refuses(Trouble.CERTIFICATE, "tls", options))

    async def test_starttls(self) -> None:
        """
        What the server tells of itself in the clear is not shown.
        """
        greeting = b"* OK [CAPABILITY IMAP4rev1 STARTTLS AUTH=X] ready\r\n"
        client = await self.dial("starttls", self.known, [b"g1 OK begin\r\n", None], greeting)
        self.assertEqual(client.heard, b"* OK ready\r\n")
        self.assertEqual(self.servers[0].heard, b"g1 STARTTLS\r\n")
        await self.close(client)

    async def test_starttls_refused(self) -> None:
        """
        It does not want to; somebody has put octets behind its answer; it is somebody else.
        """
        for kind, options, answers in (
            (Trouble.INSECURE, self.known, [b"g1 NO\r\n"]),
            (Trouble.INSECURE, self.known, [b"g1 OK\r\n* OK [CAPABILITY X]\r\n"]),
            (Trouble.CERTIFICATE, ":name=localhost", [b"g1 OK\r\n", None]),
        ):
            await self.refuses(kind, "starttls", options, answers)

    async def test_tickets(self) -> None:
        """
        One certificate is enough, also when connections were lost without a good-bye; whoever is not verified gives no ticket.
        """
        context = server_context(certificate_pem(), tickets=True)
        port = await self.listen(TLSServerEndpoint(reactor, 0, context, "127.0.0.1"), [], b"* OK ready\r\n")

        async def certificates(options: str, wanted: bool) -> list[int]:
            """
            How many were looked at until each of three connections stood or failed.
            """
            seen: list[int] = []
            dialer = Dialer(reactor, parse_server(f"tls:127.0.0.1:{port}{options}"), AgentPolicy())

            def look(*told: Any) -> bool:
                seen.append(1)
                return bool(told[-1])

            dialer._context.set_verify(VERIFY_PEER, look)
            counts = []
            for _ in range(3):
                try:
                    client: Any = await dialer.path().endpoint.connect(Factory.forProtocol(_Client))
                except Exception:
                    self.assertFalse(wanted)
                else:
                    await client.has_heard
                    self.assertIsNotNone(client.transport.getPeerCertificate())
                    client.transport.abortConnection()
                    await client.lost
                    del client
                    gc.collect()
                counts.append(len(seen))
            return counts

        self.assertEqual(await certificates(f"{self.known}:pin={self.pin}", True), [1, 1, 1])
        self.assertEqual(await certificates(f"{self.known}:pin={'0' * 64}", False), [1, 2, 3])
        for server in self.servers:
            await server.lost

    async def test_given_up(self) -> None:
        """
        While the server thinks about it: no connection is left.
        """
        port = await self.listen(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"), [], b"")
        server = parse_server(f"starttls:127.0.0.1:{port}{self.known}")
        connecting = Dialer(reactor, server, AgentPolicy()).path().endpoint.connect(Factory.forProtocol(_Client))
        while not self.servers:
            await _moment()
        connecting.cancel()
        await self.servers[0].lost
        self.failureResultOf(connecting)

    async def test_nobody_there(self) -> None:
        server = parse_server("tcp:127.0.0.1:1")
        try:
            await Dialer(reactor, server, AgentPolicy()).path().endpoint.connect(Factory.forProtocol(_Client))
        except Exception:
            error = trouble_of(Failure())
        self.assertIs(error.kind, Trouble.UNREACHABLE)


def _moment() -> Deferred[None]:
    done: Deferred[None] = Deferred()
    clock: Any = reactor
    clock.callLater(0.01, done.callback, None)
    return done
