"""
TLS on the descriptor: a transport whose OpenSSL connection reads and writes the socket itself.

Twisted's own TLS stands on memory BIOs above a TCP transport: every octet is copied through two more buffers, which stay with an
idle connection.  Here OpenSSL has the socket, and this transport has a queue of what the socket did not take.

Invariants:

- Nothing is delivered before the handshake is complete, and what was written before it waits.
- C{connectionLost} comes once, and never from within a call of the protocol's.
- A handshake, and an answer to our close, are not waited for without end.

How a connection ends is told as Twisted's TLS tells it: C{ConnectionDone} after the peer's close_notify, C{ConnectionLost} when
it went without, C{SSL.Error} when TLS itself failed, C{ConnectionAborted} after C{abortConnection}; and C{TimeoutError} when the
handshake took too long.
"""

from __future__ import annotations

from socket import socket as Socket  # noqa: N812  a transport's attribute has that name
from typing import Any

from OpenSSL.SSL import Connection, Context, WantReadError, WantWriteError, ZeroReturnError
from OpenSSL.SSL import Error as TLSError
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IHandshakeListener,
    ILoggingContext,
    INegotiated,
    IPushProducer,
    IReactorTime,
    IReadWriteDescriptor,
    ISystemHandle,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from mem_continuity.layer.tls_ends import TLSEnds
from mem_continuity.layer.tls_output import AT_ONCE, ending
from mem_continuity.layer.tls_queue import RECORD

_SMALL = 1024
"""Octets: behind a record smaller than this there is rarely another one yet, so the socket is not asked for it."""


def handshakes(transport: object) -> bool:
    """
    Whether the handshake of a transport is still to come, so that C{handshakeCompleted} will follow: for Twisted's TLS and for
    ours.  Asked by a protocol in C{connectionMade}.
    """
    if isinstance(transport, TLSSocket):
        return not transport.established
    return isinstance(transport, TLSMemoryBIOProtocol)


