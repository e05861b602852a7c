"""
A timeline on the terminal: a line for each thing that happens, in columns, and a table at the end.

Invariant: colours are for a terminal only; without one the text is the same.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

_COLOURS = {"bad": "31", "good": "32", "dim": "2", "bold": "1"}


def megabytes(octets: int) -> str:
    """
    Octets for people.
    """
    return f"{octets / 1e6:.2f} MB"


class Timeline:
    """
    @ivar began: the moment from which milliseconds are counted.
    """

    def __init__(self) -> None:
        self.began = time.monotonic()
        self._colours = sys.stdout.isatty()

    def _paint(self, text: str, kind: str) -> str:
        return f"\x1b[{_COLOURS[kind]}m{text}\x1b[0m" if self._colours and kind else text

    def head(self, title: str) -> None:
        """
        A new run, whose time begins now.
        """
        self.began = time.monotonic()
        print(f"\n{self._paint(title, 'bold')}\n{'ms':>7}  {'link':<5} what", flush=True)

    def say(self, link: str | None, text: str, kind: str = "") -> None:
        """
        Something has happened.

        @param link: on which network; None when there is none.
        @param kind: C{good}, C{bad}, C{dim} or nothing.
        """
        moment = (time.monotonic() - self.began) * 1000
        print(f"{moment:>7.0f}  {link or '-':<5} {self._paint(text, kind)}", flush=True)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """
        Columns with a head; the first column names the row.
        """
        widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
        for number, row in enumerate((head, *rows)):
            cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
            cells[0] = row[0].ljust(widths[0])
            print(self._paint("  ".join(cells), "" if number else "bold"), flush=True)
