"""
What a mail program does on the ground, and what came of it: the same for all kinds of programs.

Invariants: a case gives the same account to each run, so that what two runs came to can be compared; what went wrong in a run
stands in its outcome, and is not raised; handovers happen while the program runs, or not at all.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.interop.programs.target import ProgramFailed
from tests.roaming.ground import Ground, Way
from tests.roaming.journey import LEAVING, Journey
from tests.roaming.meter import Meter

_ENOUGH = 500
"""Octets of what a program says when it fails."""


@dataclass(frozen=True)
class Outcome:
    """
    Of one run.

    @ivar result: what the program came to; equal in two runs that came to the same.  Plain values, as JSON has them.
    @ivar errors: what the program told its user of trouble; a run without any has none.
    @ivar stall: the longest time that it waited for its server, in seconds.
    @ivar connections: that the program made.
    @ivar lost: those of them that broke.
    @ivar seconds: how long it took.
    @ivar handovers: that happened while it ran.
    @ivar figures: what else was measured, in seconds; not compared.
    """

    result: Any
    errors: list[str]
    stall: float
    connections: int
    lost: int
    seconds: float
    handovers: int
    figures: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Self:
        return cls(**found)


class Case:
    """
    One kind of work of one program.

    @ivar name: in the table.
    """

    name: str

    def version(self) -> str:
        """
        Of the program, as it says itself.
        """
        raise NotImplementedError

    def ground(self) -> Ground:
        """
        What it is run on; each run has its own.
        """
        return Ground()

    def run(self, ground: Ground, way: Way, folder: Path, handovers: int) -> Outcome:
        """
        One run, from the beginning.

        @param ground: is entered.
        @param folder: an empty folder.
        """
        raise NotImplementedError

    def describe(self, result: Any) -> str:
        """
        A result in a few words, for the table.
        """
        return str(result)


@dataclass
class Pace:
    """
    Of a journey; see L{Journey}.

    @ivar octets: of the server that the program has to have before it begins.
    @ivar progress: of the server, that it has to get between two handovers; 0 if these do not wait for the program.
    """

    pause: tuple[float, float] = (1.0, 3.0)
    leaving: float = LEAVING
    seed: int = 0
    octets: int = 20_000
    progress: int = 0


@dataclass
class Ride:
    """
    A program that runs while the handset moves; its numbers are those of L{Outcome}.
    """

    errors: list[str] = field(default_factory=list)
    stall: float = 0.0
    connections: int = 0
    lost: int = 0
    seconds: float = 0.0
    handovers: int = 0

    def outcome(self, result: Any) -> Outcome:
        return Outcome(result, self.errors, self.stall, self.connections, self.lost, self.seconds, self.handovers)


def ride(ground: Ground, way: Way, handovers: int, work: Callable[[], object], pace: Pace) -> Ride:
    """
    Let a program run to its end on a handset that moves.

    @param work: runs it.  A L{ProgramFailed} that it raises is what the user is told.
    """
    made = Ride()
    with Meter(ground, way) as meter:
        seen = [0]

        def ready() -> bool:
            now = meter.octets[1]
            if now < seen[-1] + pace.progress:
                return False
            seen.append(now)
            return True

        journey = Journey(
            ground,
            handovers,
            pause=pace.pause,
            leaving=pace.leaving,
            seed=pace.seed,
            begin=lambda: meter.octets[1] >= pace.octets,
            ready=ready,
        )
        with journey:
            begun = time.monotonic()
            try:
                work()
            except ProgramFailed as failed:
                made.errors.append(str(failed)[:_ENOUGH])
            ended = time.monotonic()
            meter.program_ended()
    made.seconds = ended - begun
    # One in whose midst the program ended has disturbed nothing that counts.
    made.handovers = sum(moment < ended - 0.1 for moment in journey.moments)
    made.stall, made.connections, made.lost = meter.longest_stall, meter.connections, meter.lost
    return made


def said_by(*command: str) -> str:
    """
    The first number with a dot in it that a program says, for L{Case.version}.

    @raise ValueError: there is none.
    """
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    found = re.search(r"\d+(?:\.\d+)+", done.stdout + done.stderr)
    if found is None:
        raise ValueError(f"{command[0]} does not tell its version: {done.stdout}{done.stderr}")
    return found[0]
