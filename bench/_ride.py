"""
One ride of L{bench.switch}: a mail program at work, a change of the networks, and how long the program stood still.

Invariants: it is the program's clock that counts, and what the program got; only for an upload it is what the server's inner
protocol got, because a program is rid of its octets long before they arrive.  A ride that did not go where it should have gone is
an error and not a figure.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from enum import Enum
from itertools import pairwise

from bench._mail_program import Load, Program
from bench._moving import Case, Ground
from bench._mptcp import fell_back

LONGEST = 45.0
"""Seconds without getting on, after which a ride is given up."""
_STRAY = 0.02
_POLL = 0.1


class Way(Enum):
    """
    How the program reaches its server.
    """

    AGENT = "agent"
    PREPARED = "agent --prepare"
    MPTCP = "MPTCP"
    """One network at a time: the others are backups."""
    MPTCP_BOTH = "MPTCP, both at once"
    """So a planned switch is none: one more network is used."""

    @property
    def is_mptcp(self) -> bool:
        return self in (Way.MPTCP, Way.MPTCP_BOTH)


class Ride:
    """
    Made for one ride.
    """

    def __init__(self, ground: Ground, way: Way, case: Case, load: Load) -> None:
        self._ground, self._way, self._case, self._load = ground, way, case, load
        self._since: float | None = None
        self._failed: BaseException | None = None
        self._times: list[float] = []
        self._polled = 0.0
        self._warm = {Load.FETCH: 8, Load.APPEND: 8, Load.NOOP: 3, Load.IDLE: 2}[load] * ground.round_trip
        self._warm += 0.8 if load is Load.IDLE else 0.4

    def run(self) -> float:
        """
        Ride.

        @return: seconds in which the program stood still; infinite when it did not get on within L{LONGEST}.
        @raise RuntimeError: the session is not where it should be.
        """
        ground, case = self._ground, self._case
        ground.prepare(case)
        program = self._program()
        if self._load is not Load.APPEND:
            self._times = program.times
        try:
            program.begin(self._load)
            event = threading.Thread(target=self._event)
            event.start()
            try:
                program.work(self._load, self._enough)
            finally:
                event.join()
            if self._failed is not None:
                raise self._failed
            took = self._ask_at_last(program) if self._load is Load.IDLE else self._stood_still()
            self._check(program)
            return took
        finally:
            program.close()

    def _program(self) -> Program:
        ground, case, way = self._ground, self._case, self._way
        if way.is_mptcp:
            networks = [ground.lab.networks[name] for name in case.attached]
            ground.managing.begin(networks, backup=way is Way.MPTCP)
            return ground.direct(case.attached[0], mptcp=True)
        program = ground.by_agent(way is Way.PREPARED)
        agent = ground.agents[way is Way.PREPARED]
        agent.wait_until_on(case.attached[0])
        if way is Way.PREPARED:
            agent.wait_for(lambda: agent.state()["connections"][0]["prepared"], "a link is prepared")
        return program

    def _event(self) -> None:
        try:
            time.sleep(self._warm)
            self._since = self._ground.happen(self._case, self._way.is_mptcp, self._way is Way.MPTCP)
        except BaseException as error:  # told by run()
            self._failed = error

    def _enough(self) -> bool:
        if self._failed is not None:
            return True
        since, now = self._since, time.monotonic()
        if since is None or now < since + 0.5 + 7 * self._ground.round_trip:
            return False
        if self._load is Load.IDLE or now > since + LONGEST:
            return True
        if self._load is Load.APPEND and now > self._polled + _POLL:
            self._polled = now
            server = self._ground.bare if self._way.is_mptcp else self._ground.server
            self._times[:] = server.ask("heard", since=since)
        return bool(self._times) and self._times[-1] > max(since + _STRAY, now - 2 * self._ground.round_trip - 2 * _POLL)

    def _stood_still(self) -> float:
        assert self._since is not None
        if not self._times or time.monotonic() - self._times[-1] > LONGEST / 2:
            return float("inf")
        return longest_wait(self._since, self._times)

    def _ask_at_last(self, program: Program) -> float:
        begun = time.monotonic()
        try:
            program.ask(b"NOOP")
        except TimeoutError:
            return float("inf")
        return time.monotonic() - begun

    def _check(self, program: Program) -> None:
        if self._way.is_mptcp:
            if fell_back(program.socket):
                raise RuntimeError("the connection is not MPTCP any more")
            return
        self._ground.agents[self._way is Way.PREPARED].wait_until_on(self._case.leads_to)


def longest_wait(since: float, times: Iterable[float]) -> float:
    """
    The longest time without getting on, of which only that counts which lies after something happened.

    @param since: when it happened.
    @param times: when the program got on; infinite when it never did after that.
    """
    later = [since, *(one for one in times if one > since)]
    return max((after - before for before, after in pairwise(later)), default=float("inf"))


def reconnect(ground: Ground, load: Load) -> float:
    """
    What a program does by itself, once it has noticed: connect, TLS, CAPABILITY, LOGIN, SELECT, look at all flags, begin anew.

    @return: seconds until it gets on.
    """
    ground.prepare(Case.SILENT)
    begun = time.monotonic()
    program = ground.direct("xg")
    try:
        program.ask(b"FETCH 1:* (UID FLAGS)")
        if load is Load.IDLE:
            program.ask(b"NOOP")
            return time.monotonic() - begun
        program.begin(load)
        invited, heard = time.monotonic(), list[float]()

        def got_on() -> bool:
            heard.extend(ground.bare.ask("heard", since=invited) if load is Load.APPEND else program.times)
            return bool(heard)

        program.work(load, got_on)
        return heard[0] - begun
    finally:
        program.close()
