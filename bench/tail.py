"""
Goal 5: what a busy link keeps unacknowledged, and what that costs in rate against the same transfer without the layer.

The server's side is looked at every 5 ms while it keeps anything; queued octets count as well.  Needs root, for the lab's
emulated links.
"""

from __future__ import annotations

from bench._client import connect, creator, endpoint, now, roaming
from bench._command import Options, command, sleep
from bench._process import ServerProcess
from bench._report import Report
from mem_continuity.client import Path
from tests.netlab import Lab, Shape

_KIB = 1024
_BODY = 4_000_000_000
_LINKS = ((20, 60), (100, 20))
"""Mbit/s and milliseconds."""
_QUIET = 2.5


async def rate(server: ServerProcess, lab: Lab, layer: bool, seconds: float) -> tuple[float, dict[str, float]]:
    """
    FETCH for so long, once it has found its pace.

    @return: octets a second, and what the server kept.
    """
    way = endpoint(server, creator(), lab, lab.networks["wlan"])
    talker = await connect(roaming([Path("wlan", way)]) if layer else way)
    await talker.log_in()
    talker.ask(b"FETCH 1 RFC822").addErrback(lambda _: None)
    await sleep(1.0)
    server.ask("sample")
    begun, octets = now(), talker.octets
    await sleep(seconds)
    found = (talker.octets - octets) / (now() - begun)
    sampled: dict[str, float] = server.ask("sampled")
    talker.abort()
    await sleep(0.2)
    return found, sampled


async def idle(server: ServerProcess, lab: Lab) -> float:
    """
    What is kept a while after the last answer.
    """
    way = endpoint(server, creator(), lab, lab.networks["wlan"])
    talker = await connect(roaming([Path("wlan", way)]))
    await talker.log_in()
    await talker.ask(b"FETCH 1:* (UID FLAGS)")
    await sleep(_QUIET)
    server.ask("sample")
    await sleep(0.1)
    kept: float = server.ask("sampled")["now"]
    talker.abort()
    return kept


async def measure(options: Options, report: Report) -> None:
    """
    Both links, with the layer and without.
    """
    seconds = options.pick(1, 4, 8)
    for megabits, round_trip in _LINKS[: options.pick(1, 2, 2)]:
        shape = Shape(delay_ms=round_trip / 2, rate=megabits * 1e6, queue=1048576)
        where = f"{megabits} Mbit/s x {round_trip} ms"
        with Lab(emulated=True, wlan=shape, xg=shape) as lab:
            with ServerProcess("bare", lab=lab, size=_BODY) as server:
                bare, _ = await rate(server, lab, False, seconds)
            with ServerProcess("continuous", lab=lab, size=_BODY) as server:
                layered, kept = await rate(server, lab, True, seconds)
            product = megabits * 1e6 / 8 * round_trip / 1000 / _KIB
            report.add(f"{where}, the most", kept["most"] / _KIB, "KiB", 512, note=f"bandwidth x delay is {product:.0f} KiB")
            report.add(f"{where}, the mean", kept["mean"] / _KIB, "KiB", 512)
            report.add(f"{where}, rate", layered * 8 / 1e6, "Mbit/s")
            report.add(f"{where}, rate without the layer", bare * 8 / 1e6, "Mbit/s")
            report.add(f"{where}, the one in parts of the other", layered / bare, "", 0.97, at_least=True)
    with Lab(emulated=True, wlan=Shape(delay_ms=10), xg=Shape()) as lab, ServerProcess("continuous", lab=lab) as server:
        report.add(f"idle for {_QUIET} s", await idle(server, lab), "octets", 0)


if __name__ == "__main__":
    command("tail (goal 5): unacknowledged octets", __doc__, measure)
