"""
Endpoints for TLS on the descriptor: the same to their callers as those of Twisted's TLS, at less memory and time a connection.

They need a reactor that tells of descriptors (epoll, poll, select, kqueue, asyncio).  With another one, such as Windows' I/O
completion ports, they raise L{NoDescriptors} when they are made, so that a caller can take Twisted's own TLS instead.
"""

from __future__ import annotations

from collections.abc import Callable
from socket import socket as Socket  # noqa: N812
from typing import Any

from OpenSSL.SSL import VERIFY_PEER, Connection
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, execute
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectionAborted, TimeoutError
from twisted.internet.interfaces import (
    IHandshakeListener,
    IListeningPort,
    IReactorFDSet,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from mem_continuity.core.policy import Policy
from mem_continuity.layer.tls_contexts import ContextError, context_of
from mem_continuity.layer.tls_port import TLSPort
from mem_continuity.layer.tls_socket import TLSSocket
from mem_continuity.layer.tls_starting import begin_tls, detach


class NoDescriptors(TypeError):
    """
    This reactor does not tell of descriptors.
    """


def _check(reactor: object) -> None:
    if not IReactorFDSet.providedBy(reactor) or not IReactorTime.providedBy(reactor):
        raise NoDescriptors(f"{type(reactor).__name__} does not watch descriptors; use Twisted's own TLS with it")


@implementer(IStreamServerEndpoint)
class TLSServerEndpoint:
    """
    Listens for TLS.
    """

    def __init__(
        self,
        reactor: Any,
        port: int,
        context_factory: object,
        interface: str = "",
        backlog: int = 1024,
        proxied: bool = False,
        *,
        policy: Policy | None = None,
        clock: IReactorTime | None = None,
        sock: Socket | None = None,
    ) -> None:
        """
        @param context_factory: an OpenSSL context, such as
            L{server_context<mem_continuity.layer.tls_contexts.server_context>} makes, or a factory of one, which is asked for
            each connection.
        @param interface: the address to listen on; empty for all of IPv4.
        @param backlog: connections that may wait to be accepted.
        @param proxied: a balancer puts a PROXY header, of either version, in front of every handshake.  Whoever can connect to
            such a port can say that it is anybody.
        @param policy: for its times of a handshake and a close.
        @param clock: of these times; None for the reactor's.
        @param sock: a TCP socket that listens already, from systemd for example, and is ours from now on; then C{port},
            C{interface} and C{backlog} mean nothing.
        @raise NoDescriptors: with this reactor it cannot be done.
        @raise ContextError: there is no context in the context factory.
        """
        _check(reactor)
        self._reactor = reactor
        self._port = port
        context_of(context_factory)  # what is wrong with it is said now
        self._context = lambda: context_of(context_factory)
        self._options: dict[str, Any] = {"interface": interface, "backlog": backlog, "proxied": proxied}
        self._options |= {"clock": clock, "sock": sock}
        self._policy = Policy() if policy is None else policy

    def listen(self, protocolFactory: Any) -> Deferred[IListeningPort]:
        """
        @see: L{IStreamServerEndpoint.listen}
        """
        return execute(self._listen, protocolFactory)

    def _listen(self, factory: Any) -> IListeningPort:
        port = TLSPort(self._reactor, self._port, factory, self._context, self._policy, **self._options)
        port.startListening()
        return port


def named(hostname: str) -> tuple[bytes, Callable[[Connection], None]]:
    """
    @param hostname: a name, in Unicode if need be, or an IP address.
    @return: what a client asks for by SNI, nothing for an address; and what verifies a connection's certificate, by raising
        C{service_identity.VerificationError} or C{CertificateError}.
    @raise ValueError: this cannot be a host's name.
    """
    if isIPAddress(hostname) or isIPv6Address(hostname):
        return b"", lambda connection: verify_ip_address(connection, hostname)
    name = hostname.rstrip(".").encode("idna")
    return name, lambda connection: verify_hostname(connection, name.decode("ascii"))


class _Connecting(Protocol):
    """
    The protocol of the plain connection.
    """

    def __init__(self, header: bytes) -> None:
        self._header = header

    def connectionMade(self) -> None:
        wire: Any = self.transport
        wire.pauseProducing()
        wire.write(self._header)


@implementer(IStreamClientEndpoint)
class TLSClientEndpoint:
    """
    Connects by TLS.  Its Deferred fires when the handshake is complete and the server verified; the protocol is made only then.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        context: object,
        hostname: str | None = None,
        timeout: float = 30.0,
        bind_address: str | tuple[str, int] | None = None,
        *,
        verify: bool | Callable[[Connection], object] = True,
        policy: Policy | None = None,
        plain: IStreamClientEndpoint | None = None,
        header: bytes = b"",
        prepare: Callable[[Connection], object] | None = None,
    ) -> None:
        """
        @param host: where to connect: a name, all of whose addresses are tried (RFC 8305), or an address.
        @param context: an OpenSSL context that verifies the chain, such as
            L{client_context<mem_continuity.layer.tls_contexts.client_context>} makes, or a factory of one.
        @param hostname: whom to expect there and to ask for by SNI; None for C{host}.
        @param timeout: seconds for all of it.
        @param verify: True for the certificate's name; False for nothing beyond what the context verifies; or what is to be
            called instead, with OpenSSL's connection, and raises.
        @param policy: for its time of a close.
        @param plain: makes the plain connection, in place of C{host}, C{port} and C{bind_address}.
        @param header: said in clear in front of the handshake, such as a PROXY header.
        @param prepare: called with OpenSSL's connection before its handshake, to offer a session ticket for example.
        @raise NoDescriptors: with this reactor it cannot be done.
        @raise ContextError: there is no context, or the name is to be verified and the context does not verify the chain.
        @raise ValueError: C{hostname} cannot be a host's name.
        """
        _check(reactor)
        self._reactor = reactor
        self._context = context_of(context)
        self._server_name, by_name = named(host if hostname is None else hostname)
        self._verify = by_name if verify is True else verify or None
        if verify is True and not self._context.get_verify_mode() & VERIFY_PEER:
            raise ContextError("a name in a certificate means nothing when the context does not verify who signed it")
        self._timeout = timeout
        self._policy = Policy() if policy is None else policy
        bind: Any = (bind_address, 0) if isinstance(bind_address, str) else bind_address
        self._plain: Any = HostnameEndpoint(reactor, host, port, timeout, bind) if plain is None else plain
        self._header = header
        self._prepare = prepare

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """
        @see: L{IStreamClientEndpoint.connect}
        """

        def ready(tls: TLSSocket) -> Any:
            protocol = protocolFactory.buildProtocol(tls.getPeer())
            if protocol is None:
                raise ConnectionAborted("the factory makes no protocol for this server")
            tls.protocol = protocol
            protocol.makeConnection(tls)
            if IHandshakeListener.providedBy(protocol):
                protocol.handshakeCompleted()
            return protocol

        def begin(sock: Any) -> Deferred[Any]:
            return begin_tls(
                self._reactor,
                sock,
                self._context,
                ready,
                server=False,
                time=self._timeout,
                policy=self._policy,
                server_name=self._server_name,
                verify=self._verify,
                prepare=self._prepare,
            )

        def in_time(result: Any, seconds: float) -> Failure:
            return Failure(TimeoutError(string=f"no TLS connection within {seconds:g} seconds"))

        factory = Factory.forProtocol(lambda: _Connecting(self._header))
        factory.noisy = False
        plain: Deferred[Any] = self._plain.connect(factory)
        plain.addCallback(lambda made: detach(self._reactor, made.transport)).addCallback(begin)
        return plain.addTimeout(self._timeout, self._reactor, in_time)
