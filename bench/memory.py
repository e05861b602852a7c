"""
Goal 8: what a session costs in memory: the server process's RSS over so many sessions, beside the same without the layer, and
the weight of the layer's own objects by a walk over them.

  idle      logged in and SELECTed; with the layer: CLIENTID and START as well
  traffic   after each has fetched 1 MB
  parked    sessions whose links are gone, begun 50 at a time, so that no more live ones than that ever were
  record    what the table and the directory keep of one client, without session and protocol

RSS is taken after a garbage collection and malloc_trim, so it is what is in use, not what the allocator has at hand.
"""

from __future__ import annotations

import tracemalloc
from typing import Any

from twisted.internet.defer import Deferred, fail, gatherResults
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from bench._client import Route, Talker, connect, creator, endpoint, roaming
from bench._command import Options, command, sleep
from bench._process import ServerProcess
from bench._report import Report
from mem_continuity.client import Path, roamer_of
from mem_continuity.directory.memory import MemoryDirectory
from mem_continuity.directory.record import ClientID, Record, Selection

_BODY = 1_000_000
_ACKNOWLEDGED = 1.2
"""Seconds until nothing is kept for the peer any more, so that what is measured is a session without its tail."""


async def rss(server: ServerProcess) -> float:
    """
    In octets, once it has come to rest.
    """
    await sleep(0.3)
    server.ask("stats", trim=True)
    await sleep(0.2)
    found: float = server.ask("stats", trim=True)["rss"]
    return found


async def together(works: list[Any]) -> list[Any]:
    """
    All at once.
    """
    found: list[Any] = await gatherResults([Deferred.fromCoroutine(one) for one in works], consumeErrors=True)
    return found


async def begin(way: Any, number: int) -> Talker:
    """
    One more session, of a user of its own.
    """
    talker = await connect(way)
    await talker.log_in(b"user%d" % number)
    return talker


async def live(server: ServerProcess, way: Any, count: int, wave: int) -> tuple[float, float]:
    """
    @return: octets a session, idle and after traffic; the first wave is a warm-up and not counted.
    """
    talkers: list[Talker] = []
    for number in range(wave):
        talkers.append(await begin(way, number))
    await together([_fetch(one) for one in talkers])
    first = await rss(server)
    for start in range(wave, wave + count, wave):
        talkers += await together([begin(way, number) for number in range(start, min(start + wave, wave + count))])
    idle = (await rss(server) - first) / count
    for start in range(wave, wave + count, wave // 5):
        await together([_fetch(one) for one in talkers[start : start + wave // 5]])
    await sleep(1.5)  # for the last acknowledgements
    traffic = (await rss(server) - first) / count
    for one in talkers:
        one.abort()
    await sleep(0.3)
    return idle, traffic


async def _fetch(talker: Talker) -> None:
    await talker.ask(b"FETCH 1 RFC822")


@implementer(IStreamClientEndpoint)
class _Nowhere:
    """
    No network.
    """

    def connect(self, protocolFactory: Any) -> Any:
        return fail(ConnectError(string="no network"))


async def parked(server: ServerProcess, count: int, wave: int) -> float:
    """
    @return: octets a parked session.
    """
    route = Route({"server": endpoint(server, creator()), "nowhere": _Nowhere()}, "server")
    way = roaming([Path("route", route)], backoff_first=3600.0, backoff_most=3600.0)
    base = 0.0
    for start in range(0, count + wave, wave):
        talkers = await together([begin(way, number) for number in range(start, start + wave)])
        await sleep(_ACKNOWLEDGED)
        route.now = "nowhere"
        for one in talkers:
            roamer_of(one).link_is_dead()
        while server.ask("stats")["parked"] < start + wave:
            await sleep(0.02)
        route.now = "server"
        if not base:
            base = await rss(server)
    return (await rss(server) - base) / count


def record() -> float:
    """
    Octets that one record costs in the directory of this process.
    """
    count = 10000
    directory = MemoryDirectory()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(count):
        session_id, user, value = b"n0.%08d" % number, b"user%d" % number, b"23bf83be-aad8-46aa-9f0b-3919%08d" % number
        selection = Selection(b"INBOX%d" % number, False, 7 + 2**30 + number)
        directory.put(Record(session_id, user, ClientID(b"UUID" + b"", value), 1e9 + number, selection))
    found = (tracemalloc.get_traced_memory()[0] - before) / count
    tracemalloc.stop()
    return found


async def measure(options: Options, report: Report) -> None:
    """
    Bare, with the layer, parked, a record.
    """
    count, wave = options.pick((20, 10), (300, 50), (1000, 50))
    with ServerProcess("bare", size=_BODY) as server:
        bare = await live(server, endpoint(server, creator()), count, wave)
    with ServerProcess("continuous", size=_BODY) as server:
        plain = await live(server, endpoint(server, creator()), count, wave)
    with ServerProcess("continuous", size=_BODY) as server:
        way = roaming([Path("only", endpoint(server, creator()))])
        layered = await live(server, way, count, wave)
    with ServerProcess("continuous", size=_BODY) as server:
        waiting = await parked(server, count, wave)
        own = server.ask("account")
    kb = 1000
    for name, index in (("idle", 0), ("after 1 MB each", 1)):
        report.add(f"live, {name}: IMAP4Server and TLS alone", bare[index] / kb, "kB")
        report.add(f"live, {name}: behind the layer, not begun", plain[index] / kb, "kB")
        report.add(f"live, {name}: with the layer", layered[index] / kb, "kB", 20)
        report.add(f"live, {name}: what the layer adds", (layered[index] - bare[index]) / kb, "kB")
    report.add("parked, all of it (IMAP4Server, avatar, layer)", waiting / kb, "kB", 2.5)
    report.add("parked, the layer's own objects", own["octets"] / kb, "kB", 2.5)
    report.add("a record alone", record() / kb, "kB", 0.6)
    top = ", ".join(f"{name} {octets:.0f}" for name, octets in list(own["classes"].items())[:12])
    report.note(f"{count} sessions; the layer's own objects of a parked one, octets by class with what it holds: {top}")


if __name__ == "__main__":
    command("memory (goal 8): octets a session", __doc__, measure)
