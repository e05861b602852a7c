"""
How an account's server is reached: from its description, and a network to go by, to a path of the roaming client.

Invariants: whoever the server says it is was verified before an octet of a program or a proof of ours goes there; there is one
TLS context for all connections of an account, and a later one goes on from the ticket of an earlier one that was verified, whose
name and key are looked at again; what a server says in the clear in front of STARTTLS is not used under TLS, but for the bare
text of its greeting.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from OpenSSL.SSL import VERIFY_NONE, Connection
from OpenSSL.SSL import Error as TLSError
from service_identity import VerificationError
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from mem_continuity.agent.names import RememberedNames
from mem_continuity.client.paths import DeviceEndpoint, Path
from mem_continuity.client.tickets import Tickets
from mem_continuity.core.policy import AgentPolicy
from mem_continuity.gateway.errors import Trouble, UpstreamError
from mem_continuity.gateway.greeting import Greeting, Ready, Say, StartTLS
from mem_continuity.gateway.trust import handshake_error, is_pinned
from mem_continuity.gateway.upstream import Upstream
from mem_continuity.layer.tls_contexts import client_context
from mem_continuity.layer.tls_endpoints import TLSClientEndpoint, named

DEFAULT = "default"
"""The name of the path that leaves the choice of a network to the system."""


class Dialer:
    """
    Makes the paths of one account.
    """

    def __init__(self, reactor: Any, server: Upstream, policy: AgentPolicy) -> None:
        """
        @param server: of kind C{tls}, C{starttls} or C{tcp}.
        @param policy: for C{connect_timeout}, C{preamble_line} and what L{RememberedNames} takes from it.
        @raise ValueError: its authority cannot be used.
        """
        self.server = server
        self._reactor = reactor
        self._policy = policy
        self._context: Any = None
        self._tickets = Tickets()
        self._names = RememberedNames(reactor, policy)
        if server.secured:
            self._context = client_context(server.authority)
            if server.pin_only:
                self._context.set_verify(VERIFY_NONE)

    def path(self, name: str = DEFAULT, device: str | None = None, source: str | None = None) -> Path:
        """
        A path by one network.

        @param name: for people, and for choosing.
        @param device: the network interface; C{None} for any.
        @param source: an address of this host; C{None} for any.
        """
        server, seconds = self.server, self._policy.connect_timeout
        plain = DeviceEndpoint(
            self._reactor, server.host, server.port, device=device, source=source, timeout=seconds, resolver=self._names
        )
        if server.kind == "tcp":
            return Path(name, plain)
        if server.kind == "tls":
            return Path(name, self.secured(plain))
        return Path(name, _StartTLSEndpoint(plain, self))

    def secured(self, plain: IStreamClientEndpoint) -> TLSClientEndpoint:
        """
        TLS over a plain connection, with whom the description names.
        """
        server, seconds = self.server, self._policy.connect_timeout
        return TLSClientEndpoint(
            self._reactor,
            server.host,
            server.port,
            self._context,
            server.name,
            seconds,
            verify=self._verify,
            plain=plain,
            prepare=self._tickets.offer,
        )

    def dialogue(self) -> Greeting:
        """
        What is said in the clear in front of STARTTLS.
        """
        return Greeting(True, None, False, self._policy.preamble_line)

    def _verify(self, connection: Connection) -> None:
        server = self.server
        if not server.pin_only:
            named(server.name)[1](connection)
        if server.pins and not is_pinned(SimpleNamespace(getPeerCertificate=connection.get_peer_certificate), server.pins):
            raise Trouble.CERTIFICATE.error("its public key is none of those that pin= names")
        self._tickets.learn(connection)


def trouble_of(failure: Failure) -> UpstreamError:
    """
    Why no connection came about, in words fit for a mail program; the details are for the log.
    """
    reason = failure.value
    if isinstance(reason, UpstreamError):
        return reason
    if isinstance(reason, (TLSError, VerificationError)):
        return handshake_error(reason)
    return Trouble.UNREACHABLE.error(" ".join(str(reason).split()) or type(reason).__name__)


@implementer(IStreamClientEndpoint)
class _StartTLSEndpoint:
    """
    Connects, says STARTTLS, and gives the connection out under TLS.  The server's greeting, which came in the clear, is handed to
    the protocol again, without what it told of the server.
    """

    def __init__(self, plain: IStreamClientEndpoint, dialer: Dialer) -> None:
        self._plain = plain
        self._dialer = dialer

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @see: L{IStreamClientEndpoint.connect}
        """
        clear = _Clear(self._plain, self._dialer)
        connecting = self._dialer.secured(clear).connect(protocolFactory)
        result: Deferred[IProtocol] = Deferred(lambda _: connecting.cancel())

        def ready(protocol: Any) -> None:
            result.callback(protocol)  # whoever waited for it takes it now
            protocol.dataReceived(clear.greeting)

        connecting.addCallbacks(ready, result.errback)
        return result


@implementer(IStreamClientEndpoint)
class _Clear:
    """
    The part in the clear of one connection.

    @ivar greeting: a line with its CRLF, when the connection is given out.
    """

    def __init__(self, plain: IStreamClientEndpoint, dialer: Dialer) -> None:
        self.greeting = b""
        self._plain = plain
        self._dialer = dialer

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @see: L{IStreamClientEndpoint.connect}
        """
        factory = Factory.forProtocol(lambda: _ClearProtocol(self._dialer.dialogue()))
        factory.noisy = False
        connecting: Deferred[Any] = self._plain.connect(factory)

        def secure(said: tuple[_ClearProtocol, bytes]) -> IProtocol:
            protocol, self.greeting = said
            made = protocolFactory.buildProtocol(protocol.wire.getPeer())
            assert made is not None
            protocol.wire.protocol = made
            made.makeConnection(protocol.wire)
            return made

        return connecting.addCallback(lambda protocol: protocol.agreed).addCallback(secure)


class _ClearProtocol(Protocol):
    """
    @ivar agreed: fires with this and the greeting when the server waits for TLS; fails with L{UpstreamError}.
    """

    def __init__(self, dialogue: Greeting) -> None:
        self.agreed: Deferred[tuple[_ClearProtocol, bytes]] = Deferred(lambda _: self.wire.abortConnection())
        self._dialogue = dialogue

    @property
    def wire(self) -> Any:
        return self.transport

    def dataReceived(self, data: bytes) -> None:
        try:
            steps = self._dialogue.feed(data)
        except UpstreamError as error:
            self.wire.abortConnection()
            self._fail(error)
            return
        for step in steps:
            if isinstance(step, Say):
                self.wire.write(step.octets)
            elif isinstance(step, StartTLS) and not self.agreed.called:
                # Nothing more is asked for, so it is ready at once, with the greeting.
                ready = [one for one in self._dialogue.secured() if isinstance(one, Ready)]
                self.agreed.callback((self, ready[0].greeting))

    def _fail(self, error: UpstreamError) -> None:
        if not self.agreed.called:
            self.agreed.errback(error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._fail(Trouble.LOST.error("the connection ended before STARTTLS"))
