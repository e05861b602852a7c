"""
Goal 1: how long a client is out of sync after a switch of networks, from "the new network is usable" to the first octets of the
resumed stream, in the middle of a FETCH at 20 Mbit/s.

  cold      one new TCP and TLS connection
  ticket    the same with TCP Fast Open and a TLS session ticket, and a P-256 key share so that the ClientHello fits the SYN;
            with the hybrid ML-KEM share that OpenSSL offers by itself it does not fit, and Fast Open gains nothing
  prepared  a second link stood ready on the new network when the old one died
  planned   both links alive: the silence between the last octets of the old link and the first of the new one
  ordinary  a client without the layer: connect, CAPABILITY, LOGIN, SELECT, fetch all UIDs and flags

Needs root, for the lab's network namespaces and emulated links.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Coroutine
from typing import Any

from bench._client import Route, Talker, connect, creator, endpoint, now, roaming
from bench._command import Options, command, sleep
from bench._process import ServerProcess
from bench._report import Report
from mem_continuity.client import Path, roamer_of
from tests.netlab import Lab, Shape

_BODY = 2_000_000_000
_RATE = 20e6
_RESERVE = 20.0
_GOALS = {"cold": (3, 10.0), "ticket": (2, 10.0), "prepared": (1, 5.0), "planned": (0, 20.0)}
"""Round trips and milliseconds on top of them."""


class Handset:
    """
    A handset with two networks, and a server with a mailbox.
    """

    def __init__(self, lab: Lab, server: ServerProcess, round_trip: float) -> None:
        self.lab, self.server, self.round_trip = lab, server, round_trip

    def other(self, name: str) -> str:
        return "xg" if name == "wlan" else "wlan"

    async def flow(self, talker: Talker) -> None:
        """
        Begin a FETCH that does not end, and let it find its pace.
        """
        talker.ask(b"FETCH 1 RFC822").addErrback(lambda _: None)
        await sleep(8 * self.round_trip + 0.3)

    async def first_octets(self, talker: Talker) -> float:
        """
        When the next octets come: seconds of the clock.
        """
        begun, seen = talker.octets, [0.0]

        def note(_: bytes) -> None:
            seen[0] = seen[0] or now()

        talker.on_octets = note
        while talker.octets == begun:
            await sleep(0.002)
        talker.on_octets = lambda _: None
        return seen[0]

    async def unplanned(self, count: int, fast: bool, small: bool = False) -> list[float]:
        """
        The default route changes, the old network is silent.

        @param fast: TCP Fast Open and a ticket.
        @param small: a ClientHello that fits the SYN.
        """
        tls = creator(tickets=fast, lean=small)
        ways = {
            name: endpoint(self.server, tls, self.lab, network, fast_open=fast) for name, network in self.lab.networks.items()
        }
        if fast:  # the ticket and the cookie for Fast Open come from an earlier visit
            for way in ways.values():
                visitor = await connect(way)
                await visitor.ask(b"NOOP")
                visitor.abort()
        route = Route(ways, "wlan")
        talker = await connect(roaming([Path("route", route)]))
        await talker.log_in()
        await self.flow(talker)
        found = []
        for _ in range(count):
            old, route.now = route.now, self.other(route.now)
            self.lab.networks[old].silence()
            begun = now()
            roamer_of(talker).link_is_dead()
            found.append(await self.first_octets(talker) - begun)
            self.lab.networks[old].restore()
            await sleep(4 * self.round_trip + 0.1)
        talker.abort()
        return found

    async def prepared(self, count: int, planned: bool) -> list[float]:
        """
        A second link stands ready.
        """
        tls = creator()
        paths = [Path(name, endpoint(self.server, tls, self.lab, network)) for name, network in self.lab.networks.items()]
        talker = await connect(roaming(paths, prepare=True))
        roamer = roamer_of(talker)
        await talker.log_in()
        await self.flow(talker)
        found = []
        for _ in range(count):
            deadline = now() + _RESERVE
            while roamer.reserve.path_name is None:  # its SYN may have been lost in the silence of the old network
                if now() > deadline:
                    raise RuntimeError(f"no link was prepared within {_RESERVE} s")
                await sleep(0.01)
            await sleep(2 * self.round_trip + 0.1)
            if planned:
                found.append(await self.silence(talker, roamer.switch, lambda: roamer.handovers))
                continue
            network = self.lab.networks[roamer.path or ""]
            network.silence()
            begun = now()
            roamer.link_is_dead()
            found.append(await self.first_octets(talker) - begun)
            network.restore()
        talker.abort()
        return found

    async def silence(self, talker: Talker, switch: Callable[[], Any], epoch: Callable[[], int]) -> float:
        """
        Between the last octets of the old link and the first of the new one.
        """
        before = epoch()
        last, first = [now()], [0.0]

        def note(_: bytes) -> None:
            if epoch() == before:
                last[0] = now()
            else:
                first[0] = first[0] or now()

        talker.on_octets = note
        await switch()
        while not first[0]:
            await sleep(0.002)
        talker.on_octets = lambda _: None
        return first[0] - last[0]

    async def ordinary(self, count: int) -> list[float]:
        """
        A client without the layer.
        """
        way = endpoint(self.server, creator(), self.lab, self.lab.networks["xg"])
        found = []
        for _ in range(count):
            begun = now()
            talker = await connect(way)
            await talker.log_in()
            await talker.ask(b"FETCH 1:* (UID FLAGS)")
            found.append(now() - begun)
            talker.abort()
        return found


async def measure(options: Options, report: Report) -> None:
    """
    All ways at all round trips.
    """
    count = options.pick(1, 2, 3)
    for round_trip in options.pick([20], [20, 60], [20, 60, 150, 300]):
        for messages in options.pick([10], [10, 10000], [10, 10000]):
            shape = Shape(delay_ms=round_trip / 2, rate=_RATE, queue=1048576)
            with Lab(emulated=True, wlan=shape, xg=shape) as lab:
                for place in (lab.handset, lab.server):
                    lab.sysctl(place, "net.ipv4.tcp_fastopen", "3")
                with ServerProcess("continuous", lab=lab, messages=messages, size=_BODY, tickets=True, fast_open=True) as server:
                    handset = Handset(lab, server, round_trip / 1000)
                    ways: dict[str, Coroutine[Any, Any, list[float]]] = {
                        "cold": handset.unplanned(count, False),
                        "ticket": handset.unplanned(count, True, True),
                        "ticket, hybrid key share": handset.unplanned(count, True),
                        "prepared": handset.prepared(count, False),
                        "planned": handset.prepared(count, True),
                        "ordinary": handset.ordinary(1),
                    }
                    for way, work in ways.items():
                        _add(report, way, round_trip, messages, await work)
    report.note(f"the median of {count}; every gap but the ordinary client's is measured in the middle of a FETCH")
    report.note("the ordinary client has then to fetch the interrupted message anew; with the layer it goes on at the very octet")


def _add(report: Report, way: str, round_trip: int, messages: int, seconds: list[float]) -> None:
    took = statistics.median(seconds) * 1000
    what = f"{way}, RTT {round_trip} ms, {messages} messages"
    trips = f"{took / round_trip:.2f} RTT"
    if way in _GOALS:
        most, extra = _GOALS[way]
        report.add(what, took, "ms", most * round_trip + extra, note=trips)
    else:
        report.add(what, took, "ms", note=trips)


if __name__ == "__main__":
    command("gap (goal 1): back in sync after a switch", __doc__, measure)
