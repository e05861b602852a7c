"""
Parts of messages, and what FETCH says of them.
"""

from __future__ import annotations

from pathlib import Path
from time import process_time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.mailhost.mime import parse
from mem_continuity.mailhost.octets import Octets, Slice, open_octets
from mem_continuity.mailhost.render import envelope, selected_header, string, structure

NESTED = (
    b"From: Anna <anna@example.org>, b\r\n"
    b"Received: one\r\nReceived: two\r\n folded\r\n"
    b"Subject: =?utf-8?q?x?= \xe9\r\n"
    b'Content-Type: multipart/mixed; boundary="out er"\r\n\r\n'
    b"preamble --out er\r\n"
    b"--out er\r\n\r\nfirst\r\n--not it\r\n"
    b"\r\n--out er  \r\nContent-Type: message/rfc822\r\n\r\n"
    b"Subject: inner\r\nContent-Type: multipart/alternative; boundary=in\r\n\r\n"
    b"--in\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nplain\r\n"
    b"--in\r\nContent-Type: text/html\r\nContent-Disposition: attachment; filename=\"a b.html\"\r\n\r\n<p>\r\n--in--\r\n"
    b"--out er--\r\nepilogue"
)


class MimeTests(SynchronousTestCase):
    """
    The tree of parts.
    """

    def _octets(self, content: bytes) -> Octets:
        path = Path(self.mktemp())
        path.write_bytes(content)
        return open_octets(path)

    def _body(self, *numbers: int) -> bytes | None:
        part = parse(self._octets(NESTED)).find(numbers)
        return None if part is None else part.octets.read(part.body, part.end - part.body)

    def test_sections(self) -> None:
        self.assertEqual(self._body(0), b"first\r\n--not it\r\n")
        self.assertEqual(self._body(1, 0), b"plain")
        self.assertEqual(self._body(1, 1), b"<p>")
        for numbers in ((2,), (0, 0), (1, 2), (1, 0, 0)):
            self.assertIsNone(self._body(*numbers), numbers)

    def test_one_part(self) -> None:
        root = parse(self._octets(b"Subject: x\r\n\r\nbody"))
        part = root.find((0,))
        assert part is not None
        self.assertEqual(part.octets.read(part.body, 9), b"body")
        self.assertIsNone(root.find((1,)))
        self.assertIsNone(root.find((0, 0)))

    def test_structure(self) -> None:
        self.assertEqual(
            structure(parse(self._octets(NESTED)), True),
            b'(("text" "plain" NIL NIL NIL "7bit" 17 2 NIL NIL NIL NIL)'
            b'("message" "rfc822" NIL NIL NIL "7bit" 222 '
            b'(NIL "inner" NIL NIL NIL NIL NIL NIL NIL NIL) '
            b'(("text" "plain" ("charset" "utf-8") NIL NIL "7bit" 5 1 NIL NIL NIL NIL)'
            b'("text" "html" NIL NIL NIL "7bit" 3 1 NIL ("attachment" ("filename" "a b.html")) NIL NIL)'
            b' "alternative" ("boundary" "in") NIL NIL NIL) 13 NIL NIL NIL NIL)'
            b' "mixed" ("boundary" "out er") NIL NIL NIL)',
        )

    def test_envelope(self) -> None:
        sender = b'(("Anna" NIL "anna" "example.org")(NIL NIL "b" ""))'
        self.assertEqual(
            envelope(parse(self._octets(NESTED))),
            b"(NIL {13}\r\n=?utf-8?q?x?= \xe9".replace(b"{13}", b"{%d}" % len(b"=?utf-8?q?x?= \xe9"))
            + b" " + sender + b" " + sender + b" " + sender + b" NIL NIL NIL NIL NIL)",
        )

    def test_repeated_fields_are_kept(self) -> None:
        header = parse(self._octets(NESTED)).header_octets
        self.assertEqual(selected_header(header, [b"RECEIVED"], False), b"Received: one\r\nReceived: two\r\n folded\r\n\r\n")
        self.assertNotIn(b"Received", selected_header(header, [b"received"], True))
        self.assertEqual(selected_header(header, [], True), header)

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.sampled_from([
        b"\r\n", b"\n", b"--b", b"--b--", b"Content-Type: multipart/mixed; boundary=b", b"Content-Type: message/rfc822",
        b"Content-Type: multipart/mixed; boundary*0*=utf-8''%ff; boundary*x=", b"Content-Type: ;;=\xff", b" fold", b"\x00",
        b"text",
        b"From: <@,;\"", b"Content-Disposition: a; b*=c'd", b"To: x:;,\xff",
    ]), max_size=40))  # fmt: skip
    def test_nothing_raises(self, pieces: list[bytes]) -> None:
        root = parse(self._octets(b"".join(pieces)))
        for answer in (structure(root, True), structure(root, False), envelope(root)):
            self.assertEqual((answer[:1], answer[-1:]), (b"(", b")"))

    def test_bounded(self) -> None:
        deep = b"".join(b"Content-Type: message/rfc822\r\n\r\n" for _ in range(5000))
        wide = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n\r\n" * 5000
        self.assertLess(structure(parse(self._octets(deep)), False).count(b"rfc822"), 50)
        self.assertLess(structure(parse(self._octets(wide)), False).count(b"plain"), 1500)

    def test_addresses_without_end(self) -> None:
        for field in (b"(" * 2000, b"(" * 100000, b"a:" * 3000, b"a:" * 100000):
            answer = envelope(parse(self._octets(b"Subject: x\r\nFrom: a@b\r\nTo: " + field + b"\r\n\r\n")))
            one = b'((NIL NIL "a" "b"))'
            self.assertEqual(answer, b'(NIL "x" ' + b" ".join([one] * 3) + b" NIL NIL NIL NIL NIL)")

    def test_long_address_field_is_cut(self) -> None:
        answer = envelope(parse(self._octets(b"To: " + b"a@b, " * 60000 + b"\r\n\r\n")))
        self.assertTrue(1000 < answer.count(b"(NIL NIL") < 4000)

    def test_time(self) -> None:
        """
        What once took the square of its size: a parameter, false boundaries within lines, lines that only begin like one.
        """
        kind = b"Content-Type: multipart/mixed; "
        for content in (
            kind + b'x="' + b";" * 100000 + b"\r\n\r\nhi\r\n",
            kind + b"boundary=b\r\n\r\n" + (b"--b\r\n" + kind + b'x="' + b";" * 4000 + b"\r\n\r\n") * 900,
            kind + b"boundary=a\r\n\r\nx" + b"--a" * 700000 + b"\r\n",
            kind + b"boundary=a\r\n\r\n" + b"--a--x\r\n" * 250000,
            b"Subject: x\r\n" + b" \r\n" * 80000 + b"\r\n",
        ):
            octets = self._octets(content)
            began = process_time()
            structure(parse(octets), True)
            self.assertLess(process_time() - began, 2.0, content[:60])

    def test_parameters_of_a_long_field(self) -> None:
        field = b"Content-Type: text/plain; charset=utf-8; " + b"; ".join(b"p%d=x" % number for number in range(5000))
        answer = structure(parse(self._octets(field + b"\r\n\r\n")), False)
        self.assertIn(b'("charset" "utf-8" "p0" "x"', answer)
        self.assertLess(answer.count(b'"p'), 110)

    def test_strings(self) -> None:
        self.assertEqual(string(None), b"NIL")
        self.assertEqual(string('a"\\b'), b'"a\\"\\\\b"')
        self.assertEqual(string("ü"), b"{2}\r\n\xc3\xbc")
        self.assertEqual(string(b"a\r\n"), b"{3}\r\na\r\n")


