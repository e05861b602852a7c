"""
The server process of L{bench.tls}: C{python -m bench._tls_server --transport stock|descriptor …}.

It prints one line of JSON with its port, then answers one line of JSON for each line on its standard input, and ends when that
does.  What a client says first says what it wants: C{E} an echo, C{D} and a number that many octets, C{U} and a number to give
them.

Invariant: both transports serve the same protocol, with the same certificate and the same cipher suite.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet import stdio
from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import PrivateCertificate, TLSVersion
from twisted.logger import globalLogBeginner
from twisted.protocols.basic import LineReceiver
from zope.interface import implementer

from mem_continuity.layer.tls_contexts import server_context
from mem_continuity.layer.tls_endpoints import TLSServerEndpoint

reactor: Any = _reactor
_PAGE = resource.getpagesize()
_LOOPBACK = "127.0.0.1"
_PIECE = b"x" * 65536
_BACKLOG = 4096


@implementer(IPushProducer)
class Serving(Protocol):
    """
    One connection.
    """

    _left = 0
    _wanted = 0
    _paused = False
    _echoes = False
    _line = b""

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the client.
        """
        wire: Any = self.transport
        if self._echoes:
            wire.write(data)
            return
        if self._wanted:
            self._take(len(data))
            return
        self._line += data
        if self._line.startswith(b"E"):
            self._echoes = True
            if len(self._line) > 1:
                wire.write(self._line[1:])
            self._line = b""
        elif b"\n" in self._line:
            line, _, rest = self._line.partition(b"\n")
            self._line = b""
            if line.startswith(b"D"):
                self._left = int(line[1:])
                wire.registerProducer(self, True)
                self.resumeProducing()
            else:
                self._wanted = int(line[1:])
                self._take(len(rest))

    def _take(self, count: int) -> None:
        self._wanted -= count
        if self._wanted <= 0:
            self._wanted = 0
            wire: Any = self.transport
            wire.write(b"k")

    def resumeProducing(self) -> None:
        """
        Write until it is enough.
        """
        wire: Any = self.transport
        self._paused = False
        while self._left and not self._paused:
            piece = _PIECE[: self._left]
            self._left -= len(piece)
            wire.write(piece)
        if not self._left and wire is not None:
            wire.unregisterProducer()

    def pauseProducing(self) -> None:
        """
        Enough.
        """
        self._paused = True

    def stopProducing(self) -> None:
        """
        The client is gone.
        """
        self._left = 0
        self._paused = True


class Control(LineReceiver):
    """
    Answers the bench.
    """

    delimiter = b"\n"

    def lineReceived(self, line: bytes) -> None:
        """
        Time and memory; with C{trim} after what is not in use was given back.
        """
        if json.loads(line).get("trim"):
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        self.sendLine(json.dumps({"cpu": time.process_time(), "rss": pages * _PAGE}).encode())

    def connectionLost(self, reason: Any = None) -> None:
        """
        The bench is over.
        """
        if reactor.running:
            reactor.stop()


def main() -> None:
    """
    Serve until standard input ends.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--transport", choices=("stock", "descriptor"), required=True)
    parser.add_argument("--pem", type=Path, required=True)
    given = parser.parse_args()
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    pem = given.pem.read_bytes()
    endpoint: Any
    if given.transport == "stock":
        certificate = PrivateCertificate.loadPEM(pem)
        kind: Any = type(certificate.options())
        options = kind(
            privateKey=certificate.privateKey.original,
            certificate=certificate.original,
            raiseMinimumTo=TLSVersion.TLSv1_3,
        )
        endpoint = SSL4ServerEndpoint(reactor, 0, options, _BACKLOG, _LOOPBACK)
    else:
        endpoint = TLSServerEndpoint(reactor, 0, server_context(pem), _LOOPBACK, _BACKLOG)

    def listening(port: Any) -> None:
        stdio.StandardIO(Control(), reactor=reactor)
        os.write(1, json.dumps({"port": port.getHost().port}).encode() + b"\n")

    endpoint.listen(Factory.forProtocol(Serving)).addCallback(listening)
    reactor.run()


if __name__ == "__main__":
    main()
