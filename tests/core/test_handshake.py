"""
The commands and answers of the layer, and the proofs: L{mem_continuity.core.handshake}.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.frames import MOST_OFFSET
from mem_continuity.core.handshake import (
    KEY_LENGTH,
    Binding,
    HandshakeError,
    Refusal,
    Refused,
    Resumed,
    ResumeRequest,
    Terms,
    client_proof,
    format_refused,
    format_resume,
    format_resumed,
    format_started,
    new_key,
    new_session_id,
    parse_answer,
    parse_graft,
    parse_resume,
    parse_start,
    parse_started,
    same,
    server_proof,
    valid_node,
    valid_session_id,
)
from mem_continuity.core.resumption import Tombstone
from tests.core.support import KEY, terms

offsets = st.one_of(st.integers(0, MOST_OFFSET), st.sampled_from([0, 2**32, 2**53 + 1, MOST_OFFSET]))
letters = st.text("abcXYZ019_-", min_size=8, max_size=64).map(str.encode)
session_ids = st.builds(lambda node, rest: node[:32] + b"." + rest, letters, letters)
keys = st.binary(min_size=KEY_LENGTH, max_size=KEY_LENGTH)
proofs = st.binary(max_size=64)
terms_strategy = st.builds(
    Terms, session_ids, keys, st.integers(0, 2**31 - 1), st.integers(1, MOST_OFFSET), st.sampled_from(Binding)
)
requests = st.builds(
    ResumeRequest,
    session_ids,
    st.integers(0, 2**32 - 1),
    offsets,
    st.integers(0, MOST_OFFSET - 100),
    proofs,
    st.binary(max_size=100),
    st.one_of(st.none(), st.integers(0, 2**32 - 1)),
)
words = st.one_of(
    st.binary(max_size=40).filter(lambda word: b" " not in word),
    st.sampled_from([b"0", b"-1", b"+1", b"1_0", b" 1", b"\xd9\xa1", b"1" * 21, b"1e3", b"=", b"a===", b"GONE"]),
    offsets.map(lambda number: b"%d" % number),
    session_ids,
)
word_lists = st.lists(words, max_size=7)


def code_words(code: bytes) -> list[bytes]:
    """
    The words of a response code after its name.
    """
    assert code.startswith(b"[XCONTINUITY ") and code.endswith(b"]")
    return code[1:-1].split(b" ")[1:]


class RoundTripTests(SynchronousTestCase):
    @given(terms_strategy)
    def test_start(self, given_terms: Terms) -> None:
        code = format_started(given_terms)
        self.assertEqual(parse_started(code_words(code), given_terms.binding), given_terms)

    @given(st.integers(0, 2**31 - 1))
    def test_grace(self, seconds: int) -> None:
        self.assertEqual(parse_start([b"grace", b"%d" % seconds]), seconds)
        self.assertIsNone(parse_start([]))

    @given(requests)
    def test_resume(self, request: ResumeRequest) -> None:
        line, _, rest = format_resume(b"r1", request).partition(b"\r\n")
        tag, name, verb, *arguments, mark = line.split(b" ")
        self.assertEqual((tag, name, verb), (b"r1", b"XCONTINUITY", b"RESUME"))
        self.assertEqual(mark, b"{%d+}" % len(request.literal))
        self.assertEqual(rest, request.literal + b"\r\n")
        self.assertEqual(parse_resume(arguments, rest[:-2]), request)

    @given(st.builds(Resumed, offsets, proofs, st.one_of(st.none(), offsets)))
    def test_resumed(self, resumed: Resumed) -> None:
        self.assertEqual(parse_answer(True, code_words(format_resumed(resumed))), resumed)

    @given(st.sampled_from(Refusal), offsets)
    def test_refused(self, refusal: Refusal, number: int) -> None:
        bare = refusal in (Refusal.GONE, Refusal.STALE)
        refused = Refused(refusal, None if bare else number)
        parts = code_words(format_refused(refused))
        self.assertEqual(parse_answer(False, parts), refused)
        self.assertEqual(parse_answer(False, [parts[0].lower(), *parts[1:]]), refused)

    @given(session_ids)
    def test_graft(self, session_id: bytes) -> None:
        self.assertEqual(parse_graft([session_id]), session_id)
        self.assertIsNone(parse_graft([]))

    def test_session_ids(self) -> None:
        made = {new_session_id(b"node-1_A") for _ in range(1000)}
        self.assertEqual(len(made), 1000)
        for one in made:
            self.assertTrue(valid_session_id(one))
            self.assertTrue(one.startswith(b"node-1_A."))
        for node in (b"", b"a" * 33, b"a.b", b"a b", b"a\r\n", "nöde".encode()):
            self.assertFalse(valid_node(node))
            self.assertRaises(ValueError, new_session_id, node)

    def test_keys(self) -> None:
        made = {new_key() for _ in range(1000)}
        self.assertEqual((len(made), {len(key) for key in made}), (1000, {KEY_LENGTH}))


class JunkTests(SynchronousTestCase):
    """
    Whatever comes is understood or is a L{HandshakeError}; nothing else is raised.
    """

    @given(word_lists, st.one_of(st.none(), st.binary(max_size=20)), st.booleans())
    def test_scenario_38_any_words(self, given_words: list[bytes], literal: bytes | None, ok: bool) -> None:
        for parse in (
            lambda: parse_start(given_words),
            lambda: parse_started(given_words, Binding.NONE),
            lambda: parse_resume(given_words, literal),
            lambda: parse_answer(ok, given_words),
            lambda: parse_graft(given_words),
        ):
            try:
                parse()
            except HandshakeError as fault:
                self.assertTrue(str(fault).isprintable() and str(fault).isascii())

    def assert_junk(self, text: str, parse: object, *arguments: object) -> None:
        assert callable(parse)
        self.assertIn(text, str(self.assertRaises(HandshakeError, parse, *arguments)))

    def test_start(self) -> None:
        for arguments in ([b"GRACE"], [b"5"], [b"GRACE", b"5", b"5"], [b"ZLIB", b"5"]):
            self.assert_junk("START takes nothing", parse_start, arguments)
        for number in (b"-1", b"", b"1.5", b"%d" % 2**31, b"1" * 30, b"\xb2"):
            self.assert_junk("the grace period is not a number", parse_start, [b"GRACE", number])

    def test_started(self) -> None:
        good = code_words(format_started(terms()))
        short = b64encode(KEY[:-1])
        for place, junk, text in (
            (0, b"no-dot", "session ID"),
            (1, b"?", "not base64"),
            (1, short, "256 bits"),
            (2, b"-1", "grace"),
            (3, b"0", "window"),
            (3, b"%d" % 2**64, "window"),
        ):
            bad = list(good)
            bad[place] = junk
            self.assert_junk(text, parse_started, bad, Binding.NONE)
        self.assert_junk("START", parse_started, good[:-1], Binding.NONE)
        self.assert_junk("START", parse_started, [*good, b"1"], Binding.NONE)

    def test_resume(self) -> None:
        good = [b"node1.abcdefgh", b"1", b"2", b"3", b"AAAA"]
        self.assertEqual(parse_resume(good, b"").literal, b"")
        for place, junk, text in (
            (0, b"node1.short", "no session ID"),
            (0, b"node1.abcdefgh\n", "no session ID"),
            (0, b".abcdefgh", "no session ID"),
            (1, b"%d" % 2**32, "attempt"),
            (1, b"x", "attempt"),
            (2, b"%d" % 2**64, "received"),
            (3, b"%d" % 2**64, "offset"),
            (3, b"+3", "offset"),
            (4, b"AAA", "proof"),
            (4, b"A\tAAA", "proof"),
        ):
            bad = list(good)
            bad[place] = junk
            self.assert_junk(text, parse_resume, bad, b"")
        self.assert_junk("RESUME takes", parse_resume, good, None)
        self.assert_junk("RESUME takes", parse_resume, good[:-1], b"")
        for more in ([b"DRAIN"], [b"1"], [b"DRAIN", b"1", b"1"]):
            self.assert_junk("RESUME takes", parse_resume, [*good, *more], b"")
        self.assert_junk("DRAIN or nothing", parse_resume, [*good, b"WHAT", b"1"], b"")
        self.assert_junk("old link", parse_resume, [*good, b"DRAIN", b"x"], b"")
        self.assertEqual(parse_resume([*good, b"drain", b"0"], b"").drain, 0)
        good[3] = b"%d" % (MOST_OFFSET - 4)
        self.assertEqual(parse_resume(good, b"1234").sent, MOST_OFFSET - 4)
        self.assert_junk("beyond the last offset", parse_resume, good, b"12345")

    def test_answer(self) -> None:
        for words_given in ([], [b"WHAT"], [b"GON", b"1"], [b"\xff"]):
            self.assert_junk("unknown way", parse_answer, False, words_given)
        for name in (b"ENDED", b"BEHIND", b"RETRY"):
            self.assert_junk("number", parse_answer, False, [name])
            self.assert_junk("number", parse_answer, False, [name, b"x"])
            self.assert_junk("number", parse_answer, False, [name, b"1", b"2"])
        for words_given in ([], [b"1"], [b"1", b"AAAA", b"2", b"3"]):
            self.assert_junk("a count, a proof", parse_answer, True, words_given)
        self.assert_junk("count", parse_answer, True, [b"-1", b"AAAA"])
        self.assert_junk("proof", parse_answer, True, [b"1", b"!"])
        self.assert_junk("offset", parse_answer, True, [b"1", b"AAAA", b"-2"])

    def test_graft(self) -> None:
        for junk in ([b"x"], [b"node1.abcdefgh", b"node1.abcdefgh"], [b""]):
            self.assert_junk("GRAFT takes", parse_graft, junk)


Values = tuple[bytes, bytes, Binding, int, int, int, int, bytes]
values = st.tuples(keys, session_ids, st.sampled_from(Binding), offsets, offsets, offsets, offsets, st.binary(max_size=40))


def both_proofs(value: Values) -> tuple[bytes, bytes]:
    key, session_id, binding, attempt, received, sent, count, exported = value
    agreed = Terms(session_id, key, 1, 1, binding)
    return (
        client_proof(agreed, attempt, received, sent, exported),
        server_proof(agreed, attempt, received, sent, exported, count),
    )


class ProofTests(SynchronousTestCase):
    @given(values, values, st.integers(0, 7))
    def test_any_change_of_any_field_changes_the_proof(self, one: Values, other: Values, place: int) -> None:
        changed = list(one)
        changed[place] = other[place]
        assume(changed[place] != one[place])
        before, after = both_proofs(one), both_proofs(tuple(changed))  # type: ignore[arg-type]
        self.assertNotEqual(before[1], after[1])
        if place != 6:  # the server's count is not the client's to say
            self.assertNotEqual(before[0], after[0])

    @given(values)
    def test_the_server_cannot_be_played_with_the_client_s_proof(self, value: Values) -> None:
        client, server = both_proofs(value)
        self.assertNotEqual(client, server)
        self.assertEqual((len(client), len(server)), (32, 32))
        self.assertEqual(both_proofs(value), (client, server))

    @given(values, st.one_of(st.none(), offsets), st.one_of(st.none(), offsets))
    def test_how_the_old_link_ends_is_proved(self, value: Values, one: int | None, other: int | None) -> None:
        assume(one != other)
        key, session_id, binding, attempt, received, sent, count, exported = value
        agreed = Terms(session_id, key, 1, 1, binding)
        client = {client_proof(agreed, attempt, received, sent, exported, drain) for drain in (one, other)}
        server = {server_proof(agreed, attempt, received, sent, exported, count, start) for start in (one, other)}
        self.assertEqual(len(client | server), 4)

    def test_octets_cannot_move_from_one_field_to_the_next(self) -> None:
        agreed = terms(binding=Binding.NONE)
        made = {client_proof(agreed, *numbers, b"") for numbers in ((1, 11, 1), (11, 1, 1), (1, 1, 11), (111, 0, 0))}
        self.assertEqual(len(made), 4)

    def test_scenario_33_the_kinds_of_binding_cannot_be_confused(self) -> None:
        bound, bare = terms(), terms(binding=Binding.NONE)
        for exported in (b"", b"none", b"tls-exporter", b"x" * 32):
            self.assertNotEqual(client_proof(bound, 1, 2, 3, exported), client_proof(bare, 1, 2, 3, exported))
            self.assertNotEqual(client_proof(bound, 1, 2, 3, exported), client_proof(bare, 1, 2, 3, b""))
        # What a field holds cannot make up for what the kind says.
        self.assertNotEqual(
            client_proof(bare, 1, 2, 3, Binding.TLS_EXPORTER.value), client_proof(bound, 1, 2, 3, Binding.NONE.value)
        )

    def test_the_construction_is_the_documented_one(self) -> None:
        fields = [b"XCONTINUITY client resume", terms().session_id, b"4", b"5", b"6", b"tls-exporter", b"exported"]
        encoded = b"".join(len(one).to_bytes(4, "big") + one for one in fields)
        self.assertEqual(client_proof(terms(), 4, 5, 6, b"exported"), hmac.digest(KEY, encoded, "sha256"))
        fields[0] = b"XCONTINUITY server resume"
        fields.insert(5, b"7")
        encoded = b"".join(len(one).to_bytes(4, "big") + one for one in fields)
        self.assertEqual(server_proof(terms(), 4, 5, 6, b"exported", 7), hmac.digest(KEY, encoded, "sha256"))

    def test_comparing_is_left_to_the_constant_time_function(self) -> None:
        asked: list[tuple[bytes, bytes]] = []

        def compare_digest(one: bytes, other: bytes) -> bool:
            asked.append((one, other))
            return hmac_compare(one, other)

        hmac_compare = hmac.compare_digest
        self.patch(hmac, "compare_digest", compare_digest)
        self.assertTrue(same(b"abc", b"abc"))
        self.assertFalse(same(b"abc", b"abd"))
        self.assertFalse(same(b"abc", b""))
        self.assertEqual(len(asked), 3)

    def test_the_key_is_in_no_representation(self) -> None:
        agreed = terms()
        for thing in (agreed, Tombstone(agreed, 5), replace(agreed, window=5)):
            shown = f"{thing!r} {thing!s}"
            self.assertIn(agreed.session_id.decode(), shown)
            for secret in (repr(KEY), repr(KEY)[2:-1], KEY.hex(), b64encode(KEY).decode()):
                self.assertNotIn(secret, shown)
