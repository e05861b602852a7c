"""
Goals 6 and 7: the gateway, with and without the layer, beside Dovecot direct, Dovecot as a proxy, nginx's mail proxy and haproxy,
in one run and in turns.

  FETCH     20 MB again and again, in 1 session and in 8: rate, and processor seconds of the relay for a GB
  NOOP      one after the other, in 1 session (time) and in 50 (rate): and processor time of the relay for one
  logins    TLS handshake (full), LOGIN, LOGOUT and close, eight at a time: rate, and processor time of the relay for one

Each twice: in front of Dovecot, and in front of a stub (_stub.py) that costs next to nothing, so that the relay is what limits.
Clients end TLS 1.3 with TLS_AES_128_GCM_SHA256 and P-256 at the relay; to the upstream everybody speaks plain IMAP.  Processor
time is that of the relay's own processes, of Dovecot direct that of all its processes.  Clients and upstream share the two cores
with the relay, so rates are those of the whole path.  What needs a Dovecot rate and a fast upstream (twice Dovecot's own TLS)
compares with the stub's figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench._command import Options, command, sleep
from bench._relays import Bench, Relay
from bench._report import Report

_BIG = 20_000_000
_BASE = "haproxy"
_OWN = "Dovecot direct"
_PROXY = "Dovecot as a proxy"
_PLAIN = "gateway"
_LAYER = "gateway, layer on"
_MANY = 50
_PARTS = ((0.5, "p50"), (0.99, "p99"))


class Way:
    """
    A relay in front of one upstream, and what was measured of it.
    """

    def __init__(self, bench: Bench, relay: Relay, upstream: str, users: list[list[str]]) -> None:
        self.relay = relay
        self.name = relay.name
        self.group = f"{relay.name}, {upstream}"
        self.bench = bench
        self.users = users
        self.clear()

    def clear(self) -> None:
        """
        Count anew.
        """
        self.took = self.used = 0.0
        self.octets = self.done = 0
        self.times: list[float] = []

    def ask(self, do: str, **arguments: Any) -> None:
        """
        Have the clients do something, and count it.
        """
        before = self.relay.cpu
        answer = self.bench.load.ask(do, **arguments)
        self.used += self.relay.cpu - before
        self.took += answer["took"]
        self.octets += answer.get("octets", 0)
        self.times += answer.get("times", [])

    def open(self, count: int) -> None:
        """
        So many sessions in all.
        """
        arguments = {"port": self.relay.port, "layer": self.relay.layer, "users": self.users, "parallel": 8}
        self.bench.load.ask("open", group=self.group, count=count, **arguments)

    def quantile(self, part: float) -> float:
        """
        Of the times, in seconds.
        """
        times = sorted(self.times)
        return times[int(len(times) * part)]

    @property
    def rate(self) -> float:
        """
        Octets a second.
        """
        return self.octets / self.took

    @property
    def speed(self) -> float:
        """
        Commands a second.
        """
        return self.done / self.took


class Front:
    """
    All ways to one upstream.
    """

    def __init__(self, ways: Sequence[Way], upstream: str, report: Report) -> None:
        self.ways = list(ways)
        self.upstream = upstream
        self._report = report

    def way(self, name: str) -> Way:
        """
        Of this name.
        """
        return next(one for one in self.ways if one.name == name)

    def _say(self, what: str, unit: str, figures: Sequence[tuple[Way, float]]) -> None:
        """
        A figure of each way, with its ratios to haproxy and to Dovecot direct.
        """
        values = {way.name: value for way, value in figures}
        for way, value in figures:
            ratios = [
                f"{value / values[base]:.2f} x {short}"
                for base, short in ((_BASE, _BASE), (_OWN, "direct"))
                if values.get(base) and base != way.name
            ]
            self._report.add(f"{self.upstream}: {what}, {way.name}", value, unit, note="; ".join(ratios))

    async def bulk(self, sessions: int, times: int, rounds: int) -> None:
        """
        FETCHes of 20 MB.
        """
        for way in self.ways:
            way.open(sessions)
            way.ask("fetch", group=way.group, message=1, times=1, start=0, stop=sessions)
            way.clear()
        for _ in range(rounds):
            for way in self.ways:
                way.ask("fetch", group=way.group, message=1, times=times, start=0, stop=sessions)
                await sleep(0)
        what = f"FETCH, {sessions} session{'s' * (sessions > 1)}"
        self._say(what, "MB/s", [(way, way.rate / 1e6) for way in self.ways])
        self._say(f"{what}, processor", "s/GB", [(way, way.used / way.octets * 1e9) for way in self.ways])

    async def small(self, sessions: int, times: int, rounds: int) -> None:
        """
        NOOPs.
        """
        for way in self.ways:
            way.open(sessions)
            way.ask("noop", group=way.group, times=max(5, times // 10), start=0, stop=sessions)
            way.clear()
        for _ in range(rounds):
            for way in self.ways:
                way.ask("noop", group=way.group, times=times, start=0, stop=sessions)
                way.done += sessions * times
                await sleep(0)
        what = f"NOOP, {sessions} session{'s' * (sessions > 1)}"
        if sessions == 1:
            for part, name in _PARTS:
                self._say(f"{what}, {name}", "µs", [(way, way.quantile(part) * 1e6) for way in self.ways])
        else:
            self._say(what, "/s", [(way, way.speed) for way in self.ways])
        self._say(f"{what}, processor", "µs", [(way, way.used / way.done * 1e6) for way in self.ways])

    async def logins(self, count: int, rounds: int) -> None:
        """
        Logins, each on a connection of its own.
        """
        for way in self.ways:
            way.ask("come_and_go", port=way.relay.port, count=8, users=way.users, parallel=8)
            way.clear()
        for _ in range(rounds):
            for way in self.ways:
                way.ask("come_and_go", port=way.relay.port, count=count, users=way.users, parallel=8)
                way.done += count
                await sleep(0)
        ways = [way for way in self.ways if way.name != _LAYER]  # it is the same until somebody is logged in
        self._say("logins", "/s", [(way, way.speed) for way in ways])
        self._say("logins, processor", "ms", [(way, way.used / way.done * 1e3) for way in ways])


def _goal(report: Report, what: str, value: float, unit: str, goal: float, *, at_least: bool = False) -> None:
    report.add(f"goal {what}", value, unit, goal, at_least=at_least)


async def measure(options: Options, report: Report) -> None:
    """
    Bulk, small commands, logins; in front of Dovecot, then in front of the stub.
    """
    size, many = options.pick((1_000_000, 5), (_BIG, _MANY), (_BIG, _MANY))
    with Bench() as bench:
        dovecot = bench.dovecot(8, size)
        stub = bench.stub(size, 1_000)
        fronts = []
        for upstream, name in ((dovecot, "Dovecot"), (stub, "stub")):
            relays = [bench.haproxy(upstream), bench.nginx(upstream), bench.proxy(upstream)]
            relays += [bench.gateway(upstream), bench.gateway(upstream, layer=True)]
            if upstream is dovecot:
                relays.insert(0, Relay(_OWN, dovecot, dovecot.imaps_port))
            users = [list(one) for one in upstream.users.items()]
            fronts.append(Front([Way(bench, one, name, users) for one in relays], name, report))
        real, fast = fronts
        rounds = options.pick(1, 3, 6)
        for sessions, times in ((1, options.pick(1, 5, 10)), (8, options.pick(1, 1, 2))):
            for front in fronts:
                await front.bulk(sessions, times, rounds)
            _judge_bulk(report, real, fast, sessions)
        for front in fronts:
            await front.small(1, options.pick(50, 1000, 2000), rounds)
            _judge_latency(report, front)
            await front.small(many, options.pick(5, 60, 120), rounds)
            _judge_speed(report, front, many)
        for front in fronts:
            await front.logins(options.pick(8, 100, 200), rounds)
    report.note("processor: of the relay's own processes; of Dovecot direct all of Dovecot, mail processes included")


def _judge_bulk(report: Report, real: Front, fast: Front, sessions: int) -> None:
    own, base, layered = real.way(_OWN), fast.way(_BASE), fast.way(_LAYER)
    where = f"6: stub, {sessions} session{'s' * (sessions > 1)}, layer on"
    _goal(report, f"{where}, processor", (layered.used / layered.octets) / (base.used / base.octets), "x haproxy", 1.0)
    _goal(report, f"{where}, rate", layered.rate / own.rate, "x direct", 2.0, at_least=True)


def _judge_latency(report: Report, front: Front) -> None:
    base = front.way(_BASE)
    for name in (_PLAIN, _LAYER):
        for (part, quantile), goal in zip(_PARTS, (30, 60), strict=True):
            added = (front.way(name).quantile(part) - base.quantile(part)) * 1e6
            _goal(report, f"7: {front.upstream}, {name}, {quantile} over haproxy's", added, "µs", goal)


def _judge_speed(report: Report, front: Front, sessions: int) -> None:
    base, proxy = front.way(_BASE), front.way(_PROXY)
    for name in (_PLAIN, _LAYER):
        speed = front.way(name).speed
        what = f"7: {front.upstream}, {sessions} sessions, {name}"
        _goal(report, what, speed / base.speed, "x haproxy", 0.6, at_least=True)
        _goal(report, what, speed / proxy.speed, "x proxy", 1.0, at_least=True)


if __name__ == "__main__":
    command("gateway (goals 6 and 7): beside other relays", __doc__, measure)
