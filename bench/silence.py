"""
Goal 2: a network falls silent without a word to anybody.  How long until the client doubts its link, and until the session is on
the other network; and how often a link is doubted that is only bad.

  download   in the middle of a FETCH
  upload     in the middle of an APPEND
  noops      in the middle of NOOPs, one after the other
  idle       the network died while nothing was said; the time runs from the first NOOP after that

A doubt is due when there was no sign of life for three round trips, and for half a second at least; the session is on the other
network after one new connection, three round trips and 10 ms, or after one round trip when a link stood ready there.  The round
trip of the old link is what its TCP saw before the silence: a transfer makes a queue for itself.

And on links that are bad and alive: a FETCH and an APPEND that never end, and NOOPs after pauses of all lengths, each of them
alone on the link for a third of the time, and then all together.  Whatever is doubted there is doubted for nothing, and costs a
connection; a move is a doubt that the old link did not end in time.  Queues are deep and TCP fills them (CUBIC where that is to
be had: BBR keeps out of queues).

Needs root, for the lab's network namespaces and emulated links.
"""

from __future__ import annotations

import contextlib
import random
import statistics
from collections.abc import AsyncIterator, Callable
from typing import Any

from twisted.internet.defer import Deferred

from bench._client import Talker, connect, creator, endpoint, now, roaming
from bench._command import Options, command, sleep
from bench._process import ServerProcess
from bench._report import Report
from mem_continuity.client import Path, roamer_of
from mem_continuity.layer.sockets import vitals
from tests.netlab import Lab, LabError, Shape

_ENDLESS = 2_000_000_000
_DEEP = 1024 * 1024
_QUICK = 5e6
"""Bits a second: slower links have long queues."""
_PATIENCE = 60.0
_LEAST = 0.5
_TRIPS = 3
_COLD = (3, 0.010)
_PREPARED = (1, 0.010)
_IDLE = 3.0
_SETTLE = 3.0
BUSY = ("download", "upload", "noops")
WAYS = (*BUSY, "idle")


class Rider:
    """
    One session, and what happens to its link.

    @ivar doubts: when its link was doubted.
    @ivar moves: when it went to another link.
    """

    def __init__(self, talker: Talker) -> None:
        self.talker = talker
        self.doubts: list[float] = []
        self.moves: list[float] = []
        self.busy = True
        roamer_of(talker).watchers.append(self._told)

    def _told(self, word: str, text: str) -> None:
        if word == "doubt" and "no sign of life" in text:
            self.doubts.append(now())
        elif word == "live":
            self.moves.append(now())

    @property
    def round_trip(self) -> float:
        """
        Of the present link, as TCP sees it; seconds.
        """
        link = roamer_of(self.talker).link
        found = None if link is None else vitals(link.transport)
        return 0.0 if found is None else found.round_trip

    async def noops(self, pause: Callable[[], float]) -> None:
        """
        One after the other, until it is not C{busy} any more.
        """
        while self.busy:
            await self.talker.ask(b"NOOP")
            await sleep(pause())

    def begin(self, way: str, pause: Callable[[], float] = lambda: 0.0) -> None:
        """
        Do this, and nobody waits for it.
        """
        work: Any
        if way == "download":
            work = self.talker.ask(b"FETCH 1 RFC822")
        elif way == "upload":
            work = Deferred.fromCoroutine(self.talker.append(_ENDLESS))
        else:
            work = Deferred.fromCoroutine(self.noops(pause))
        work.addErrback(lambda _: None)

    def end(self) -> None:
        """
        Break off.
        """
        self.busy = False
        self.talker.abort()


class Ground:
    """
    A handset with two networks that are alike, and a server.
    """

    def __init__(self, lab: Lab, server: ServerProcess) -> None:
        self.lab, self.server = lab, server
        self.wlan = lab.networks["wlan"]

    @contextlib.asynccontextmanager
    async def rider(self, prepare: bool = False) -> AsyncIterator[Rider]:
        """
        A session on the first network.
        """
        tls = creator()
        paths = [Path(name, endpoint(self.server, tls, self.lab, one)) for name, one in self.lab.networks.items()]
        talker = await connect(roaming(paths, prepare=prepare))
        await talker.log_in()
        rider = Rider(talker)
        try:
            yield rider
        finally:
            rider.end()
            self.wlan.restore()
            await sleep(0.2)

    async def cut(self, way: str, round_trip: float, prepare: bool = False) -> tuple[float, float, float]:
        """
        The first network falls silent.

        @param round_trip: of an empty link, in seconds.
        @return: seconds: until the doubt; until the session is on the other network; the round trip that the old link had.
        """
        async with self.rider(prepare) as rider:
            if way == "idle":
                await sleep(_IDLE)
                seen = rider.round_trip
                self.wlan.silence()
                await sleep(1.0)
                begun = now()
                rider.begin("noops")
            else:
                rider.begin(way)
                await sleep(_SETTLE + (8 + random.random()) * round_trip)
                seen = rider.round_trip
                self.wlan.silence()
                begun = now()
            while not (rider.doubts and rider.moves and rider.moves[-1] > begun):
                if now() - begun > _PATIENCE:
                    raise RuntimeError(f"{way}: no doubt and move within {_PATIENCE:.0f} s")
                await sleep(0.005)
            late = [one for one in rider.doubts if one > begun]
            return (late[0] if late else rider.moves[-1]) - begun, rider.moves[-1] - begun, max(seen, round_trip)

    async def live(self, ways: tuple[str, ...], seconds: float) -> tuple[int, int]:
        """
        A session for each of these, at the same time, on a link that is bad and alive.

        @return: how many doubts there were, and moves.
        """
        chance = random.Random(1)
        async with contextlib.AsyncExitStack() as stack:
            riders = [await stack.enter_async_context(self.rider()) for _ in ways]
            for rider, way in zip(riders, ways, strict=True):
                rider.begin(way, lambda: chance.choice((0.0, 0.1, 0.3, 1.0, 3.0)))
            await sleep(seconds)
            return sum(len(one.doubts) for one in riders), sum(len(one.moves) for one in riders)


