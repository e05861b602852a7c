"""
Tests of L{mem_continuity.imap.logins}.
"""

from __future__ import annotations

from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.imap.lexer import parse_command
from mem_continuity.imap.logins import (
    Authenticate,
    LoginWatch,
    decode_response,
    parse_authenticate,
    tells_first,
)
from tests.imap import cut, cuts

SAID = tuple[bytes | None, bytes | None]
NOBODY: SAID = (None, None)
DIGEST = b'username="joe",realm="",nonce="n",cnonce="c",nc=00000001,qop=auth,digest-uri="imap/h",response=' + b"0" * 32
HEX = b"0123456789abcdefABCDEF0123456789"


def watch(mechanism: bytes, *responses: bytes | None, initial: bytes | None = None) -> LoginWatch:
    """
    The watch of an AUTHENTICATE.

    @param responses: before base64; C{None} for the octets of a cancellation.
    """
    line = b"a AUTHENTICATE " + mechanism
    if initial is not None:
        line += b" " + (b64encode(initial) or b"=")
    command = parse_command(line)
    assert command is not None
    made = LoginWatch(command, 100)
    for response in responses:
        made.line_passes(b"*" if response is None else b64encode(response))
    return made


def said(made: LoginWatch) -> SAID:
    return made.claimed, made.user


def login(rest: bytes, bound: int = 100) -> LoginWatch:
    command = parse_command(b"a LOGIN" + rest)
    assert command is not None
    return LoginWatch(command, bound)


class LoginTests(SynchronousTestCase):
    """
    LOGIN, beyond what the tests of the preamble have.
    """

    def test_line(self) -> None:
        for rest, user in [
            (b" joe pw", b"joe"),
            (b' "j\\"o e" pw', b'j"o e'),
            (b" joe {3}", b"joe"),
            (b' joe"x" pw', None),
            (b" joe", None),
            (b"", None),
            (b' "joe pw', None),
            (b" j\xe4 pw", None),
            (b"\tjoe pw", None),
        ]:
            self.assertEqual(said(login(rest)), (user, user), rest)

    @given(st.binary(max_size=100).filter(lambda name: b"\0" not in name), cuts)
    def test_literal(self, name: bytes, places: list[int]) -> None:
        made = login(b" {%d+}" % len(name))
        parts = list(cut(name, places))
        for place, part in enumerate(parts):
            self.assertEqual(said(made), NOBODY)
            made.literal_passes(part, place == len(parts) - 1)
        made.line_passes(b" {2}")
        made.literal_passes(b"pw", True)
        made.line_passes(b"")
        self.assertEqual(said(made), (name, name))

    def test_odd_literals(self) -> None:
        for rest, name, line in [
            (b" {3}", b"joe", b"x pw"),
            (b" {3}", b"j\0e", b" pw"),
            (b" {101}", b"x" * 101, b" pw"),
            (b" ~{3}", b"joe", b" pw"),
        ]:
            made = login(rest)
            made.literal_passes(name, True)
            made.line_passes(line)
            self.assertEqual(said(made), NOBODY, (rest, line))

    def test_too_long_a_name_is_not_kept(self) -> None:
        made = login(b" {101}")
        made.literal_passes(b"x" * 50, False)
        self.assertIsNone(made._literal)

    def test_other_commands_tell_nothing(self) -> None:
        command = parse_command(b"a NOOP joe pw")
        assert command is not None
        self.assertEqual(said(LoginWatch(command, 100)), NOBODY)


