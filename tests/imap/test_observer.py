"""
Tests of L{mem_continuity.imap.observer}.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.policy import Policy
from mem_continuity.imap.observer import SelectedMailbox, StateObserver
from tests.imap import cut, cuts, single

#: What passes, by turns: client, server.
SELECT = (b"a SELECT INBOX\r\n", b"* 3 EXISTS\r\n* OK [UIDVALIDITY 77] ok\r\n* FLAGS ()\r\na OK [READ-WRITE] done\r\n")
INBOX = SelectedMailbox(b"INBOX", False, 77)


class ObserverTests(SynchronousTestCase):
    """
    What the observer knows after a dialogue.
    """

    def setUp(self) -> None:
        self.observer = StateObserver(Policy())

    def talk(self, *turns: bytes) -> None:
        for turn, octets in enumerate(turns):
            (self.observer.server_data if turn % 2 else self.observer.client_data)(octets)

    def test_at_rest(self) -> None:
        """
        In IDLE, until DONE; and with nothing in flight.
        """
        observer = StateObserver(Policy())
        self.assertTrue(observer.at_rest)
        for octets, at_rest in ((b"a NOOP\r\n", False), (b"b IDLE\r\n", False)):
            observer.client_data(octets)
            self.assertEqual(observer.at_rest, at_rest)
        observer.server_data(b"a OK done\r\n+ idling\r\n")
        self.assertTrue(observer.at_rest)
        observer.client_data(b"DO")
        self.assertFalse(observer.at_rest)
        observer.client_data(b"NE\r\n")
        self.assertFalse(observer.at_rest)
        observer.server_data(b"b OK done\r\n")
        self.assertTrue(observer.at_rest)

    def test_select(self) -> None:
        self.talk(SELECT[0])
        self.assertEqual((self.observer.mailbox, self.observer.mid_command, self.observer.changed), (None, True, False))
        self.talk(b"", SELECT[1])
        self.assertEqual((self.observer.mailbox, self.observer.mid_command, self.observer.changed), (INBOX, False, True))

    def test_names(self) -> None:
        for argument, name in [
            (b"INBOX", b"INBOX"),
            (b'"a \\"b\\\\ c"', b'a "b\\ c'),
            (b"{3+}\r\na\r\n", b"a\r\n"),
            (b"x (CONDSTORE)", b"x"),
            (b"{1+}\r\nx (QRESYNC (1 2))", b"x"),
            (b"{0+}\r\n", b""),
            (b"{2+}\r\n\xe4\x00", b"\xe4\x00"),
            (b'""', b""),
        ]:
            self.observer = StateObserver(Policy())
            self.talk(b"a SELECT " + argument + b"\r\n", b"a OK\r\n")
            self.assertEqual(self.observer.mailbox, SelectedMailbox(name, False, None), argument)

    def test_synchronizing_literal(self) -> None:
        for size, octets in ((3, b"a{1"), (0, b"")):
            self.observer = StateObserver(Policy())
            self.talk(b"a SELECT {%d}\r\n" % size)
            self.assertTrue(self.observer.client_in_literal)
            self.talk(b"", b"* 1 EXISTS\r\n+ go\r\n", octets)
            self.assertFalse(self.observer.client_in_literal)
            self.assertTrue(self.observer.mid_command)
            self.talk(b"\r\n", b"a OK [READ-ONLY] \r\n")
            self.assertEqual(self.observer.mailbox, SelectedMailbox(octets, True, None))

    def test_unknown_names(self) -> None:
        for argument in (b'"open', b"x\xe4", b"x(", b"", b"{99999+}\r\n" + b"x" * 99999, b"x" * 20000):
            self.observer = StateObserver(Policy())
            self.talk(b"a SELECT " + argument + b"\r\n", b"a OK\r\n")
            self.assertEqual((self.observer.mailbox, self.observer.blind), (None, True), argument[:20])

    def test_examine_is_read_only(self) -> None:
        self.talk(b"a EXAMINE x\r\n", b"a OK [READ-WRITE]\r\n")
        self.assertEqual(self.observer.mailbox, SelectedMailbox(b"x", True, None))

    def test_deselected(self) -> None:
        for turns in (
            (b"b SELECT y\r\n", b"b NO no\r\n"),
            (b"b SELECT y\r\n", b"b BAD no\r\n"),
            (b"b CLOSE\r\n", b"b OK\r\n"),
            (b"b unselect\r\n", b"b ok done\r\n"),
            (b"b LOGOUT\r\n", b"* BYE\r\nb OK\r\n"),
            (b"b SELECT y\r\n", b"* OK [CLOSED] old\r\n"),
        ):
            self.observer = StateObserver(Policy())
            self.talk(*SELECT)
            self.observer.changed = False
            self.talk(*turns)
            self.assertEqual((self.observer.mailbox, self.observer.changed), (None, True), turns)

    def test_still_selected(self) -> None:
        for turns in (
            (b"b CLOSE\r\n", b"b NO\r\n"),
            (b"b NOOP\r\n", b"x OK\r\n* OK [UIDVALIDITY 5]\r\nb OK\r\n"),
            (b"b COMPRESS DEFLATE\r\n", b"b NO\r\n"),
        ):
            self.observer = StateObserver(Policy())
            self.talk(*SELECT)
            self.talk(*turns)
            self.assertEqual((self.observer.mailbox, self.observer.blind, self.observer.mid_command), (INBOX, False, False))

    def test_enabled(self) -> None:
        self.talk(b"a ENABLE condstore UTF8=ACCEPT\r\n", b"* ENABLED condstore\r\n* ENABLED\r\n* enabled X\r\na OK\r\n")
        self.assertEqual(self.observer.enabled, {b"CONDSTORE", b"X"})
        self.assertTrue(self.observer.changed)

    def test_pipelined_selects(self) -> None:
        self.talk(
            b"a SELECT x\r\nb EXAMINE y\r\n",
            b"* OK [UIDVALIDITY 1]\r\na OK [READ-WRITE]\r\n* OK [UIDVALIDITY 2]\r\nb OK [READ-ONLY]\r\n",
        )
        self.assertEqual(self.observer.mailbox, SelectedMailbox(b"y", True, 2))

    def test_blind(self) -> None:
        for turns in (
            (b"b COMPRESS DEFLATE\r\n", b"b OK\r\n\x00b OK\r\n", b"\x00{5}\r\n"),
            (b"b STARTTLS\r\n", b"b OK\r\n"),
            (b"b UNAUTHENTICATE\r\n", b"b OK\r\n"),
            (b"b NOOP\r\nb NOOP\r\n",),
            (b"b APPEND x {5}\r\nhello\r\n",),
            (b"nonsense{5+}\r\n",),
            (b"".join(b"t%d NOOP\r\n" % number for number in range(1001)),),
            ((b"t" * 9000 + b" NOOP\r\n") + b"".join(b"%d" % n + b"t" * 9000 + b" NOOP\r\n" for n in range(10)),),
        ):
            self.observer = StateObserver(Policy())
            self.talk(*SELECT)
            self.talk(*turns)
            self.assertEqual((self.observer.mailbox, self.observer.blind), (None, True), turns[0][:20])
            self.assertTrue(self.observer.mid_command and self.observer.client_in_literal)
            self.talk(*SELECT)
            self.assertIsNone(self.observer.mailbox)

    def test_idle(self) -> None:
        self.talk(*SELECT)
        self.talk(b"b IDLE\r\n", b"+ idling\r\n* 4 EXISTS\r\n")
        self.assertTrue(self.observer.mid_command)
        self.assertFalse(self.observer.client_in_literal)
        self.talk(b"DONE\r\n", b"b OK\r\n")
        self.assertFalse(self.observer.mid_command)
        self.assertEqual(self.observer.mailbox, INBOX)

    def test_partial_line(self) -> None:
        self.talk(b"a NO")
        self.assertTrue(self.observer.mid_command)
        self.talk(b"OP\r")
        self.assertTrue(self.observer.mid_command)
        self.talk(b"\n", b"a OK\r\n")
        self.assertFalse(self.observer.mid_command)

    def test_literals_hide_lines(self) -> None:
        self.talk(*SELECT)
        self.talk(b"b APPEND x {9+}\r\nz CLOSE\r\n (\r\n", b"* 1 FETCH (BODY[] {8}\r\nb NO\r\n\r\n FLAGS {0}\r\n)\r\n")
        self.assertTrue(self.observer.mid_command)
        self.talk(b"", b"b OK [APPENDUID 1 2] not {9}\r\n")
        self.assertEqual((self.observer.mailbox, self.observer.mid_command), (INBOX, False))

    def test_refused_literals(self) -> None:
        self.talk(b"a APPEND x {99}\r\n", b"a NO too large\r\n")
        self.assertFalse(self.observer.client_in_literal or self.observer.mid_command)
        self.talk(*SELECT)
        self.assertEqual(self.observer.mailbox, INBOX)
        # one that does not wait goes on
        self.talk(b"b APPEND x {10+}\r\n", b"b NO too large\r\n")
        self.assertTrue(self.observer.client_in_literal)
        self.talk(b"c CLOSE\r\n\r\r\n", b"c OK\r\n")
        self.assertEqual((self.observer.mailbox, self.observer.mid_command), (INBOX, False))

    def test_cut_in_a_literal(self) -> None:
        self.talk(b"a APPEND x {10}\r\n", b"+ go\r\n", b"12345")
        self.assertTrue(self.observer.client_in_literal)
        self.talk(b"67890")
        self.assertFalse(self.observer.client_in_literal)
        self.assertTrue(self.observer.mid_command)

    TURNS = (
        *SELECT,
        b"b EXAMINE {4}\r\n",
        b"* X " + b"x" * 50 + b" {3}\r\n\r\n \r\n+ go\r\n",
        b"\r\n{1\r\nc APPEND x " + b"x" * 80 + b" {3+}\r\n{1}\r\nd NOOP\r\n",
        b"* OK [CLOSED]\r\n* OK [UIDVALIDITY 9] x {4}\r\nb OK [READ-ONLY] y\r\n* 1 FETCH (B {7}\r\nd OK\r\n\r C {2}\r\n\r\n)\r\n",
        b"e ENABLE X\r\nf IDLE\r\n",
        b"* ENABLED X Y\r\nc NO {3}\r\ne OK\r\n+ idle\r\n* 5 EXISTS\r\n",
        b"DONE\r\n",
        b"f OK\r\n",
    )

    def _state(self) -> tuple[object, ...]:
        seen = self.observer
        return (seen.mailbox, seen.enabled, seen.blind, seen.client_in_literal, seen.mid_command, seen.changed)

    @given(st.lists(cuts, min_size=len(TURNS), max_size=len(TURNS)), st.booleans())
    def test_split_anywhere(self, places: list[list[int]], each: bool) -> None:
        whole, split = StateObserver(Policy(preamble_line=64)), StateObserver(Policy(preamble_line=64))
        for turn, octets in enumerate(self.TURNS):
            for part in single(octets) if each else cut(octets, places[turn]):
                (split.server_data if turn % 2 else split.client_data)(part)
            (whole.server_data if turn % 2 else whole.client_data)(octets)
            states = []
            for self.observer in (whole, split):
                states.append(self._state())
            self.assertEqual(states[0], states[1], octets)
        self.assertEqual(states[0], (SelectedMailbox(b"\r\n{1", True, 9), {b"X", b"Y"}, False, False, True, True))
        self.assertEqual(set(split._outstanding), {b"d"})

    @given(st.lists(st.tuples(st.booleans(), st.binary(max_size=120))))
    def test_scenario_38_junk(self, turns: list[tuple[bool, bytes]]) -> None:
        self.observer = StateObserver(Policy(preamble_line=64))
        for theirs, octets in turns:
            (self.observer.server_data if theirs else self.observer.client_data)(octets)
        self.assertLessEqual(len(self.observer._client_line.head) + len(self.observer._server_line.head), 128)

    words = st.sampled_from(
        b"a |b |SELECT |APPEND |NOOP|\r\n|{3}\r\n|{3+}\r\n|{0}\r\n|abc|xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
        b'|"|\r|\n|+ |OK |* |* 1 FETCH |* OK [UIDVALIDITY 3]|}\r\n|NO '.split(b"|")
    )

    @given(st.lists(st.tuples(st.booleans(), st.lists(words).map(b"".join))), cuts)
    def test_likely_junk_split_anywhere(self, turns: list[tuple[bool, bytes]], places: list[int]) -> None:
        states = []
        for split in (False, True):
            self.observer = StateObserver(Policy(preamble_line=64))
            for theirs, octets in turns:
                for part in cut(octets, places) if split else [octets]:
                    (self.observer.server_data if theirs else self.observer.client_data)(part)
            states.append(self._state())
        self.assertEqual(states[0], states[1])

    def _lines_run(self, octets: bytes) -> int:
        count = 0

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal count
            count += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            self.observer.server_data(octets)
        finally:
            sys.settrace(before)
        return count

    def test_cheap(self) -> None:
        """
        Neither a long literal nor many lines about messages cost more Python than short ones.
        """
        for unit, end in ((b"x\r\n", b")\r\n"), (b"* 1 FETCH (FLAGS ())\r\n", b"a OK\r\n")):
            costs = []
            for times in (10, 100_000):
                self.observer = StateObserver(Policy())
                octets = unit * times
                before = b"* 1 FETCH (BODY[] {%d}\r\n" % len(octets) if unit.startswith(b"x") else b""
                costs.append(self._lines_run(before + octets + end))
            self.assertEqual(costs[0], costs[1])
