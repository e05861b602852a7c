"""
What a run of a mail program came to, as plain values that can be compared.

Invariants: a message counts octet by octet, but for header lines that a program makes up (L{VOLATILE}, and the date of a draft);
names of mailboxes are as on the wire (modified UTF-7), whatever the program calls them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

VOLATILE = re.compile(rb"^(?:X-TUID|X-OfflineIMAP|Content-Length|Lines|Return-Path):[^\n]*\n", re.IGNORECASE | re.MULTILINE)
"""Lines by which mbsync and OfflineIMAP find again what they have just uploaded, in which mutt notes a message's length, and
which getmail writes."""

_DATED = re.compile(rb"^(?:Date|Message-ID):[^\n]*\n", re.IGNORECASE | re.MULTILINE)
_BY_MUTT = re.compile(rb"^X-Mutt-Fcc:", re.MULTILINE)


class Message(NamedTuple):
    """
    A message in a mailbox.

    @ivar exact: digest of its octets.
    @ivar content: digest that is the same whatever the line ends are, for programs that keep mail as files.
    @ivar size: in octets.
    @ivar flags: sorted, without C{\\Recent}; in the program's own words where these are not those of IMAP.
    @ivar uid: 0 where a program does not keep it.
    """

    exact: str
    content: str
    size: int
    flags: tuple[str, ...]
    uid: int


Mailboxes = Mapping[str, tuple[Message, ...]]
"""Messages by mailbox, in the order of their UIDs, or of their digests where there are none."""


def make_message(octets: bytes, flags: Iterable[str] = (), uid: int = 0) -> Message:
    """
    Take the measure of a message.
    """
    header, body = _split(octets)
    header = VOLATILE.sub(b"", header)
    if _BY_MUTT.search(header):
        header = _DATED.sub(b"", header)
    octets = header + body
    kept = sorted(flag for flag in flags if flag != "\\Recent")
    return Message(_digest(octets), content_digest(octets), len(octets), tuple(kept), uid)


def content_digest(octets: bytes) -> str:
    """
    See L{Message}.
    """
    return _digest(octets.replace(b"\r\n", b"\n").rstrip(b"\n"))


def _digest(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()[:20]


def _split(octets: bytes) -> tuple[bytes, bytes]:
    """
    Header and body, with the empty line at the body.
    """
    found = re.search(rb"\n(?=\r?\n)", octets)
    return (octets, b"") if found is None else (octets[: found.end()], octets[found.end() :])


@dataclass(frozen=True)
class Result:
    """
    Of one run of one program.

    @ivar brought: what the program has brought to its side.
    @ivar left: what the server had when the program had ended.
    """

    brought: Mailboxes
    left: Mailboxes


def differences(one: Result, other: Result) -> list[str]:
    """
    Say what is not the same, a line each; nothing if the results are equal.
    """
    found = []
    for side in ("brought", "left"):
        mine: Mailboxes = getattr(one, side)
        theirs: Mailboxes = getattr(other, side)
        for name in sorted({*mine, *theirs}):
            if name not in mine or name not in theirs:
                found.append(f"{side}: only one has the mailbox {name}")
                continue
            if mine[name] == theirs[name]:
                continue
            first, second = Counter(mine[name]), Counter(theirs[name])
            found += [f"{side}, {name}: only the first has {message}" for message in first - second]
            found += [f"{side}, {name}: only the second has {message}" for message in second - first]
            if first == second:
                found.append(f"{side}, {name}: not in the same order")
    return found


def contents(mailboxes: Mailboxes) -> dict[str, Counter[str]]:
    """
    Only which messages there are, without their flags; empty mailboxes are left out.
    """
    return {name: Counter(message.content for message in messages) for name, messages in mailboxes.items() if messages}


def read_index(folder: Path) -> dict[str, tuple[Message, ...]]:
    """
    Read what a script collected: C{index.json}, a list of objects with C{mailbox}, and of messages with C{file}, C{flags} and
    C{uid} as well.

    @raise OSError: it has not written one.
    """
    found: dict[str, list[Message]] = {}
    for entry in json.loads((folder / "index.json").read_text("utf-8")):
        messages = found.setdefault(entry["mailbox"], [])
        if "file" in entry:
            messages.append(make_message((folder / entry["file"]).read_bytes(), entry["flags"], entry["uid"]))
    return in_order(found)


def in_order(mailboxes: Mapping[str, Iterable[Message]]) -> dict[str, tuple[Message, ...]]:
    """
    As L{Mailboxes} are.
    """
    return {name: tuple(sorted(messages, key=lambda one: (one.uid, one))) for name, messages in mailboxes.items()}
