"""
mutt and NeoMutt in a terminal, while the handset goes from network to network.

A round is one of three: a draft with a large attachment is saved, a large message is read, or mail arrives while the program
waits.  Each handover falls into the middle of one: there is no network at all while the program is in it.

Invariants: a result is the same however many rounds there are; each round adds what it came to, and all rounds of a kind should
come to the same.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.interop.programs.mutt_window import IDLING, MUTT, NEOMUTT, POLLING, Flavour, Window
from tests.interop.programs.result import make_message
from tests.interop.programs.target import PATIENCE, ProgramFailed
from tests.roaming.cases import Case, Outcome
from tests.roaming.ground import Ground, Way
from tests.roaming.home import clear, fetch_all, list_inbox
from tests.roaming.idlers import Notice, figures
from tests.roaming.journey import Journey
from tests.roaming.meter import Meter

USER = "ann"
_KINDS = ("draft", "read", "wait")
_OLD = 3
_HANDOVER = 20.0
"""Seconds that one takes at most; one that never began is not waited for."""
_DRAFT = "a draft on the server:"
WELL = ("drafts on the server: 0 too many", "large mail: as it is", "new mail: shown 1 times", "unread mail: 0 too many")
"""What the rounds come to when all is well, beside one kind of draft."""
_LAST = "This is the last line."
_CHANGING = re.compile(rb"^(Date|Message-ID): [^\n]*\n", re.MULTILINE)
_BOUNDARY = re.compile(rb'boundary="([^"]+)"')


class TerminalCase(Case):
    """
    One program.
    """

    def __init__(
        self,
        flavour: Flavour,
        name: str,
        *,
        attachment: int = 12_000_000,
        large: int = 8_000_000,
        patience: float = PATIENCE,
        leaving: float = 2.0,
        more: str = IDLING,
    ) -> None:
        """
        @param attachment: octets of what is attached to a draft.
        @param large: octets of a message that is read.
        @param patience: seconds after which a user would say that it hangs.
        @param leaving: see L{Journey}.
        @param more: of the configuration.
        """
        self.name = name
        self._flavour = flavour
        self._attachment = attachment
        self._large = large
        self._patience = patience
        self._leaving = leaving
        self._more = more

    def version(self) -> str:
        return self._flavour.version()

    def run(self, ground: Ground, way: Way, folder: Path, handovers: int) -> Outcome:
        rounds = [_KINDS[number % len(_KINDS)] for number in range(max(handovers, len(_KINDS)))]
        clear(ground, USER)
        ground.deliver(USER, *(_mail(f"old {number}", 500) for number in range(_OLD)))
        ground.deliver(USER, *(_mail(f"read {number}", self._large) for number, kind in enumerate(rounds) if kind == "read"))
        folder.mkdir(parents=True, exist_ok=True)
        attachment = folder / "attachment.bin"
        attachment.write_bytes(random.Random(1).randbytes(self._attachment))
        with Meter(ground, way) as meter:
            sitting = _Sitting(ground, meter, self._leaving, attachment, self._large)
            window = Window(
                self._flavour,
                ground.target(USER, way),
                folder / "program",
                ground.within,
                more=self._more,
                patience=self._patience,
            )
            begun = time.monotonic()
            try:
                with window:
                    meter.idle(True)
                    for number, kind in enumerate(rounds):
                        sitting.round(window, number, kind, number < handovers)
                    sitting.errors += window.leave()
            except ProgramFailed as error:
                sitting.errors += [*window.complaints(), str(error)]
        facts = sitting.facts
        drafts = fetch_all(ground, USER, "Drafts")
        facts.update(f"{_DRAFT} {_measure(draft)}" for draft in drafts)
        facts.add(f"drafts on the server: {len(drafts) - sitting.saved} too many")
        unread = sum("\\Seen" not in flags for _, flags in list_inbox(ground, USER))
        facts.add(f"unread mail: {unread - sitting.unread} too many")
        return Outcome(
            result=sorted(facts),
            errors=sitting.errors,
            stall=meter.longest_stall,
            connections=meter.connections,
            lost=meter.lost,
            seconds=time.monotonic() - begun,
            handovers=sitting.moved,
            figures=figures(sitting.notices),
        )

    def describe(self, result: Any) -> str:
        drafts = [fact for fact in result if fact.startswith(_DRAFT)]
        others = [fact for fact in result if fact not in drafts and fact not in WELL]
        if set(WELL) <= set(result) and len(drafts) == 1 and not others:
            return "drafts saved once and whole, mail read and noticed"
        missing = [f"not: {fact}" for fact in WELL if fact not in result]
        return ", ".join([*drafts[1:], *others, *missing])


class _Sitting:
    """
    @ivar facts: what rounds came to.
    @ivar moved: handovers so far.
    @ivar saved: drafts so far.
    @ivar unread: messages that nobody has read.
    """

    def __init__(self, ground: Ground, meter: Meter, leaving: float, attachment: Path, large: int) -> None:
        self.facts: set[str] = set()
        self.errors: list[str] = []
        self.notices: list[Notice] = []
        self.moved = 0
        self.saved = 0
        self.unread = _OLD
        self._ground = ground
        self._meter = meter
        self._leaving = leaving
        self._attachment = attachment
        self._large = large

    def round(self, window: Window, number: int, kind: str, moving: bool) -> None:
        """
        One round.

        @param moving: with a handover.
        @raise ProgramFailed: the program shows something else, or hangs.
        """
        subject = f"{kind} {number}"
        delivered = [0.0]

        def arrive() -> None:
            self._ground.deliver(USER, _mail(subject, 500))
            delivered[0] = time.monotonic()

        between = arrive if kind == "wait" else None
        sent, received = self._meter.octets
        enough = {
            "draft": lambda: self._meter.octets[0] - sent > self._attachment.stat().st_size // 8,
            "read": lambda: self._meter.octets[1] - received > self._large // 8,
        }.get(kind)
        journey = Journey(self._ground, 1, pause=(0.0, 0.0), seed=number, begin=enough, leaving=self._leaving, between=between)
        set_out: Callable[[], object] | None = journey.start if moving else None
        at = math.inf
        try:
            if kind == "wait":
                (set_out or arrive)()
                at = window.notice(subject)
                self.unread += 1
                shown = sum(line.endswith(f") {subject}") for line in window.terminal.screen)
                self.facts.add(f"new mail: shown {shown} times")
            else:
                self._meter.idle(False)
                if kind == "read":
                    file = window.read(subject, _LAST, set_out)
                    whole = make_message(file.read_bytes()).content == make_message(_mail(subject, self._large)).content
                    self.facts.add(f"large mail: {'as it is' if whole else 'not as it is'}")
                else:
                    window.postpone(subject, self._attachment, set_out)
                    self.saved += 1
                at = time.monotonic()
            self._meter.idle(True)
            if moving:
                journey.wait(_HANDOVER)
        finally:
            journey.stop()
            # One that came after the deed has disturbed nothing.
            self.moved += sum(moment < at for moment in journey.moments)
        if kind == "wait":
            self.notices.append(Notice(at - delivered[0], at - journey.arrivals[0] if moving else at - delivered[0]))


def _mail(subject: str, size: int) -> bytes:
    lines = (b"%06d the quick brown fox jumps over the lazy dog and back\r\n" % number for number in range(size // 64 + 1))
    head = b"From: Ann <ann@a.example>\r\nTo: <joe@b.example>\r\nSubject: %s\r\n" % subject.encode()
    return head + b"Date: Sat, 3 Feb 2024 04:05:06 +0100\r\n\r\n" + b"".join(lines) + _LAST.encode() + b"\r\n"


def _measure(draft: bytes) -> str:
    """
    What a draft is, without what is made anew for each.
    """
    for boundary in _BOUNDARY.findall(draft):
        draft = draft.replace(boundary, b"-")
    draft = re.sub(rb"^Subject: draft \d+", b"Subject: draft", _CHANGING.sub(b"", draft), count=1, flags=re.MULTILINE)
    return f"{len(draft)} octets, {hashlib.sha256(draft).hexdigest()[:12]}"


_FLAVOURS = {"mutt": MUTT, "neomutt": NEOMUTT}


def cases() -> list[Case]:
    """
    The long form.
    """
    found: list[Case] = [TerminalCase(flavour, f"{name}, IDLE") for name, flavour in _FLAVOURS.items()]
    return [*found, *(TerminalCase(flavour, f"{name}, polling", more=POLLING) for name, flavour in _FLAVOURS.items())]


def short_cases() -> list[Case]:
    return [short_case(name) for name in _FLAVOURS]


def short_case(name: str) -> TerminalCase:
    """
    The form for tests: smaller messages, a handset in a hurry.

    @raise KeyError: there is no such case.
    """
    return TerminalCase(_FLAVOURS[name], name, attachment=3_000_000, large=3_000_000, leaving=0.5)