class OctetsTests(SynchronousTestCase):
    """
    Reading files.
    """

    def test_line_ends(self) -> None:
        for length in (10, 1024 * 1024 - 1, 1024 * 1024, 3 * 1024 * 1024 + 1):
            path = Path(self.mktemp())
            content = (b"a\nbc\r\n" * (length // 6 + 1))[:length]
            path.write_bytes(content)
            octets = open_octets(path)
            expected = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
            self.assertEqual(Slice(octets).read(), expected)
            self.assertEqual(octets.size, len(expected))

    def test_find_across_pieces(self) -> None:
        path = Path(self.mktemp())
        path.write_bytes(b"\r\n" + b"x" * (1024 * 1024 - 5) + b"needle" + b"y" * 100)
        octets = open_octets(path)
        at = 1024 * 1024 - 3
        self.assertEqual(octets.find(b"needle", 0, octets.size), at)
        self.assertEqual(octets.find(b"needle", 0, at + 5), -1)
        self.assertEqual(octets.count_lines(0, octets.size), 2)

    def test_slice_is_a_file(self) -> None:
        path = Path(self.mktemp())
        path.write_bytes(b"0123456789")
        part = Slice(open_octets(path), 2, 8)
        self.assertEqual((part.read(2), part.tell(), part.seek(0, 2), part.seek(-1, 1), part.read()), (b"23", 2, 6, 5, b"7"))
