"""
What the layer costs while nothing goes wrong: FETCH of 20 MB and small commands, over TLS on loopback, against the bare
IMAP4Server in the same run.

  bare    IMAP4Server over TLS, as a site has it
  plain   behind continuous(), the client never begins the layer
  framed  with the layer: both streams framed, counted and kept

Round trips are NOOPs, one after the other in each session; they are taken in turns, so that what else the machine does hits
all alike. The server's processor time counts its own work only; wall-clock figures have the client in them, which is another
one with the layer.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from bench._client import Talker, connect, creator, endpoint, now, roaming
from bench._command import Options, command
from bench._process import ServerProcess
from bench._report import Report
from mem_continuity.client import Path

_SIZE = 20_000_000
_WAYS = ("bare", "plain", "framed")


class Way:
    """
    A server and its sessions, in one of the three ways.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.server = ServerProcess("bare" if name == "bare" else "continuous", size=_SIZE)
        self.talkers: list[Talker] = []
        self.times: list[float] = []
        self.used = 0.0
        self.took = 0.0
        self.done = 0

    async def open(self, count: int) -> None:
        """
        So many sessions in all.
        """
        made: Any = endpoint(self.server, creator())
        way = roaming([Path("only", made)]) if self.name == "framed" else made
        while len(self.talkers) < count:
            talker = await connect(way)
            await talker.log_in(b"user%d" % len(self.talkers))
            self.talkers.append(talker)

    def forget(self) -> None:
        """
        Count anew.
        """
        self.times.clear()
        self.used = self.took = 0.0
        self.done = 0

    async def fetch(self) -> None:
        """
        20 MB once.
        """
        cpu, begun = self.server.ask("stats")["cpu"], now()
        await self.talkers[0].ask(b"FETCH 1 RFC822")
        self.took += now() - begun
        self.used += self.server.ask("stats")["cpu"] - cpu
        self.done += 1

    async def round_trips(self, sessions: int, count: int) -> None:
        """
        NOOPs in so many sessions at once.
        """
        cpu, begun = self.server.ask("stats")["cpu"], now()
        await gatherResults([Deferred.fromCoroutine(self._noops(one, count)) for one in self.talkers[:sessions]])
        self.took += now() - begun
        self.used += self.server.ask("stats")["cpu"] - cpu
        self.done += sessions * count

    async def _noops(self, talker: Talker, count: int) -> None:
        for _ in range(count):
            begun = now()
            await talker.ask(b"NOOP")
            self.times.append(now() - begun)


async def measure(options: Options, report: Report) -> None:
    """
    Bulk, then small commands in one session and in twenty.
    """
    ways = [Way(name) for name in _WAYS]
    try:
        for way in ways:
            await way.open(1)
            await way.fetch()
            way.forget()
        for _ in range(options.pick(1, 3, 10)):
            for way in ways:
                await way.fetch()
        bare = ways[0]
        for way in ways:
            rate = way.done * _SIZE / way.took / 1e6
            report.add(f"FETCH 20 MB, {way.name}", rate, "MB/s", note=f"{way.took / bare.took:.2f} x the time of bare")
        for way in ways:
            each = way.used / (way.done * _SIZE / 1e9)
            report.add(f"FETCH 20 MB, {way.name}, server", each, "CPU s/GB", note=f"{way.used / bare.used:.2f} x bare")
        for sessions in (1, 20):
            await _small(ways, sessions, options.pick(20, 200, 500) if sessions == 1 else options.pick(2, 20, 50), report)
    finally:
        for way in ways:
            way.server.close()


async def _small(ways: list[Way], sessions: int, count: int, report: Report) -> None:
    for way in ways:
        await way.open(sessions)
        await way.round_trips(sessions, 5)
        way.forget()
    for _ in range(8):
        for way in ways:
            await way.round_trips(sessions, count)
    for way in ways:
        way.times.sort()
    bare = ways[0]
    for quantile, name in ((0.5, "p50"), (0.99, "p99")):
        base = bare.times[int(len(bare.times) * quantile)]
        for way in ways:
            took = way.times[int(len(way.times) * quantile)]
            what = f"NOOP, {sessions} session{'s' * (sessions > 1)}, {way.name}, {name}"
            report.add(what, took * 1e6, "µs", note=f"{took / base:.2f} x bare")
    for way in ways:
        each, base = way.used / way.done, bare.used / bare.done
        what = f"NOOP, {sessions} session{'s' * (sessions > 1)}, {way.name}, server"
        report.add(what, each * 1e6, "CPU µs", note=f"{each / base:.2f} x bare")


if __name__ == "__main__":
    command("throughput: with the layer and without", __doc__, measure)