class AuthenticateTests(SynchronousTestCase):
    """
    Each mechanism, said rightly and oddly.
    """

    def check(self, mechanism: bytes, rest: tuple[bytes, ...], cases: list[tuple[bytes, SAID]]) -> None:
        for first, expected in cases:
            self.assertEqual(said(watch(mechanism, first, *rest)), expected, first)
            if tells_first(mechanism):
                self.assertEqual(said(watch(mechanism, *rest, initial=first)), expected, first)

    def test_plain(self) -> None:
        self.check(
            b"PLAIN",
            (),
            [
                (b"\0joe\0pw", (b"joe", b"joe")),
                (b"joe\0joe\0pw", (b"joe", b"joe")),
                (b"boss\0joe\0pw", (b"boss", b"boss\0joe")),
                (b"\0j\xc3\xa4\0pw", (b"j\xc3\xa4", b"j\xc3\xa4")),
                (b"\0j\xe4\0pw", NOBODY),
                (b"\xe4\0joe\0pw", NOBODY),
                (b"\0\0pw", NOBODY),
                (b"joe\0pw", NOBODY),
                (b"\0joe\0pw\0", NOBODY),
                (b"", NOBODY),
            ],
        )

    def test_login(self) -> None:
        self.check(b"login", (b"pw",), [(b"joe", (b"joe", b"joe")), (b"", NOBODY), (b"j\0e", NOBODY), (b"\xff", NOBODY)])
        self.assertEqual(said(watch(b"LOGIN", b"joe")), (b"joe", None))
        self.assertEqual(said(watch(b"LOGIN", b"joe", b"")), (b"joe", b"joe"))

    def test_cram_md5(self) -> None:
        self.check(
            b"CRAM-MD5",
            (),
            [
                (b"joe " + HEX, (b"joe", b"joe")),
                (b"joe  " + HEX, NOBODY),
                (b" joe " + HEX, NOBODY),
                (b"joe doe " + HEX, NOBODY),
                (b"joe " + HEX[1:], NOBODY),
                (b"joe " + HEX + b"\n", NOBODY),
                (b"joe\t" + HEX, NOBODY),
                (b" " + HEX, NOBODY),
                (b"j\xe4 " + HEX, NOBODY),
            ],
        )

    def test_digest_md5(self) -> None:
        utf8 = DIGEST.replace(b"joe", b"j\xc3\xa4")
        self.check(
            b"DIGEST-MD5",
            (b"",),
            [
                (DIGEST, (b"joe", b"joe")),
                (b" " + DIGEST.replace(b",", b" ,\t "), (b"joe", b"joe")),
                (DIGEST.replace(b"joe", b'j\\"o\\\\e'), (b'j"o\\e', b'j"o\\e')),
                (DIGEST.replace(b'realm=""', b'realm="example.org"'), (b"joe", b"\0joe\0example.org")),
                (DIGEST + b',authzid="boss"', (b"boss", b"boss\0joe")),
                (DIGEST + b',authzid="joe"', (b"joe", b"joe")),
                (DIGEST.replace(b'""', b'"r"') + b',authzid="boss"', (b"boss", b"boss\0joe\0r")),
                (utf8 + b",charset=utf-8", (b"j\xc3\xa4", b"j\xc3\xa4")),
                (utf8, NOBODY),
                (DIGEST.replace(b"joe", b"j\xe4") + b",charset=utf-8", NOBODY),
                (DIGEST + b',username="eve"', NOBODY),
                (DIGEST + b',USERNAME="eve"', NOBODY),
                (DIGEST + b",", NOBODY),
                (DIGEST + b",,x=y", NOBODY),
                (DIGEST.replace(b'joe"', b"joe"), NOBODY),
                (DIGEST.replace(b"joe", b"j\0e"), NOBODY),
                (DIGEST.replace(b"joe", b""), NOBODY),
                (b"username=joe", (b"joe", b"joe")),
                (b'realm="x"', NOBODY),
                (b"", NOBODY),
            ],
        )
        self.assertEqual(said(watch(b"DIGEST-MD5", DIGEST)), (b"joe", b"joe"))

    def test_scram(self) -> None:
        for mechanism in (b"SCRAM-SHA-1", b"SCRAM-SHA-256-PLUS"):
            self.check(
                mechanism,
                (b"c=biws,r=xy,p=AAAA", b""),
                [
                    (b"n,,n=joe,r=x", (b"joe", b"joe")),
                    (b"y,,n=joe,r=x,e=ext", (b"joe", b"joe")),
                    (b"p=tls-exporter,,n=joe,r=x", (b"joe", b"joe")),
                    (b"n,a=boss,n=joe,r=x", (b"boss", b"boss\0joe")),
                    (b"n,a=joe,n=joe,r=x", (b"joe", b"joe")),
                    (b"n,a=b=2Co,n=j=3De=2C=2C,r=x", (b"b,o", b"b,o\0j=e,,")),
                    (b"n,,n=j=3D2Ce,r=x", (b"j=2Ce", b"j=2Ce")),
                    (b"n,,n=j=2ce,r=x", NOBODY),
                    (b"n,,n=j=e,r=x", NOBODY),
                    (b"n,,n=j\0e,r=x", NOBODY),
                    (b"n,,n=j\xe4,r=x", NOBODY),
                    (b"n,,n=,r=x", NOBODY),
                    (b"n,a=,n=joe,r=x", NOBODY),
                    (b"n,,m=x,n=joe,r=x", NOBODY),
                    (b"n,n=joe,r=x", NOBODY),
                    (b"p=,,n=joe,r=x", NOBODY),
                    (b"x,,n=joe,r=x", NOBODY),
                    (b"n,,n=joe", NOBODY),
                    (b"n,,n=joe,r=", NOBODY),
                    (b"n,,n=joe,n=eve,r=x", NOBODY),
                ],
            )
        first, final = b"n,,n=joe,r=x", b"c=biws,r=xy,p=AAAA"
        self.assertEqual(said(watch(b"SCRAM-SHA-1", first)), (b"joe", None))
        self.assertEqual(said(watch(b"SCRAM-SHA-1", first, final)), (b"joe", b"joe"))

    def test_tokens_vouch_for_nobody(self) -> None:
        token = b"\x01host=h\x01port=143\x01auth=Bearer xyz\x01\x01"
        self.check(
            b"OAUTHBEARER",
            (),
            [
                (b"n,a=joe@example.org," + token, (b"joe@example.org", None)),
                (b"n,a=j=2Ce," + token, (b"j,e", None)),
                (b"n,," + token, NOBODY),
                (b"n,a=joe," + token[:-1], NOBODY),
                (b"n,a=joe" + token, NOBODY),
                (b"n,a=j\xe4," + token, NOBODY),
            ],
        )
        self.check(
            b"XOAUTH2",
            (),
            [
                (b"user=joe@example.org\x01auth=Bearer xyz\x01\x01", (b"joe@example.org", None)),
                (b"user=\x01auth=Bearer xyz\x01\x01", NOBODY),
                (b"user=j\xe4\x01auth=Bearer xyz\x01\x01", NOBODY),
                (b"user=joe\x01auth=Bearer xyz\x01", NOBODY),
                (b"auth=Bearer xyz\x01\x01", NOBODY),
            ],
        )

    def test_unknown_mechanisms(self) -> None:
        for mechanism in (b"EXTERNAL", b"ANONYMOUS", b"GSSAPI", b"NTLM", b"X-OWN"):
            self.assertEqual(said(watch(mechanism, b"\0joe\0pw")), NOBODY)
            self.assertEqual(said(watch(mechanism, initial=b"joe")), NOBODY)
            self.assertFalse(tells_first(mechanism))

    def test_odd_commands(self) -> None:
        for rest in (
            b"",
            b" ",
            b" PLAIN ",
            b' "PLAIN"',
            b" {5}",
            b" PLAIN AA== AA==",
            b" PL\xe4IN",
            b" " + b"X" * 21,
            b" PLAIN *",
        ):
            command = parse_command(b"a AUTHENTICATE" + rest)
            assert command is not None
            made = LoginWatch(command, 100)
            made.literal_passes(b"PLAIN", True)
            made.line_passes(b64encode(b"\0joe\0pw"))
            self.assertEqual(said(made), NOBODY, rest)
            self.assertIsNone(parse_authenticate(rest))
        self.assertEqual(parse_authenticate(b" scram-sha-1 AA=="), Authenticate(b"SCRAM-SHA-1", b"AA=="))

    # The shape of the dialogue

    def test_cancelled(self) -> None:
        self.assertEqual(said(watch(b"PLAIN", None)), NOBODY)
        self.assertEqual(said(watch(b"LOGIN", b"joe", None)), NOBODY)
        self.assertEqual(said(watch(b"LOGIN", None, b"joe", b"pw")), NOBODY)

    def test_a_server_that_disregards_the_initial_response(self) -> None:
        self.assertIsNone(watch(b"PLAIN", b"\0eve\0pw", initial=b"\0joe\0x").user)
        self.assertIsNone(watch(b"LOGIN", b"eve", b"pw", initial=b"joe").user)
        first, final = b",r=x", b"c=biws,r=xy,p=AAAA"
        self.assertIsNone(watch(b"SCRAM-SHA-1", b"n,,n=eve" + first, final, initial=b"n,,n=joe" + first).user)
        self.assertIsNone(watch(b"SCRAM-SHA-1", b"n,,n=eve" + first, final, b"", initial=b"n,,n=joe" + first).user)

    def test_too_many_responses(self) -> None:
        self.assertIsNone(watch(b"PLAIN", b"\0joe\0pw", b"").user)
        self.assertIsNone(watch(b"LOGIN", b"joe", b"pw", b"").user)
        self.assertIsNone(watch(b"CRAM-MD5", b"joe " + HEX, b"").user)
        self.assertIsNone(watch(b"DIGEST-MD5", DIGEST, b"x").user)
        self.assertIsNone(watch(b"DIGEST-MD5", DIGEST, b"", b"").user)

    def test_none_yet(self) -> None:
        self.assertEqual(said(watch(b"PLAIN")), NOBODY)

    def test_no_initial_response_where_the_server_begins(self) -> None:
        self.assertEqual(said(watch(b"CRAM-MD5", initial=b"joe " + HEX)), NOBODY)
        self.assertEqual(said(watch(b"DIGEST-MD5", DIGEST, initial=b"")), NOBODY)

    def test_empty_initial_response(self) -> None:
        self.assertEqual(said(watch(b"PLAIN", initial=b"")), NOBODY)

    def test_base64_is_read_strictly(self) -> None:
        right = b64encode(b"\0joe\0pw")
        self.assertEqual(decode_response(right), b"\0joe\0pw")
        self.assertEqual(decode_response(b""), b"")
        for text in (
            b"AGpvZQBwdw",
            b"AGpvZQBwdx==",
            b"=AGpvZQBwdw==",
            b"AGpv ZQBwdw==",
            b"AGpvZQBwdw===",
            b"AGpvZQBwdw==\n",
            b"=",
        ):
            self.assertIsNone(decode_response(text), text)
        made = watch(b"PLAIN")
        made.line_passes(right + b" ")
        self.assertEqual(said(made), NOBODY)
        made = watch(b"LOGIN", b"joe")
        made.line_passes(b"!")
        self.assertIsNone(made.user)

    names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8).map(str.encode)

    @given(names, names, names, names)
    def test_identities_differ(self, one: bytes, two: bytes, three: bytes, four: bytes) -> None:
        """
        Two users have one key only if they are the same.
        """
        pairs = [(one, two), (three, four), (one, b""), (three, b""), (two, one)]
        keys = {(own, other if other != own else b""): watch(b"PLAIN", other + b"\0" + own + b"\0x").user for own, other in pairs}
        self.assertNotIn(None, keys.values())
        self.assertEqual(len(set(keys.values())), len(keys))

    @given(names, names)
    def test_scram_names_are_those_of_plain(self, own: bytes, other: bytes) -> None:
        escaped = [name.replace(b"=", b"=3D").replace(b",", b"=2C") for name in (own, other)]
        scram = watch(b"SCRAM-SHA-256", b"n,a=%b,n=%b,r=x" % (escaped[1], escaped[0]), b"c=biws,r=x,p=x")
        self.assertEqual(said(scram), said(watch(b"PLAIN", other + b"\0" + own + b"\0x")))

    # Junk and secrets

    mechanisms = st.sampled_from([b"PLAIN", b"LOGIN", b"CRAM-MD5", b"DIGEST-MD5", b"SCRAM-SHA-1", b"OAUTHBEARER", b"XOAUTH2"])
    junk = st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(b64encode))

    @given(mechanisms, st.none() | junk, st.lists(junk, max_size=4))
    def test_junk_never_raises(self, mechanism: bytes, initial: bytes | None, lines: list[bytes]) -> None:
        command = parse_command(b"a AUTHENTICATE " + mechanism + (b"" if initial is None else b" " + initial))
        assert command is not None
        made = LoginWatch(command, 100)
        for line in lines:
            made.literal_passes(line, True)
            made.line_passes(line)
        self.assertTrue(made.user is None or made.claimed is not None)

    def test_nothing_secret_is_kept_or_printed(self) -> None:
        for made in (
            watch(b"PLAIN", initial=b"\0joe\0SECRET"),
            watch(b"LOGIN", b"joe", b"SECRET"),
            watch(b"CRAM-MD5", b"joe " + HEX),
            watch(b"XOAUTH2", b"user=joe\x01auth=Bearer SECRET\x01\x01"),
            login(b" joe SECRET"),
        ):
            kept = [repr(getattr(made, name)) for name in LoginWatch.__slots__]
            self.assertIn("joe", "".join(kept))
            for text in (repr(made), *kept):
                for secret in ("SECRET", HEX.decode(), b64encode(b"SECRET").decode()):
                    self.assertNotIn(secret, text)
        self.assertNotIn("AGpvZQ", repr(parse_authenticate(b" PLAIN AGpvZQBwdw==")))
