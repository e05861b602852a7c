"""
An upstream that costs next to nothing: C{python -m bench._stub --big N --small N}.

It takes any login, answers FETCH with octets that stand ready (message 1 has C{--big} of them, message 2 C{--small}) by
C{sendfile}, and everything else with OK.  It prints one line of JSON with its port, then answers one line for each line on its
standard input, and ends when that does.

Invariant: one process, no allocation by session beyond a small object, so that with a relay in front the relay is what is seen.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import select
import socket
from collections import deque

_GREETING = b"* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID IDLE AUTH=PLAIN] ready\r\n"
_CAPABILITY = b"* CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID IDLE AUTH=PLAIN\r\n"
_SELECTED = b"* 2 EXISTS\r\n* FLAGS (\\Seen)\r\n* OK [UIDVALIDITY 1] valid\r\n"
_LITERAL = re.compile(rb"\{(\d+)(\+?)\}\r\n\Z")
_READ = 65536
_LINE = b"x" * 70 + b"\r\n"


class Connection:
    """
    One client of the stub.
    """

    __slots__ = ("_open", "_pending", "_seen", "closing", "socket", "waits")

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.closing = False
        self.waits = False  # epoll tells when it takes octets
        self._seen = b""
        self._open = b""  # a command whose literal has begun
        self._pending: deque[bytes | tuple[int, int]] | None = None

    def read(self, bodies: dict[bytes, int]) -> None:
        """
        Answer what has come.
        """
        try:
            octets = self.socket.recv(_READ)
        except OSError:
            octets = b""
        if not octets:
            self.closing, self._pending = True, None
            return
        self._seen += octets
        while (end := self._seen.find(b"\r\n")) >= 0:
            line, self._seen = self._open + self._seen[: end + 2], self._seen[end + 2 :]
            self._open = b""
            literal = _LITERAL.search(line)
            if literal is not None:
                # The literal's octets have no CRLF here (names and passwords), so it ends with the line it stands in.
                self._open = line
                if not literal[2]:
                    self.say(b"+ OK\r\n")
            else:
                self._answer(line, bodies)

    def _answer(self, line: bytes, bodies: dict[bytes, int]) -> None:
        words = line.split()
        tag, name = words[0], words[1].upper() if len(words) > 1 else b""
        if name == b"FETCH":
            size = bodies.get(words[2], 0)
            self.say(b"* %b FETCH (BODY[] {%d}\r\n" % (words[2], size))
            self._queue((0, size))
            self.say(b")\r\n%b OK done\r\n" % tag)
            return
        if name == b"CAPABILITY":
            self.say(_CAPABILITY)
        elif name == b"SELECT":
            self.say(_SELECTED)
        elif name == b"LOGOUT":
            self.say(b"* BYE\r\n")
            self.closing = True
        self.say(b"%b OK done\r\n" % tag)

    def say(self, octets: bytes) -> None:
        """
        Now, or behind what waits.
        """
        if self._pending is None:
            try:
                octets = octets[self.socket.send(octets) :]
            except BlockingIOError:
                pass
            except OSError:
                self.closing = True
                return
        if octets:
            self._queue(octets)

    def _queue(self, what: bytes | tuple[int, int]) -> None:
        if self._pending is None:
            self._pending = deque()
        self._pending.append(what)

    def go_on(self, body: int) -> bool:
        """
        Write what waits.

        @param body: the descriptor with the octets of all messages.
        @return: whether nothing waits any more.
        """
        pending = self._pending
        try:
            while pending:
                first = pending.popleft()
                if isinstance(first, bytes):
                    rest = first[self.socket.send(first) :]
                    if rest:
                        pending.appendleft(rest)
                    continue
                offset, left = first
                try:
                    done = os.sendfile(self.socket.fileno(), body, offset, left)
                except BlockingIOError:
                    pending.appendleft(first)
                    raise
                if done < left:
                    pending.appendleft((offset + done, left - done))
        except BlockingIOError:
            return False
        except OSError:
            self.closing = True
        self._pending = None
        return True


class Stub:
    """
    All connections.
    """

    def __init__(self, big: int, small: int) -> None:
        self._bodies = {b"1": big, b"2": small}
        self._body = os.memfd_create("body")
        os.write(self._body, (_LINE * (max(big, small) // len(_LINE) + 1))[: max(big, small)])
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self._poll = select.epoll()
        self._poll.register(self._listener, select.EPOLLIN)
        self._poll.register(0, select.EPOLLIN)
        self._connections: dict[int, Connection] = {}

    def run(self) -> None:
        """
        Until standard input ends.
        """
        os.write(1, json.dumps({"port": self._listener.getsockname()[1]}).encode() + b"\n")
        while True:
            for number, _ in self._poll.poll():
                if number == 0:
                    if not os.read(0, 4096):
                        return
                    os.write(1, json.dumps({"connections": len(self._connections)}).encode() + b"\n")
                elif number == self._listener.fileno():
                    self._accept()
                else:
                    self._ready(self._connections[number])

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made = self._connections[sock.fileno()] = Connection(sock)
        self._poll.register(sock, select.EPOLLIN)
        made.say(_GREETING)

    def _ready(self, one: Connection) -> None:
        number = one.socket.fileno()
        if not one.waits:
            one.read(self._bodies)
        done = one.go_on(self._body)
        if one.closing and done:
            del self._connections[number]
            self._poll.unregister(number)
            one.socket.close()
        elif one.waits == done:
            one.waits = not done
            self._poll.modify(number, select.EPOLLIN if done else select.EPOLLOUT)


def main() -> None:
    """
    Serve until standard input ends.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--big", type=int, default=20_000_000, help="octets of message 1")
    parser.add_argument("--small", type=int, default=1_000_000, help="octets of message 2")
    given = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    Stub(given.big, given.small).run()


if __name__ == "__main__":
    main()
