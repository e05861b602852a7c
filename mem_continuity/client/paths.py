"""
Ways to one server: each a network, named by the address or the interface that connections leave from.

Invariants: the order of the paths is the order of preference; a better path gets a head start, never a monopoly, so a network that
swallows packets delays nothing but itself; of several connections that come about, one is used and the others are closed.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.error import ConnectError, ConnectingCancelledError, TimeoutError, getConnectError
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from zope.interface import implementer


@dataclass(frozen=True, slots=True)
class Path:
    """
    One way to the server.

    @ivar name: for logs and for choosing: C{wlan0}, an address, anything.
    @ivar endpoint: connects that way, TLS included.
    """

    name: str
    endpoint: IStreamClientEndpoint


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@implementer(IStreamClientEndpoint)
class DeviceEndpoint:
    """
    TCP through one network interface, from one source address, or both; optionally with TCP Fast Open.

    Twisted's own endpoints can bind to an address only, and an address alone does not choose the network on every system.
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
    ) -> None:
        """
        @param device: a network interface's name; needs Linux, and the right to bind to it.
        @param source: an address of this host.
        @param fast_open: send the first octets with the SYN, where both kernels allow it (RFC 7413).
        @param timeout: seconds.
        """
        self._reactor = reactor
        self._host, self._port = host, port
        self._device, self._source = device, source
        self._fast_open = fast_open
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @see: L{IStreamClientEndpoint.connect}
        """
        if self._is_address():
            attempt = _Connecting(self, protocolFactory)
            return attempt.begin(_family(self._host), (self._host, self._port))
        resolved: Deferred[Any] = deferToThreadPool(
            self._reactor,
            self._reactor.getThreadPool(),
            socket.getaddrinfo,
            self._host,
            self._port,
            _family(self._source) if self._source else 0,
            socket.SOCK_STREAM,
        )

        def connect(found: list[Any]) -> Deferred[IProtocol]:
            family, _, _, _, address = found[0]
            return _Connecting(self, protocolFactory).begin(family, address)

        return resolved.addCallback(connect)

    def _is_address(self) -> bool:
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                socket.inet_pton(family, self._host)
            except OSError:
                continue
            return True
        return False

    def make_socket(self, family: int) -> socket.socket:
        """
        A socket that is bound as asked.

        @raise OSError: the interface or the address is not there.
        """
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.setblocking(False)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._device is not None:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._device.encode() + b"\0")
            if self._source is not None:
                made.bind((self._source, 0))
            if self._fast_open:
                made.setsockopt(socket.IPPROTO_TCP, getattr(socket, "TCP_FASTOPEN_CONNECT", 30), 1)
        except BaseException:
            made.close()
            raise
        return made

    @property
    def reactor(self) -> Any:
        """
        The reactor that connects.
        """
        return self._reactor

    @property
    def timeout(self) -> float:
        """
        Seconds for one connection attempt.
        """
        return self._timeout


class _Connecting:
    """
    One connection attempt: waits for the socket to become writable, then gives it to the reactor.
    """

    def __init__(self, endpoint: DeviceEndpoint, factory: IProtocolFactory) -> None:
        self._endpoint = endpoint
        self._reactor = endpoint.reactor
        self._factory = factory
        self._done: Deferred[IProtocol] = Deferred(self._cancelled)
        self._timer: IDelayedCall | None = None
        self._socket: socket.socket | None = None

    def begin(self, family: int, address: Any) -> Deferred[IProtocol]:
        try:
            self._socket = self._endpoint.make_socket(family)
            code = self._socket.connect_ex(address)
        except OSError as error:
            self._close()
            return fail(getConnectError((error.errno, str(error))))
        if code not in (0, errno.EINPROGRESS):
            self._close()
            return fail(getConnectError((code, errno.errorcode.get(code, "?"))))
        self._timer = self._reactor.callLater(self._endpoint.timeout, self._timed_out)
        self._reactor.addWriter(self)
        return self._done

    # IWriteDescriptor

    def fileno(self) -> int:
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        return "connecting"

    def connectionLost(self, reason: Failure) -> None:
        self._failed(reason)

    def doWrite(self) -> None:
        assert self._socket is not None
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._failed(Failure(getConnectError((code, errno.errorcode.get(code, "?")))))
            return
        self._settle()
        made, self._socket = self._socket, None
        factory = _Telling(self._factory)
        self._reactor.adoptStreamConnection(made.fileno(), made.family, factory)  # takes a duplicate
        made.close()
        if factory.built is None:
            self._done.errback(Failure(ConnectError(string="the factory gave no protocol")))
        else:
            self._done.callback(factory.built)

    def _settle(self) -> None:
        self._reactor.removeWriter(self)
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _failed(self, reason: Failure) -> None:
        if self._socket is not None:
            self._settle()
            self._close()
            self._done.errback(reason)

    def _timed_out(self) -> None:
        self._failed(Failure(TimeoutError()))

    def _cancelled(self, _: object) -> None:
        self._failed(Failure(ConnectingCancelledError(None)))

    def _close(self) -> None:
        made, self._socket = self._socket, None
        if made is not None:
            made.close()


class _Telling:
    """
    A factory that remembers what it built, for L{IReactorSocket.adoptStreamConnection} does not tell.
    """

    def __init__(self, factory: IProtocolFactory) -> None:
        self._factory = factory
        self.built: IProtocol | None = None

    def buildProtocol(self, address: Any) -> IProtocol | None:
        self.built = self._factory.buildProtocol(address)
        return self.built

    def doStart(self) -> None:
        self._factory.doStart()

    def doStop(self) -> None:
        self._factory.doStop()


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

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @see: L{IStreamClientEndpoint.connect}
        """
        return _Race(list(self.paths), self._clock, self._stagger, protocolFactory).begin()


class _Race:
    def __init__(self, paths: list[Path], clock: IReactorTime, stagger: float, factory: IProtocolFactory) -> None:
        self._waiting = paths
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

    def _start_next(self) -> None:
        timer, self._next = self._next, None
        if timer is not None and timer.active():
            timer.cancel()
        if self._over or not self._waiting:
            self._check()
            return
        path = self._waiting.pop(0)
        attempt: Deferred[IProtocol] = maybeDeferred(path.endpoint.connect, self._factory)
        self._running.append(attempt)
        if self._waiting:
            self._next = self._clock.callLater(self._stagger, self._start_next)
        attempt.addCallbacks(self._won, self._lost, callbackArgs=(attempt,), errbackArgs=(attempt,))

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

    def _lost(self, reason: Failure, attempt: Deferred[IProtocol]) -> None:
        self._running.remove(attempt)
        self._last = reason
        if not self._over:
            self._start_next()

    def _check(self) -> None:
        if not self._over and not self._running:
            self._over = True
            self._done.errback(self._last)

    def _stop(self) -> None:
        timer, self._next = self._next, None
        if timer is not None and timer.active():
            timer.cancel()
        self._waiting.clear()
        for other in list(self._running):
            other.cancel()

    def _cancel(self, _: object) -> None:
        self._over = True
        self._stop()
