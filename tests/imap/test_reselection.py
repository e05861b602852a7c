"""
L{mem_continuity.imap.reselection} against a server made of a script: each command that it has to be sent, and what it says then.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.imap.reselection import Outcome, Reselection, Result
from tests.imap import cut, cuts

SELECTED = (
    b"* FLAGS (\\Seen)\r\n* 3 EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY 7] ok\r\n* OK [UIDNEXT 12] ok\r\n"
    b"g1 OK [READ-WRITE] done\r\n"
)
FOUND = b'* ESEARCH (TAG "g1") UID ALL 1:2,11\r\ng1 OK found\r\n'
SEARCH = b"g1 UID SEARCH RETURN (ALL) ALL\r\n"

Script = list[tuple[bytes, bytes]]


def made(name: bytes = b"INBOX", **changes: Any) -> Reselection:
    options: dict[str, Any] = {
        "read_only": False,
        "uid_validity": 7,
        "enabled": frozenset(),
        "tag": b"g1",
        "has_esearch": True,
        "line_bound": 1000,
        "most": 100_000,
    }
    return Reselection(name, **(options | changes))


class ReselectionTests(SynchronousTestCase):
    """
    Each course to its end.
    """

    def play(self, one: Reselection, script: Script, places: tuple[int, ...] = ()) -> Result:
        """
        Go through a script; the commands have to be exactly those.
        """
        sent = one.begin()
        for command, answer in script:
            self.assertEqual(sent, command)
            self.assertIsNone(one.result)
            sent = b"".join(one.receive(part) for part in cut(answer, places))
        self.assertEqual(sent, b"")
        assert one.result is not None, "it goes on after the end of the script"
        return one.result

    def test_selected(self) -> None:
        result = self.play(made(), [(b"g1 SELECT INBOX\r\n", SELECTED), (SEARCH, FOUND)])
        self.assertIs(result.outcome, Outcome.SELECTED)
        self.assertEqual((result.read_only, result.uid_validity), (False, 7))
        self.assertEqual(
            result.untagged, SELECTED.replace(b"g1 OK [READ-WRITE] done\r\n", b"") + FOUND.replace(b"g1 OK found\r\n", b"")
        )

    @given(cuts)
    def test_split(self, places: list[int]) -> None:
        """
        However the octets arrive, the same comes out.
        """
        script = [
            (b"g1 ENABLE CONDSTORE QRESYNC\r\n", b"* ENABLED QRESYNC\r\ng1 OK\r\n"),
            (b"g1 SELECT {3}\r\n", b"+ go\r\n"),
            (b"\xc3\xbc!\r\n", b"* LIST () NIL {5}\r\ng1 NO\r\n" + SELECTED),
            (SEARCH, FOUND),
        ]
        options: dict[str, Any] = {"name": b"\xc3\xbc!", "enabled": frozenset((b"QRESYNC", b"CONDSTORE"))}
        result = self.play(made(**options), script, tuple(places))
        self.assertEqual(result, self.play(made(**options), script))
        self.assertEqual(result.enabled, frozenset((b"QRESYNC",)))
        self.assertIn(b"* ENABLED QRESYNC\r\n* LIST () NIL {5}\r\ng1 NO\r\n* FLAGS", result.untagged)

    def test_examined(self) -> None:
        """
        What was read-only is asked for read-only, and a mailbox that has become it is said to be.
        """
        for read_only, answer in ((True, SELECTED), (False, SELECTED.replace(b"READ-WRITE", b"READ-ONLY"))):
            word = b"EXAMINE" if read_only else b"SELECT"
            result = self.play(made(read_only=read_only), [(b"g1 %b INBOX\r\n" % word, answer), (SEARCH, FOUND)])
            self.assertTrue(result.read_only)

    def test_no_esearch(self) -> None:
        """
        A server without ESEARCH: the map is made of what it has, and empty when it has nothing.
        """
        for answer, said in ((b"* SEARCH 1 2\r\n* SEARCH 11\r\n", b" ALL 1:2,11"), (b"* SEARCH\r\n", b"")):
            script = [
                (b"g1 SELECT INBOX\r\n", SELECTED),
                (SEARCH, b"g1 BAD no RETURN here\r\n"),
                (b"g1 UID SEARCH ALL\r\n", answer + b"* 4 EXISTS\r\ng1 OK\r\n"),
            ]
            result = self.play(made(), script)
            self.assertEqual(self.play(made(has_esearch=False), [script[0], script[2]]), result)
            self.assertTrue(result.untagged.endswith(b'* 4 EXISTS\r\n* ESEARCH (TAG "g1") UID%b\r\n' % said))

    def test_missing(self) -> None:
        for line in (b"g1 NO [NONEXISTENT] no\r\n", b"g1 NO no such thing\r\n", b"g1 NO [TRYCREATE] no\r\n"):
            result = self.play(made(b"a b"), [(b'g1 SELECT "a b"\r\n', b"* OK [CLOSED] was\r\n" + line)])
            self.assertEqual((result.outcome, result.untagged), (Outcome.MISSING, b""))

    def test_not_now(self) -> None:
        """
        A server that will not, or does not understand, does not say that there is no such mailbox.
        """
        for line in (b"g1 NO [UNAVAILABLE] later\r\n", b"g1 BAD what\r\n", b"g1 NO [INUSE] taken\r\n"):
            self.assertIs(self.play(made(), [(b"g1 SELECT INBOX\r\n", line)]).outcome, Outcome.UNABLE)

    def test_name_refused_before_its_literal(self) -> None:
        result = self.play(made(b"\xff"), [(b"g1 SELECT {1}\r\n", b"g1 NO [CANNOT] 8 bits\r\n")])
        self.assertIs(result.outcome, Outcome.MISSING)

    def test_changed(self) -> None:
        """
        Another UIDVALIDITY: the mailbox is left without CLOSE in read-write state, which would expunge; nothing of it is told.
        """
        script = [
            (b"g1 SELECT INBOX\r\n", SELECTED.replace(b" 7]", b" 8]")),
            (b"g1 EXAMINE INBOX\r\n", SELECTED.replace(b" 7]", b" 8]")),
            (b"g1 CLOSE\r\n", b"g1 OK closed\r\n"),
        ]
        result = self.play(made(), script)
        self.assertEqual((result.outcome, result.untagged, result.uid_validity), (Outcome.CHANGED, b"", 8))

    def test_unknown_validity(self) -> None:
        result = self.play(made(uid_validity=None), [(b"g1 SELECT INBOX\r\n", SELECTED), (SEARCH, FOUND)])
        self.assertIs(result.outcome, Outcome.SELECTED)

    def test_bye(self) -> None:
        """
        The server says goodbye meanwhile: the client is told that, and nothing else.
        """
        result = self.play(made(), [(b"g1 SELECT INBOX\r\n", b"* 3 EXISTS\r\n* BYE down\r\ng1 NO [UNAVAILABLE] down\r\n")])
        self.assertEqual((result.outcome, result.untagged), (Outcome.UNABLE, b"* BYE down\r\n"))

    def test_too_much(self) -> None:
        one = made(most=50)
        one.begin()
        one.receive(SELECTED)
        assert one.result is not None
        self.assertIs(one.result.outcome, Outcome.UNABLE)

    def test_rest(self) -> None:
        """
        What stands behind the last answer is not lost.
        """
        one = made()
        one.begin()
        one.receive(SELECTED)
        one.receive(FOUND + b"* 4 EXISTS\r\n")
        self.assertIsNotNone(one.result)
        self.assertEqual(one.rest, b"* 4 EXISTS\r\n")

    def test_long_map(self) -> None:
        """
        A map longer than a line may be: whole, and a response all the same.
        """
        uids = b",".join(b"%d" % one for one in range(1, 4000, 2))
        found = b'* ESEARCH (TAG "g1") UID ALL %b\r\n' % uids
        result = self.play(made(), [(b"g1 SELECT INBOX\r\n", SELECTED), (SEARCH, found + b"g1 OK\r\n")])
        self.assertTrue(result.untagged.endswith(found))
