"""
Tests of L{mem_continuity.imap.replaying}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.imap.lexer import literal_suffix
from mem_continuity.imap.replaying import authenticate_flights, login_flights
from tests.imap import ToyServer


class LoginFlightsTests(SynchronousTestCase):
    """
    LOGIN.
    """

    def test_without_literals(self) -> None:
        self.assertEqual(login_flights(b"a", [b' joe "p w"'], frozenset()), [b'a LOGIN joe "p w"\r\n'])

    PIECES = (b" {3+}", b"joe", b" {2}", b"pw", b"")

    def test_synchronizing(self) -> None:
        expected = [b"a LOGIN {3}\r\n", b"joe {2}\r\n", b"pw\r\n"]
        self.assertEqual(login_flights(b"a", self.PIECES, frozenset()), expected)

    def test_literal_plus(self) -> None:
        expected = [b"a LOGIN {3+}\r\njoe {2+}\r\npw\r\n"]
        for word in (b"LITERAL+", b"LITERAL-"):
            self.assertEqual(login_flights(b"a", self.PIECES, frozenset((word,))), expected)

    def test_literal_minus(self) -> None:
        for size, flights in [(4096, 1), (4097, 2)]:
            pieces = [b" joe {%d}" % size, b"x" * size, b""]
            self.assertEqual(len(login_flights(b"a", pieces, frozenset((b"LITERAL-",)))), flights)

    @given(
        st.lists(st.tuples(st.sampled_from([b" ", b" x "]), st.binary(max_size=9), st.sampled_from([b"", b"+"])), max_size=3),
        st.sampled_from([frozenset(), frozenset((b"LITERAL+",)), frozenset((b"LITERAL-",))]),
    )
    def test_a_server_reads_the_same(self, parts: list[tuple[bytes, bytes, bytes]], capabilities: frozenset[bytes]) -> None:
        pieces = [piece for before, literal, plus in parts for piece in (before + b"{%d%b}" % (len(literal), plus), literal)]
        flights = login_flights(b"a", [*pieces, b" end"], capabilities)
        server, invited = ToyServer(), []
        for flight in flights:
            invited += [answer for answer in server.receive(flight) if answer.startswith(b"+")]
        self.assertEqual(len(invited), len(flights) - 1)
        (command,) = server.commands
        read = b"".join(b"%b%b" % (before, literal) for before, literal, _ in parts)
        for line in command.split(b"\r\n"):
            suffix = literal_suffix(line)
            if suffix is not None:
                self.assertEqual(suffix[1], bool(capabilities))
        for size in {len(literal) for _, literal, _ in parts}:
            for plus in (b"", b"+"):
                command = command.replace(b"{%d%b}\r\n" % (size, plus), b"")
        self.assertEqual(command, b"a LOGIN" + read + b" end\r\n")


class AuthenticateFlightsTests(SynchronousTestCase):
    """
    AUTHENTICATE.
    """

    def test_initial_response(self) -> None:
        words = frozenset((b"SASL-IR",))
        self.assertEqual(authenticate_flights(b"a", b"PLAIN", b"AA==", words), [b"a AUTHENTICATE PLAIN AA==\r\n"])
        self.assertEqual(authenticate_flights(b"a", b"PLAIN", b"", words), [b"a AUTHENTICATE PLAIN =\r\n"])

    def test_asked_for(self) -> None:
        for mechanism, words in [(b"PLAIN", frozenset()), (b"LOGIN", frozenset((b"SASL-IR",)))]:
            flights = authenticate_flights(b"a", mechanism, b"AA==", words)
            self.assertEqual(flights, [b"a AUTHENTICATE " + mechanism + b"\r\n", b"AA==\r\n"])
