"""
The server process of L{bench.switch}: C{python -m bench._switch_server}, as L{bench._server}, with two differences: it can be
reached by MPTCP, and it knows when octets came to the inner protocol.

Invariants: a client without MPTCP gets plain TCP from the same port; what is noted is noted at the inner end, where neither TLS
nor the layer stands between.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import time
from collections import deque
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet import stdio
from twisted.internet.interfaces import IAddress
from twisted.internet.ssl import PrivateCertificate, TLSVersion
from twisted.logger import globalLogBeginner
from twisted.protocols.tls import TLSMemoryBIOFactory

from bench._server import Control
from bench._site import Site
from mem_continuity.core.policy import Policy
from mem_continuity.server import continuous

reactor: Any = _reactor
IPPROTO_MPTCP: int = getattr(socket, "IPPROTO_MPTCP", 262)
_KEPT = 200_000


class NotingSite(Site):
    """
    Knows when its protocols heard something.

    @ivar heard: seconds of the monotonic clock, which is the same in all processes of a machine.
    """

    def __init__(self, messages: int, size: int, lively: bool) -> None:
        """
        @param lively: switch Nagle's algorithm off, as mail servers do; on framed links the layer does it.
        """
        super().__init__(messages, size)
        self.heard: deque[float] = deque(maxlen=_KEPT)
        self._lively = lively

    def buildProtocol(self, addr: IAddress | None) -> Any:
        made = super().buildProtocol(addr)
        hear, begin = made.dataReceived, made.connectionMade

        def note(octets: bytes) -> None:
            self.heard.append(time.monotonic())
            hear(octets)

        def lively() -> None:
            made.transport.setTcpNoDelay(True)
            begin()

        made.dataReceived = note
        if self._lively:
            made.connectionMade = lively
        return made


class NotingControl(Control):
    """
    Tells of that as well.
    """

    def __init__(self, site: NotingSite) -> None:
        super().__init__(None)
        self._site = site

    def do_heard(self, since: float) -> list[float]:
        """
        When something was heard.
        """
        return [one for one in self._site.heard if one >= since]


def listening(address: str, mptcp: bool) -> socket.socket:
    """
    A listening socket.
    """
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP if mptcp else 0)
    made.setblocking(False)
    made.bind((address, 0))
    made.listen(128)
    return made


def main() -> None:
    """
    Serve until standard input ends.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", choices=("bare", "continuous"), required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--pem", type=Path, required=True)
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--size", type=int, required=True)
    given = parser.parse_args()
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    certificate = PrivateCertificate.loadPEM(given.pem.read_bytes())
    options: Any = certificate.options()
    options = type(options)(
        privateKey=certificate.privateKey.original, certificate=certificate.original, raiseMinimumTo=TLSVersion.TLSv1_3
    )
    bare = given.mode == "bare"
    site = NotingSite(given.messages, given.size, lively=bare)
    factory: Any = site if bare else continuous(site, policy=Policy(sessions_per_user=1000, parked_per_user=1000, parked=1000))
    sock = listening(given.address, mptcp=bare)
    reactor.adoptStreamPort(sock.fileno(), sock.family, TLSMemoryBIOFactory(options, False, factory))
    stdio.StandardIO(NotingControl(site), reactor=reactor)
    os.write(1, json.dumps({"port": sock.getsockname()[1]}).encode() + b"\n")
    sock.close()
    reactor.run()


if __name__ == "__main__":
    main()
