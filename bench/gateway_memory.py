"""
Goals 8 and 10: what a session costs a relay in memory, and what many sessions cost each other.

  idle      logged in, at 1,000 and at 5,000 sessions: memory of all processes of the relay, for each session
  traffic   after each has fetched 1 MB, 50 at a time
  parked    sessions of the gateway whose links are gone, begun and cut 50 at a time; their upstream connections stand
  many      NOOPs in 50 sessions of the gateway, alone and beside 9,450 that are idle, in turns: their p99

The upstream is a stub (_stub.py): a session of a real one costs some 560 kB.  Memory is PSS, so what processes share counts
once; the first 100 sessions are a warm-up and not counted.  What an allocator keeps at hand after traffic does count, and at the
larger number also as idle.  Dovecot direct is measured at fewer sessions, each a process.
"""

from __future__ import annotations

import statistics

from bench._command import Options, command, sleep
from bench._relays import Bench, Relay, Stub
from bench._report import Report

_WAVE = 50
_KB = 1000
_ACKNOWLEDGED = 0.3
"""Seconds until a relay has come to rest; these clients acknowledge at once."""
_MOST_P99 = 1.25


class Sessions:
    """
    The clients of one relay.
    """

    def __init__(self, bench: Bench, relay: Relay, users: dict[str, str]) -> None:
        self.bench = bench
        self.relay = relay
        self.group = f"{relay.name}, {relay.port}"
        self.users = [list(one) for one in users.items()]
        self.count = 0

    async def open(self, count: int) -> None:
        """
        So many in all.
        """
        while self.count < count:
            self.count = min(count, self.count + 10 * _WAVE)
            arguments = {"port": self.relay.port, "layer": self.relay.layer, "users": self.users, "parallel": 20}
            self.bench.load.ask("open", group=self.group, count=self.count, **arguments)
            await sleep(0)

    async def fetch(self) -> None:
        """
        1 MB each.
        """
        for start in range(0, self.count, _WAVE):
            stop = min(start + _WAVE, self.count)
            self.bench.load.ask("fetch", group=self.group, message=2, times=1, start=start, stop=stop)
            await sleep(0)

    def cut(self, start: int) -> None:
        """
        Break the links off, from this one on.
        """
        self.bench.load.ask("cut", group=self.group, start=start, stop=self.count)

    def p99(self, sessions: int, times: int) -> float:
        """
        Of NOOPs in the first sessions, in seconds.
        """
        ask = self.bench.load.ask
        ask("noop", group=self.group, times=times // 10 + 1, start=0, stop=sessions)
        found = sorted(ask("noop", group=self.group, times=times, start=0, stop=sessions)["times"])
        return float(found[int(len(found) * 0.99)])

    async def end(self) -> None:
        """
        Of the clients and of the relay.
        """
        self.bench.load.ask("close", group=self.group)
        self.bench.stop(self.relay)
        await sleep(0.1)


async def _memory(relay: Relay) -> float:
    await sleep(_ACKNOWLEDGED)
    return relay.memory


async def live(sessions: Sessions, counts: tuple[int, ...], warm: int) -> list[tuple[int, float, float]]:
    """
    @return: for each count, octets a session: idle, and after traffic.
    """
    await sessions.open(warm)
    first = await _memory(sessions.relay)
    found = []
    for count in counts:
        await sessions.open(count)
        idle = (await _memory(sessions.relay) - first) / (count - warm)
        await sessions.fetch()
        found.append((count, idle, (await _memory(sessions.relay) - first) / (count - warm)))
    return found


async def parked(sessions: Sessions, stub: Stub, count: int) -> float:
    """
    @return: octets a parked session.
    """
    first = 0.0
    connections = stub.connections
    count = -count // _WAVE * -_WAVE
    for start in range(0, count + 2 * _WAVE, _WAVE):
        await sessions.open(start + _WAVE)
        sessions.cut(start)
        await sleep(0.1)
        if start == _WAVE:
            first = await _memory(sessions.relay)
    kept = stub.connections - connections
    if kept != count + 2 * _WAVE:
        raise RuntimeError(f"{kept} of {count + 2 * _WAVE} sessions are parked")
    return (await _memory(sessions.relay) - first) / count


async def many(alone: Sessions, crowded: Sessions, count: int, times: int, rounds: int) -> tuple[float, float]:
    """
    In turns on two gateways of the same kind.

    @return: p99 of small commands, in seconds: without other sessions and with.
    """
    await alone.open(_WAVE)
    await crowded.open(count)
    await sleep(1.0)
    found: list[tuple[float, float]] = []
    for _ in range(rounds):
        found.append((alone.p99(_WAVE, times), crowded.p99(_WAVE, times)))
        await sleep(0)
    return statistics.median(one[0] for one in found), statistics.median(one[1] for one in found)


async def measure(options: Options, report: Report) -> None:
    """
    Relay by relay.
    """
    counts = options.pick((40,), (1000,), (1000, 5000))
    warm, few, most = options.pick((10, 15, 60), (100, 200, 2000), (100, 500, 9500))
    with Bench() as bench:
        stub = bench.stub(1_000_000, 1_000_000)
        figures: dict[str, list[tuple[int, float, float]]] = {}
        for make in (bench.haproxy, bench.nginx, bench.proxy, bench.gateway, lambda behind: bench.gateway(behind, layer=True)):
            sessions = Sessions(bench, make(stub), stub.users)
            figures[sessions.relay.name] = await live(sessions, counts, warm)
            await sessions.end()
        dovecot = bench.dovecot(1, 1000, 1_000_000)
        sessions = Sessions(bench, Relay("Dovecot direct", dovecot, dovecot.imaps_port), dovecot.users)
        figures[sessions.relay.name] = await live(sessions, (few,), warm)
        await sessions.end()
        _say(report, figures, counts)
        sessions = Sessions(bench, bench.gateway(stub, layer=True), stub.users)
        report.add("parked, layer on, its upstream connection included", await parked(sessions, stub, counts[0]) / _KB, "kB", 2.5)
        await sessions.end()
        for layer in (False, True):
            alone, crowded = (Sessions(bench, bench.gateway(stub, layer=layer), stub.users) for _ in range(2))
            found = await many(alone, crowded, most, options.pick(4, 100, 200), options.pick(1, 5, 9))
            name = alone.relay.name
            report.add(f"NOOP, {_WAVE} sessions, p99, {name}, no others", found[0] * 1e6, "µs")
            report.add(f"NOOP, {_WAVE} sessions, p99, {name}, {most:,} live", found[1] * 1e6, "µs")
            report.add(f"goal 10: {name}, {most:,} live to none", found[1] / found[0], "x", _MOST_P99)
            await alone.end()
            await crowded.end()


def _say(report: Report, figures: dict[str, list[tuple[int, float, float]]], counts: tuple[int, ...]) -> None:
    for number, count in enumerate(counts):
        for index, name in ((1, "idle"), (2, "after 1 MB each")):
            base = figures["haproxy"][number][index]
            for relay, found in figures.items():
                if number < len(found):
                    at, value = found[number][0], found[number][index]
                    ours = relay.startswith("gateway")
                    ratio = "" if relay == "haproxy" else f"{value / base:.2f} x haproxy"
                    if at != count:
                        ratio += f", at {at:,} sessions"
                    report.add(f"{count:,} sessions, {name}: {relay}", value / _KB, "kB", 20 if ours else None, note=ratio)


if __name__ == "__main__":
    command("gateway_memory (goals 8 and 10): octets a session", __doc__, measure)
