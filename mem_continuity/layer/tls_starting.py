"""
Beginning TLS on a descriptor that somebody connected: by an endpoint, or by STARTTLS.

Invariants: of the plain transport only what Twisted makes public is used, so the descriptor is duplicated and the transport let
go; what was written in clear is out before; nothing is delivered, and nobody told, before the peer is verified.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from socket import SO_LINGER, SOL_SOCKET
from socket import socket as Socket  # noqa: N812
from typing import Any, TypeVar

from OpenSSL.SSL import Connection, Context
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHandshakeListener, IPullProducer, ISSLTransport, ISystemHandle
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from mem_continuity.core.policy import Policy
from mem_continuity.layer.tls_socket import TLSSocket

_NO_RESET = struct.pack("ii", 0, 0)
_Result = TypeVar("_Result")


class NotPlain(TypeError):
    """
    TLS can begin only on a plain transport that has a descriptor.
    """


def detach(reactor: Any, transport: Any) -> Deferred[Socket]:
    """
    Take the socket of a plain transport, once everything that was written is out.  Its protocol is told nothing, then or later,
    unless the connection is lost before that.

    @param transport: of a TCP or Unix connection, without a producer.
    @return: a Deferred of the socket, which fails with C{ConnectionLost}.  To cancel it breaks the connection off.
    @raise NotPlain: it is under TLS, or has no descriptor.
    """
    if ISSLTransport.providedBy(transport) or not ISystemHandle.providedBy(transport):
        raise NotPlain(f"TLS can begin only on a plain connection, not on {transport!r}")
    if not isinstance(transport.getHandle(), Socket):
        raise NotPlain(f"TLS can begin only on a connection with a socket, not on {transport!r}")
    return _Detaching(reactor, transport).socket


@implementer(IPullProducer)
class _Detaching(Protocol):
    """
    First the plain transport's producer, to learn when it has written everything, then its protocol, to learn that it let go.
    """

    def __init__(self, reactor: Any, transport: Any) -> None:
        self.socket: Deferred[Socket] = Deferred(lambda _: transport.abortConnection())
        self._plain = transport
        self._told = transport.protocol
        self._copy: Socket | None = None
        self._asked = False
        transport.pauseProducing()
        transport.registerProducer(self, False)
        reactor.addWriter(transport)  # it asks its producer when it has nothing to write, but only then

    def resumeProducing(self) -> None:
        if not self._asked:
            self._asked = True  # from within registerProducer: what it has to write it still has
            return
        self._plain.unregisterProducer()
        self._copy = self._plain.getHandle().dup()
        self._plain.protocol = self
        self._plain.abortConnection()

    def stopProducing(self) -> None:
        if self._copy is None and not self.socket.called:
            self.socket.errback(Failure(ConnectionLost()))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        copy, self._copy = self._copy, None
        if copy is None:
            return
        if self.socket.called:  # it was cancelled when it was nearly done
            copy.close()
            self._told.connectionLost(reason)
            return
        copy.setsockopt(SOL_SOCKET, SO_LINGER, _NO_RESET)  # what the abort has set is of the connection, not of the descriptor
        self.socket.callback(copy)


@implementer(IHandshakeListener)
class _Waiting(Protocol):
    """
    The protocol of a connection whose peer is not verified.
    """

    def __init__(self, verify: Callable[[Connection], object] | None, ready: Callable[[TLSSocket], Any]) -> None:
        self.done: Deferred[Any] = Deferred(lambda _: self._wire.abortConnection())
        self._verify = verify
        self._ready = ready

    @property
    def _wire(self) -> Any:
        return self.transport

    def handshakeCompleted(self) -> None:
        if self.done.called:
            return
        try:
            if self._verify is not None:
                self._verify(self._wire.getHandle())
            found = self._ready(self._wire)
        except Exception:
            self._wire.abortConnection()
            self.done.errback(Failure())
        else:
            self.done.callback(found)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.done.called:
            self.done.errback(reason)


def begin_tls(
    reactor: Any,
    sock: Socket,
    context: Context,
    ready: Callable[[TLSSocket], _Result],
    *,
    server: bool,
    time: float,
    policy: Policy,
    server_name: bytes = b"",
    verify: Callable[[Connection], object] | None = None,
    prepare: Callable[[Connection], object] | None = None,
) -> Deferred[_Result]:
    """
    Begin TLS on a connected socket, which is ours from now on.

    @param ready: called when the handshake is complete and the peer verified; it has to set the transport's protocol.
    @param time: seconds for the handshake.
    @param verify: raises when this is not the peer that is wanted.
    @param prepare: called with OpenSSL's connection before its handshake.
    @return: a Deferred of what C{ready} returns, which fails with how the connection ended or what C{verify} raised.
    """
    waiting = _Waiting(verify, ready)
    transport = TLSSocket(
        reactor,
        sock,
        context,
        waiting,
        server=server,
        handshake_time=time,
        close_time=policy.close_time,
        server_name=server_name,
    )
    waiting.makeConnection(transport)
    connection = transport.getHandle()
    if prepare is not None and connection is not None:
        prepare(connection)
    transport.start()
    return waiting.done


def start_tls(
    reactor: Any,
    transport: Any,
    context: Context,
    protocol: Any,
    *,
    server: bool,
    policy: Policy,
    server_name: bytes = b"",
    verify: Callable[[Connection], object] | None = None,
) -> Deferred[TLSSocket]:
    """
    STARTTLS, in either role: go on with TLS on the descriptor of a plain transport.

    The protocol's C{transport} becomes the new one, and its C{handshakeCompleted} is called if it has one, when the handshake is
    complete and the peer verified.  When that fails, or the connection is lost before, its C{connectionLost} is called.  Octets
    of a client that were read behind its STARTTLS are the caller's to throw away.

    @return: a Deferred of the new transport.
    @raise NotPlain: the transport is under TLS already, or has no descriptor.
    """

    def ready(tls: TLSSocket) -> TLSSocket:
        tls.protocol = protocol
        protocol.transport = tls
        if IHandshakeListener.providedBy(protocol):
            protocol.handshakeCompleted()
        return tls

    def begin(sock: Socket) -> Deferred[TLSSocket]:
        begun = begin_tls(
            reactor,
            sock,
            context,
            ready,
            server=server,
            time=policy.handshake_time,
            policy=policy,
            server_name=server_name,
            verify=verify,
        )
        return begun.addErrback(lost)

    def lost(reason: Failure) -> Failure:
        if protocol.transport is transport:
            protocol.connectionLost(reason)
        return reason

    return detach(reactor, transport).addCallback(begin)
