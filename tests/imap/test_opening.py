"""
Tests of L{mem_continuity.imap.opening}.
"""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.policy import RoamingPolicy
from mem_continuity.imap.actions import Action, Failed, Plain, Started, StartTLS, ToClient, ToServer
from mem_continuity.imap.opening import ClientOpening
from tests.imap import ToyServer, Transcript, cut, cuts, pull, single

GREETING = b"* OK [CAPABILITY IMAP4rev1 XCONTINUITY CLIENTID] hi\r\n"
CLIENT_ID = (b"UUID", b"23bf83be")
NAMING = b"mc0 CLIENTID UUID 23bf83be\r\n"
STARTED = b"TAG OK [XCONTINUITY n1.ab k+/e= 1500 1048576] active\r\n"


class OpeningTests(SynchronousTestCase):
    """
    The machine between a mail program and L{ToyServer}.
    """

    def setUp(self) -> None:
        self.begin()

    def begin(
        self,
        greeting: bytes = GREETING,
        client_id: tuple[bytes, bytes] | None = CLIENT_ID,
        secure: bool = True,
        **limits: int,
    ) -> None:
        self.opening = ClientOpening(RoamingPolicy(**limits), client_id, secure)
        self.server = ToyServer({b"XCONTINUITY": STARTED})
        self.transcript = Transcript()
        self.opening.server_data(greeting)
        self.pull()

    def pull(self) -> None:
        pull(self.opening, self.transcript, self.server)

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self.opening.client_data(part)
            self.pull()

    def actions(self) -> list[Action]:
        return self.transcript.actions()

    def test_whole(self) -> None:
        self.send(b"a LOGIN joe pw\r\nb SELECT INBOX\r\n")
        self.assertEqual(self.server.commands[:3], [NAMING, b"a LOGIN joe pw\r\n", b"mc1 XCONTINUITY START\r\n"])
        self.assertEqual(self.transcript.to_client[:50], b"* OK [CAPABILITY IMAP4rev1] hi\r\na OK done\r\nb OK done\r\n"[:50])
        self.assertEqual(self.actions(), [Started(b"n1.ab", b"k+/e=", 1500.0, 1048576, b"")])
        self.assertEqual(self.server.commands[3:], [b"b SELECT INBOX\r\n"])
        self.assertTrue(self.opening.over)

    def test_key_is_not_shown(self) -> None:
        self.send(b"a LOGIN joe pw\r\n")
        self.assertNotIn("k+/e=", repr(self.actions()))

    def test_same_flight_and_held(self) -> None:
        opening = self.opening
        opening.client_data(b"a LOGIN joe pw\r\n")
        self.assertEqual(opening.next_action(), ToServer(NAMING + b"a LOGIN joe pw\r\n"))
        opening.server_data(b"mc0 OK\r\n* X\r\na OK in\r\n")
        self.assertEqual(opening.next_action(), ToClient(b"* X\r\na OK in\r\n"))
        self.assertEqual(opening.next_action(), ToServer(b"mc1 XCONTINUITY START\r\n"))
        opening.client_data(b"b NOOP\r\nc")
        self.assertIsNone(opening.next_action())
        self.assertEqual(opening.held, 9)
        opening.server_data(b"* CAPABILITY XCONTINUITY A\r\nmc1 OK [XCONTINUITY i k 1.5 9] x\r\n\x00FRAMES\r\n")
        self.assertEqual(opening.next_action(), ToClient(b"* CAPABILITY A\r\n"))
        self.assertEqual(opening.next_action(), Started(b"i", b"k", 1.5, 9, b"\x00FRAMES\r\n"))
        self.assertEqual(opening.next_action(), ToServer(b"b NOOP\r\nc"))
        self.assertIsNone(opening.next_action())
        self.assertEqual(opening.held, 0)

    def test_refused_start(self) -> None:
        for answer in (b"TAG NO not now\r\n", b"TAG BAD what\r\n"):
            self.begin()
            self.server.answers[b"XCONTINUITY"] = answer
            self.send(b"a LOGIN joe pw\r\nb SELECT INBOX\r\n", b"c CAPABILITY\r\n")
            self.assertEqual(self.actions(), [Plain()])
            self.assertEqual(self.server.commands[3:], [b"b SELECT INBOX\r\n", b"c CAPABILITY\r\n"])
            self.assertNotIn(b"mc", self.transcript.to_client)

    def test_unreadable_start(self) -> None:
        for answer in (b"TAG OK\r\n", b"TAG OK [XCONTINUITY a b c d]\r\n", b"TAG OK [XCONTINUITY a b 1 -1]\r\n"):
            self.begin()
            self.server.answers[b"XCONTINUITY"] = answer
            self.send(b"a LOGIN joe pw\r\n")
            (action,) = self.actions()
            self.assertIsInstance(action, Failed)

    def test_not_announced(self) -> None:
        self.begin(b"* OK [CAPABILITY IMAP4rev1] hi\r\n")
        self.send(b"a LOGIN joe pw\r\nb NOOP\r\n")
        self.assertEqual((self.server.commands, self.actions()), ([b"a LOGIN joe pw\r\n", b"b NOOP\r\n"], [Plain()]))

    def test_nothing_announced_at_all(self) -> None:
        self.begin(b"* OK hi\r\n")
        self.send(b"a LOGIN joe pw\r\n")
        self.assertEqual(self.server.commands, [b"a LOGIN joe pw\r\n", b"mc0 XCONTINUITY START\r\n"])

    def test_announced_in_the_answer_to_capability_and_login(self) -> None:
        self.begin(b"* OK hi\r\n")
        self.server.answers[b"CAPABILITY"] = b"* CAPABILITY A clientid\r\nTAG OK\r\n"
        self.server.answers[b"LOGIN"] = b"TAG OK [CAPABILITY B XCONTINUITY=1 XCONTINUITY] in\r\n"
        self.send(b"a CAPABILITY\r\nb LOGIN joe pw\r\n")
        self.assertEqual(self.server.commands[1:3], [NAMING, b"b LOGIN joe pw\r\n"])
        self.assertEqual(self.transcript.to_client, b"* OK hi\r\n* CAPABILITY A\r\na OK\r\nb OK [CAPABILITY B] in\r\n")
        self.assertEqual(len(self.actions()), 1)

    def test_client_id_under_tls_only(self) -> None:
        self.begin(secure=False)
        self.send(b"a LOGIN joe pw\r\n")
        self.assertEqual(self.server.commands[0], b"a LOGIN joe pw\r\n")

    def test_client_id_only_once_and_before_the_first_login(self) -> None:
        self.server.answers[b"LOGIN"] = b"TAG NO wrong\r\n"
        self.send(b"a NOOP\r\nb LOGIN joe pw\r\nc LOGIN joe pw\r\nd AUTHENTICATE PLAIN\r\nx\r\n")
        self.assertEqual(
            self.server.commands[:5],
            [b"a NOOP\r\n", NAMING, b"b LOGIN joe pw\r\n", b"c LOGIN joe pw\r\n", b"d AUTHENTICATE PLAIN\r\nx\r\n"],
        )
        self.assertEqual(len(self.actions()), 1)

    def test_client_ids(self) -> None:
        self.begin(client_id=(b"X", b'a\t"b"'))
        self.send(b"a LOGIN {3}\r\njoe pw\r\n")
        self.assertEqual(self.server.commands[:2], [b'mc0 CLIENTID X "a\t\\"b\\""\r\n', b"a LOGIN {3}\r\njoe pw\r\n"])
        for value in (b"a\r\nb LOGOUT", b"\n", b"\x00", b"\xe4", b""):
            self.assertRaises(ValueError, ClientOpening, RoamingPolicy(), (b"X", value))

    def test_own_tags_differ(self) -> None:
        self.send(b"mc0 LOGIN joe pw\r\n")
        self.assertEqual([command.split()[0] for command in self.server.commands], [b"mc1", b"mc0", b"mc2"])
        self.assertIn(b"mc0 OK done\r\n", self.transcript.to_client)
        self.begin(client_id=None)
        self.send(b"mc0 LOGIN joe pw\r\n")
        self.assertEqual(self.server.commands[-1], b"mc1 XCONTINUITY START\r\n")

    def test_preauth(self) -> None:
        self.begin(b"* PREAUTH hi\r\n")
        self.assertEqual(self.server.commands, [b"mc0 XCONTINUITY START\r\n"])
        self.assertEqual(len(self.actions()), 1)
        self.begin(b"* PREAUTH [CAPABILITY A] hi\r\n")
        self.assertEqual(self.actions(), [Plain()])

    def test_preauth_inside_a_command(self) -> None:
        opening = ClientOpening(RoamingPolicy())
        opening.client_data(b"a ID {3}\r\n")
        self.assertEqual(opening.next_action(), ToServer(b"a ID {3}\r\n"))
        opening.server_data(b"* PREAUTH hi\r\n+ go\r\n")
        opening.client_data(b"abc\r\n")
        self.assertEqual(
            [opening.next_action() for _ in range(4)],
            [ToClient(b"* PREAUTH hi\r\n+ go\r\n"), Plain(), ToServer(b"abc\r\n"), None],
        )

    def test_scenario_17_starttls(self) -> None:
        self.begin(secure=False)
        self.opening.client_data(b"a STARTTLS\r\n")
        self.opening.next_action()
        self.opening.server_data(b"a OK [CAPABILITY EVIL] go\r\n* CAPABILITY XCONTINUITY CLIENTID\r\n")
        self.assertEqual(self.opening.next_action(), StartTLS())
        self.assertEqual(self.opening.next_action(), ToClient(b"a OK [CAPABILITY EVIL] go\r\n"))
        self.assertIsNone(self.opening.next_action())
        self.assertTrue(self.opening.secure)
        self.send(b"b LOGIN joe pw\r\n")
        self.assertEqual(self.server.commands, [b"b LOGIN joe pw\r\n", b"mc0 XCONTINUITY START\r\n"])

    def test_starttls_then_named(self) -> None:
        self.begin(secure=False)
        self.server.answers[b"CAPABILITY"] = b"* CAPABILITY CLIENTID\r\nTAG OK\r\n"
        self.send(b"a STARTTLS\r\n", b"b CAPABILITY\r\n", b"c LOGIN joe pw\r\n")
        self.assertEqual(self.server.commands[2:], [NAMING, b"c LOGIN joe pw\r\n"])
        self.assertEqual(self.actions(), [StartTLS(), Plain()])

    def test_logout_passes(self) -> None:
        self.send(b"a LOGOUT\r\n")
        self.assertEqual((self.server.commands, self.actions()), ([b"a LOGOUT\r\n"], []))

    def test_long_line_gives_up(self) -> None:
        self.begin(preamble_line=64)
        line = b"a LOGIN " + b"x" * 100 + b"\r\nb NOOP\r\n"
        self.send(line)
        self.assertEqual((self.transcript.to_server, self.actions()), (line, [Plain()]))

    def test_long_answer_to_start(self) -> None:
        self.begin(preamble_line=64)
        self.server.answers[b"XCONTINUITY"] = b"TAG NO " + b"x" * 100 + b"\r\n"
        self.send(b"a LOGIN joe pw\r\n")
        self.assertEqual(self.actions(), [Plain()])

    DIALOGUE = (
        b"a CAPABILITY\r\nb ID {3}\r\nx\r\n {2+}\r\n\r\n\r\nc AUTHENTICATE PLAIN\r\nxyz\r\n\r\njunk\r\nd NOOP\r\n"
        b"e LOGIN {3+}\r\njoe pw\r\nf SELECT {5}\r\n"
    )

    def _talk(self, parts: Iterable[bytes], theirs: list[int] | None) -> Transcript:
        opening, transcript = ClientOpening(RoamingPolicy(), CLIENT_ID, True), Transcript()
        server = ToyServer(
            {
                b"CAPABILITY": b"* X {3}\r\na \r {0}\r\n)\r\n* CAPABILITY A CLIENTID\r\nTAG OK\r\n",
                b"AUTHENTICATE": b"TAG NO no {4}\r\n",
                b"LOGIN": b"TAG OK [CAPABILITY XCONTINUITY] in\r\n",
                b"XCONTINUITY": b"* 1 EXISTS\r\n" + STARTED,
            }
        )

        def split(octets: bytes) -> Iterable[bytes]:
            return single(octets) if theirs is None else cut(octets, theirs)

        for part in split(b"* OK hi\r\n"):
            opening.server_data(part)
        for part in parts:
            opening.client_data(part)
            pull(opening, transcript, server, split=split)
        return transcript

    @given(cuts, cuts)
    def test_split_anywhere(self, ours: list[int], theirs: list[int]) -> None:
        self.assertEqual(self._talk(cut(self.DIALOGUE, ours), theirs), self._talk([self.DIALOGUE], []))

    def test_single_octets(self) -> None:
        whole = self._talk([self.DIALOGUE], [])
        self.assertEqual(self._talk(single(self.DIALOGUE), None), whole)
        self.assertEqual(len(whole.events), 1)
        for own in (b"mc0 CLIENTID UUID 23bf83be\r\nc AUTH", b"mc1 XCONTINUITY START\r\n"):
            self.assertEqual(whole.to_server.count(own), 1)
        self.assertNotIn(b"mc", whole.to_client)

    @given(st.binary(max_size=300), st.binary(max_size=300), cuts)
    def test_scenario_38_junk(self, ours: bytes, theirs: bytes, places: list[int]) -> None:
        self.begin(preamble_line=64)
        for one, other in zip(cut(ours, places), cut(theirs, places), strict=False):
            self.opening.client_data(one)
            self.opening.server_data(other)
            self.pull()
