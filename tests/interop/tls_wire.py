"""
One connection of a client, with or without TLS, in which every octet that goes out, and when, is the test's to say.

TLS is done in memory (pyOpenSSL, for the exporter of RFC 9266 that C{ssl} lacks), so a connection can be cut in the middle of a
record.  Invariants: every wait is bounded; a connection that was cut or that ended raises L{Lost} from then on; one that fell
silent stays open and is not read, as a network that is gone looks to its peer.
"""

from __future__ import annotations

import socket
import struct
import time
from functools import cache
from pathlib import Path
from typing import Self

from OpenSSL import SSL

from mem_continuity.core.handshake import BINDING_LABEL, BINDING_LENGTH

SECONDS = 20.0
"""What is waited at the most: the machine may be busy."""
TO_SERVER, TO_CLIENT = 0, 1
_PIECE = 1 << 16
_ESTABLISHED = 1
"""Linux: the first octet of C{TCP_INFO} is the state."""


class Lost(Exception):
    """
    There is no connection any more: it was cut by us, or the peer has ended it.
    """


@cache
def _context(authority: Path) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.load_verify_locations(str(authority))
    context.set_verify(SSL.VERIFY_PEER, lambda _connection, _certificate, _code, _depth, good: bool(good))
    return context


class Wire:
    """
    A connection.

    @ivar cut_after: a direction and a number of octets inside TLS, counted from L{count_from_now}: there it is cut.
    @ivar carried: octets inside TLS since then, by direction.
    @ivar seen: the same octets, if they are recorded.
    @ivar ended: nothing can be sent or read any more.
    """

    def __init__(
        self, host: str, port: int, authority: Path | None, source: str = "127.0.0.1", room: int | None = None
    ) -> None:
        """
        @param authority: for TLS from the beginning; None for none.
        @param source: the address of this machine to come from.
        @param room: octets that our kernel takes before we read, more or less.
        """
        self._socket = socket.socket()
        try:
            if room is not None:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
            self._socket.settimeout(SECONDS)
            self._socket.bind((source, 0))
            self._socket.connect((host, port))
        except BaseException:
            self._socket.close()
            raise
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tls: SSL.Connection | None = None
        self._buffer = b""
        self.cut_after: tuple[int, int] | None = None
        self.carried = [0, 0]
        self.seen = [b"", b""]
        self._recording = False
        self.ended = False
        if authority is not None:
            try:
                self.start_tls(authority)
            except BaseException:
                self._socket.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def source(self) -> tuple[str, int]:
        """
        Our end.
        """
        host, port = self._socket.getsockname()
        return str(host), int(port)

    @property
    def stands(self) -> bool:
        """
        Whether the peer has neither closed the connection nor broken it off, as our kernel knows it; also of a silent one.
        """
        if self._socket.fileno() < 0:
            return False
        info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return info[0] == _ESTABLISHED

    # TLS

    def start_tls(self, authority: Path) -> None:
        """
        TLS begins.

        @raise Lost: it does not come about.
        """
        tls = SSL.Connection(_context(authority), None)
        tls.set_tlsext_host_name(b"localhost")
        tls.set_connect_state()
        while True:
            try:
                tls.do_handshake()
                break
            except SSL.WantReadError:
                self._send(self._outgoing(tls))
                tls.bio_write(self._receive(SECONDS))
            except SSL.Error as error:
                raise Lost(f"TLS: {error}") from None
        self._send(self._outgoing(tls))
        self._tls = tls

    @staticmethod
    def _outgoing(tls: SSL.Connection) -> bytes:
        octets = b""
        while True:
            try:
                octets += tls.bio_read(_PIECE)
            except SSL.WantReadError:
                return octets

    @property
    def exported(self) -> bytes:
        """
        The channel binding, as L{exported_binding<mem_continuity.layer.sockets.exported_binding>} has it at the other end.
        """
        return b"" if self._tls is None else bytes(self._tls.export_keying_material(BINDING_LABEL, BINDING_LENGTH))

    # Octets

    def _send(self, octets: bytes) -> None:
        self._socket.settimeout(SECONDS)
        try:
            self._socket.sendall(octets)
        except TimeoutError:
            raise
        except OSError as error:
            self.ended = True
            raise Lost(str(error)) from None

    def _receive(self, seconds: float) -> bytes:
        self._socket.settimeout(max(seconds, 0.0001))
        try:
            octets = self._socket.recv(4 * _PIECE)
        except TimeoutError:
            raise
        except OSError as error:
            self.ended = True
            raise Lost(str(error)) from None
        if not octets:
            self.ended = True
            raise Lost("the peer has closed")
        return octets

    def count_from_now(self, cut_after: tuple[int, int] | None = None, *, record: bool = False) -> None:
        """
        Count what is carried, and cut there.
        """
        self.carried, self.cut_after = [0, 0], cut_after
        self.seen, self._recording = [b"", b""], record
        if cut_after is not None and cut_after[1] == 0:
            self.fin()

    def _passes(self, direction: int, octets: bytes) -> tuple[bytes, bool]:
        room = len(octets) + 1
        if self.cut_after is not None and self.cut_after[0] == direction:
            room = self.cut_after[1] - self.carried[direction]
        octets = octets[:room]
        self.carried[direction] += len(octets)
        if self._recording:
            self.seen[direction] += octets
        return octets, len(octets) == room

    def send(self, octets: bytes) -> None:
        """
        @raise Lost: it is gone, or was cut here.
        """
        if self.ended:
            raise Lost("the connection is gone")
        octets, cut = self._passes(TO_SERVER, octets)
        if self._tls is None:
            self._send(octets)
        else:
            view = memoryview(octets)
            while view:
                sent = self._tls.send(view[:_PIECE])
                view = view[sent:]
                self._send(self._outgoing(self._tls))
        if cut:
            self.fin()
            raise Lost("cut")

    def send_but_one(self, octets: bytes) -> bytes:
        """
        Send all but the last octet of what stands for these octets under TLS, so that they cannot be read yet.

        @return: that last octet, for L{send_raw}.
        """
        assert self._tls is not None
        self._tls.send(octets)
        outgoing = self._outgoing(self._tls)
        self._send(outgoing[:-1])
        return outgoing[-1:]

    def send_raw(self, octets: bytes) -> None:
        """
        Below TLS.

        @raise Lost: it is gone.
        """
        self._send(octets)

    def receive(self, seconds: float = SECONDS) -> bytes:
        """
        What comes next.

        @raise TimeoutError: nothing comes.
        @raise Lost: nothing can come any more.
        """
        until = time.monotonic() + seconds
        while not self.ended:
            came, self._buffer = self._buffer, b""
            if not came and self._tls is not None:
                came = self._decrypted()
            if not came:
                came = self._receive(until - time.monotonic())
                if self._tls is not None:
                    self._tls.bio_write(came)
                    continue
            octets, cut = self._passes(TO_CLIENT, came)
            if cut:
                self.fin()
            if octets:
                return octets
        raise Lost("the connection is gone")

    def _decrypted(self) -> bytes:
        assert self._tls is not None
        octets = b""
        while len(octets) < 4 * _PIECE:
            try:
                octets += self._tls.recv(_PIECE)
            except SSL.WantReadError:
                break
            except (SSL.ZeroReturnError, SSL.Error) as error:
                if octets:
                    break  # it is told the next time
                self.ended = True
                raise Lost(f"TLS: {error!r}") from None
        return octets

    def push_back(self, octets: bytes) -> None:
        """
        These octets were read too early; they are counted when they are read again.
        """
        self._buffer = octets + self._buffer

    def read_to_end(self, seconds: float = SECONDS) -> bytes:
        """
        All that comes until the peer ends the connection.

        @raise TimeoutError: it does not.
        """
        octets = b""
        until = time.monotonic() + seconds
        while True:
            try:
                octets += self.receive(until - time.monotonic())
            except Lost:
                return octets

    # Ends

    def shut(self) -> None:
        """
        Nothing more is sent; what comes can be read.

        @raise Lost: it is gone.
        """
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise Lost(str(error)) from None

    def fin(self) -> None:
        """
        Close it without a word of TLS, as a process that dies does.
        """
        self.ended = True
        self._socket.close()

    def reset(self) -> None:
        """
        Break it off: the peer gets a RST.
        """
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.fin()

    def silence(self) -> None:
        """
        The network is gone: nothing is read or sent any more, and nobody is told.
        """
        self.ended = True

    def close(self) -> None:
        """
        Let go of the socket, also of a silent one.
        """
        self.fin()
