"""
Programs that carry a mailbox from one end to the other, and end: mbsync both ways, OfflineIMAP, fetchmail, getmail, curl.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.interop.programs.curl import Curl
from tests.interop.programs.fetchmail import Fetchmail
from tests.interop.programs.getmail import Getmail
from tests.interop.programs.mbsync import Mbsync
from tests.interop.programs.offlineimap import OfflineImap
from tests.interop.programs.program import Program
from tests.interop.programs.result import Mailboxes
from tests.netlab import Shape
from tests.roaming.cases import Case, Outcome, Pace, ride, said_by
from tests.roaming.ground import Ground, Way
from tests.roaming.mail import Load, account_with, make_maildir

_PATIENCE = 1200.0
_LEISURELY = 10
"""Handovers in one run; with more of them the handset is in a hurry."""
_HURRY = (0.3, 1.0)
_LONG = Shape(delay_ms=10, rate=20e6), Shape(delay_ms=60, rate=10e6)
"""So that 20 handovers fall within 100 MB."""
SHORT = Shape(delay_ms=10, rate=3e6), Shape(delay_ms=60, rate=2e6)
"""So that a few messages take some seconds."""
_USER = "ann"
_INBOX = ("INBOX",)


class Batch(Case):
    """
    Brings all there is.

    @ivar load: what there is.
    """

    def __init__(
        self,
        name: str,
        asked: tuple[str, ...],
        program: Callable[[], Program],
        load: Load,
        *,
        pace: Pace | None = None,
        shapes: tuple[Shape, Shape] | None = None,
    ) -> None:
        """
        @param asked: the command that tells its version.
        @param shapes: of the two networks.
        """
        self.name = name
        self.load = load
        self._asked = asked
        self._program = program
        self._pace = pace or Pace()
        self._shapes = shapes

    def version(self) -> str:
        return said_by(*self._asked)

    def ground(self) -> Ground:
        return Ground() if self._shapes is None else Ground(wlan=self._shapes[0], xg=self._shapes[1])

    def run(self, ground: Ground, way: Way, folder: Path, handovers: int) -> Outcome:
        program = self._program()
        program.check()
        program.patience = _PATIENCE
        self.prepare(ground, folder)
        target = ground.target(_USER, way)
        pace = self._pace if handovers <= _LEISURELY else replace(self._pace, pause=_HURRY, leaving=_HURRY[1])
        made = ride(ground, way, handovers, lambda: program.bring(target, folder, ground.within), pace)
        return made.outcome(self.result(program.brought(folder), ground.look(_USER)))

    def prepare(self, ground: Ground, folder: Path) -> None:
        """
        Everything is on the server.
        """
        ground.restore(_USER, account_with(self.load))

    def result(self, brought: Mailboxes, left: Mailboxes) -> dict[str, Any]:
        """
        What is at both ends: how many, how many twice, how many missing, and a digest of all that counts.
        """
        return {"program": _tally(brought, self.load.messages), "server": _tally(left, self.load.messages)}

    def describe(self, result: Any) -> str:
        found = result["program"]
        return f"{found['messages']} of {self.load.messages}" + (f", {found['twice']} twice" if found["twice"] else "")


class Push(Batch):
    """
    The same in the other direction: everything is in a Maildir.
    """

    def prepare(self, ground: Ground, folder: Path) -> None:
        ground.restore(_USER, account_with(Load(0)))
        make_maildir(self.load, folder / "mail" / "INBOX")

    def describe(self, result: Any) -> str:
        return super().describe({"program": result["server"]})


def _tally(mailboxes: Mailboxes, expected: int) -> dict[str, Any]:
    found = Counter((name, one.content) for name, messages in mailboxes.items() for one in messages)
    lines = sorted(f"{name}\t{one.content}\t{' '.join(one.flags)}" for name, messages in mailboxes.items() for one in messages)
    return {
        "messages": found.total(),
        "twice": found.total() - len(found),
        "missing": expected - len(found),
        "digest": hashlib.sha256("\n".join(lines).encode()).hexdigest()[:20],
    }


_KINDS: tuple[tuple[type[Batch], str, tuple[str, ...], Callable[[], Program]], ...] = (
    (Batch, "mbsync, fetching", ("mbsync", "--version"), Mbsync),
    (Push, "mbsync, pushing", ("mbsync", "--version"), Mbsync),
    (Batch, "offlineimap", ("offlineimap", "--version"), OfflineImap),
    (Batch, "fetchmail", ("fetchmail", "--version"), lambda: Fetchmail(_INBOX)),
    (Batch, "getmail", ("getmail", "--version"), lambda: Getmail(_INBOX)),
    (Batch, "curl", ("curl", "--version"), Curl),
)

_ONE_BY_ONE = frozenset({"offlineimap", "fetchmail", "getmail", "curl"})
"""They take a round trip for each message."""

_SLOW = frozenset({"fetchmail", "getmail"})
"""They take several."""

_MANY, _SOME = Load(2000, odd=140), Load(500, odd=140)


def cases() -> list[Case]:
    """
    The long form.
    """
    return [
        kind(name, asked, program, _SOME if name in _SLOW else _MANY, pace=Pace(octets=2_000), shapes=_LONG)
        for kind, name, asked, program in _KINDS
    ]


def short_cases() -> list[Case]:
    """
    The form for tests: few messages, slow networks, a handset in a hurry.
    """
    hurry = Pace(pause=(0.2, 0.5), leaving=0.3, octets=10_000, progress=60_000)
    pushing = Pace(pause=(0.2, 0.5), leaving=0.3, octets=2_000, progress=1_000)  # it gets answers of a line each
    few, one_by_one = (Load(count, least=10_000, most=20_000, odd=10) for count in (120, 40))
    return [
        kind(
            name,
            asked,
            program,
            one_by_one if name in _ONE_BY_ONE else few,
            pace=pushing if kind is Push else hurry,
            shapes=SHORT,
        )
        for kind, name, asked, program in _KINDS
    ]
