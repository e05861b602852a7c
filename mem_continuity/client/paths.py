"""
Ways to one server: each a network, named by the address or the interface that connections leave from.

Invariants: the order of the paths is that of preference; a better path gets a head start, never a monopoly, so a network that
swallows packets delays nothing but itself; of several connections that come about, one is used and the others are closed.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IConnector,
    IDelayedCall,
    IHostnameResolver,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.tcp import Client, Connector
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

_TCP_FASTOPEN_CONNECT: int = getattr(socket, "TCP_FASTOPEN_CONNECT", 30)
"""Linux has it since 4.11 under this number; Python has no name for it."""


@dataclass(frozen=True, slots=True)
class Path:
    """
    One way to the server.

    @ivar name: for logs and for choosing: C{wlan0}, an address, anything.
    @ivar endpoint: connects that way, TLS included.
    """

    name: str
    endpoint: IStreamClientEndpoint


class _Client(Client):
    """
    Twisted's own TCP client on a socket that is bound as asked.
    """

    connector: _Connector

    def createInternetSocket(self) -> socket.socket:
        made: socket.socket = super().createInternetSocket()
        try:
            self.connector.prepare(made)
        except BaseException:
            made.close()
            raise
        return made


class _Connector(Connector):
    """
    Makes L{_Client}s.
    """

    def __init__(self, device: str | None, source: str | None, fast_open: bool, *args: Any) -> None:
        super().__init__(*args)
        self._device = device
        self._source = source
        self._fast_open = fast_open

    def prepare(self, made: socket.socket) -> None:
        """
        @raise OSError: the interface or the address is not there, or may not be bound to.
        """
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._device is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._device.encode() + b"\0")
        if self._source is not None:
            made.bind((self._source, 0))  # here and not by Twisted, which forgets the socket when this fails
        if self._fast_open:
            made.setsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN_CONNECT, 1)

    def _makeTransport(self) -> Client:
        return _Client(self.host, self.port, self.bindAddress, self, self.reactor)


class _DeviceReactor:
    """
    The reactor, but for C{connectTCP}: what Twisted's endpoints connect with goes through one interface.
    """

    def __init__(self, reactor: Any, device: str | None, source: str | None, fast_open: bool, resolver: Any) -> None:
        self._reactor = reactor
        if resolver is not None:
            self.nameResolver = resolver
        self._binding = device, source, fast_open
        directlyProvides(self, providedBy(reactor))

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: tuple[str, int] | None = None
    ) -> IConnector:
        connector = _Connector(*self._binding, host, port, factory, timeout, bindAddress, self._reactor)
        connector.connect()
        return connector

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


@implementer(IStreamClientEndpoint)
class DeviceEndpoint:
    """
    TCP through one network interface, from one source address, or both; optionally with TCP Fast Open.

    Twisted's own endpoints can bind to an address only, and an address alone does not choose the network on every system.
    Beyond that they are used as they are: a host that is given by name is looked up, and all its addresses are tried.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        *,
        device: str | None = None,
        source: str | None = None,
        fast_open: bool = False,
        timeout: float = 30.0,
        resolver: IHostnameResolver | None = None,
    ) -> None:
        """
        @param device: a network interface's name; needs Linux, and the right to bind to it.
        @param source: an address of this host.
        @param fast_open: send the first octets with the SYN, where both kernels allow it (RFC 7413).
        @param timeout: seconds.
        @param resolver: looks names up; the reactor's when None.
        """
        through = _DeviceReactor(reactor, device, source, fast_open, resolver)
        if isIPAddress(host):
            self._endpoint: Any = TCP4ClientEndpoint(through, host, port, timeout)
        elif isIPv6Address(host):
            self._endpoint = TCP6ClientEndpoint(through, host, port, timeout)
        else:
            self._endpoint = HostnameEndpoint(through, host, port, timeout)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @see: L{IStreamClientEndpoint.connect}; to a literal address the socket is made before this returns.
        """
        connecting: Deferred[IProtocol] = self._endpoint.connect(protocolFactory)
        return connecting


@implementer(IStreamClientEndpoint)
class AnyPath:
    """
    An endpoint over several: the first connection that comes about is it.
    """

    def __init__(self, paths: Sequence[Path], clock: IReactorTime, stagger: float) -> None:
        """
        @param paths: the best first; at least one.
        @param stagger: the head start of each over the next, in seconds.
        """
        self.paths = list(paths)
        self._clock = clock
        self._stagger = stagger
        self._races: list[_Race] = []

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @see: L{IStreamClientEndpoint.connect}
        """
        race = _Race(list(self.paths), self._clock, self._stagger, protocolFactory)
        self._races.append(race)

        def over(result: Any) -> Any:
            self._races.remove(race)
            return result

        return race.begin().addBoth(over)

    def retry(self) -> None:
        """
        The network has changed: where a connection is being made, paths that have failed already are tried once more.
        """
        for race in list(self._races):
            race.retry()


class _Race:
    def __init__(self, paths: list[Path], clock: IReactorTime, stagger: float, factory: IProtocolFactory) -> None:
        self._waiting = paths
        self._failed: list[Path] = []
        self._running: list[Deferred[IProtocol]] = []
        self._clock = clock
        self._stagger = stagger
        self._factory = factory
        self._next: IDelayedCall | None = None
        self._done: Deferred[IProtocol] = Deferred(self._cancel)
        self._last = Failure(ConnectError(string="there is no path to the server"))
        self._over = False

    def begin(self) -> Deferred[IProtocol]:
        self._start_next()
        return self._done

    def retry(self) -> None:
        if self._over or not self._failed:
            return
        self._waiting += self._failed
        self._failed.clear()
        if self._next is None:
            self._start_next()

    def _start_next(self) -> None:
        self._stop_timer()
        if self._over:
            return
        if not self._waiting:
            self._check()
            return
        path = self._waiting.pop(0)
        attempt: Deferred[IProtocol] = maybeDeferred(path.endpoint.connect, self._factory)
        self._running.append(attempt)
        if self._waiting:
            self._next = self._clock.callLater(self._stagger, self._start_next)
        attempt.addCallbacks(self._won, self._lost, callbackArgs=(attempt,), errbackArgs=(attempt, path))

    def _won(self, protocol: IProtocol, attempt: Deferred[IProtocol]) -> None:
        self._running.remove(attempt)
        if self._over:
            transport: Any = getattr(protocol, "transport", None)
            if transport is not None:
                transport.abortConnection()
            return
        self._over = True
        self._stop()
        self._done.callback(protocol)

    def _lost(self, reason: Failure, attempt: Deferred[IProtocol], path: Path) -> None:
        self._running.remove(attempt)
        self._failed.append(path)
        self._last = reason
        if not self._over:
            self._start_next()

    def _check(self) -> None:
        if not self._running:
            self._over = True
            self._done.errback(self._last)

    def _stop_timer(self) -> None:
        timer, self._next = self._next, None
        if timer is not None and timer.active():
            timer.cancel()

    def _stop(self) -> None:
        self._stop_timer()
        self._waiting.clear()
        for other in list(self._running):
            other.cancel()

    def _cancel(self, _: object) -> None:
        self._over = True
        self._stop()
