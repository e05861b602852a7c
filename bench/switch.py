"""
Goals 1 and 2, as a mail program sees them that knows nothing of networks and talks to the agent on its own machine: how long it
stands still when the network changes under it.

  planned   a better network is attached while the old one works
  gone      the network in use is detached, and the kernel tells; the other was there
  replaced  the same, but the other network is attached only after that
  silent    the network in use falls silent, both stay attached: nobody tells of anything

each in the middle of a FETCH and of an APPEND at 20 Mbit/s, with NOOPs one after the other, and for an idle program whose next
command comes when the network has changed (half a second and seven round trips later).

  agent            the agent as it is by default: the next link is made when it is needed
  agent --prepare  a second link stands ready on the other network; where there is one at the beginning
  MPTCP            the kernel's, with the other network as backup, and a network manager that adds and removes endpoints as
                   networks come and go; all else as the kernel has it by default
  MPTCP, both at once   the same, with no network as backup of the other
  reconnect        the program itself, once it has noticed: connect, TLS, CAPABILITY, LOGIN, SELECT, all flags of 10 messages, and
                   the interrupted command from its beginning

The figure is the longest time without getting on, from when it happened (replaced: from when the new network can be used):
between two arrivals of octets at the program, of answers for NOOP, of octets at the server's end for APPEND.  An idle program's
is the time that its next command takes.  So the round trip that any command takes is part of the figures for NOOP and idle, and
pauses of a new connection's slow start are part of those for FETCH and APPEND; L{bench.gap} has the gap without them.

Goals: gone and replaced, 3 RTT + 10 ms, prepared 1 RTT + 5 ms; planned, 20 ms (and for a command its own round trip); silent,
max(3 RTT, 500 ms) on top of the gap.

Needs root, for the lab's network namespaces and emulated links.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import TypeVar

from twisted.internet.threads import deferToThread

from bench._command import Options, command
from bench._mail_program import Load
from bench._moving import Case, Ground
from bench._mptcp import available, counters
from bench._report import Report
from bench._ride import LONGEST, Ride, Way, reconnect

_ROUND_TRIPS = (20, 60, 150, 300)
_NOTICE = 20
"""Seconds: the default of mbsync's C{Timeout}, one of the shortest that there are."""

_T = TypeVar("_T")
Key = tuple[int, Load, Case | None, Way | None]


def kinds() -> list[str]:
    """
    What one may choose among.
    """
    return [*(str(one) for one in _ROUND_TRIPS), *(one.value for group in (Case, Load, Way) for one in group), "reconnect"]


def chosen(options: Options, group: Iterable[_T], otherwise: Iterable[_T]) -> list[_T]:
    """
    Of one group what was asked for, or what is measured when none of it was.

    @param otherwise: the latter.
    """
    named = [one for one in group if str(getattr(one, "value", one)) in options.only]
    return named or list(otherwise)


def goal(round_trip: int, load: Load, case: Case, way: Way) -> float | None:
    """
    In milliseconds; None for what the goals say nothing of.
    """
    if way.is_mptcp:
        return None
    if case is Case.PLANNED:
        return {Load.IDLE: None, Load.NOOP: round_trip + 20.0}.get(load, 20.0)
    gap = round_trip + 5.0 if way is Way.PREPARED else 3 * round_trip + 10.0
    if case is Case.SILENT:
        return max(3 * round_trip, 500.0) + gap
    return None if load is Load.IDLE else gap


class Figures:
    """
    What was measured, in seconds.
    """

    def __init__(self) -> None:
        self._found: dict[Key, list[float]] = {}

    def add(self, key: Key, seconds: float) -> None:
        """
        One more.
        """
        self._found.setdefault(key, []).append(seconds)

    def median(self, key: Key) -> float | None:
        """
        In milliseconds.
        """
        found = self._found.get(key)
        return None if found is None else statistics.median(found) * 1000

    def _beside(self, other: str, took: float, key: Key) -> str:
        beside = self.median(key)
        return f", {took / beside:.2f} x {other}" if beside else ""

    def tell(self, report: Report) -> None:
        """
        All of it, with ratios to the others of the same run.
        """
        for key in self._found:
            round_trip, load, case, way = key
            took = self.median(key)
            assert took is not None
            if math.isinf(took):
                took = LONGEST * 1000
            name = "reconnect" if way is None else way.value
            happened = "once noticed" if case is None else case.value
            note = f"{took / round_trip:.2f} RTT"
            if way is Way.AGENT:
                for one in (Way.MPTCP, Way.MPTCP_BOTH):
                    note += self._beside(one.value, took, (round_trip, load, case, one))
                note += self._beside("reconnect", took, (round_trip, load, None, None))
            elif way is None:
                note += f"; when nothing tells, {_NOTICE + took / 1000:.1f} s"
            limit = None if case is None or way is None else goal(round_trip, load, case, way)
            report.add(f"{happened}, {load.value}, RTT {round_trip}: {name}", took, "ms", limit, note=note)


async def measure(options: Options, report: Report) -> None:
    """
    All rides, the ways in turns.
    """
    figures = Figures()
    count = options.pick(1, 1, 3)
    loads = chosen(options, Load, options.pick([Load.FETCH], list(Load), list(Load)))
    cases = chosen(options, Case, list(Case))
    ways = chosen(options, Way, options.pick([Way.AGENT, Way.MPTCP], list(Way), list(Way)))
    alone, named = "reconnect" in options.only, any(one.value in options.only for one in Way)
    if alone and not named:
        ways = []
    agents = [prepare for prepare, way in ((False, Way.AGENT), (True, Way.PREPARED)) if way in ways]
    if not available():
        report.note("this kernel has no MPTCP, or it is switched off")
        ways = [way for way in ways if not way.is_mptcp]
    try:
        for round_trip in chosen(options, _ROUND_TRIPS, options.pick([20], [60], [20, 150], _ROUND_TRIPS)):
            with Ground(round_trip, agents) as ground:
                for load in loads:
                    for _ in range(count):
                        for case in cases:
                            for way in ways:
                                if way is Way.PREPARED and len(case.attached) < 2:
                                    continue
                                took = await deferToThread(Ride(ground, way, case, load).run)
                                figures.add((round_trip, load, case, way), took)
                        if alone or not named:
                            took = await deferToThread(reconnect, ground, load)
                            figures.add((round_trip, load, None, None), took)
                if any(way.is_mptcp for way in ways):
                    told = ", ".join(f"{name} {value}" for name, value in counters(ground.lab).items())
                    report.note(f"MPTCP at RTT {round_trip}, as the handset's kernel counts: {told}")
    finally:
        figures.tell(report)
    report.note(f"the median of {count}" if count > 1 else "measured once")
    report.note("reconnect: a program that watches the networks notices at once, where anything tells; others wait for a timeout")
    report.note(f"  of their own first, which is not in the figure: {_NOTICE} s is mbsync's default, 100 s Thunderbird's")
    report.note(f"{LONGEST * 1000:,.0f} ms stands for: it did not get on at all")


if __name__ == "__main__":
    command("switch (goals 1 and 2): how long a mail program stands still", __doc__, measure, kinds=kinds(), patience=2.0)
