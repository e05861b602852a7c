"""
The clients of the gateway's benches: C{python -m bench._load}, thousands of IMAP sessions in one process.

One epoll loop over OpenSSL connections on their sockets, and no more work for a command than has to be, because it stands on
the same two cores as what is measured.  It answers one line of JSON on standard output for each line on its standard input, and
ends when that does.

With the layer it says CLIENTID and START, and takes off and puts on frames by itself: what a client has to do for the layer is
not measured here.  TLS is 1.3 with TLS_AES_128_GCM_SHA256 and P-256 for all.

Invariant: a session has one command in flight at most, so the last line that came is its answer when it has its tag.
"""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from mem_continuity.core.frames import HEADER_LENGTH, FrameType, data_header, encode_ack

_RECORD = 16384
_MANY_RECORDS = 16
_TAIL = 1024
"""Octets: no answer is longer, Dovecot's list of capabilities included."""
_ACK_EVERY = 65536
_WAIT = 30.0
"""Seconds without any event, after which something is wrong."""

Script = Generator[bytes | None, bytes, None]


class Failed(Exception):
    """
    Something was answered that ought not to be, or a connection was lost.
    """


def _context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(b"TLS_AES_128_GCM_SHA256")
    context.set_tmp_ecdh(ec.SECP256R1())
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    return context


class Client:
    """
    One session.

    @ivar octets: that were received inside of TLS.
    @ivar framed: the layer is on.
    """

    __slots__ = (
        "_acknowledged", "_header", "_left", "_mark", "_number", "_script", "_standing", "_tail",
        "connection", "framed", "octets", "received", "socket",
    )  # fmt: skip

    def __init__(self, port: int, context: SSL.Context) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), _WAIT)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = SSL.Connection(context, self.socket)
        self.connection.set_connect_state()
        self.framed = False
        self.octets = self.received = 0
        self._acknowledged = self._left = self._number = 0
        self._header = self._tail = b""
        self._mark = b"* OK"
        self._standing = False
        self._script: Script | None = None

    def begin(self, script: Script) -> bool:
        """
        Run a script: what it yields is a command without its tag, or None to wait for the greeting; it is sent the answers.

        @return: whether it is over.
        """
        self._script = script
        return self._next(None)

    def _next(self, line: bytes | None) -> bool:
        script = self._script
        assert script is not None
        try:
            command = next(script) if line is None else script.send(line)
        except StopIteration:
            self._script = None
            self._acknowledge(1)
            return True
        if command is not None:
            self._number += 1
            tag = b"t%d " % self._number
            self._mark = tag
            self._tail = b""
            self._send(tag + command + b"\r\n")
        return False

    def _send(self, octets: bytes) -> None:
        if self.framed:
            octets = data_header(len(octets)) + octets
            if self.received > self._acknowledged:
                self._acknowledged = self.received
                octets = encode_ack(self.received) + octets
        self._put(octets)

    def _put(self, octets: bytes) -> None:
        while octets:
            try:
                octets = octets[self.connection.send(octets) :]
            except SSL.WantWriteError:
                select.select((), (self.socket,), (), _WAIT)

    def ready(self) -> bool:
        """
        There is something to read.

        @return: whether the script is over.
        """
        if not self._standing:
            try:
                self.connection.do_handshake()
            except SSL.WantReadError:
                return False
            except SSL.Error as error:
                raise Failed(f"no TLS: {error!r}") from None
            self._standing = True
            return False
        over = self._read()
        self._acknowledge(_ACK_EVERY)  # once for all that was there, as the layer's own client does
        return over

    def _read(self) -> bool:
        for _ in range(_MANY_RECORDS):
            try:
                octets = self.connection.recv(_RECORD)
            except SSL.WantReadError:
                return False
            except SSL.Error as error:
                raise Failed(f"the connection was lost, the last that came is {self._tail[-80:]!r}: {error!r}") from None
            self.octets += len(octets)
            if self.framed:
                self._unframe(octets)
            else:
                self._tail = (self._tail + octets[-_TAIL:])[-_TAIL:]
            if self._tail.endswith(b"\r\n") and not self._left:
                line = self._tail[self._tail.rfind(b"\r\n", 0, -2) + 2 if self._tail.count(b"\r\n") > 1 else 0 :]
                if line.startswith(self._mark):
                    return self._next(line)
            if len(octets) < _RECORD // _MANY_RECORDS and not self.connection.pending():
                return False
        return False

    def _unframe(self, octets: bytes) -> None:
        place, end = 0, len(octets)
        while place < end:
            if self._left:
                step = min(self._left, end - place)
                place += step
                self._left -= step
                self.received += step
                self._tail = (self._tail + octets[max(place - step, place - _TAIL) : place])[-_TAIL:]
                continue
            taken = octets[place : place + HEADER_LENGTH - len(self._header)]
            place += len(taken)
            self._header += taken
            if len(self._header) < HEADER_LENGTH:
                break
            kind, length = self._header[0], int.from_bytes(self._header[1:], "big")
            self._header = b""
            if kind == FrameType.DATA:
                self._left = length
            elif kind == FrameType.ACK:
                place += length
                if place > end:  # the server writes frames whole, and small ones stand in one record
                    raise Failed("an ACK in two records")
            else:
                raise Failed(f"a frame of type {kind} was not expected")

    def _acknowledge(self, least: int) -> None:
        if self.received - self._acknowledged >= least and self.socket.fileno() >= 0:
            self._acknowledged = self.received
            self._put(encode_ack(self.received))

    def close(self) -> None:
        """
        Without a word.
        """
        self.socket.close()


