"""
Goal 4: what is sent twice when a transfer of 20 MB is cut at half, in both directions, and what the headers cost.

  sent again  payload of DATA frames that came in by any link, beyond the length of the stream: what had been delivered to the
              layer and was carried once more
  frames      headers and acknowledgements of the layer, in parts of the payload
  all headers IP, TCP and TLS as well, and what was in flight at the cut: octets that the networks carried in the transfer's
              direction, beyond the payload

Needs root, for the lab's network namespaces and emulated links.
"""

from __future__ import annotations

import hashlib
from typing import Any

from twisted.internet.defer import Deferred

from bench._client import Route, Talker, connect, creator, endpoint, roaming
from bench._command import Options, command, sleep
from bench._process import ServerProcess
from bench._report import Report
from bench._site import Body
from bench._tap import Tap
from mem_continuity.client import Path, roamer_of
from tests.netlab import Lab, Shape


class Transfer:
    """
    One lab, one server, one client that roams.
    """

    def __init__(self, lab: Lab, server: ServerProcess, size: int, tap: Tap) -> None:
        self.lab, self.server, self.size, self.tap = lab, server, size, tap

    def carried(self) -> dict[str, int]:
        """
        IP octets of both networks, by direction.
        """
        both = [one.counters() for one in self.lab.networks.values()]
        return {"up": sum(one.to_server.octets for one in both), "down": sum(one.to_handset.octets for one in both)}

    async def begin(self) -> tuple[Talker, Route]:
        """
        A client with a selected mailbox.
        """
        ways = {name: endpoint(self.server, creator(), self.lab, network) for name, network in self.lab.networks.items()}
        route = Route(ways, "wlan")
        talker = await connect(roaming([Path("route", route)]))
        await talker.log_in()
        await sleep(0.3)
        return talker, route

    async def cut_at_half(self, talker: Talker, route: Route, done: Any) -> None:
        """
        Wait until half has arrived, then the network falls silent and the handset moves.
        """
        while done() < self.size // 2:
            await sleep(0.005)
        self.lab.networks["wlan"].silence()
        route.now = "xg"
        roamer_of(talker).link_is_dead()

    async def fetch(self) -> tuple[dict[str, int], int]:
        """
        @return: what the tap counted, and the IP octets down.
        """
        talker, route = await self.begin()
        before, carried, begun = self.tap.counts(), self.carried()["down"], talker.octets
        digest = hashlib.sha256()
        talker.on_octets = digest.update
        answer = talker.ask(b"FETCH 1 RFC822")
        await self.cut_at_half(talker, route, lambda: talker.octets - begun)
        await answer
        await sleep(0.3)
        after = self.tap.counts()
        head, rest = b"* 1 FETCH (RFC822 {%d}\r\n" % self.size, b")\r\nt4 OK FETCH completed\r\n"
        expected = hashlib.sha256(head + Body(self.size).read() + rest)
        if digest.digest() != expected.digest():
            raise RuntimeError("the message did not arrive as it is")
        down = self.carried()["down"] - carried
        talker.abort()
        return {name: after[name] - before[name] for name in after}, down

    async def append(self) -> tuple[dict[str, int], int]:
        """
        @return: likewise, as the server's tap counted, and the IP octets up.
        """
        talker, route = await self.begin()
        self.server.ask("tap")
        carried = self.carried()["up"]
        answer = self._append(talker)
        await self.cut_at_half(talker, route, lambda: self.server.ask("tapped")["payload"])
        await answer
        await sleep(0.3)
        size, digest = self.server.ask("stats")["appended"]
        if (size, digest) != (self.size, hashlib.sha256(Body(self.size).read()).hexdigest()):
            raise RuntimeError(f"{size} octets were stored, not as they are")
        up = self.carried()["up"] - carried
        talker.abort()
        return self.server.ask("tapped"), up

    def _append(self, talker: Talker) -> Any:
        return Deferred.fromCoroutine(talker.append(self.size))


async def measure(options: Options, report: Report) -> None:
    """
    Down and up.
    """
    size = options.pick(2_000_000, 20_000_000, 20_000_000)
    shape = Shape(delay_ms=10, rate=100e6, queue=1048576)
    tap = Tap()
    tap.install()
    for name in ("fetch", "append"):
        with Lab(emulated=True, wlan=shape, xg=shape) as lab, ServerProcess("continuous", lab=lab, size=size) as server:
            transfer = Transfer(lab, server, size, tap)
            counted, carried = await (transfer.fetch() if name == "fetch" else transfer.append())
            what = f"{name.upper()} of {size / 1e6:.0f} MB"
            report.add(f"{what}, delivered payload sent again", counted["payload"] - counted["stream"], "octets", 0)
            frames = (counted["octets"] - counted["payload"]) / size * 100
            report.add(f"{what}, frames", frames, "%", 5)
            report.add(f"{what}, all headers and what was in flight", (carried / size - 1) * 100, "%", 5)
    report.note("100 Mbit/s, 20 ms; cut at half by silence, both networks")


if __name__ == "__main__":
    command("resent (goal 4): payload sent again, headers", __doc__, measure)
