"""
Tests of L{mem_continuity.imap.lexer} and L{mem_continuity.imap.responses}.
"""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.imap.lexer import (
    CommandSyntaxError,
    astring,
    is_tag,
    literal_suffix,
    parse_command,
    quote,
    split_arguments,
)
from mem_continuity.imap.responses import (
    ResponseStream,
    announces_literal,
    capability_words,
    rewrite_capability,
)
from tests.imap import cut, cuts, single


def _pieces(values: list[bytes]) -> list[bytes]:
    """
    Values as the arguments of a command, cut as L{split_arguments} wants it.
    """
    pieces = [b""]
    for value in values:
        quoted = astring(value)
        if b"\r\n" in quoted:
            announcement, _, literal = quoted.partition(b"\r\n")
            pieces[-1] += b" " + announcement
            pieces += [literal, b""]
        else:
            pieces[-1] += b" " + quoted
    return pieces


class LexerTests(SynchronousTestCase):
    """
    Words of commands.
    """

    def test_literal_suffix(self) -> None:
        for line, expected in [
            (b"a LOGIN {5}", (5, False)),
            (b"a LOGIN {5+}", (5, True)),
            (b"a LOGIN {5-}", (5, True)),
            (b"a APPEND x ~{0}", (0, False)),
            (b"{9223372036854775807}", (2**63 - 1, False)),
            (b"{9223372036854775808}", None),
            (b"{000000000000000000001}", None),
            (b"a {5} ", None),
            (b"a {}", None),
            (b"a {5+-}", None),
            (b"a {-5}", None),
            (b"a {5}\n", None),
            (b"", None),
        ]:
            self.assertEqual(literal_suffix(line), expected, line)

    def test_tags(self) -> None:
        for tag in (b"a1", b"]", b"A.b-c:d", b"[x"):
            self.assertTrue(is_tag(tag), tag)
        for tag in (b"", b"+", b"a+", b"*", b"a b", b"a\n", b"\xe4", b"a{", b'"a"', b"a\x00"):
            self.assertFalse(is_tag(tag), tag)

    def test_parse_command(self) -> None:
        self.assertEqual(parse_command(b"a1 login joe pw"), (b"a1", b"LOGIN", b" joe pw"))
        self.assertEqual(parse_command(b"a1 NOOP"), (b"a1", b"NOOP", b""))
        for line in (b"", b"a1", b"a1 ", b" a1 NOOP", b"a1  NOOP", b"+ NOOP", b"a1\tNOOP"):
            self.assertIsNone(parse_command(line), line)

    def test_quote(self) -> None:
        self.assertEqual(quote(b'a"b\\c'), b'"a\\"b\\\\c"')
        self.assertEqual(quote(b""), b'""')
        for value in (b"\r", b"\n", b"\x00", b"\xff"):
            self.assertEqual(quote(value), b"{1}\r\n" + value)
        self.assertEqual(astring(b"INBOX"), b"INBOX")
        self.assertEqual(astring(b"two words"), b'"two words"')

    @given(st.lists(st.binary(max_size=12), max_size=6))
    @example([b"\t", b"a\r\nb", b"\x00", b"\xe4", b'"', b"\\"])
    def test_scenario_35_arguments_arrive_exactly(self, values: list[bytes]) -> None:
        self.assertEqual(split_arguments(_pieces(values)), values)

    def test_quoted_utf8(self) -> None:
        self.assertEqual(split_arguments([b' "\xc3\xa4\t"']), [b"\xc3\xa4\t"])

    def test_syntax_errors(self) -> None:
        for pieces in (
            [b' "a'],
            [b' "a\\'],
            [b' "a\\n"'],
            [b' "a"b'],
            [b' "a\nb"'],
            [b' "a\x00b"'],
            [b' "\xff"'],
            [b" a\x00"],
            [b" \xe4"],
            [b" a "],
            [b"  a"],
            [b" (a)"],
            [b"a"],
            [b" {1}", b"x", b"junk"],
            [b" a{1}", b"x", b""],
            [b"{1}", b"x", b""],
            [b" {1}", b"x"],
            [b" a", b"x", b""],
            [],
        ):
            self.assertRaises(CommandSyntaxError, split_arguments, pieces)

    @given(st.lists(st.binary(max_size=20), max_size=5))
    def test_junk_gives_a_clear_error_or_values(self, pieces: list[bytes]) -> None:
        try:
            split_arguments(pieces)
        except CommandSyntaxError as error:
            self.assertTrue(str(error).isascii() and "\r" not in str(error) and str(error))


def _our_words() -> tuple[bytes, ...]:
    return (b"XCONTINUITY", b"CLIENTID")


def _is_plus(word: bytes) -> bool:
    return word.endswith(b"-PLUS")


