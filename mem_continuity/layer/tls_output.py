"""
The writing half of TLS on a descriptor: what waits, what goes out at once, and who is asked for more.

A write goes out at once when nothing waits.  What follows it in the same turn, and what is said in answer to octets that are
being delivered, is joined into as few records as can be.

Invariants: a slice that OpenSSL did not take is given to it again before anything else; producers are asked to resume from the
reactor only, never from within C{write}; a transport that is closing takes what its producer still has, and nothing from others.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from OpenSSL.SSL import Connection, SysCallError, WantReadError, WantWriteError
from OpenSSL.SSL import Error as TLSError
from twisted.internet.main import CONNECTION_LOST

from mem_continuity.layer.tls_facts import TLSFacts
from mem_continuity.layer.tls_queue import RECORD, WriteQueue

AT_ONCE = 256 * 1024
"""Octets that are read, or written, in one go before another connection has its turn."""
_FULL = 64 * 1024
"""Octets that may wait before a producer is paused; as Twisted's transports have it."""
_SAME_TURN = 0.001
"""Seconds: writes that follow each other as closely as this travel together."""


def ending(connection: Connection, error: TLSError) -> Exception:
    """
    Why a connection is over that OpenSSL gave this error for: C{ConnectionLost} for one that was cut, else the error itself.
    """
    if isinstance(error, SysCallError):
        _forget_errors(connection)
        return CONNECTION_LOST
    if not error.args or not error.args[0]:
        return CONNECTION_LOST
    library, _, reason = error.args[0][-1]
    cut = library == "system library" or str(reason).casefold().startswith("unexpected eof")
    return CONNECTION_LOST if cut else error


def _forget_errors(connection: Connection) -> None:
    # pyOpenSSL leaves the error of a system call in OpenSSL's queue, where older ones take it for the next connection's.  Every
    # handshake begins by emptying the queue, and one that nobody answers costs nothing.
    empty = Connection(connection.get_context(), None)
    empty.set_accept_state()
    with suppress(TLSError):
        empty.do_handshake()


class TLSOutput(TLSFacts):
    """
    The part of L{TLSSocket<mem_continuity.layer.tls_socket.TLSSocket>} that writes.

    @ivar connected: the connection stands, though its handshake may not be complete.
    @ivar disconnecting: it was asked to close, or the peer closes; what was written before still goes out.
    @ivar established: the handshake is complete.
    """

    __slots__ = (
        "_blocked",
        "_corked",
        "_half_closing",
        "_mute",
        "_producer",
        "_producer_paused",
        "_queue",
        "_reactor",
        "_streaming",
        "_write_waits",
        "_writing",
        "_wrote",
        "connected",
        "disconnecting",
        "established",
    )

    def __init__(self, reactor: Any, *facts: Any) -> None:
        super().__init__(*facts)
        self._reactor = reactor
        self.connected = True
        self.disconnecting = False
        self.established = False
        self._queue: WriteQueue | None = None  # most connections are idle most of the time
        self._wrote = 0.0
        self._blocked = True  # the socket takes nothing, or the handshake is not complete
        self._corked = False  # somebody else flushes what is written now
        self._mute = False  # nothing more is taken
        self._half_closing = False
        self._write_waits = False  # writing goes on when something was read
        self._writing = False  # the reactor tells when the socket takes octets
        self._producer: Any = None
        self._streaming = False
        self._producer_paused = False

    def write(self, data: bytes) -> None:
        """
        Write, now or when the socket takes it.  Without effect on a connection that is closing or lost.

        @raise TypeError: this is not C{bytes}.
        """
        if not isinstance(data, bytes):
            raise TypeError("Data must be bytes")
        if not data or self._mute or (self.disconnecting and self._producer is None):
            return
        queue = self._queue
        if queue is None:
            if len(data) < RECORD and not (self._blocked or self._corked or self._writing or self._just_wrote()):
                data = self._send_alone(data)
                if not data:
                    return
            queue = self._queue = WriteQueue()
        queue.append(data)
        if not self._blocked:
            if queue.size >= RECORD or not (self._corked or self._writing or self._just_wrote()):
                self._flush_now()
            elif not self._corked:
                self._start_writing()
        if queue.size > _FULL and self._streaming and not self._producer_paused and self._producer is not None:
            self._producer_paused = True
            self._producer.pauseProducing()

    def _send_alone(self, data: bytes) -> bytes:
        """
        What most writes are: little, and nothing before it.

        @return: what has to wait.
        """
        connection = self._connection
        assert connection is not None
        try:
            return data[connection.send(data) :]
        except WantWriteError:
            self._blocked = True
            self._start_writing()
        except WantReadError:
            self._blocked = self._write_waits = True
        except TLSError as error:
            self._fail_soon(ending(connection, error))
            return b""
        return data

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """
        Write all of these.
        """
        self.write(b"".join(data))

    def _just_wrote(self) -> bool:
        now = self._reactor.seconds()
        if 0 <= now - self._wrote < _SAME_TURN:
            return True
        self._wrote = now
        return False

    def _flush_now(self) -> None:
        # From outside of the reactor's hands: what has to follow is left to it.
        if (why := self._flush()) is not None:
            self._fail_soon(why)
        elif self._queue is not None and not self._write_waits:
            self._start_writing()

    def _flush(self) -> Exception | None:
        connection, queue = self._connection, self._queue
        if connection is None or queue is None:
            return None
        most = queue.size - AT_ONCE
        while queue.size > 0 and queue.size > most:
            try:
                queue.took(connection.send(queue.next_slice()))
            except WantWriteError:
                self._blocked = True
                self._start_writing()
                return None
            except WantReadError:
                self._blocked = self._write_waits = True
                self._stop_writing()
                return None
            except TLSError as error:
                return ending(connection, error)
        if not queue.size:
            self._queue = None
        return None

    def _uncork(self) -> None:
        self._corked = False
        if self._queue is not None and not self._blocked:
            self._flush_now()

    def _start_writing(self) -> None:
        if not self._writing:
            self._writing = True
            self._reactor.addWriter(self)

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._reactor.removeWriter(self)

    def _fail_soon(self, why: Exception) -> None:
        raise NotImplementedError

    # IConsumer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        @see: L{IConsumer.registerProducer<twisted.internet.interfaces.IConsumer.registerProducer>}
        """
        if self._producer is not None:
            raise RuntimeError(f"Cannot register producer {producer}, because {self._producer} was never unregistered.")
        if self._mute:
            producer.stopProducing()
            return
        self._producer, self._streaming, self._producer_paused = producer, streaming, False
        if not streaming and self.established:
            self._start_writing()

    def unregisterProducer(self) -> None:
        """
        @see: L{IConsumer.unregisterProducer<twisted.internet.interfaces.IConsumer.unregisterProducer>}
        """
        self._producer = None
        if self.connected and self.established and (self.disconnecting or self._half_closing):
            self._start_writing()
