"""
A client that plays a script and writes down each octet of the answers.

Invariants: it understands of IMAP only where an answer ends; every wait is bounded; what it sends depends on the script alone,
and, in a SASL exchange, on the challenge.
"""

from __future__ import annotations

import base64
import re
import socket
import ssl
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

SECONDS = 10.0
_LITERAL_AHEAD = re.compile(rb"\{(\d+)\}\r\n\Z")
_PARTS = re.compile(rb"(<<.*?>>|<\+.*?\+>)", re.DOTALL)


@dataclass(frozen=True)
class Place:
    """
    Where a server is reached.

    @ivar authority: trusted for TLS; without it there is no TLS.
    @ivar starttls: TLS is begun with STARTTLS.  What is said before it is not part of any record.
    """

    host: str
    port: int
    authority: Path | None = None
    starttls: bool = False

    def connect(self) -> socket.socket:
        """
        A connection, with a timeout.
        """
        connection = socket.create_connection((self.host, self.port), SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.authority is None:
            return connection
        if self.starttls:
            with connection.makefile("rb") as file:
                file.readline()
                connection.sendall(b"s1 STARTTLS\r\n")
                said = file.readline()
            if not said.startswith(b"s1 OK"):
                raise ConnectionError(f"STARTTLS: {said!r}")
        context = ssl.create_default_context(cafile=str(self.authority))
        return context.wrap_socket(connection, server_hostname="localhost")


@dataclass(frozen=True)
class Exchange:
    """
    What was said, and what came back.

    @ivar compressed: it was under DEFLATE, so nothing in the middle could read it.
    """

    asked: bytes
    answered: bytes
    compressed: bool = False


class Player:
    """
    One connection.

    @ivar record: all exchanges so far; shared with the connections that L{another} makes.
    """

    def __init__(self, place: Place, record: list[Exchange] | None = None, letter: str = "a") -> None:
        self.record: list[Exchange] = [] if record is None else record
        self._place = place
        self._letter = letter
        self._number = 0
        self._buffer = bytearray()
        self._inflate: Callable[[bytes], bytes] | None = None
        self._deflate: Callable[[bytes], bytes] | None = None
        self._others: list[Player] = []
        self._socket = place.connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in [*self._others, self]:
            one._socket.close()

    def another(self) -> Player:
        """
        A second connection to the same place; closed with this one.
        """
        made = Player(self._place, self.record, chr(ord(self._letter) + 1 + len(self._others)))
        self._others.append(made)
        return made

    def send(self, octets: bytes) -> None:
        """
        In one segment, if it is short enough for one.
        """
        self._socket.sendall(octets if self._deflate is None else self._deflate(octets))

    def _fill(self) -> None:
        octets = self._socket.recv(1 << 18)
        if not octets:
            raise EOFError
        self._buffer += octets if self._inflate is None else self._inflate(octets)

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._fill()
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            self._fill()
        return self._take(end + 1)

    def response(self) -> bytes:
        """
        One response, with its literals.
        """
        parts = [self._line()]
        while ahead := _LITERAL_AHEAD.search(parts[-1]):
            parts += [self._take(int(ahead[1])), self._line()]
        return b"".join(parts)

    def _until(self, asked: bytes, ends: Sequence[bytes], *, every: bool = False) -> bytes:
        """
        Read responses up to one that begins with one of some words, and write it all down.

        @param every: up to the last of them, in any order.
        @return: the last response.
        @raise EOFError: the server ended the connection; that is written down too.
        @raise ConnectionError: likewise; it is a matter of time which of the two.
        @raise TimeoutError: nothing comes; likewise.
        """
        got: list[bytes] = []
        waiting = list(ends)
        try:
            while True:
                got.append(self.response())
                reached = [one for one in waiting if got[-1].startswith(one)]
                waiting = [one for one in waiting if one not in reached]
                if reached and not (every and waiting):
                    return got[-1]
        except (EOFError, OSError) as error:
            got += [bytes(self._buffer), b"<nothing comes>" if isinstance(error, TimeoutError) else b"<end>"]
            self._buffer.clear()
            raise
        finally:
            self.record.append(Exchange(asked, b"".join(got), self._inflate is not None))

    def greeting(self) -> bytes:
        """
        What the server says first; nothing behind STARTTLS.
        """
        if self._place.starttls:
            return b""
        return self._until(b"<greeting>", [b"* "])

    def tag(self) -> bytes:
        """
        A fresh one.
        """
        self._number += 1
        return b"%s%d" % (self._letter.encode("ascii"), self._number)

    def command(self, text: bytes | str) -> bytes:
        """
        Send a command and wait for its end.

        @param text: without tag and line end; C{<<x>>} is a literal that the server has to ask for, C{<+x+>} one that it has not.
        @return: the response that ends it.
        """
        octets = text.encode("latin-1") if isinstance(text, str) else text
        tag = self.tag()
        unsent = tag + b" "
        for part in _PARTS.split(octets):
            if part.startswith(b"<+") and part.endswith(b"+>"):
                unsent += b"{%d+}\r\n%s" % (len(part) - 4, part[2:-2])
            elif part.startswith(b"<<") and part.endswith(b">>"):
                unsent += b"{%d}\r\n" % (len(part) - 4)
                self.send(unsent)
                end = self._until(unsent, [b"+", tag + b" "])
                if not end.startswith(b"+"):
                    return end
                unsent = part[2:-2]
            else:
                unsent += part
        return self.finish(unsent + b"\r\n", tag)

    def finish(self, octets: bytes, tag: bytes, *, label: bytes | None = None) -> bytes:
        """
        Send, and wait for the end of a command.

        @param label: stands in the record instead of octets that are not the same in each run.
        """
        self.send(octets)
        return self._until(octets[:300] if label is None else label, [tag + b" "])

    def play(self, script: str) -> None:
        """
        A command per line.
        """
        for line in script.splitlines():
            if line.strip():
                self.command(line.strip())

    def pipeline(self, script: str) -> None:
        """
        A command per line, all in one segment; literals only such as need not be asked for.
        """
        lines = [line.strip().encode("latin-1") for line in script.splitlines() if line.strip()]
        tags = [self.tag() for _ in lines]
        octets = b"".join(tag + b" " + line + b"\r\n" for tag, line in zip(tags, lines, strict=True))
        octets = re.sub(rb"<\+(.*?)\+>", lambda found: b"{%d+}\r\n%s" % (len(found[1]), found[1]), octets, flags=re.DOTALL)
        self.send(octets)
        self._until(octets, [one + b" " for one in tags], every=True)

    def dribble(self, text: str) -> None:
        """
        A command, each octet in a segment of its own.
        """
        tag = self.tag()
        octets = tag + b" " + text.encode("latin-1") + b"\r\n"
        for one in octets:
            self.send(bytes([one]))
        self._until(octets, [tag + b" "])

    def begin(self, text: str) -> bytes:
        """
        A command that the server answers with C{+} at first, such as IDLE.

        @return: its tag, for L{finish}.
        """
        tag = self.tag()
        octets = tag + b" " + text.encode("latin-1") + b"\r\n"
        self.send(octets)
        self._until(octets, [b"+", tag + b" "])
        return tag

    def expect(self, *beginnings: str) -> None:
        """
        Wait for responses that nobody asked for, all of them.
        """
        self._until(b"<nothing>", [one.encode("latin-1") for one in beginnings], every=True)

    def raw(self, octets: bytes, end: bytes) -> None:
        """
        Send anything, and wait for a response.

        @param end: how it begins.
        """
        self.send(octets)
        self._until(octets[:300], [end])

    def ended(self) -> None:
        """
        Wait for the end of the connection; what comes before is written down.
        """
        try:
            self._until(b"<nothing>", [])
        except (EOFError, ConnectionError):
            return

    def authenticate(self, mechanism: str, first: bytes | None, *answers: Callable[[bytes], bytes]) -> bool:
        """
        A SASL exchange.  What the server says in it is random, so only its form and its outcome are written down.

        @param first: an initial response, if there is one.
        @param answers: to the challenges, in order.  More challenges are answered with nothing.
        @return: whether it is logged in.
        """
        tag = self.tag()
        octets = tag + b" AUTHENTICATE " + mechanism.encode("ascii")
        if first is not None:
            octets += b" " + (base64.b64encode(first) or b"=")
        self.send(octets + b"\r\n")
        waiting = list(answers)
        while True:
            said = self.response()
            if not said.startswith(b"+"):
                break
            self.record.append(Exchange(mechanism.encode("ascii"), b"+ <challenge>"))
            challenge = base64.b64decode(said[2:])
            answer = waiting.pop(0)(challenge) if waiting else b""
            self.send(base64.b64encode(answer) + b"\r\n")
        self.record.append(Exchange(mechanism.encode("ascii"), said))
        if said.startswith(b"* CAPABILITY"):
            said = self._until(mechanism.encode("ascii"), [tag + b" "])
        return said.startswith(tag + b" OK")

    def compress(self) -> None:
        """
        DEFLATE from here on, both ways.

        @see: RFC 4978
        """
        if b" OK " not in self.command("COMPRESS DEFLATE"):
            return
        squeeze = zlib.compressobj(wbits=-15)
        expand = zlib.decompressobj(wbits=-15)
        self._deflate = lambda octets: squeeze.compress(octets) + squeeze.flush(zlib.Z_SYNC_FLUSH)
        rest = bytes(self._buffer)
        self._buffer = bytearray(expand.decompress(rest))
        self._inflate = expand.decompress
