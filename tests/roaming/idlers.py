"""
Programs that wait for mail in IDLE, while the handset goes from network to network.

In each handover, while there is no network at all, mail arrives, and somebody else changes flags or removes a message.

Invariants: a result is the same however many rounds there are; each round adds what it came to, and all rounds should come to the
same.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.interop.programs.idling import Idler, Waiting, aioimaplib, imapflow
from tests.interop.programs.target import PATIENCE, ProgramFailed
from tests.roaming.cases import Case, Outcome
from tests.roaming.ground import Ground, Way
from tests.roaming.home import at_home, clear, list_inbox
from tests.roaming.journey import Journey
from tests.roaming.meter import Meter

USER = "joe"
_ROUNDS = 3
"""At least so many: then each kind of change is there."""
_FIRST = 6
WELL = ["knows what is there", "new mail: told 1 times, as it is"]
"""What the rounds come to when all is well."""


@dataclass
class Notice:
    """
    How long it took to notice a message: seconds.

    @ivar delivered: from its delivery.
    @ivar network: from when there was a network again.
    """

    delivered: float
    network: float


def figures(notices: Sequence[Notice]) -> dict[str, float]:
    """
    Of these, the middle and the worst.
    """
    if not notices:
        return {}
    delivered = [one.delivered for one in notices]
    network = [one.network for one in notices]
    return {
        "noticed after delivery": statistics.median(delivered),
        "noticed after delivery at most": max(delivered),
        "noticed after there was a network": statistics.median(network),
        "noticed after there was a network at most": max(network),
    }


class IdlerCase(Case):
    """
    One program.
    """

    def __init__(self, make: Callable[[], Idler], name: str, *, patience: float = PATIENCE, leaving: float = 2.0) -> None:
        """
        @param make: see L{tests.interop.programs.idling}.
        @param patience: seconds after which a user would say that it does not work.
        @param leaving: see L{Journey}.
        """
        self.name = name
        self._make = make
        self._patience = patience
        self._leaving = leaving

    def version(self) -> str:
        return self._make().version

    def run(self, ground: Ground, way: Way, folder: Path, handovers: int) -> Outcome:
        clear(ground, USER)
        ground.deliver(USER, *(_mail(f"old {number}") for number in range(_FIRST)))
        rounds = _Rounds(ground, self._leaving)
        errors: list[str] = []
        begun = time.monotonic()
        with Meter(ground, way) as meter:
            target = ground.target(USER, way)
            try:
                with Waiting(self._make(), target, folder, ground.within, patience=self._patience) as waiting:
                    # It is told of things at any time; how soon is measured otherwise.
                    meter.idle(True)
                    for number in range(max(handovers, _ROUNDS)):
                        rounds.one(waiting, number, number < handovers)
                    meter.idle(False)
                    same = waiting.finish() == list_inbox(ground, USER)
                    rounds.facts.add("knows what is there" if same else "knows something else than what is there")
            except ProgramFailed as error:
                errors.append(str(error))
        return Outcome(
            result=sorted(rounds.facts),
            errors=errors,
            stall=meter.longest_stall,
            connections=meter.connections,
            lost=meter.lost,
            seconds=time.monotonic() - begun,
            handovers=rounds.moved,
            figures=figures(rounds.notices),
        )

    def describe(self, result: Any) -> str:
        return "all noticed once, as it is" if result == WELL else ", ".join(result) or "nothing noticed"


class _Rounds:
    """
    @ivar facts: what rounds came to.
    @ivar notices: one for each message.
    @ivar moved: handovers so far.
    """

    def __init__(self, ground: Ground, leaving: float) -> None:
        self.facts: set[str] = set()
        self.notices: list[Notice] = []
        self.moved = 0
        self._ground = ground
        self._leaving = leaving

    def one(self, waiting: Waiting, number: int, moving: bool) -> None:
        """
        Something arrives and is noticed.

        @param moving: with a handover.
        @raise ProgramFailed: the program ends, or says nothing.
        """
        subject = f"news {number}"
        delivered: list[float] = []

        def arrive() -> None:
            _change(self._ground, number)
            self._ground.deliver(USER, _mail(subject))
            delivered.append(time.monotonic())

        journey = Journey(self._ground, 1, pause=(0.0, 0.0), seed=number, leaving=self._leaving, between=arrive)
        begin = journey.start if moving else arrive
        try:
            begin()
            told = waiting.wait_for(lambda one: one.get("subject") == subject, f"{subject} is not noticed")
            if moving:
                journey.wait()
        finally:
            journey.stop()
            self.moved += journey.done
        (network,) = journey.arrivals if moving else delivered
        self.notices.append(Notice(told.at - delivered[0], told.at - network))
        found = [one.words for one in waiting.told if one.words.get("subject") == subject]
        whole = found[0]["digest"] == hashlib.sha256(_mail(subject)).hexdigest()
        self.facts.add(f"new mail: told {len(found)} times, {'as it is' if whole else 'not as it is'}")


def _mail(subject: str) -> bytes:
    return b"From: Ann <ann@a.example>\r\nTo: <joe@b.example>\r\nSubject: %s\r\n\r\n%s" % (subject.encode(), b"text\r\n" * 300)


def _change(ground: Ground, number: int) -> None:
    """
    What another program of the same user does.
    """
    with at_home(ground, USER) as client:
        if number % 3 == 1:
            client.store("2:3", "+FLAGS" if number % 2 else "-FLAGS", "(\\Flagged)")
        elif number % 3 == 2:
            client.store("2", "+FLAGS", "(\\Deleted)")
            client.expunge()


_KINDS: dict[str, Callable[[], Idler]] = {"imapflow": imapflow, "aioimaplib": aioimaplib}


def cases() -> list[Case]:
    """
    The long form.
    """
    return [IdlerCase(make, name) for name, make in _KINDS.items()]


def short_cases() -> list[Case]:
    return [short_case(name) for name in _KINDS]


def short_case(name: str) -> IdlerCase:
    """
    The form for tests: a handset in a hurry.

    @raise KeyError: there is no such case.
    """
    return IdlerCase(_KINDS[name], name, leaving=0.5)
