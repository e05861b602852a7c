"""
Messages that tend to be damaged on the way.
"""

from __future__ import annotations

import random


def _lines(*lines: str) -> bytes:
    return "\r\n".join(lines).encode("utf-8") + b"\r\n"


PLAIN = _lines(
    "From: Ada <ada@example.org>",
    "To: alice@example.org",
    "Subject: first",
    "Date: Wed, 01 Jan 2020 10:00:00 +0000",
    "Message-ID: <1@example.org>",
    "",
    "Hello, this is the text.",
)
REPLY = _lines(
    "From: Bob <bob@example.org>",
    "To: ada@example.org",
    "Cc: alice@example.org",
    "Subject: Re: first",
    "Date: Thu, 02 Jan 2020 10:00:00 +0000",
    "Message-ID: <2@example.org>",
    "In-Reply-To: <1@example.org>",
    "References: <1@example.org>",
    "",
    "An answer.",
)
NESTED = _lines(
    "From: =?utf-8?q?J=C3=BCrgen?= <j@example.org>",
    "Subject: =?utf-8?b?w5xiZXI=?= nested",
    "Date: Fri, 03 Jan 2020 10:00:00 +0000",
    "Message-ID: <3@example.org>",
    "MIME-Version: 1.0",
    "Content-Type: multipart/mixed; boundary=outer",
    "",
    "preamble",
    "--outer",
    "Content-Type: multipart/alternative; boundary=inner",
    "",
    "--inner",
    "Content-Type: text/plain; charset=utf-8",
    "Content-Transfer-Encoding: quoted-printable",
    "",
    "gr=C3=BCn =",
    "und blau",
    "--inner",
    "Content-Type: text/html",
    "",
    "<p>gr&uuml;n</p>",
    "--inner--",
    "--outer",
    "Content-Type: message/rfc822",
    "",
    "Subject: inside",
    "Content-Type: multipart/mixed; boundary=deep",
    "",
    "--deep",
    "",
    "deep text",
    "--deep--",
    "--outer",
    "Content-Type: application/octet-stream; name=x.bin",
    "Content-Transfer-Encoding: base64",
    "Content-Disposition: attachment; filename=x.bin",
    "",
    "AAECAwD/AA0KAA==",
    "--outer--",
    "epilogue",
)
EIGHT_BIT = b"Subject: eight \xe9\xff bits\r\nMessage-ID: <4@example.org>\r\n\r\n" + bytes(range(1, 256)) + b"\r\n"
NUL = b"Subject: nul\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\1\0\r\n\0{5}\r\n"
LONG_HEADER = b"Subject: long\r\nX-Long: " + b"x" * 70_000 + b"\r\nX-Folded: a\r\n" + b" b\r\n" * 3000 + b"\r\nbody\r\n"
NO_NEWLINE = b"Subject: no newline\r\n\r\nthe last line has no end"
BARE_LF = b"Subject: bare\n\nlines\nend with\none octet\n"
HEADER_ONLY = b"Subject: nothing else\r\n\r\n"
LOOKS_LIKE_IMAP = b"Subject: a1 OK\r\n\r\na1 OK done\r\n* BYE\r\n+ go\r\n* 1 FETCH (BODY[] {10}\r\n)\r\na99 LOGOUT\r\n"
BROKEN_MIME = b"Content-Type: multipart/mixed; boundary=\"x\r\nSubject: broken\r\n\r\n--x\r\nContent-Type: text/\r\n\r\n--x"
ALL = [
    PLAIN,
    REPLY,
    NESTED,
    EIGHT_BIT,
    LONG_HEADER,
    NO_NEWLINE,
    BARE_LF,
    HEADER_ONLY,
    LOOKS_LIKE_IMAP,
    BROKEN_MIME,
]


def big(octets: int) -> bytes:
    """
    A message of at least so many octets that no compression makes small.
    """
    body = random.Random(1).randbytes(octets // 2).hex().encode("ascii")
    return b"Subject: big\r\n\r\n" + b"\r\n".join(body[at : at + 998] for at in range(0, len(body), 998)) + b"\r\n"
