"""
The account that the mail programs synchronise: mailboxes with odd names, and 150 messages of odd kinds.

Invariants: the same octets in every run; lines end with CR LF, there is no NUL, and no message is C{\\Deleted}.
"""

from __future__ import annotations

import base64
import imaplib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

from tests.interop.programs.imap_words import connect, quoted
from tests.interop.programs.result import content_digest
from tests.interop.programs.target import Target

QUOTED = 'He said "no" (100%)'
MAILBOXES = {
    "INBOX": 60,
    "Two  words": 30,
    "Entw&APw-rfe &- &ZeVnLIqe-": 25,
    "Archive/2023/Z&APw-rich": 25,
    QUOTED: 10,
}
"""How many messages are in which mailbox, by names as on the wire."""

BIG = 10_000_000
"""Octets of the largest message, about."""

_DATE = '"03-Feb-2024 04:05:{:02d} +0100"'
_FLAGS = (
    (),
    ("\\Seen",),
    ("\\Answered", "\\Seen"),
    ("\\Flagged",),
    ("\\Draft", "\\Seen"),
    ("$Forwarded", "\\Seen"),
    ("Wichtig", "\\Flagged"),
)


class Item(NamedTuple):
    """
    A message of the fixture.
    """

    mailbox: str
    octets: bytes
    flags: tuple[str, ...]
    date: str


def _lines(source: random.Random, octets: int) -> bytes:
    return base64.encodebytes(source.randbytes(octets * 3 // 4)).replace(b"\n", b"\r\n")


def _plain(source: random.Random) -> bytes:
    return b"\r\nHello,\r\n\r\n" + _lines(source, 600)


def _eight_bit(source: random.Random) -> bytes:
    head = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nX-Raw: Grüße 日本\r\n"
    return (head + "\r\nGrüße aus Köln, 日本語, \U0001f4ec\r\n").encode()


def _latin(source: random.Random) -> bytes:
    return b"\r\n" + bytes(one for one in range(1, 256) if one not in b"\r\n") + b"\r\n"


def _long_lines(source: random.Random) -> bytes:
    return b"\r\n" + b"".join(bytes([source.randrange(33, 127)]) * size + b"\r\n" for size in (998, 999, 1024, 4096, 70_000))


def _nested(source: random.Random) -> bytes:
    body = b"--0--\r\n"
    for depth in range(12):
        part = b"Content-Type: text/html\r\n\r\n<p>" + _lines(source, 80)
        inner = b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n' % depth if depth else b"\r\n"
        body = b"--%d\r\n%s--%d\r\n%s%s--%d--\r\n" % (depth + 1, part, depth + 1, inner, body, depth + 1)
    return b'MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary="12"\r\n\r\n' + body


def _forwarded(source: random.Random) -> bytes:
    inner = b"From: <a@b.example>\r\nSubject: =?utf-8?q?in=C3=BCer?=\r\n\r\nText\r\n"
    head = b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="x y"\r\n'
    return head + b"\r\n--x y\r\nContent-Type: message/rfc822\r\n\r\n" + inner + b"\r\n--x y--\r\n"


def _no_body(source: random.Random) -> bytes:
    return b"\r\n"


def _unended(source: random.Random) -> bytes:
    return b"\r\nno end of line here"


def _blank(source: random.Random) -> bytes:
    return b"\r\n" + b"\r\n" * 40


def _dots(source: random.Random) -> bytes:
    return b"\r\n.\r\n..\r\n.end\r\nFrom somebody Sat Feb  3 04:05:06 2024\r\n>From quoted\r\n.\r\n"


def _like_imap(source: random.Random) -> bytes:
    return (
        b"\r\n* 1 EXISTS\r\n* BYE\r\n)\r\nA0001 OK done\r\n+ go ahead\r\n* 2 FETCH (BODY[] {5}\r\n{3}\r\n"
        b"a XCONTINUITY START\r\n* OK [CAPABILITY IMAP4rev1]\r\nDONE\r\na LOGOUT\r\na STARTTLS\r\n"
    )


def _many_headers(source: random.Random) -> bytes:
    return b"".join(b"X-Trace: hop %d;\r\n\tand more\r\n" % number for number in range(200)) + b"\r\nshort\r\n"


def _attachment(source: random.Random) -> bytes:
    return b"MIME-Version: 1.0\r\nContent-Type: application/x-data\r\nContent-Transfer-Encoding: base64\r\n\r\n" + _lines(
        source, 100_000
    )


_KINDS: tuple[Callable[[random.Random], bytes], ...] = (
    _plain,
    _eight_bit,
    _latin,
    _long_lines,
    _nested,
    _forwarded,
    _no_body,
    _unended,
    _blank,
    _dots,
    _like_imap,
    _many_headers,
    _attachment,
)


def _message(number: int, body: bytes) -> bytes:
    # One in ten has the Message-ID of the one before it.
    identity = number - 1 if number % 10 == 9 else number
    return b"From: Ann <ann@a.example>\r\nTo: <joe@b.example>\r\n" + (
        b"Subject: message %03d\r\nDate: Sat, 3 Feb 2024 04:05:06 +0100\r\nMessage-ID: <%d@a.example>\r\n%s"
        % (number, identity, body)
    )


def _items() -> Iterator[Item]:
    source = random.Random(7)
    number = 0
    for mailbox, count in MAILBOXES.items():
        for _ in range(count):
            body = _KINDS[number % len(_KINDS)](source) if number != 59 else b"\r\n" + _lines(source, BIG)
            yield Item(mailbox, _message(number, body), _FLAGS[number % len(_FLAGS)], _DATE.format(number % 60))
            number += 1


@cache
def items() -> tuple[Item, ...]:
    """
    All messages, in the order in which they are put into their mailboxes.
    """
    return tuple(_items())


@cache
def expected() -> dict[str, Counter[str]]:
    """
    What a program must bring, as L{contents<tests.interop.programs.result.contents>} gives it.
    """
    return {name: Counter(content_digest(item.octets) for item in items() if item.mailbox == name) for name in MAILBOXES}


def fill(target: Target) -> None:
    """
    Put all messages into an account that has none of these mailboxes but INBOX.

    @raise imaplib.IMAP4.error: the server refuses.
    """
    with connect(target) as client:
        for name in MAILBOXES:
            if name != "INBOX":
                _must(client.create(quoted(name)))
        for item in items():
            flags = f"({' '.join(item.flags)})"
            _must(client.append(quoted(item.mailbox), flags, item.date, item.octets))


def _must(answer: tuple[str, object]) -> None:
    if answer[0] != "OK":
        raise imaplib.IMAP4.error(f"refused: {answer}")
