"""
SEARCH.
"""

from __future__ import annotations

import os
from io import BytesIO
from time import process_time
from typing import Any

from twisted.mail.imap4 import IllegalQueryError

from mem_continuity.mailhost import search
from tests.mailhost.test_mailbox import MailboxCase


class SearchTests(MailboxCase):
    """
    Queries and what they find.
    """

    def setUp(self) -> None:
        super().setUp()
        self.view, _ = self.select(self.one)
        first = b"From: Anna <a@x>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
        first += b"Date: Mon, 7 Feb 1994 21:52:25 -0800\r\n\r\nhello world\r\n"
        second = b"From: Bob\r\nTo: a@x\r\nContent-Transfer-Encoding: base64\r\n"
        second += b"Content-Type: text/plain; charset=utf-8\r\n\r\nd8O2cmxk\r\n"
        self.successResultOf(self.view.addMessage(BytesIO(first), ["\\Seen"], b"17-Jul-1996 02:44:25 +0000"))
        self.successResultOf(self.view.addMessage(BytesIO(second), ["\\Flagged"]))
        self.add(self.view, b"Subject: " + b"x" * 1000 + b"\r\n\r\n")

    def found(self, *query: Any) -> list[int]:
        answer = self.view.search(list(query), False)
        self.clock.pump([0] * 10)
        result: list[int] = self.successResultOf(answer)
        return result

    def test_keys(self) -> None:
        for expected, query in (
            ([1, 2, 3], [b"ALL"]),
            ([1], [b"SEEN"]),
            ([2, 3], [b"unseen"]),
            ([2], [b"FLAGGED", b"UNSEEN"]),
            ([1], [b"subject", "grüße".upper().encode()]),
            ([1, 2], [b"TEXT", b"a@x"]),
            ([2], [b"BODY", "WÖRLD".encode()]),
            ([1], [b"BODY", b"world"]),
            ([1, 3], [b"NOT", b"FROM", b"bob"]),
            ([1, 2], [b"OR", b"FROM", b"anna", b"FROM", b"bob"]),
            ([2], [[b"2:3", b"TO", b"A@X"]]),
            ([3], [b"*"]),
            ([2, 3], [b"UID", b"2:*"]),
            ([1], [b"BEFORE", b"1-Jan-2000"]),
            ([1], [b"ON", b"17-Jul-1996"]),
            ([2, 3], [b"SINCE", b"18-Jul-1996"]),
            ([1], [b"SENTON", b"7-Feb-1994"]),
            ([3], [b"LARGER", b"500"]),
            ([1, 2], [b"SMALLER", b"500"]),
            ([1, 2], [b"HEADER", b"From", b""]),
            ([], [b"KEYWORD", b"$Junk"]),
            ([], [b"SUBJECT", None]),
        ):
            self.assertEqual(self.found(*query), expected, query)

    def test_refused(self) -> None:
        deep: Any = [b"ALL"]
        for _ in range(100):
            deep = [deep]
        queries: list[list[Any]] = [
            [], [b"NOPE"], [b"NOT"], [b"LARGER", b"x"], [b"ON", b"x-y-z"], [b"1:x"], [[]], deep, [b"NOT"] * 100,
            [b"FROM", [b"x"]], [b"LARGER", b"1" * 5000], [b"UID", b"1" * 5000], [b"1" * 5000],
        ]  # fmt: skip
        for query in queries:
            with self.assertRaises(IllegalQueryError, msg=repr(query)):
                self.view.search(query, False)

    def test_charsets_that_are_none(self) -> None:
        for charset in (b"idna", b"punycode", b"undefined", b'"\0"', b"hex", b"nope", b"utf-7"):
            self.add(self.view, b"Content-Type: text/plain; charset=" + charset + b"\r\n\r\nneedle \xff\r\n")
        self.assertEqual(self.found(b"TEXT", b"needle"), [4, 5, 6, 7, 8, 9, 10])

    def test_many_ranges(self) -> None:
        odd = b",".join(b"%d" % number for number in range(1, 20000, 2))
        began = process_time()
        self.assertEqual(self.found(odd), [1, 3])
        self.assertLess(process_time() - began, 2.0)

    def test_others_get_their_turn(self) -> None:
        """
        Also when no file is read.
        """
        self.patch(search, "_SLICE", -1.0)
        answer = self.view.search([b"ALL"], False)
        self.assertNoResult(answer)
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(answer), [1, 2, 3])

    def test_gone_meanwhile(self) -> None:
        os.unlink(self.view.folder.find(self.view.folder.entries[1]))
        self.assertEqual(self.found(b"TEXT", b"x"), [2, 3])
