"""
How TLS on a descriptor ends: closed by either side, half closed, broken off, lost.

Invariants: C{connectionLost} comes once, and never from within a call of the protocol's; a handshake, and an answer to our close,
are not waited for without end; the socket is closed with a reset only when the connection was broken off.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from socket import SHUT_RDWR, SHUT_WR, SO_LINGER, SOL_SOCKET
from socket import socket as Socket  # noqa: N812  a transport's attribute has that name
from typing import Any

from OpenSSL.SSL import Error as TLSError
from OpenSSL.SSL import WantReadError, WantWriteError
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IReactorTime
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure

from mem_continuity.layer.tls_output import TLSOutput

_UNREAD = 64 * 1024
_RESET = struct.pack("ii", 1, 0)


class TLSEnds(TLSOutput):
    """
    The part of L{TLSSocket<mem_continuity.layer.tls_socket.TLSSocket>} that closes.

    @ivar protocol: who is told.
    @ivar disconnected: the connection is lost.
    """

    __slots__ = (
        "_aborting",
        "_clock",
        "_close_time",
        "_failing",
        "_finished",
        "_reason",
        "_said_close",
        "_timer",
        "disconnected",
        "protocol",
    )

    def __init__(
        self, protocol: Any, clock: IReactorTime | None, handshake_time: float, close_time: float, reactor: Any, *facts: Any
    ) -> None:
        super().__init__(reactor, *facts)
        self.protocol = protocol
        self.disconnected = False
        self._clock: IReactorTime = reactor if clock is None else clock
        self._close_time = close_time
        self._finished = False  # the peer has said close_notify
        self._said_close = False  # we have
        self._aborting = False
        self._failing = False  # the end is due
        self._reason: Failure | None = None
        self._timer: IDelayedCall | None = self._clock.callLater(handshake_time, self._too_slow, handshake_time)

    def _listen(self) -> None:
        raise NotImplementedError

    def _too_slow(self, seconds: float) -> None:
        self._timer = None
        self._abort(Failure(TimeoutError(string=f"no TLS handshake within {seconds:g} seconds")))

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def loseConnection(self) -> None:
        """
        Close, once everything that was written is out and there is no producer any more.
        """
        if not self.connected or self.disconnecting:
            return
        if not self.established and self._queue is None:
            self.abortConnection()  # as Twisted's TLS does: there is nothing to wait for
            return
        self.disconnecting = True
        if self.established and self._producer is None:
            self._start_writing()

    def loseWriteConnection(self) -> None:
        """
        Say close_notify once everything is out, and read on until the peer closes too.  Most peers do so at once.
        """
        self._half_closing = True
        if self.connected and self.established and self._producer is None:
            self._start_writing()

    def _say_close(self) -> Exception | None:
        connection, sock = self._connection, self.socket
        if connection is None or sock is None:
            return None
        if not self._said_close:
            try:
                connection.shutdown()
            except (WantReadError, WantWriteError):
                self._start_writing()
                return None
            except TLSError:
                return CONNECTION_DONE if self._finished else CONNECTION_LOST
            self._said_close = self._mute = True
            if self._finished:
                return CONNECTION_DONE
            with suppress(OSError):  # it may be gone already, as the next read will tell
                sock.shutdown(SHUT_WR)
            half_closeable = IHalfCloseableProtocol(self.protocol, None)
            if not self.disconnecting and half_closeable is not None:
                half_closeable.writeConnectionLost()
        if self._finished:
            return CONNECTION_DONE
        if self.disconnecting and self._timer is None and not self._aborting:
            self._timer = self._clock.callLater(self._close_time, self._unanswered)
            self._listen()
        return None

    def _unanswered(self) -> None:
        self._timer = None
        self._abort(Failure(ConnectionLost()))

    def abortConnection(self) -> None:
        """
        Break off now; C{connectionLost} follows in the reactor's next turn.
        """
        self._abort(Failure(ConnectionAborted()))

    def _abort(self, reason: Failure) -> None:
        if self.socket is None or self._aborting:
            return
        self._aborting = self._mute = self._blocked = self.disconnecting = True
        self._reason = reason
        self._stop_timer()
        self._queue = None
        self._reactor.removeReader(self)
        self._stop_writing()
        self._reactor.callLater(0, self.connectionLost, reason)

    def _fail_soon(self, why: Exception) -> None:
        # While somebody writes.  OpenSSL reads nothing more from a connection that it could not write to.
        self._failing = self._mute = self._blocked = True
        self._queue = None
        self._reactor.removeReader(self)
        self._stop_writing()
        self._reactor.callLater(0, self._fail, why)

    def _fail(self, why: Exception) -> None:
        if not self._aborting:
            self.connectionLost(Failure(why))

    def connectionLost(self, reason: Failure) -> None:
        """
        The connection is over: called by the reactor, with what L{doRead} or L{doWrite} returned.
        """
        sock, connection = self.socket, self._connection
        if sock is None or connection is None:
            return
        self.connected, self.disconnected, self.disconnecting, self._mute = False, True, True, True
        self._stop_timer()
        self._reactor.removeReader(self)
        self._stop_writing()
        self._queue = None
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        if self._reason is not None:
            reason = self._reason
        elif not reason.check(TLSError) and not (self._finished and reason.check(ConnectionDone)):
            reason = Failure(ConnectionLost())  # as Twisted's TLS says also when the protocol failed, which is in the log
        self._host = self.getHost()
        self._close_socket(sock)
        connection.set_app_data(None)
        protocol, self.protocol = self.protocol, None
        self.socket = self._connection = self._reason = None
        protocol.connectionLost(reason)

    def _close_socket(self, sock: Socket) -> None:
        with suppress(OSError):
            if self._aborting:
                sock.setsockopt(SOL_SOCKET, SO_LINGER, _RESET)
            else:
                sock.shutdown(SHUT_RDWR)
                sock.recv(_UNREAD)  # closing with octets unread would reset the connection, and our last ones with it
        sock.close()
