"""
The server process of a bench: C{python -m bench._server --mode bare|continuous …}.

It prints one line of JSON with its port, then answers one line of JSON for each line on its standard input, and ends when that
does.

Invariant: with C{--mode bare} nothing of the layer stands in the way of an octet.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import resource
import socket
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet import stdio
from twisted.internet.ssl import PrivateCertificate, TLSVersion
from twisted.internet.task import LoopingCall
from twisted.logger import globalLogBeginner
from twisted.protocols.basic import LineReceiver
from twisted.protocols.tls import TLSMemoryBIOFactory

from bench._account import account
from bench._site import Mailbox, Site
from bench._tap import Tap
from mem_continuity.core.policy import Policy
from mem_continuity.server import ContinuityFactory, continuous

reactor: Any = _reactor
_PAGE = resource.getpagesize()
_TCP_FASTOPEN = 23
_SAMPLE = 0.005


def listening(address: str, fast_open: bool) -> socket.socket:
    """
    A listening socket with a long backlog.
    """
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, 0))
    if fast_open:
        made.setsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN, 1024)
    made.listen(4096)
    return made


class Control(LineReceiver):
    """
    Answers the bench.
    """

    delimiter = b"\n"

    def __init__(self, factory: ContinuityFactory | None) -> None:
        self._factory = factory
        self._tap = Tap()
        self._sampled = [0, 0, 0]  # the most, the sum, how often
        self._sampler = LoopingCall(self._sample)
        self._profile: Any = None

    def lineReceived(self, line: bytes) -> None:
        request = json.loads(line)
        answer = getattr(self, "do_" + request.pop("do"))(**request)
        self.sendLine(json.dumps(answer).encode())

    def connectionLost(self, reason: Any = None) -> None:
        if reactor.running:
            reactor.stop()

    def do_stats(self, trim: bool = False) -> dict[str, Any]:
        """
        Time, memory and counts.
        """
        if trim:
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
        table = None if self._factory is None else self._factory.table
        return {
            "cpu": time.process_time(),
            "rss": int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE,
            "appended": Mailbox.appended,
            "sessions": 0 if table is None else len(table),
            "parked": 0 if table is None else table.parked,
            "counts": {} if table is None else dict(table.counts),
        }

    def do_account(self) -> dict[str, Any]:
        """
        What the layer's own objects weigh, by class, for each session.
        """
        return account([] if self._factory is None else self._factory.table.all())

    def do_tap(self) -> bool:
        """
        Count the frames that arrive, from now on.
        """
        self._tap.install()
        return True

    def do_tapped(self) -> dict[str, int]:
        """
        What was counted.
        """
        return self._tap.counts()

    def do_sample(self) -> bool:
        """
        Look at what is kept for the peers, every 5 ms while anything is.
        """
        self._sampled = [0, 0, 0]
        self._sampler.start(_SAMPLE)
        return True

    def do_sampled(self) -> dict[str, float]:
        """
        Stop looking, and tell.
        """
        self._sampler.stop()
        most, total, count = self._sampled
        return {"most": most, "mean": total / count if count else 0.0, "now": self._kept()}

    def _kept(self) -> int:
        if self._factory is None:
            return 0
        return sum(one.conduit.session.sender.retained for one in self._factory.table.all() if one.conduit is not None)

    def _sample(self) -> None:
        kept = self._kept()
        if kept:
            self._sampled[0] = max(self._sampled[0], kept)
            self._sampled[1] += kept
            self._sampled[2] += 1

    def do_profile(self) -> bool:
        """
        Begin to profile.
        """
        import cProfile

        self._profile = cProfile.Profile()
        self._profile.enable()
        return True

    def do_profiled(self, top: int = 30, sort: str = "tottime") -> str:
        """
        End it; the top costs as text.
        """
        import io
        import pstats

        self._profile.disable()
        text = io.StringIO()
        pstats.Stats(self._profile, stream=text).sort_stats(sort).print_stats(top)
        return text.getvalue()


def main() -> None:
    """
    Serve until standard input ends.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", choices=("bare", "continuous"), required=True)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--pem", type=Path, required=True)
    parser.add_argument("--messages", type=int, default=10)
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--tickets", action="store_true")
    parser.add_argument("--fast-open", action="store_true")
    given = parser.parse_args()
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    pem = given.pem.read_bytes()
    certificate = PrivateCertificate.loadPEM(pem)
    options: Any = certificate.options()
    options = type(options)(
        privateKey=certificate.privateKey.original,
        certificate=certificate.original,
        raiseMinimumTo=TLSVersion.TLSv1_3,
        enableSessionTickets=given.tickets,
    )
    factory: Any = Site(given.messages, given.size)
    if given.mode == "continuous":
        factory = continuous(factory, policy=Policy(sessions_per_user=100000, parked_per_user=100000, parked=100000))
    sock = listening(given.address, given.fast_open)
    reactor.adoptStreamPort(sock.fileno(), sock.family, TLSMemoryBIOFactory(options, False, factory))
    stdio.StandardIO(Control(factory if given.mode == "continuous" else None), reactor=reactor)
    os.write(1, json.dumps({"port": sock.getsockname()[1]}).encode() + b"\n")
    sock.close()
    reactor.run()


if __name__ == "__main__":
    main()
