"""
Two ends of TLS over a real socket on loopback, either of them by Twisted's TLS or on the descriptor, and protocols that keep
what they are told.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, SSL4ServerEndpoint, TCP4ServerEndpoint, wrapClientTLS
from twisted.internet.interfaces import IHandshakeListener, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from mem_continuity.core.policy import Policy
from mem_continuity.layer import tls_contexts
from mem_continuity.layer.tls_endpoints import TLSClientEndpoint, TLSServerEndpoint
from tests.support import certificates

LOOPBACK = "127.0.0.1"


@implementer(IHandshakeListener)
class Kept(Protocol):
    """
    Keeps what it is told.

    @ivar events: the names of what was called, in order.
    @ivar reasons: why the connection was lost, each time it was told.
    """

    def __init__(self) -> None:
        self.events: list[str] = []
        self.heard = bytearray()
        self.reasons: list[Failure] = []
        self.made: Deferred[Any] = Deferred()
        self.shaken: Deferred[Any] = Deferred()
        self.lost: Deferred[Any] = Deferred()
        self._wanted = 0
        self._has: Deferred[bytes] = Deferred()

    @property
    def wire(self) -> Any:
        return self.transport

    def connectionMade(self) -> None:
        self.events.append("made")
        self.made.callback(self)

    def handshakeCompleted(self) -> None:
        self.events.append("handshake")
        self.shaken.callback(self)

    def dataReceived(self, data: bytes) -> None:
        if not self.heard:
            self.events.append("data")
        self.heard += data
        if self._wanted and len(self.heard) >= self._wanted:
            self._wanted = 0
            self._has.callback(bytes(self.heard))

    def hears(self, count: int) -> Deferred[bytes]:
        """
        When so many octets are here.
        """
        self._wanted, self._has = count, Deferred()
        if len(self.heard) >= count:
            self._wanted = 0
            self._has.callback(bytes(self.heard))
        return self._has

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.events.append("lost")
        self.reasons.append(reason)
        if len(self.reasons) == 1:
            self.lost.callback(None)


class Ends:
    """
    How to listen and to connect, one way or the other.

    @ivar port: of the server, once it listens.
    """

    def __init__(self, case: TestCase, reactor: Any, *, own_server: bool, own_client: bool = False) -> None:
        self.case = case
        self.reactor = reactor
        self.own_server = own_server
        self.own_client = own_client
        self.port = 0
        self.served: list[Any] = []
        self.clients: list[Any] = []
        case.addCleanup(lambda: Deferred.fromCoroutine(self._end()))

    async def _end(self) -> None:
        for one in (*self.clients, *self.served):
            if one.wire is not None and not one.reasons:
                one.wire.abortConnection()
                await one.lost

    def server_endpoint(self, policy: Policy | None = None) -> IStreamServerEndpoint:
        """
        Where to listen.
        """
        if self.own_server:
            context = tls_contexts.server_context(certificates.certificate_pem())
            return TLSServerEndpoint(self.reactor, 0, context, LOOPBACK, policy=policy)
        return SSL4ServerEndpoint(self.reactor, 0, certificates.server_context(), interface=LOOPBACK)

    def client_endpoint(self, trusting: bool = True) -> IStreamClientEndpoint:
        """
        Where to connect to.
        """
        if self.own_client:
            context = tls_contexts.client_context(certificates.certificate_pem() if trusting else None)
            return TLSClientEndpoint(self.reactor, LOOPBACK, self.port, context, "localhost")
        plain: Any = HostnameEndpoint(self.reactor, LOOPBACK, self.port)
        creator: Any = certificates.client_context() if trusting else optionsForClientTLS("localhost")
        return wrapClientTLS(creator, plain)

    async def listen(self, make: Any = Kept, policy: Policy | None = None, endpoint: Any = None) -> None:
        """
        Serve; the protocols are kept in C{served}.
        """

        def built() -> Any:
            self.served.append(make())
            return self.served[-1]

        endpoint = self.server_endpoint(policy) if endpoint is None else endpoint
        port: Any = await endpoint.listen(Factory.forProtocol(built))
        self.case.addCleanup(port.stopListening)
        self.port = port.getHost().port

    async def connect(self, make: Any = Kept, trusting: bool = True) -> Any:
        """
        A client, whose handshake is complete if it trusts the server.
        """
        client: Any = await self.client_endpoint(trusting).connect(Factory.forProtocol(make))
        self.clients.append(client)
        if trusting:
            await client.shaken
        return client

    async def connect_plain(self, make: Any = Kept) -> Any:
        """
        A client that knows nothing of TLS.
        """
        plain: Any = HostnameEndpoint(self.reactor, LOOPBACK, self.port)
        client: Any = await plain.connect(Factory.forProtocol(make))
        self.clients.append(client)
        return client

    async def listen_plain(self, make: Any = Kept) -> None:
        """
        A server that knows nothing of TLS.
        """
        await self.listen(make, endpoint=TCP4ServerEndpoint(self.reactor, 0, interface=LOOPBACK))

    async def pair(self, make: Any = Kept, make_client: Any = Kept, policy: Policy | None = None) -> tuple[Any, Any]:
        """
        @return: both ends of a connection whose handshake is complete.
        """
        await self.listen(make, policy)
        client = await self.connect(make_client)
        server = self.served[-1]
        await server.shaken
        return server, client
