"""
Figures with their goals, as a table for people and as JSON for programs.

Invariant: whether a goal is met is computed from the figure and the goal, never said by a bench.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import Any

_WHAT = 58


@dataclass(frozen=True, slots=True)
class Figure:
    """
    One measured value.

    @ivar goal: None for a figure without one, such as a peer's.
    @ivar at_least: the goal is a least value; else it is the most.
    """

    what: str
    value: float
    unit: str
    goal: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        """
        Whether the goal is met; None without a goal.
        """
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    @property
    def verdict(self) -> str:
        """
        The same in a word.
        """
        return {None: "", True: "met", False: "MISSED"}[self.met]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


class Report:
    """
    What one bench has to say.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.figures: list[Figure] = []
        self.notes: list[str] = []

    def add(
        self,
        what: str,
        value: float,
        unit: str,
        goal: float | None = None,
        *,
        at_least: bool = False,
        note: str = "",
    ) -> None:
        """
        One more figure.
        """
        self.figures.append(Figure(what, value, unit, goal, at_least, note))

    def note(self, text: str) -> None:
        """
        A remark below the table.
        """
        self.notes.append(text)

    def table(self) -> str:
        """
        For people.
        """
        lines = [self.title, f"  {'what':<{_WHAT}} {'measured':>12} {'goal':>10}  {'unit':<10} verdict"]
        for one in self.figures:
            goal = "" if one.goal is None else f"{'≥' if one.at_least else '≤'} {_number(one.goal)}"
            line = f"  {one.what:<{_WHAT}} {_number(one.value):>12} {goal:>10}  {one.unit:<10} {one.verdict}"
            lines.append(f"{line.rstrip()}{'   ' + one.note if one.note else ''}")
        lines += [f"  - {note}" for note in self.notes]
        return "\n".join(lines)

    def data(self) -> dict[str, Any]:
        """
        For programs.
        """
        figures = [
            {
                "what": one.what,
                "value": one.value,
                "unit": one.unit,
                "goal": one.goal,
                "goal_is": None if one.goal is None else ("at least" if one.at_least else "at most"),
                "met": one.met,
                "note": one.note,
            }
            for one in self.figures
        ]
        return {"title": self.title, "figures": figures, "notes": self.notes, "machine": machine()}


def machine() -> str:
    """
    What the figures were measured on, and how busy it was.
    """
    load = os.getloadavg()[0]
    return f"Python {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} cores, load {load:.1f}"
