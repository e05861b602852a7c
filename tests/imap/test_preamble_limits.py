"""
Tests of L{mem_continuity.imap.preamble}: limits, any split, any junk, linear work.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.policy import Policy
from mem_continuity.imap.actions import (
    Action,
    Extension,
    Over,
    Refused,
    ToClient,
    ToServer,
)
from mem_continuity.imap.preamble import ServerPreamble
from mem_continuity.imap.relay import LineBuffer
from tests.imap import ToyServer, Transcript, cut, cuts, pull, single
from tests.imap.preamble_case import GREETING, PreambleCase, announce, events


class PreambleLimitTests(PreambleCase):
    """
    The machine under those who do it no good.
    """

    # Limits

    def test_oversize_literals(self) -> None:
        for octets, refused in [
            (b"a CLIENTID A {101}\r\n", b"a BAD Literals of CLIENTID are limited to 100 octets\r\n"),
            (b"a CLIENTID A {101+}\r\n", b"* BYE Literals of CLIENTID are limited to 100 octets\r\n"),
            (
                b"a CLIENTID {60+}\r\n" + b"x" * 60 + b" {41}\r\n",
                b"a BAD Literals of CLIENTID are limited to 100 octets\r\n",
            ),
        ]:
            self.begin(preamble_literal=100)
            self.send(octets + b"b NOOP\r\n")
            close = refused.startswith(b"*")
            self.assertEqual(self.actions(), [Refused(refused, close)])
            self.assertEqual(self.server.commands, [] if close else [b"b NOOP\r\n"])
            self.assertEqual(self.preamble.buffered, 0)

    def test_oversize_lines(self) -> None:
        endless = b"x" * 70
        for octets in (endless, b"a NOOP " + endless, b"a CLIENTID " + endless, b"a CLIENTID" + b" {0+}\r\n" * 10, b"\r" * 70):
            for parts in ([octets + b"\r\n"], list(single(octets))):
                self.begin(preamble_line=64)
                self.send(*parts)
                (action,) = self.actions()
                self.assertEqual(action, Refused(b"* BYE The line is longer than 64 octets\r\n", True), octets)
                self.send(b"b NOOP\r\n")
                self.assertEqual((self.server.commands, len(self.actions()), self.preamble.buffered), ([], 1, 0))

    def test_longest_line_passes(self) -> None:
        line = b"a NOOP".ljust(64, b"x")
        self.assertEqual(len(line), 64)
        for parts in ([line + b"\r\n"], list(single(line + b"\r\n"))):
            self.begin(preamble_line=64)
            self.send(*parts)
            self.assertEqual(events(self.actions()), ["Over"])

    def test_bare_lf_ends_nothing(self) -> None:
        self.send(b"a CLIENTID A b\nb NOOP\r")
        self.assertEqual(self.actions(), [])
        self.send(b"\n")
        self.assertEqual(events(self.actions()), ["Refused"])

    # Any split, any junk

    DIALOGUE = (
        b'a CAPABILITY\r\nb CLIENTID UUID {4}\r\nx\r\ny\r\njunk\r\nc ID ("a" {3}\r\n{1} {2+}\r\n\r\n)\r\n'
        b'd XCONTINUITY START "open\r\ne AUTHENTICATE PLAIN\r\n=\r\nf LOGIN {3}\r\njoe {2+}\r\npw\r\n'
        b"g XCONTINUITY RESUME x {3+}\r\n\r\n{\r\nh LOGOUT\r\ni NAMESPACE\r\nj SELECT INBOX\r\nk CLIENTID A b\r\n"
    )

    def _talk(self, parts: Iterable[bytes], split: Callable[[bytes], Iterable[bytes]]) -> Transcript:
        preamble, transcript = ServerPreamble(Policy(), announce), Transcript()
        server = ToyServer({b"CAPABILITY": b"* CAPABILITY A\r\n* X {2}\r\n\r\n)\r\nTAG OK [CAPABILITY B] x\r\n"})

        def handle(action: Action) -> bytes | None:
            if isinstance(action, Extension):
                preamble.proceed()
            return action.octets if isinstance(action, Refused) else None

        for part in split(GREETING):
            preamble.server_data(part)
        pull(preamble, transcript)
        for part in parts:
            preamble.client_data(part)
            pull(preamble, transcript, server, handle, split)
        over = transcript.events.pop()[0]  # how much is in it depends on what has arrived
        self.assertIsInstance(over, Over)
        return transcript

    @given(cuts, cuts)
    def test_split_anywhere(self, ours: list[int], theirs: list[int]) -> None:
        whole = self._talk([self.DIALOGUE], lambda octets: [octets])
        self.assertEqual(self._talk(cut(self.DIALOGUE, ours), lambda octets: cut(octets, theirs)), whole)

    def test_single_octets(self) -> None:
        whole = self._talk([self.DIALOGUE], lambda octets: [octets])
        self.assertEqual(self._talk(single(self.DIALOGUE), single), whole)
        self.assertEqual(
            events(whole.actions()),
            ["Extension", "Refused", "Authenticated", "Authenticated", "Extension"],
        )
        self.assertEqual(whole.to_client.count(b"XCONTINUITY"), 3)

    @given(st.binary(max_size=400), cuts, st.binary(max_size=200))
    def test_scenario_38_junk(self, octets: bytes, places: list[int], theirs: bytes) -> None:
        self.begin(preamble_line=64, preamble_literal=64)
        self.preamble.server_data(theirs)
        for part in cut(octets, places):
            self.send(part)
            if not self.preamble.waiting:
                self.assertLessEqual(self.preamble.buffered, len(octets))

    words = st.sampled_from(
        b"a |b |CLIENTID |XCONTINUITY |RESUME |LOGIN |NOOP|AUTHENTICATE X|STARTTLS|\r\n|{3}\r\n|{3+}\r\n|{0}\r\n|{9999}\r\n"
        b'|abc|"|\r|\n|+ |OK |* '.split(b"|")
    )

    @given(st.lists(words, max_size=60).map(b"".join), cuts, st.lists(words, max_size=20).map(b"".join))
    def test_scenario_38_likely_junk(self, octets: bytes, places: list[int], theirs: bytes) -> None:
        self.begin(preamble_line=64, preamble_literal=64)
        self.preamble.server_data(theirs)
        self.send(*cut(octets, places))

    @given(st.lists(words, max_size=40).map(b"".join), cuts)
    def test_server_octets_are_identical_without_capability_data(self, theirs: bytes, places: list[int]) -> None:
        preamble, transcript = ServerPreamble(Policy(preamble_line=64), announce), Transcript()
        for part in cut(theirs, places):
            preamble.server_data(part)
            pull(preamble, transcript)
        preamble.flush()
        pull(preamble, transcript)
        self.assertEqual(transcript.to_client, theirs)

    def test_scenario_38_endless_server_line_is_not_kept(self) -> None:
        passed = 0
        for _ in range(200):
            self.preamble.server_data(b"x" * 10000)
            while (action := self.preamble.next_action()) is not None:
                assert isinstance(action, ToClient)
                passed += len(action.octets)
        self.assertGreaterEqual(passed, 200 * 10000 - 16 * 1024)


class LinearityTests(SynchronousTestCase):
    """
    Work grows as the octets do: counted in lines of Python carried out, and in octets searched.
    """

    def _lines_run(self, call: Callable[[], None]) -> int:
        count = 0

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal count
            count += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            call()
        finally:
            sys.settrace(before)
        return count

    def _serve(self, octets: bytes, parts: Iterable[bytes]) -> None:
        preamble = ServerPreamble(Policy(), announce)
        preamble.server_data(GREETING)
        for part in parts:
            preamble.client_data(part)
            while (action := preamble.next_action()) is not None:
                if isinstance(action, ToServer) and action.octets.endswith(b"NOOP\r\n"):
                    preamble.server_data(b"a OK\r\n")

    def test_pipelined_commands(self) -> None:
        small, large = b"a NOOP\r\n" * 1000, b"a NOOP\r\n" * 4000
        ratio = self._lines_run(lambda: self._serve(large, [large])) / self._lines_run(lambda: self._serve(small, [small]))
        self.assertLess(ratio, 4.2)

    def test_single_octets(self) -> None:
        small, large = b"a CLIENTID A " + b"x" * 1000 + b"\r\n", b"a CLIENTID A " + b"x" * 4000 + b"\r\n"
        ratio = self._lines_run(lambda: self._serve(large, single(large))) / self._lines_run(
            lambda: self._serve(small, single(small))
        )
        self.assertLess(ratio, 4.2)

    def test_no_octet_is_searched_twice(self) -> None:
        buffer = LineBuffer(1000)
        for octet in single(b"x" * 900):
            buffer.feed(octet)
            self.assertIsNone(buffer.take_line())
            self.assertGreaterEqual(buffer._scanned, len(buffer) - 1)
        buffer.feed(b"\r")
        self.assertIsNone(buffer.take_line())
        buffer.feed(b"\n")
        self.assertEqual(buffer.take_line(), b"x" * 900 + b"\r\n")

    def test_scenario_38_a_hundred_thousand_pipelined_commands(self) -> None:
        preamble, answered = ServerPreamble(Policy(), announce), 0
        preamble.client_data(b"a NOOP\r\n" * 100_000)
        while (action := preamble.next_action()) is not None:
            if isinstance(action, ToServer):
                answered += 1
                preamble.server_data(b"a OK\r\n")
        self.assertEqual((answered, preamble.buffered), (100_000, 0))

    test_scenario_38_a_hundred_thousand_pipelined_commands.timeout = 60  # type: ignore[attr-defined]