@contextlib.contextmanager
def ground(shape: Shape, filled: bool) -> Any:
    """
    A lab of two networks of one shape.

    @param filled: TCP fills the queues.
    """
    with Lab(emulated=True, wlan=shape, xg=shape) as lab:
        for place in (lab.handset, lab.server):
            with contextlib.suppress(LabError):
                if filled:
                    lab.sysctl(place, "net.ipv4.tcp_congestion_control", "cubic")
            lab.sysctl(place, "net.ipv4.tcp_no_metrics_save", "1")  # no case knows what the one before has seen
        with ServerProcess("continuous", lab=lab, size=_ENDLESS) as server:
            yield Ground(lab, server)


def named(shape: Shape) -> str:
    """
    A link in words.
    """
    rate = f"{shape.rate / 1e6:g} Mbit/s" if shape.rate >= 1e6 else f"{shape.rate / 1e3:g} kbit/s"
    return f"RTT {2 * shape.delay_ms:g} ms, {rate}, loss {shape.loss * 100:g} %"


def link(round_trip: float, megabits: float, loss: float = 0.0) -> Shape:
    """
    A link; its queue is deep, but half a minute at most.
    """
    return Shape(delay_ms=round_trip / 2, rate=megabits * 1e6, queue=min(_DEEP, int(megabits * 125_000 * 10)), loss=loss)


async def silences(options: Options, report: Report) -> None:
    """
    How soon a silence is found.
    """
    count = options.pick(1, 1, 2, 5)
    trips = options.pick([20], [20, 150], [20, 60, 150, 300])
    shapes = [link(one, 20) for one in trips]
    shapes += options.pick([], [link(60, 1)], [link(60, 1), link(60, 0.2), link(60, 20, 0.01), link(60, 20, 0.05)])
    for shape in shapes:
        round_trip = 2 * shape.delay_ms / 1000
        ways = [(way, False) for way in options.pick(("download", "idle"), WAYS, WAYS)]
        if not shape.loss and shape.rate >= _QUICK:
            ways.append(("download", True))
        with ground(shape, filled=shape.rate < _QUICK) as there:
            for way, prepare in ways:
                found = [await there.cut(way, round_trip, prepare) for _ in range(count)]
                doubt, moved, seen = (statistics.median(column) * 1000 for column in zip(*found, strict=True))
                most = max(_LEAST * 1000, _TRIPS * seen)
                trips_more, more = _PREPARED if prepare else _COLD
                gap = (trips_more * round_trip + more) * 1000
                what = f"{way}{', prepared' if prepare else ''}, {named(shape)}"
                # A connection over a slow link with loss takes what it takes.
                report.add(f"{what}: doubt", doubt, "ms", None if shape.loss else most, note=f"TCP saw {seen:.0f} ms")
                report.add(f"{what}: moved", moved, "ms", most + gap if not shape.loss and shape.rate >= _QUICK else None)


async def false_doubts(options: Options, report: Report) -> None:
    """
    How often a living link is doubted.
    """
    seconds = options.pick(2.0, 15.0, 60.0)
    shapes = [link(60, 1), link(60, 20, 0.05), link(60, 0.2), link(150, 20, 0.01)]
    shapes += options.pick([], [], [], [link(20, 20, 0.05), link(150, 20, 0.05), link(300, 1, 0.05)])
    for shape in shapes[: options.pick(1, 3, 4, 7)]:
        with ground(shape, filled=True) as there:
            alone = [await there.live((way,), seconds / 3) for way in BUSY]
            together = await there.live(BUSY, seconds)
        for what, found in (("alone", alone), ("together", [together])):
            doubts, moves = (sum(column) for column in zip(*found, strict=True))
            report.add(f"{what}, {named(shape)}: doubts", doubts, "", 0, note=f"in {seconds:.0f} s, {moves} moves")


async def measure(options: Options, report: Report) -> None:
    """
    Both.
    """
    await silences(options, report)
    await false_doubts(options, report)


if __name__ == "__main__":
    command("silence (goal 2): a link that says nothing any more", __doc__, measure)
