"""
Whether two runs of the same dialogues are the same, octet by octet.

Nothing is left out of the comparison but what L{NOT_COMPARED} names, with its reason, and the words on capability lines, for
which there is a rule.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.interop.player import Exchange

Record = Mapping[str, Sequence[Exchange]]
_CAPABILITIES = re.compile(rb"(?<=\* CAPABILITY )[^\r\n]*|(?<=\[CAPABILITY )[^\]\r\n]*")


@dataclass(frozen=True)
class NotCompared:
    """
    Octets that differ between two runs without anything in the middle.
    """

    pattern: re.Pattern[bytes]
    instead: bytes
    reason: str


NOT_COMPARED = [
    NotCompared(re.compile(rb"\(\d+\.\d+ \+ \d+\.\d+(?: \+ \d+\.\d+)? secs\)"), b"(secs)", "how long the server took"),
    NotCompared(re.compile(rb":internal:[0-9a-f]+"), b":internal:", "signed with a key that is made at random for each mailbox"),
    NotCompared(re.compile(rb'SAVEDATE "[^"]*"'), b"SAVEDATE", "when the run copied the message"),
]


@dataclass(frozen=True)
class Words:
    """
    What a thing in the middle does to the words on capability lines.

    What is compressed it leaves as it is, for it cannot read it.

    @ivar removed: a word that it takes away, if it is there.
    @ivar added: what it adds.
    @ivar not_added_in: dialogues in which it does not add them, by name, with the reason.
    """

    removed: re.Pattern[bytes] = re.compile(rb"(?!)")
    added: frozenset[bytes] = frozenset()
    not_added_in: Mapping[str, str] = field(default_factory=dict)

    def expected(self, words: Sequence[bytes], dialogue: str, seen: Sequence[bytes]) -> list[bytes]:
        """
        The words in the middle, for those at the server; sorted.

        @param seen: what was there.
        """
        kept = [one for one in words if not self.removed.fullmatch(one)]
        if dialogue in self.not_added_in and not self.added & set(seen):
            return sorted(kept)
        return sorted([*kept, *self.added])


UNCHANGED = Words()
OF_GATEWAY = Words(
    re.compile(rb"STARTTLS|LOGINDISABLED|AUTH=.*-PLUS|AUTH=EXTERNAL"),
    frozenset({b"CLIENTID", b"XCONTINUITY"}),
    {"wrong_before_login": "behind the first command that only goes after a login, there is no use for ours any more"},
)


def normalised(octets: bytes) -> bytes:
    """
    Without what is not compared.
    """
    for one in NOT_COMPARED:
        octets = one.pattern.sub(one.instead, octets)
    return octets


def _differ(dialogue: str, first: bytes, second: bytes, words: Words) -> str | None:
    said = [[line.split() for line in _CAPABILITIES.findall(one)] for one in (first, second)]
    if len(said[0]) != len(said[1]):
        return f"{len(said[0])} and {len(said[1])} capability lines"
    for mine, theirs in zip(*said, strict=True):
        if (expected := words.expected(mine, dialogue, theirs)) != sorted(theirs):
            missing, extra = Counter(expected) - Counter(theirs), Counter(theirs) - Counter(expected)
            return f"capabilities: missing {sorted(missing)}, not expected {sorted(extra)}"
    one, other = (normalised(_CAPABILITIES.sub(b"", octets)) for octets in (first, second))
    if one == other:
        return None
    pairs = zip(one, other, strict=False)
    same = next((at for at, (mine, theirs) in enumerate(pairs) if mine != theirs), min(len(one), len(other)))
    near = slice(max(0, same - 60), same + 60)
    return f"{len(one)} and {len(other)} octets, different from octet {same}: {one[near]!r} and {other[near]!r}"


def differences(first: Record, second: Record, words: Words = UNCHANGED) -> list[str]:
    """
    Where two runs differ: one text for each dialogue that does, with the first place.

    @param first: the run without anything in the middle.
    @param words: what the middle of the second may do to capability lines.
    """
    found = []
    for name in sorted(first.keys() | second.keys()):
        one, other = first.get(name, ()), second.get(name, ())
        for number, (mine, theirs) in enumerate(zip(one, other, strict=False)):
            if mine.asked != theirs.asked:
                found.append(f"{name}, {number}: asked {mine.asked[:60]!r} and {theirs.asked[:60]!r}")
                break
            rule = UNCHANGED if mine.compressed else words
            if difference := _differ(name, mine.answered, theirs.answered, rule):
                found.append(f"{name}, {number}, {mine.asked[:60]!r}: {difference}")
                break
        else:
            if len(one) != len(other):
                found.append(f"{name}: {len(one)} and {len(other)} exchanges")
    return found
