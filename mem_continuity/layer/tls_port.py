"""
Where TLS connections on descriptors are accepted.

Twisted's port does the accepting, with all it knows of a system that runs out of descriptors; only the transport is ours.

Invariant: a factory is asked for a protocol with the client's real address.  So behind a balancer it is asked when the PROXY
header has been read, and never for a connection that does not begin with one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from socket import AF_INET6
from socket import socket as Socket  # noqa: N812
from typing import Any

from OpenSSL.SSL import Context
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, IReadDescriptor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Port
from twisted.logger import Logger
from zope.interface import implementer

from mem_continuity.core.policy import Policy
from mem_continuity.layer.proxy_header import HeaderReader, NotProxied
from mem_continuity.layer.tls_socket import TLSSocket


class _Nobody(Protocol):
    """
    Stands in for a protocol that cannot be made yet.
    """

    def makeConnection(self, transport: Any) -> None:
        """
        There is nobody to tell.
        """


class _Later(Factory):
    """
    What the port has for a factory while it does not know who connects.
    """

    noisy = False

    def __init__(self, factory: Any) -> None:
        self.factory = factory

    def doStart(self) -> None:
        self.factory.doStart()

    def doStop(self) -> None:
        self.factory.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return _Nobody()


class TLSPort(Port):
    """
    A listening port whose connections are L{TLSSocket}s.
    """

    _type = "TLS"

    def __init__(
        self,
        reactor: Any,
        port: int,
        factory: Any,
        context: Callable[[], Context],
        policy: Policy,
        *,
        backlog: int,
        interface: str,
        proxied: bool,
        clock: IReactorTime | None,
        sock: Socket | None,
    ) -> None:
        """
        @param context: asked for each connection, so that a certificate can be renewed.
        @param proxied: a PROXY header comes in front of every handshake.
        @param clock: of the deadlines; None for the reactor's.
        @param sock: listens already; None for one of our own.
        """
        super().__init__(port, _Later(factory) if proxied else factory, backlog, interface, reactor)
        if sock is not None:
            sock.setblocking(False)
            self.addressFamily = sock.family
            self._addressType = IPv6Address if sock.family == AF_INET6 else IPv4Address
            self._preexistingSocket = sock
        self._context = context
        self._policy = policy
        self._clock: IReactorTime = reactor if clock is None else clock
        self._wanted = factory
        self.transport: Any = self._expect_header if proxied else self._accepted

    def _accepted(self, sock: Socket, protocol: Any, address: Any, port: Any, number: int, reactor: Any) -> TLSSocket:
        return self._begin(sock, protocol, self._policy.handshake_time, self._buildAddr(address), None)

    def _expect_header(self, sock: Socket, protocol: Any, address: Any, port: Any, number: int, reactor: Any) -> _Proxied:
        # A balancer that only asks whether somebody listens may be gone when its header is read: then nobody knows its address.
        done = partial(self._header_read, self._buildAddr(address))
        return _Proxied(reactor, sock, self._clock, self._policy.handshake_time, done)

    def _header_read(self, balancer: Any, sock: Socket, header: HeaderReader, time_left: float) -> None:
        peer = header.source or balancer
        try:
            protocol = self._wanted.buildProtocol(peer)
        except BaseException:
            sock.close()
            raise  # the reactor logs it and goes on
        if protocol is None:
            sock.close()
            return
        protocol.makeConnection(self._begin(sock, protocol, time_left, peer, header.destination))

    def _begin(self, sock: Socket, protocol: Any, time: float, peer: Any, host: Any) -> TLSSocket:
        try:
            transport = TLSSocket(
                self.reactor,
                sock,
                self._context(),
                protocol,
                server=True,
                handshake_time=time,
                close_time=self._policy.close_time,
                peer=peer,
                host=host,
                clock=self._clock,
            )
        except BaseException:
            sock.close()
            raise  # the port logs it and goes on
        transport.start()
        return transport


@implementer(IReadDescriptor)
class _Proxied:
    """
    A connection whose PROXY header has not been read.
    """

    _log = Logger()

    def __init__(self, reactor: Any, sock: Socket, clock: IReactorTime, time: float, done: Any) -> None:
        sock.setblocking(False)
        self._reactor = reactor
        self._socket: Socket | None = sock
        self._clock = clock
        self._until = clock.seconds() + time
        self._done = done
        self._header = HeaderReader()
        self._timer: IDelayedCall = clock.callLater(time, self._refuse, "no PROXY header in time")
        reactor.addReader(self)

    def fileno(self) -> int:
        """
        @return: -1 once it is somebody else's.
        """
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """
        @see: L{ILoggingContext.logPrefix<twisted.internet.interfaces.ILoggingContext.logPrefix>}
        """
        return "PROXY"

    def doRead(self) -> None:
        """
        There is something of the header, or behind it.
        """
        sock = self._socket
        if sock is None:
            return
        try:
            if not self._header.read(sock):
                return
        except NotProxied as error:
            self._refuse(str(error))
            return
        except OSError:
            self._close()
            return
        self._leave()
        self._done(sock, self._header, max(0.0, self._until - self._clock.seconds()))

    def connectionLost(self, reason: Any) -> None:
        """
        The reactor gives it up.
        """
        self._close()

    def _refuse(self, why: str) -> None:
        self._log.info("A connection to a port behind a balancer is closed: {why}", why=why)
        self._close()

    def _close(self) -> None:
        if (sock := self._leave()) is not None:
            sock.close()

    def _leave(self) -> Socket | None:
        sock = self._socket
        if sock is not None:
            self._reactor.removeReader(self)
            self._socket = None
            if self._timer.active():
                self._timer.cancel()
        return sock