# Scripts


def log_in(client: Client, user: str, password: str, layer: bool) -> Script:
    """
    From the greeting to the selected mailbox; with the layer on, when that is asked for.
    """
    _ok((yield None))
    if layer:
        _ok((yield b"CLIENTID UUID %d-%d" % (os.getpid(), id(client))))
    _ok((yield f'LOGIN {user} "{password}"'.encode()))
    if layer:
        _ok((yield b"XCONTINUITY START"))
        client.framed = True
    _ok((yield b"SELECT INBOX"))


def come_and_go(client: Client, user: str, password: str) -> Script:
    """
    A login and nothing else.
    """
    _ok((yield None))
    _ok((yield f'LOGIN {user} "{password}"'.encode()))
    _ok((yield b"LOGOUT"))
    client.close()


def fetch(client: Client, message: int, times: int) -> Script:
    """
    A message so many times.
    """
    for _ in range(times):
        _ok((yield b"FETCH %d BODY.PEEK[]" % message))


def noop(client: Client, times: int, took: list[float]) -> Script:
    """
    So many NOOPs, timed.
    """
    clock = time.perf_counter
    for _ in range(times):
        begun = clock()
        answer = yield b"NOOP"
        took.append(clock() - begun)
        _ok(answer)


def _ok(line: bytes) -> None:
    if b" OK" not in line[:40]:
        raise Failed(f"the answer was {line!r}")


class Load:
    """
    What the bench can ask for; each method is called with the arguments of its line, and what it returns is the answer.
    """

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._context = _context()
        self._groups: dict[str, list[Client]] = {}
        self._clients: dict[int, Client] = {}
        self._logins = 0

    # The loop

    def _run(self, begin: Iterable[Callable[[], bool]], parallel: int) -> float:
        """
        Begin scripts, so many at the same time, and wait for all.

        @param begin: each begins one and says whether it is over already.
        @return: seconds.
        """
        begun = time.perf_counter()
        todo: Iterator[Callable[[], bool]] = iter(begin)
        active = 0
        for one in todo:
            active += not one()
            if active >= parallel:
                break
        while active:
            events = self._poll.poll(_WAIT, 256)
            if not events:
                raise Failed(f"nothing came for {_WAIT:.0f} s")
            for number, _ in events:
                if self._clients[number].ready():
                    active -= 1
                    for one in todo:
                        active += not one()
                        if active >= parallel:
                            break
        return time.perf_counter() - begun

    def _connect(self, port: int) -> Client:
        client = Client(port, self._context)
        number = client.socket.fileno()
        self._clients[number] = client
        self._poll.register(number, select.EPOLLIN)
        with suppress(SSL.WantReadError):
            client.connection.do_handshake()
        return client

    def _forget(self, clients: Iterable[Client]) -> None:
        for one in clients:
            if one.socket.fileno() >= 0:
                one.close()

    # What is asked for

    def open(self, group: str, port: int, count: int, layer: bool, users: list[list[str]], parallel: int) -> dict[str, Any]:
        """
        More sessions, until there are so many in a group.

        @param users: names and passwords, taken in turns.
        """
        clients = self._groups.setdefault(group, [])

        def one(number: int) -> bool:
            client = self._connect(port)
            clients.append(client)
            user, password = users[number % len(users)]
            return client.begin(log_in(client, user.format(number), password, layer))

        numbers = range(len(clients), count)
        took = self._run((lambda number=number: one(number) for number in numbers), parallel)  # type: ignore[misc]
        return {"took": took}

    def fetch(self, group: str, message: int, times: int, start: int, stop: int) -> dict[str, Any]:
        """
        In some of the sessions of a group at the same time.
        """
        clients = self._groups[group][start:stop]
        before = sum(one.octets for one in clients)
        took = self._run([lambda one=one: one.begin(fetch(one, message, times)) for one in clients], len(clients))  # type: ignore[misc]
        return {"took": took, "octets": sum(one.octets for one in clients) - before}

    def noop(self, group: str, times: int, start: int, stop: int) -> dict[str, Any]:
        """
        In some of the sessions of a group at the same time.
        """
        clients = self._groups[group][start:stop]
        times_taken: list[float] = []
        took = self._run([lambda one=one: one.begin(noop(one, times, times_taken)) for one in clients], len(clients))  # type: ignore[misc]
        return {"took": took, "times": [round(one, 7) for one in times_taken]}

    def come_and_go(self, port: int, count: int, users: list[list[str]], parallel: int) -> dict[str, Any]:
        """
        So many logins, each with a connection of its own.
        """

        def one(number: int) -> bool:
            client = self._connect(port)
            user, password = users[number % len(users)]
            return client.begin(come_and_go(client, user.format(number), password))

        numbers = range(self._logins, self._logins + count)
        self._logins += count
        return {"took": self._run((lambda number=number: one(number) for number in numbers), parallel)}  # type: ignore[misc]

    def cut(self, group: str, start: int, stop: int) -> dict[str, Any]:
        """
        Break links off without a word.
        """
        self._forget(self._groups[group][start:stop])
        return {}

    def close(self, group: str) -> dict[str, Any]:
        """
        All of a group.
        """
        self._forget(self._groups.pop(group, []))
        return {}


def main() -> None:
    """
    Until standard input ends.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    load = Load()
    os.write(1, json.dumps({"port": 0}).encode() + b"\n")
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = getattr(load, asked.pop("do"))(**asked)
        except (Failed, OSError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        os.write(1, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