class CapabilityTests(SynchronousTestCase):
    """
    Rewriting of capability data, and of nothing else.
    """

    def test_rewritten(self) -> None:
        for line, expected in [
            (b"* CAPABILITY IMAP4rev1 IDLE\r\n", b"* CAPABILITY IMAP4rev1 IDLE XCONTINUITY CLIENTID\r\n"),
            (b"* capability IMAP4rev1 xcontinuity\r\n", b"* capability IMAP4rev1 xcontinuity CLIENTID\r\n"),
            (b"* CAPABILITY\r\n", b"* CAPABILITY XCONTINUITY CLIENTID\r\n"),
            (b"* CAPABILITY A AUTH=X-PLUS B \r\n", b"* CAPABILITY A B XCONTINUITY CLIENTID\r\n"),
            (b"* CAPABILITY A  B \r\n", b"* CAPABILITY A  B XCONTINUITY CLIENTID\r\n"),
            (b"* OK [CAPABILITY A] hi\r\n", b"* OK [CAPABILITY A XCONTINUITY CLIENTID] hi\r\n"),
            (b"x OK [CAPABILITY A] hi]\r\n", b"x OK [CAPABILITY A XCONTINUITY CLIENTID] hi]\r\n"),
            (b"* PREAUTH [CAPABILITY A] hi\r\n", b"* PREAUTH [CAPABILITY A XCONTINUITY CLIENTID] hi\r\n"),
        ]:
            self.assertEqual(rewrite_capability(line, _our_words, _is_plus), expected)

    def test_untouched(self) -> None:
        for line in (
            b"* OK CAPABILITY A\r\n",
            b"* OK hi [CAPABILITY A]\r\n",
            b"* OK [CAPABILITY A\r\n",
            b"* OK [CAPABILITYX A]\r\n",
            b"* CAPABILITYX A\r\n",
            b"* CAPABILITY A",
            b"+ CAPABILITY A\r\n",
            b"* CAPABILITY A  clientid   XContinuity \r\n",
            b"* 1 FETCH (X {3}\r\n",
        ):
            self.assertEqual(rewrite_capability(line, _our_words, _is_plus), line)

    def test_words(self) -> None:
        self.assertEqual(capability_words(b"x OK [CAPABILITY A b]\r\n"), [b"A", b"b"])
        self.assertIsNone(capability_words(b"x OK done\r\n"))


class ResponseStreamTests(SynchronousTestCase):
    """
    Cutting responses.
    """

    def test_text_announces_no_literal(self) -> None:
        for line, expected in [
            (b"* 1 FETCH (BODY {5}", 5),
            (b"* LIST () NIL {5}", 5),
            (b"a1 BAD no {5}", None),
            (b"* ok [ALERT] no {5}", None),
            (b"* NO [BADCHARSET ({5}", 5),
            (b"+ send {5}", None),
        ]:
            self.assertEqual(announces_literal(line, line), expected, line)

    _dialogue = (
        b"* OK hi\r\n* 1 FETCH (A {12}\r\n* OK fake\r\nx\r B {0}\r\n C {2}\r\n\r\n)\r\n* " + b"9" * 60 + b" {4}\r\nx\r\n.\r\n"
        b"* NO " + b"t" * 70 + b" {4}\r\na OK done\r\n"
    )

    def _cut(self, parts: list[bytes]) -> tuple[bytes, list[bytes]]:
        stream, joined, firsts = ResponseStream(40), b"", []
        for part in parts:
            stream.feed(part)
            while (piece := stream.next_piece()) is not None:
                joined += piece.octets
                if piece.first:
                    firsts.append(piece.octets)
        self.assertTrue(stream.between)
        return joined + stream.take_rest(), firsts

    @given(cuts)
    def test_split_anywhere(self, places: list[int]) -> None:
        self.assertEqual(self._cut(list(cut(self._dialogue, places))), self._cut([self._dialogue]))

    def test_single_octets(self) -> None:
        whole = self._cut([self._dialogue])
        self.assertEqual(self._cut(list(single(self._dialogue))), whole)
        self.assertEqual(whole[0], self._dialogue)
        self.assertEqual(
            whole[1],
            [b"* OK hi\r\n", b"* 1 FETCH (A {12}\r\n", b"* " + b"9" * 38, b"* NO " + b"t" * 35, b"a OK done\r\n"],
        )

    @given(st.binary(max_size=300), cuts)
    def test_junk_passes(self, octets: bytes, places: list[int]) -> None:
        stream, joined = ResponseStream(40), b""
        for part in cut(octets, places):
            stream.feed(part)
            while (piece := stream.next_piece()) is not None:
                joined += piece.octets
        held = stream.take_rest()
        self.assertEqual(joined + held, octets)
        self.assertLessEqual(len(held), 42)

    def test_suffix_pattern_fits_its_window(self) -> None:
        self.assertLessEqual(len(b"~{" + b"9" * 20 + b"+}"), 32)
        self.assertEqual(literal_suffix(b"x" * 100 + b" ~{" + b"0" * 19 + b"7+}"), (7, True))
