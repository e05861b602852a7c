"""
Endpoints for TLS on the descriptor: L{mem_continuity.layer.tls_endpoints}.
"""

from __future__ import annotations

import datetime
import ipaddress
import socket
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost, TimeoutError
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions, platformTrust
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mem_continuity.layer.sockets import exported_binding
from mem_continuity.layer.tls_contexts import ContextError, client_context, context_of, server_context
from mem_continuity.layer.tls_endpoints import NoDescriptors, TLSClientEndpoint, TLSServerEndpoint, named
from mem_continuity.layer.tls_socket import TLSSocket
from tests.support.certificates import certificate_pem
from tests.support.certificates import server_context as stock_server_context
from tests.support.tls_case import TLSTestCase
from tests.support.tls_courses import MUCH, Echo
from tests.support.tls_talk import LOOPBACK, Ends, Kept
from tests.support.waiting import until

reactor: Any = _reactor


def make_certificate(*, names: tuple[str, ...] = ("localhost",), addresses: tuple[str, ...] = (), days: int = 1) -> bytes:
    """
    A self-signed one with its key; expired when C{days} is negative.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    now = datetime.datetime.now(datetime.UTC)
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(one)) for one in addresses]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=10))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(alternatives), False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + made.public_bytes(serialization.Encoding.PEM)


class ClientTests(TLSTestCase):
    """
    L{TLSClientEndpoint}.
    """

    timeout = 60

    def setUp(self) -> None:
        self.ends = Ends(self, reactor, own_server=False, own_client=True)
        self.seen: list[Any] = []

    def endpoint(self, pem: bytes | None = None, hostname: str | None = "localhost", **options: Any) -> TLSClientEndpoint:
        context = client_context(certificate_pem() if pem is None else pem)
        return TLSClientEndpoint(reactor, LOOPBACK, self.ends.port, context, hostname, **options)

    async def listen(self, pem: bytes) -> None:
        await self.ends.listen(endpoint=TLSServerEndpoint(reactor, 0, server_context(pem), LOOPBACK))

    async def connect(self, endpoint: TLSClientEndpoint) -> Any:
        client: Any = await endpoint.connect(Factory.forProtocol(Kept))
        self.ends.clients.append(client)
        return client

    async def refused(self, endpoint: TLSClientEndpoint, kind: Any) -> Exception:
        """
        @return: why it does not connect; no protocol was made.
        """

        def make() -> Kept:
            raise AssertionError("a protocol was made")

        try:
            await endpoint.connect(Factory.forProtocol(make))
        except kind as error:
            assert isinstance(error, Exception)
            return error
        raise AssertionError("it connects")

    async def server_lost(self) -> None:
        await until(lambda: self.ends.served and self.ends.served[0].reasons, "the server lost it")
        assert "data" not in self.ends.served[0].events

    async def test_it_is_an_endpoint(self) -> None:
        verifyObject(IStreamClientEndpoint, self.endpoint())

    async def test_it_fires_when_the_server_is_verified(self) -> None:
        server, client = await self.ends.pair()
        assert client.events == ["made", "handshake"]
        assert isinstance(client.wire, TLSSocket)
        assert client.wire.getPeer().port == self.ends.port
        assert client.wire.getPeerCertificate() is not None
        assert exported_binding(client.wire) == exported_binding(server.wire) != b""
        await self.ends.listen_plain()  # another one, to see that only the first was connected to
        assert self.ends.served == [server]

    async def test_twenty_megabytes_there_and_back(self) -> None:
        _, client = await self.ends.pair(Echo)
        client.wire.write(MUCH * 4)
        heard = await client.hears(4 * len(MUCH))
        assert sha256(heard).digest() == sha256(MUCH * 4).digest()

    async def test_either_side_closes(self) -> None:
        server, client = await self.ends.pair()
        client.wire.write(b"bye")
        client.wire.loseConnection()
        await client.lost
        await server.lost
        assert server.heard == b"bye"
        assert server.reasons[0].check(ConnectionDone)
        assert client.reasons[0].check(ConnectionDone)

        client = await self.ends.connect()
        server = self.ends.served[-1]
        server.wire.write(MUCH)
        server.wire.loseConnection()
        await client.lost
        assert client.heard == MUCH
        assert client.reasons[0].check(ConnectionDone)

    async def test_the_server_ends_without_a_close(self) -> None:
        server, client = await self.ends.pair()
        server.wire.transport.loseConnection()
        await client.lost
        assert client.reasons[0].check(ConnectionLost)

    async def test_an_address_in_the_certificate(self) -> None:
        pem = make_certificate(names=(), addresses=(LOOPBACK,))
        await self.listen(pem)
        await self.connect(self.endpoint(pem, None))
        await self.refused(self.endpoint(pem, "127.0.0.2"), VerificationError)

    async def test_another_name(self) -> None:
        pem = make_certificate(names=("other.example.org",))
        await self.listen(pem)
        await self.refused(self.endpoint(pem), VerificationError)
        await self.server_lost()

    async def test_nobody_we_believe(self) -> None:
        await self.listen(make_certificate())
        error = await self.refused(self.endpoint(), SSL.Error)
        assert "certificate verify failed" in str(error)
        await self.server_lost()

    async def test_nobody_the_system_believes(self) -> None:
        await self.listen(make_certificate())
        await self.refused(TLSClientEndpoint(reactor, LOOPBACK, self.ends.port, client_context(), "localhost"), SSL.Error)

    async def test_an_expired_certificate(self) -> None:
        pem = make_certificate(days=-1)
        await self.listen(pem)
        await self.refused(self.endpoint(pem), SSL.Error)
        await self.server_lost()

    async def test_the_name_is_asked_for(self) -> None:
        context = server_context(certificate_pem())
        names: list[bytes | None] = []
        context.set_tlsext_servername_callback(lambda connection: names.append(connection.get_servername()))
        await self.ends.listen(endpoint=TLSServerEndpoint(reactor, 0, context, LOOPBACK))
        await self.connect(self.endpoint())
        await self.connect(self.endpoint(None, None, verify=False))
        assert names == [b"localhost", None], names

    async def test_verified_otherwise(self) -> None:
        await self.listen(certificate_pem())
        seen: list[SSL.Connection] = []
        client = await self.connect(self.endpoint(None, "elsewhere.example.org", verify=seen.append))
        assert seen == [client.wire.getHandle()]

        def never(connection: SSL.Connection) -> None:
            raise KeyError("not this one")

        await self.refused(self.endpoint(verify=never), KeyError)

    async def test_a_server_that_does_not_speak_tls(self) -> None:
        class Greeting(Kept):
            def connectionMade(self) -> None:
                super().connectionMade()
                self.wire.write(b"* OK welcome\r\n")

        await self.ends.listen_plain(Greeting)
        await self.refused(self.endpoint(), SSL.Error)

    async def test_a_server_that_goes(self) -> None:
        class Going(Kept):
            def dataReceived(self, data: bytes) -> None:
                self.wire.loseConnection()

        await self.ends.listen_plain(Going)
        await self.refused(self.endpoint(), ConnectionLost)

    async def test_nobody_listens(self) -> None:
        await self.ends.listen_plain()
        endpoint = TLSClientEndpoint(reactor, "127.0.0.9", self.ends.port, client_context(), "localhost")
        await self.refused(endpoint, ConnectError)

    async def test_it_has_its_time(self) -> None:
        await self.ends.listen_plain()
        await self.refused(self.endpoint(timeout=0.1), TimeoutError)
        await self.ends.served[0].lost

    async def test_it_is_cancelled(self) -> None:
        await self.ends.listen_plain()
        connecting = self.endpoint().connect(Factory.forProtocol(Kept))
        await until(lambda: self.ends.served and self.ends.served[0].heard, "the ClientHello is there")
        connecting.cancel()
        try:
            await connecting
        except CancelledError:
            pass
        else:
            raise AssertionError("it connects")
        await self.ends.served[0].lost

    async def test_over_another_endpoint_and_behind_a_header(self) -> None:
        context = server_context(certificate_pem())
        await self.ends.listen(endpoint=TLSServerEndpoint(reactor, 0, context, LOOPBACK, proxied=True))
        plain: Any = TCP4ClientEndpoint(reactor, LOOPBACK, self.ends.port)
        header = b"PROXY TCP4 203.0.113.1 198.51.100.1 40000 993\r\n"
        client = await self.connect(self.endpoint(plain=plain, header=header))
        server = self.ends.served[0]
        client.wire.write(b"hello")
        assert await server.hears(5) == b"hello"
        assert server.wire.getPeer().host == "203.0.113.1"

    async def test_a_factory_without_a_protocol(self) -> None:
        await self.listen(certificate_pem())
        factory = Factory()
        factory.buildProtocol = lambda addr: None  # type: ignore[method-assign]
        try:
            await self.endpoint().connect(factory)
        except ConnectionLost:
            await self.server_lost()
            return
        raise AssertionError("it connects")


class ServerTests(TLSTestCase):
    """
    L{TLSServerEndpoint}; what its connections do is in L{tests.layer.test_tls_socket}.
    """

    timeout = 60

    async def test_it_is_an_endpoint(self) -> None:
        endpoint = TLSServerEndpoint(reactor, 0, server_context(certificate_pem()), LOOPBACK)
        verifyObject(IStreamServerEndpoint, endpoint)
        port: Any = await endpoint.listen(Factory.forProtocol(Kept))
        assert port.getHost().host == LOOPBACK
        await port.stopListening()

    async def test_with_a_context_of_twisted(self) -> None:
        ends = Ends(self, reactor, own_server=True)
        await ends.listen(endpoint=TLSServerEndpoint(reactor, 0, stock_server_context(), LOOPBACK))
        await ends.connect()

    async def test_a_certificate_is_renewed(self) -> None:
        class Renewing:
            pem = make_certificate()

            def getContext(self) -> SSL.Context:
                return server_context(self.pem)

        renewing = Renewing()
        ends = Ends(self, reactor, own_server=True)
        await ends.listen(endpoint=TLSServerEndpoint(reactor, 0, renewing, LOOPBACK))
        for _ in range(2):
            renewing.pem = make_certificate()
            context = client_context(renewing.pem)
            endpoint = TLSClientEndpoint(reactor, LOOPBACK, ends.port, context, "localhost")
            ends.clients.append(await endpoint.connect(Factory.forProtocol(Kept)))
        renewing.pem = b"not one"
        client = await ends.connect_plain()
        await client.lost
        assert len(self.flushLoggedErrors(ContextError)) == 1

    async def test_a_port_that_is_taken(self) -> None:
        ends = Ends(self, reactor, own_server=True)
        await ends.listen()
        try:
            await TLSServerEndpoint(reactor, ends.port, server_context(certificate_pem()), LOOPBACK).listen(Factory())
        except OSError:
            raise
        except Exception as error:
            assert type(error).__name__ == "CannotListenError", error
            return
        raise AssertionError("it listens")

    async def test_a_socket_that_listens_already(self) -> None:
        for family, address in ((socket.AF_INET, LOOPBACK), (socket.AF_INET6, "::1")):
            sock = socket.socket(family)
            sock.bind((address, 0))
            sock.listen()
            ends = Ends(self, reactor, own_server=True)
            await ends.listen(endpoint=TLSServerEndpoint(reactor, 0, server_context(certificate_pem()), sock=sock))
            assert ends.port == sock.getsockname()[1]
            endpoint = TLSClientEndpoint(reactor, address, ends.port, client_context(certificate_pem()), "localhost")
            client: Any = await endpoint.connect(Factory.forProtocol(Kept))
            ends.clients.append(client)
            await until(lambda ends=ends: ends.served, "is accepted")  # type: ignore[misc]
            assert ends.served[0].wire.getHost() == client.wire.getPeer()

    async def test_ipv6(self) -> None:
        ends = Ends(self, reactor, own_server=True)
        await ends.listen(endpoint=TLSServerEndpoint(reactor, 0, server_context(certificate_pem()), "::1"))
        endpoint = TLSClientEndpoint(reactor, "::1", ends.port, client_context(certificate_pem()), "localhost")
        client: Any = await endpoint.connect(Factory.forProtocol(Kept))
        ends.clients.append(client)
        await until(lambda: ends.served, "is accepted")
        assert ends.served[0].wire.getPeer() == client.wire.getHost()
        assert client.wire.getPeer().host == "::1"

    async def test_much_at_once(self) -> None:
        ends = Ends(self, reactor, own_server=True, own_client=True)
        await ends.listen(Echo)
        clients = [await ends.connect() for _ in range(20)]
        for one in clients:
            one.wire.write(MUCH[:500_000])
        for one in clients:
            assert await one.hears(500_000) == MUCH[:500_000]
        await deferLater(reactor, 0)


class RefusedTests(SynchronousTestCase):
    """
    What is said before anything is done.
    """

    def test_a_reactor_without_descriptors(self) -> None:
        context = client_context()
        with self.assertRaisesRegex(NoDescriptors, "Clock"):
            TLSServerEndpoint(Clock(), 0, context)
        with self.assertRaisesRegex(NoDescriptors, "Clock"):
            TLSClientEndpoint(Clock(), "localhost", 993, context)

    def test_what_is_no_context(self) -> None:
        for wrong in (None, "cert.pem", object()):
            with self.assertRaises(ContextError):
                context_of(wrong)

    def test_a_name_is_not_verified_in_a_chain_that_is_not(self) -> None:
        unverified = SSL.Context(SSL.TLS_METHOD)
        with self.assertRaises(ContextError):
            TLSClientEndpoint(reactor, "localhost", 993, unverified)
        TLSClientEndpoint(reactor, "localhost", 993, unverified, verify=False)

    def test_a_context_of_twisted(self) -> None:
        TLSClientEndpoint(reactor, "localhost", 993, CertificateOptions(trustRoot=platformTrust()))

    def test_names(self) -> None:
        self.assertEqual(named("imap.example.org.")[0], b"imap.example.org")
        self.assertEqual(named("bücher.example")[0], b"xn--bcher-kva.example")
        self.assertEqual(named("192.0.2.1")[0], b"")
        self.assertEqual(named("2001:db8::1")[0], b"")
        with self.assertRaises(ValueError):
            named("x" * 100 + ".example")
