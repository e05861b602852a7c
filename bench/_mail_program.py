"""
A mail program as there are many: blocking, one command at a time, and it knows nothing of networks.  It keeps itself busy in one
of four ways and notes when it got on.

Invariants: nothing blocks for longer than L{_PATIENCE}; times are seconds of the monotonic clock.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable
from enum import Enum

from tests.netlab import Network

_PATIENCE = 20.0
_TICK = 0.02
_CHUNK = 65536
_PIECE = b"0123456789abcdef" * 1024
_UPLOAD = 1_000_000_000


class Load(Enum):
    """
    What the program is doing when the network changes.
    """

    FETCH = "FETCH"
    """It downloads."""
    APPEND = "APPEND"
    """It uploads."""
    NOOP = "NOOP"
    """It gives small commands, one after the other."""
    IDLE = "idle"
    """Nothing; it gives the next command when the network has changed."""


class Program:
    """
    One connection of it.

    @ivar times: when it got on: octets of a download, answers to commands.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.times: list[float] = []
        self._sock = sock
        self._number = 0
        self._rest = b""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(_PATIENCE)

    @property
    def socket(self) -> socket.socket:
        """
        What it talks through.
        """
        return self._sock

    def secure(self, context: ssl.SSLContext) -> Program:
        """
        Begin TLS.
        """
        self._sock = context.wrap_socket(self._sock, server_hostname="localhost")
        return self

    def greeted(self) -> Program:
        """
        Wait for the greeting.
        """
        self._until(b"* OK")
        return self

    def log_in(self) -> Program:
        """
        As most do: CAPABILITY, LOGIN, SELECT.
        """
        self.ask(b"CAPABILITY")
        self.ask(b"LOGIN joe secret")
        self.ask(b"SELECT INBOX")
        return self

    def ask(self, command: bytes) -> None:
        """
        Give a command, wait for its answer.
        """
        self._until(self._say(command) + b" OK")

    def _say(self, command: bytes) -> bytes:
        self._number += 1
        tag = b"t%d" % self._number
        self._sock.sendall(tag + b" " + command + b"\r\n")
        return tag

    def _until(self, begin: bytes) -> None:
        """
        Read up to the line that begins so.
        """
        heard = b"\r\n" + self._rest
        until = time.monotonic() + _PATIENCE
        while (at := heard.find(b"\r\n" + begin)) < 0 or (end := heard.find(b"\r\n", at + 2)) < 0:
            octets = self._sock.recv(_CHUNK)
            if not octets:
                raise EOFError(f"the connection ended before {begin!r}")
            if time.monotonic() > until:
                raise TimeoutError(f"no {begin!r} within {_PATIENCE} s")
            heard += octets
        self._rest = heard[end + 2 :]

    def begin(self, load: Load) -> Program:
        """
        Give the command of a load.
        """
        if load is Load.FETCH:
            self._say(b"FETCH 1 RFC822")
        elif load is Load.APPEND:
            self._say(b"APPEND INBOX {%d}" % _UPLOAD)
            self._until(b"+")
        return self

    def work(self, load: Load, enough: Callable[[], bool]) -> None:
        """
        Go on with it until it is enough.
        """
        step = {Load.FETCH: self._read, Load.APPEND: self._write, Load.NOOP: self._noop, Load.IDLE: self._rest_a_while}[load]
        self._sock.settimeout(_TICK)
        if load is Load.NOOP:
            self._sock.settimeout(_PATIENCE)
        while not enough():
            with contextlib.suppress(TimeoutError):
                step()
        self._sock.settimeout(_PATIENCE)

    def _read(self) -> None:
        if not self._sock.recv(_CHUNK):
            raise EOFError("the connection ended")
        self.times.append(time.monotonic())

    def _write(self) -> None:
        self._sock.send(_PIECE)

    def _noop(self) -> None:
        self.ask(b"NOOP")
        self.times.append(time.monotonic())

    def _rest_a_while(self) -> None:
        time.sleep(_TICK)

    def close(self) -> None:
        """
        At once.
        """
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()


def dial(address: str, port: int, network: Network | None = None, protocol: int = 0) -> Program:
    """
    Connect.  Called inside the namespace of the handset.

    @param network: leave by this one; by the first when None.
    @param protocol: of the socket, as for C{socket.socket}.
    """
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    try:
        made.settimeout(_PATIENCE)
        if network is not None:
            made.bind((network.handset_address, 0))
        made.connect((address, port))
    except BaseException:
        made.close()
        raise
    return Program(made)
