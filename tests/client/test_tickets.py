"""
L{TicketKeeper}: the second connection is made with the first one's ticket, and still only to the host that it was meant for.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, CertificateOptions, PrivateCertificate, TLSVersion, optionsForClientTLS
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mem_continuity.client.tickets import TicketKeeper
from tests.support.certificates import certificate_pem
from tests.support.tls_case import TLSTestCase

reactor: Any = _reactor


class Greeter(Protocol):
    """
    Says something, behind which the tickets have arrived.
    """

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"hello")


class Counted(ProtocolWrapper):
    """
    Below TLS on the server's side: tells its factory what is written.
    """

    def write(self, data: bytes) -> None:
        self.factory.written[-1] += len(data)
        super().write(data)

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))


class Counting(WrappingFactory):
    """
    @ivar written: the octets of each connection that was made.
    """

    protocol = Counted

    def __init__(self, wrapped: Any) -> None:
        super().__init__(wrapped)
        self.written: list[int] = []

    def buildProtocol(self, addr: Any) -> Any:
        self.written.append(0)
        return super().buildProtocol(addr)


class Caller(Protocol):
    """
    Waits for the first octets.
    """

    def __init__(self) -> None:
        self.heard: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        if not self.heard.called:
            self.heard.callback(None)

    def connectionLost(self, reason: Failure | None = None) -> None:
        if not self.heard.called:
            self.heard.errback(reason)
        self.lost.callback(None)


@implementer(IOpenSSLClientConnectionCreator)
class Changing:
    """
    A creator that has a new context for every connection.
    """

    def clientConnectionForTLS(self, tlsProtocol: Any) -> Any:
        return creator_for("localhost").clientConnectionForTLS(tlsProtocol)


def creator_for(host: str) -> Any:
    """
    Verifies certificate and name.
    """
    return optionsForClientTLS(host, trustRoot=Certificate.loadPEM(certificate_pem()))


class TicketTests(TLSTestCase):
    """
    Over loopback, with real TLS.
    """

    timeout = 20

    def setUp(self) -> None:
        certificate = PrivateCertificate.loadPEM(certificate_pem())
        self.certificate_length = len(certificate.dump())
        options = CertificateOptions(
            privateKey=certificate.privateKey.original,
            certificate=certificate.original,
            raiseMinimumTo=TLSVersion.TLSv1_3,
            enableSessionTickets=True,
        )
        self.counting = Counting(TLSMemoryBIOFactory(options, False, Factory.forProtocol(Greeter)))
        self.port = reactor.listenTCP(0, self.counting, interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)

    async def call(self, creator: Any) -> int:
        """
        @return: octets that the server wrote.
        """
        tcp = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port)
        caller: Any = await wrapClientTLS(creator, tcp).connect(Factory.forProtocol(Caller))
        try:
            await caller.heard
        finally:
            caller.transport.loseConnection()
            await caller.lost
        return self.counting.written[-1]

    def test_interface(self) -> None:
        """
        C{wrapClientTLS} takes it.
        """
        verifyObject(IOpenSSLClientConnectionCreator, TicketKeeper(creator_for("localhost")))

    async def test_the_second_connection_needs_no_certificate(self) -> None:
        """
        With a keeper the server does not send it again; without one it does.
        """
        keeper = TicketKeeper(creator_for("localhost"))
        first, second, third = [await self.call(keeper) for _ in range(3)]
        self.assertLess(second, first - self.certificate_length)
        self.assertLess(third, first - self.certificate_length)
        creator = creator_for("localhost")
        without = [await self.call(creator) for _ in range(2)]
        self.assertGreater(without[1], first - self.certificate_length)

    async def test_a_connection_that_failed_its_verification_gives_no_ticket(self) -> None:
        """
        The wrong name is refused as often as one likes.
        """
        keeper = TicketKeeper(creator_for("elsewhere.example"))
        for _ in range(3):
            self.assertIn("VerificationError", repr(await self.failed(self.call(keeper))))

    async def test_a_ticket_is_of_no_use_under_another_context(self) -> None:
        """
        A creator that comes with another context may verify another name: the handshake is a full one.
        """
        keeper = TicketKeeper(Changing())
        first, second = await self.call(keeper), await self.call(keeper)
        self.assertGreater(second, first - self.certificate_length)

    async def failed(self, calling: Any) -> BaseException:
        """
        How a call fails.
        """
        try:
            await calling
        except Exception as error:
            return error
        raise self.failureException("the call succeeded")
