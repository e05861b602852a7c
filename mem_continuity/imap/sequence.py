"""
Sequence sets: numbers of messages, or UIDs, as C{1,3:5,7:*} (RFC 9051, section 9: sequence-set).

Invariant: all of it takes time of the length of the set (and its sorting), never of its square: a client says how long it is.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable

Range = tuple[int | None, int | None]
"""Two ends, in either order; None stands for C{*}."""

_PART = re.compile(rb"(\*|[1-9][0-9]{0,18})(?::(\*|[1-9][0-9]{0,18}))?")


def uid_ranges(uids: Iterable[int]) -> bytes:
    """
    Ascending UIDs as a sequence set.
    """
    parts: list[str] = []
    first = last = -1
    for uid in uids:
        if uid == last + 1 and last >= 0:
            last = uid
            continue
        if last >= 0:
            parts.append(str(first) if first == last else f"{first}:{last}")
        first = last = uid
    if last >= 0:
        parts.append(str(first) if first == last else f"{first}:{last}")
    return ",".join(parts).encode("ascii")


def parse_set(text: bytes) -> list[Range]:
    """
    The ranges of a sequence set, as they stand there.

    @raise ValueError: it is none.
    """
    ranges: list[Range] = []
    for part in text.split(b","):
        found = _PART.fullmatch(part)
        if found is None:
            raise ValueError("this is no sequence set")
        low, high = (None if one == b"*" else int(one) for one in (found[1], found[2] or found[1]))
        ranges.append((low, high))
    return ranges


class NumberSet:
    """
    The numbers that a sequence set stands for, asked for one by one.
    """

    def __init__(self, ranges: Iterable[Range], last: int) -> None:
        """
        @param last: the highest number there is, which C{*} stands for.
        """
        ends = sorted(sorted(last if end is None else end for end in one) for one in ranges)
        self._lows: list[int] = []
        self._highs: list[int] = []
        for low, high in ends:
            if self._highs and low <= self._highs[-1]:
                self._highs[-1] = max(self._highs[-1], high)
            else:
                self._lows.append(low)
                self._highs.append(high)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._lows, number) - 1
        return at >= 0 and number <= self._highs[at]
