"""
What would hurt others: hostile mail, faults of ours, a full disk, very many messages, guessed passwords.
"""

from __future__ import annotations

import errno
import imaplib
import os
import ssl
from time import monotonic
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, formatEvent, globalLogPublisher
from zope.interface import implementer

from mem_continuity.mailhost import fetch
from mem_continuity.mailhost.maildir import Delivery
from mem_continuity.mailhost.render import envelope
from tests.mailhost.test_dialogue import PASSWORD, DialogueCase


class TroubleTests(DialogueCase):
    """
    Real dialogues by Python's client.
    """

    def test_hostile_mail(self) -> Deferred[None]:
        """
        One such mail in a folder harms neither the others nor the connection.
        """
        header = b"Subject: x\r\nFrom: a@b\r\n"

        def dialogue() -> None:
            client = self.imaplib()
            client.select()
            for content in (
                header + b"To: " + b"(" * 2000 + b"\r\n\r\nneedle\r\n",
                header + b"Content-Type: text/plain; charset=idna\r\n\r\nneedle \xff\r\n",
                header + b"\r\nneedle\r\n",
            ):
                client.append("INBOX", None, None, content)
            for item in ("(ENVELOPE)", "(BODYSTRUCTURE)", "(BODY.PEEK[1])"):
                answer, data = client.fetch("1:*", item)
                self.assertEqual(answer, "OK")
                self.assertEqual(len([one for one in data if one != b")"]), 3, data)
            self.assertEqual(client.search(None, "TEXT", "needle"), ("OK", [b"1 2 3"]))
            with self.assertRaisesRegex(imaplib.IMAP4.error, "BAD.*size"):
                client.search(None, "LARGER", "1" * 5000)
            client.logout()

        return self.in_thread(dialogue)

    def test_an_item_that_cannot_be_answered(self) -> Deferred[None]:
        """
        A fault of ours costs that item of that message, not the connection; it is logged.
        """

        def broken(part: Any) -> bytes:
            if b"Subject: 2" in part.header_octets:
                raise RuntimeError("a fault")
            return envelope(part)

        self.patch(fetch, "envelope", broken)

        def dialogue() -> None:
            client = self.imaplib()
            client.select()
            for number in (1, 2, 3):
                client.append("INBOX", None, None, b"Subject: %d\r\n\r\n" % number)
            client.send(b"a UID FETCH 1:* (ENVELOPE)\r\nb FETCH 2 (ENVELOPE)\r\n")
            client.send(b"c FETCH 2 (ENVELOPE BODY.PEEK[] FLAGS)\r\nd NOOP\r\n")
            seen: list[bytes] = []
            while not seen or not seen[-1].startswith(b"d "):
                seen.append(client.readline())
            tagged = [line[:4] for line in seen if line[:2] in (b"a ", b"b ", b"c ", b"d ")]
            self.assertEqual(tagged, [b"a NO", b"b NO", b"c NO", b"d OK"])
            fetched = [line for line in seen if b" FETCH (" in line]
            self.assertIn(b'(ENVELOPE (NIL "1"', fetched[0])
            self.assertEqual(fetched[1], b"* 2 FETCH (UID 2)\r\n")
            self.assertIn(b'(ENVELOPE (NIL "3"', fetched[2])
            self.assertTrue(fetched[3].startswith(b"* 2 FETCH (BODY[] {"), fetched[3])
            self.assertEqual(len(fetched), 4)
            client.logout()

        def logged(_: None) -> None:
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 3)

        return self.in_thread(dialogue).addCallback(logged)

    def test_full_disk(self) -> Deferred[None]:
        """
        The client and the operator hear of it in plain words.
        """

        def full(delivery: Delivery) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")

        self.patch(Delivery, "sync", full)
        logged: list[str] = []

        @implementer(ILogObserver)
        def observe(event: Any) -> None:
            logged.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

        def dialogue() -> None:
            client = self.imaplib()
            client.select()
            answer, (text,) = client.append("INBOX", None, None, b"Subject: x\r\n\r\n")
            self.assertEqual((answer, text), ("NO", b"[UNAVAILABLE] APPEND failed: No space left on device"))
            client.logout()

        def told(_: None) -> None:
            self.assertTrue([one for one in logged if "APPEND" in one and "No space left on device" in one], logged)

        return self.in_thread(dialogue).addCallback(told)

    def test_store_and_copy_many(self) -> Deferred[None]:
        """
        More than is done in one turn, also when the UIDs have gaps, in the time of their number.
        """
        store = self.realm.store("joe")
        for number in range(5000):
            (store.path / "cur" / f"{number:05}:2,").write_bytes(b"x\r\n")

        def dialogue() -> None:
            client = self.imaplib()
            client.select()
            _, data = client.uid("STORE", "1:*", "+FLAGS", "(\\Seen)")
            self.assertEqual((len(data), data[0]), (5000, b"1 (FLAGS (\\Seen) UID 1)"))
            for start in range(1, 5000, 2000):
                odd = ",".join(str(number) for number in range(start, min(start + 2000, 5000), 2))
                self.assertEqual(client.store(odd, "+flags.silent", "(\\Deleted)"), ("OK", [None]))
            self.assertEqual(len(client.expunge()[1]), 2500)
            client.create("A")
            began = monotonic()
            answer, (text,) = client.copy("1:*", "A")
            self.assertLess(monotonic() - began, 3.0)
            self.assertEqual(answer, "OK")
            code = text.partition(b"]")[0].split()
            self.assertEqual((code[0], code[2][:6], code[3]), (b"[COPYUID", b"2,4,6,", b"1:2500"))
            self.assertEqual(client.status("A", "(MESSAGES UNSEEN)")[1], [b'"A" (MESSAGES 2500 UNSEEN 0)'])
            self.assertEqual(client.store("1", "-FLAGS", "(\\Seen)")[0], "OK")
            self.assertEqual(client.fetch("1", "(FLAGS)")[1], [b"1 (FLAGS ())"])
            with self.assertRaises(imaplib.IMAP4.error):
                client.store("1", "~FLAGS", "(\\Seen)")
            client.select("INBOX", readonly=True)
            self.assertEqual(client.store("1", "FLAGS", "(\\Seen)")[0], "NO")
            self.assertEqual(client.delete("A")[0], "OK")
            client.logout()

        return self.in_thread(dialogue)

    def test_lost_while_a_login_waits(self) -> Deferred[None]:
        """
        After many failures an attempt waits, whatever the command; what is lost meanwhile leaves nothing behind.
        """

        def dialogue() -> None:
            context = ssl.create_default_context(cafile=str(self.pem))
            client = imaplib.IMAP4_SSL("localhost", self.port, ssl_context=context, timeout=30)
            client.send(b"".join(b"a%d LOGIN joe wrong\r\n" % number for number in range(self.policy.login_failures)))
            for number in range(self.policy.login_failures):
                self.assertTrue(client.readline().startswith(b"a%d NO" % number))
            began = monotonic()
            self.assertEqual(client.authenticate("PLAIN", lambda _: b"\0joe\0" + PASSWORD.encode())[0], "OK")
            self.assertGreater(monotonic() - began, 0.24)
            other = imaplib.IMAP4_SSL("localhost", self.port, ssl_context=context, timeout=30)
            other.send(b"a LOGIN joe wrong\r\n")
            other.shutdown()
            client.logout()

        return self.in_thread(dialogue)
