"""
The dialogue on a fresh connection to an upstream, octet by octet.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.gateway.errors import Trouble, UpstreamError, sanitised, text_of
from mem_continuity.gateway.greeting import Greeting, Ready, Say, StartTLS, Step
from mem_continuity.gateway.source import Source, identity
from tests.imap import cut, cuts

HELLO = b"* OK [CAPABILITY IMAP4rev1 id] Hello\r\n"
SOURCE = Source("192.0.2.1", 40000, "198.51.100.2", 993)
BOUND = 200


def greeting(starttls: bool = False, source: Source | None = None, want: bool = False) -> Greeting:
    return Greeting(starttls, source, want, BOUND)


class GreetingTests(SynchronousTestCase):
    """
    L{Greeting}.
    """

    def refused(self, machine: Greeting, octets: bytes, kind: Trouble) -> UpstreamError:
        error: UpstreamError = self.assertRaises(UpstreamError, machine.feed, octets)
        self.assertEqual(error.kind, kind)
        self.assertEqual(error.public, str(error).encode())
        return error

    def test_plain(self) -> None:
        """
        Nothing is asked: the greeting is all.
        """
        words = frozenset({b"IMAP4REV1", b"ID"})
        self.assertEqual(greeting().feed(HELLO + b"* 1"), [Ready(HELLO, words, b"* 1")])
        self.assertEqual(greeting(want=True).feed(HELLO), [Ready(HELLO, words, b"")])
        self.assertEqual(greeting().feed(b"* ok hi\r\n"), [Ready(b"* ok hi\r\n", frozenset(), b"")])

    def test_capability(self) -> None:
        """
        Asked for when the greeting has none; taken from wherever the answer has them.
        """
        for answer in (b"* CAPABILITY IMAP4rev1 Id\r\ng3 OK done\r\n", b"g3 OK [CAPABILITY IMAP4rev1 ID] done\r\n"):
            machine = greeting(want=True)
            self.assertEqual(machine.feed(b"* OK hi\r\n"), [Say(b"g3 CAPABILITY\r\n")])
            ready = Ready(b"* OK hi\r\n", frozenset({b"IMAP4REV1", b"ID"}), b"x")
            self.assertEqual(machine.feed(answer + b"x"), [ready])

    def test_no_capability(self) -> None:
        machine = greeting(want=True)
        machine.feed(b"* OK hi\r\n")
        self.assertEqual(machine.feed(b"g3 BAD what?\r\n"), [Ready(b"* OK hi\r\n", frozenset(), b"")])

    def test_identity(self) -> None:
        """
        ID is said before anything else; its answer, literals and all, is not shown; a server that does not know it will do.
        """
        literal = b'* ID ("name" {4}\r\ng2 O)\r\n'
        for answer in (literal + b"g2 OK done\r\n", b"* ID NIL\r\ng2 OK\r\n", b"g2 BAD what?\r\n", b"g2 NO no\r\n"):
            machine = greeting(source=SOURCE, want=True)
            self.assertEqual(machine.feed(b"* OK hi\r\n"), [Say(identity(b"g2", SOURCE))])
            self.assertEqual(machine.feed(answer), [Say(b"g3 CAPABILITY\r\n")])
        machine = greeting(source=SOURCE)
        machine.feed(HELLO)
        [ready] = machine.feed(b"g2 OK done\r\n* rest")
        assert isinstance(ready, Ready)
        self.assertEqual((ready.greeting, ready.rest), (HELLO, b"* rest"))

    def test_starttls(self) -> None:
        """
        What was said in the clear is forgotten but for the text; ID and CAPABILITY wait for TLS.
        """
        machine = greeting(True, SOURCE, True)
        self.assertEqual(machine.feed(HELLO), [Say(b"g1 STARTTLS\r\n")])
        self.assertEqual(machine.feed(b"* CAPABILITY X\r\ng1 OK begin\r\n"), [StartTLS()])
        self.assertEqual(machine.secured(), [Say(identity(b"g2", SOURCE))])
        self.assertEqual(machine.feed(b"g2 OK\r\n"), [Say(b"g3 CAPABILITY\r\n")])
        ready = Ready(b"* OK Hello\r\n", frozenset({b"Y"}), b"")
        self.assertEqual(machine.feed(b"* CAPABILITY Y\r\ng3 OK\r\n"), [ready])

    def test_starttls_alone(self) -> None:
        machine = greeting(True)
        machine.feed(b"* OK [ALERT] Hello [CAPABILITY Z]\r\n")
        machine.feed(b"g1 OK\r\n")
        self.assertEqual(machine.secured(), [Ready(b"* OK Hello [CAPABILITY Z]\r\n", frozenset(), b"")])

    def test_injection(self) -> None:
        """
        Octets behind the OK of STARTTLS in the same segment could be taken for ones that came under TLS.
        """
        for behind in (b"* OK [CAPABILITY X]\r\n", b"x", b"\r\n"):
            machine = greeting(True)
            machine.feed(HELLO)
            self.refused(machine, b"g1 OK begin\r\n" + behind, Trouble.INSECURE)
        machine = greeting(True)
        machine.feed(HELLO)
        self.refused(machine, b"g1 OK [X {3}\r\n", Trouble.INSECURE)

    def test_starttls_refused(self) -> None:
        for answer in (b"g1 NO later\r\n", b"g1 BAD what?\r\n", b"g1 PREAUTH x\r\n"):
            machine = greeting(True)
            machine.feed(HELLO)
            error = self.refused(machine, answer, Trouble.INSECURE)
            self.assertNotIn("later", error.text)
            self.assertIn(answer.split()[1].decode(), error.detail)

    def test_preauth(self) -> None:
        for starttls in (False, True):
            error = self.refused(greeting(starttls), b"* PREAUTH welcome joe\r\n", Trouble.UNFIT)
            self.assertNotIn("joe", error.text)

    def test_bye(self) -> None:
        """
        Its text is told to the client, unless anybody on the way could have written it.
        """
        bye = b"* BYE [UNAVAILABLE] Too \x07many\xff users\r\n"
        self.assertEqual(self.refused(greeting(), bye, Trouble.REFUSED).text, "Too ?many? users")
        self.assertEqual(self.refused(greeting(), b"* BYE\r\n", Trouble.REFUSED).text, Trouble.REFUSED.value)
        error = self.refused(greeting(True), bye, Trouble.REFUSED)
        self.assertEqual(error.text, Trouble.REFUSED.value)
        self.assertIn("Too ?many? users", error.detail)
        machine = greeting(True, want=True)
        machine.feed(HELLO)
        machine.feed(b"g1 OK\r\n")
        machine.secured()
        self.assertEqual(self.refused(machine, b"* BYE bye\r\n", Trouble.REFUSED).text, "bye")

    def test_rubbish(self) -> None:
        for line in (b"220 smtp.example.org", b"", b"* NO hi", b"a1 OK hi", b"* OKAY hi", b"* OK [X {3}", b"+OK POP3"):
            error = self.refused(greeting(), line + b"\r\n", Trouble.UNFIT)
            self.assertEqual(error.text, Trouble.UNFIT.value)

    def test_endless(self) -> None:
        """
        A line that does not end is refused at its bound, and what comes untagged for ever takes no memory.
        """
        self.refused(greeting(), b"* OK " + b"x" * BOUND, Trouble.UNFIT)
        machine = greeting(want=True)
        machine.feed(b"* OK hi\r\n")
        for _ in range(100):
            self.assertEqual(machine.feed(b"* " + b"x" * BOUND), [])
        self.assertLess(len(machine._stream._buffer), BOUND)

    @given(cuts, st.booleans(), st.booleans(), st.booleans())
    def test_pieces(self, places: list[int], starttls: bool, tell: bool, want: bool) -> None:
        """
        However the octets arrive, the dialogue is the same.
        """
        answers = [HELLO, *([b"g1 OK\r\n"] if starttls else []), *([b"* ID NIL\r\ng2 OK\r\n"] if tell else [])]
        answers += [b"* CAPABILITY Y\r\ng3 OK\r\n"] if starttls and want else []
        runs = []
        for pieces in (places, []):
            machine = greeting(starttls, SOURCE if tell else None, want)
            steps: list[Step] = []
            for answer in answers:
                for piece in cut(answer, pieces):
                    steps += machine.feed(piece)
                    if steps and isinstance(steps[-1], StartTLS):
                        steps += machine.secured()
            runs.append(steps)
        self.assertEqual(runs[0], runs[1])
        self.assertIsInstance(runs[0][-1], Ready)


class TextTests(SynchronousTestCase):
    """
    What is passed on of an upstream's words.
    """

    @given(st.binary(max_size=400))
    def test_sanitised(self, octets: bytes) -> None:
        for text in (sanitised(octets), text_of(octets)):
            self.assertTrue(text.isascii() and (text.isprintable() or not text))
            self.assertLessEqual(len(text), 200)

    def test_text(self) -> None:
        self.assertEqual(text_of(b"* BYE [ALERT] [x] y\r\n"), "[x] y")
        self.assertEqual(text_of(b"* BYE [ALERT]\r\n"), "")