@implementer(INegotiated, ISystemHandle, IConsumer, IPushProducer, IReadWriteDescriptor, ILoggingContext)
class TLSSocket(TLSEnds):
    """
    The transport of one TLS connection, of either role.  Who makes it calls L{start} and the protocol's C{makeConnection}.

    @ivar protocol: who is told; it may be replaced while the connection stands.
    """

    # There are thousands of these: slots, and a dictionary only for who sets something else.
    __slots__ = ("__dict__", "__weakref__", "_client", "_paused", "_read_waits")

    def __init__(
        self,
        reactor: Any,
        sock: Socket,
        context: Context,
        protocol: Any,
        *,
        server: bool,
        handshake_time: float,
        close_time: float,
        peer: IAddress | None = None,
        host: IAddress | None = None,
        server_name: bytes = b"",
        clock: IReactorTime | None = None,
    ) -> None:
        """
        @param reactor: provides C{IReactorFDSet} and C{IReactorTime}.
        @param sock: connected; it is ours from now on.
        @param handshake_time: seconds; a handshake that takes longer is broken off.
        @param close_time: seconds that the peer has to answer our close_notify.
        @param peer: what L{getPeer} tells; None for the socket's own.
        @param host: the same for L{getHost}.
        @param server_name: what a client asks for by SNI; nothing when empty.
        @param clock: of these times; None for the reactor's.
        """
        sock.setblocking(False)
        connection = Connection(context, sock)
        super().__init__(protocol, clock, handshake_time, close_time, reactor, sock, connection, peer, host)
        if server:
            connection.set_accept_state()
        else:
            connection.set_connect_state()
            if server_name:
                connection.set_tlsext_host_name(server_name)
        connection.set_app_data(self)  # Twisted's choice of a certificate by name looks for its transport there
        self._client = not server
        self._paused = False
        self._read_waits = False  # reading goes on when the socket takes octets
        self.setTcpNoDelay(True)  # small writes are joined here; the kernel would wait for acknowledgements

    def start(self) -> None:
        """
        Be read from now on; a client speaks first.  Nothing is told from within.
        """
        self._reactor.addReader(self)
        if self._client:
            # Not here: on a busy host the answer can be there at once, and octets behind it would come before whoever began this
            # has heard of the handshake.
            self._start_writing()

    # What the reactor calls

    def logPrefix(self) -> str:
        """
        @see: L{ILoggingContext.logPrefix}
        """
        if ILoggingContext.providedBy(self.protocol):
            return str(self.protocol.logPrefix())
        return type(self.protocol).__name__

    def doRead(self) -> Any:
        """
        There is something to read.

        @return: why the connection is over, if it is.
        """
        if self._aborting or self._failing:
            return None
        if not self.established:
            return self._shake_hands()
        return self._read() if self._reads else None

    def doWrite(self) -> Any:
        """
        The socket takes octets.

        @return: why the connection is over, if it is.
        """
        if self._aborting or self._failing:
            return None
        if not self.established:
            self._stop_writing()
            return self._shake_hands()
        if self._read_waits:
            self._read_waits = False
            self._listen()
        self._blocked = False
        if (why := self._flush()) is not None or self._queue is not None:
            return why
        return self._drained()

    # The handshake

    def _shake_hands(self) -> Exception | None:
        connection = self._connection
        if connection is None:
            return None
        try:
            connection.do_handshake()
        except WantReadError:
            self._reactor.addReader(self)
            return None
        except WantWriteError:
            self._reactor.removeReader(self)  # or it would be told again and again of what it cannot read yet
            self._start_writing()
            return None
        except TLSError as error:
            return ending(connection, error)
        self._stop_timer()
        self.established, self._blocked = True, False
        self._corked = True
        if IHandshakeListener.providedBy(self.protocol):
            self.protocol.handshakeCompleted()
        self._uncork()
        if self._aborting or self.socket is None:
            return None
        self._listen()
        if self.disconnecting or self._half_closing or (self._producer is not None and not self._streaming):
            self._start_writing()
        return self._read() if self._reads else None

    # Reading

    @property
    def _reads(self) -> bool:
        # After our close_notify nobody asks any more for what was paused, but the peer's answer stands behind it.
        return not self._paused or (self._said_close and self.disconnecting)

    def _listen(self) -> None:
        if self._reads and not (self._read_waits or self._finished or self._failing):
            self._reactor.addReader(self)
        else:
            self._reactor.removeReader(self)

    def _read(self) -> Exception | None:
        connection = self._connection
        if connection is None:
            return None
        parts: list[bytes] = []
        total = 0
        why: Exception | None = None
        while total < AT_ONCE:
            try:
                octets = connection.recv(RECORD)
            except WantReadError:
                break
            except WantWriteError:
                self._read_waits = True
                self._listen()
                self._start_writing()
                break
            except ZeroReturnError:
                self._finished = True
                break
            except TLSError as error:
                why = ending(connection, error)
                break
            parts.append(octets)
            total += len(octets)
            if len(octets) < _SMALL:
                break
        if self._write_waits:
            self._write_waits = False
            self._start_writing()
        if parts and not self._paused:
            self._wrote = 0.0  # what is written next is an answer to these, and no more of what was written before
            self._corked = True
            self.protocol.dataReceived(parts[0] if len(parts) == 1 else b"".join(parts))
            self._uncork()
        if self._aborting or self.socket is None:
            return None
        return self._peer_closed() if self._finished else why

    def _peer_closed(self) -> Exception | None:
        # What was written before still goes out, to a peer that closes first and reads on.
        self._mute = self.disconnecting = True
        self._listen()
        if self._queue is not None:
            self._start_writing()
            return None
        return self._say_close()

    def _drained(self) -> Exception | None:
        # Everything that was written is with the kernel.
        if self._finished:
            return self._say_close()
        if self._producer is not None and not self._streaming:
            self._producer.resumeProducing()
            return None  # it is asked again as soon as there is room
        self._stop_writing()
        if self._producer is not None:
            if self._producer_paused:
                self._producer_paused = False
                self._producer.resumeProducing()
            return None
        if self.disconnecting or (self._half_closing and not self._said_close):
            return self._say_close()
        return None

    # IPushProducer

    def pauseProducing(self) -> None:
        """
        Deliver nothing until L{resumeProducing}.  A handshake goes on.
        """
        self._paused = True
        if self.established and self.connected and not self._aborting:
            self._listen()

    def resumeProducing(self) -> None:
        """
        Deliver again.
        """
        self._paused = False
        if self.established and self.connected and not self._aborting:
            self._listen()

    def stopProducing(self) -> None:
        """
        @see: L{IPushProducer.stopProducing<twisted.internet.interfaces.IProducer.stopProducing>}
        """
        self.loseConnection()
