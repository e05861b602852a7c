"""
Before login: nobody waits without end, and nobody is left without a word.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

from twisted.internet.address import IPv6Address
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.client.roamer import Phase
from tests.agent.ground import LOGIN, Ground, Program
from tests.agent.puppet import GREETING, PuppetGround

_CONTINUOUS = b"* OK [CAPABILITY IMAP4rev1 XCONTINUITY] ready\r\n"


class WaitingTests(SynchronousTestCase):
    def ended(self, ground: PuppetGround, program: Program, said: bytes) -> None:
        """
        That was the last word, and nothing is left.
        """
        self.assertEqual(program.take(), said)
        self.assertTrue(program.transport.closed)
        ground.pass_time(1.0)
        self.assertEqual((ground.account.ends, ground.clock.getDelayedCalls()), ([], []))

    def test_no_greeting(self) -> None:
        """
        The program is told so in time, whatever it says meanwhile, and the log without C{--verbose}.
        """
        ground = PuppetGround(greeting_time=20.0)
        program = ground.program()
        ground.pass_time(15.0)
        self.assertEqual(program.say(LOGIN), b"")
        ground.puppet.say(b"* ")
        ground.pass_time(4.0)
        self.assertFalse(program.transport.closed)
        with capturedLogs() as logged:
            ground.pass_time(2.0)
        self.ended(ground, program, b"* BYE [UNAVAILABLE] The mail server does not greet\r\n")
        warned = [formatEvent(one) for one in logged if one["log_level"].name == "warn"]
        self.assertEqual(warned, ["test 1: The mail server does not greet"])
        self.assertNotIn(b"LOGIN", ground.puppet.heard)

    def test_slow_greeting(self) -> None:
        """
        In pieces, but in time.
        """
        ground = PuppetGround(greeting_time=20.0)
        program = ground.program()
        for place in range(0, len(GREETING), 5):
            ground.puppet.say(GREETING[place : place + 5])
            ground.pass_time(1.0)
        self.assertEqual(program.take(), GREETING)
        ground.pass_time(30.0)
        self.assertFalse(program.transport.closed)

    def test_no_answer(self) -> None:
        """
        To a login: each octet of the server begins the wait anew.
        """
        ground = PuppetGround(login_answer=90.0)
        program = ground.program()
        ground.puppet.say(GREETING)
        program.take()
        program.say(LOGIN)
        ground.pass_time(80.0)
        ground.puppet.say(b"* OK patience\r\n")
        ground.pass_time(80.0)
        self.assertEqual((program.take(), program.transport.closed), (b"* OK patience\r\n", False))
        ground.pass_time(11.0)
        self.ended(ground, program, b"* BYE [UNAVAILABLE] The mail server does not answer\r\n")

    def test_no_answer_inside_a_response(self) -> None:
        """
        Nothing is put into it: the connection ends.
        """
        ground = PuppetGround(login_answer=90.0)
        program = ground.program()
        ground.puppet.say(GREETING)
        program.take()
        program.say(b"a0 NOOP\r\n")
        ground.puppet.say(b"* X {10}\r\n12345")
        ground.pass_time(91.0)
        self.ended(ground, program, b"* X {10}\r\n12345")

    def test_no_answer_to_start(self) -> None:
        """
        The login is done, but no session begins.
        """
        ground = PuppetGround(login_answer=90.0)
        program = ground.program()
        ground.puppet.say(_CONTINUOUS)
        program.take()
        program.say(LOGIN + b"a2 NOOP\r\n")
        ground.puppet.say(b"a1 OK in\r\n")
        self.assertTrue(ground.puppet.heard.endswith(b" XCONTINUITY START\r\n"))
        ground.pass_time(91.0)
        ground.pass_time(11.0)
        self.ended(ground, program, b"a1 OK in\r\n* BYE [UNAVAILABLE] The mail server does not answer\r\n")

    def test_nobody_logs_in(self) -> None:
        ground = PuppetGround(login_idle=300.0)
        program = ground.program()
        ground.puppet.say(GREETING)
        program.take()
        ground.pass_time(250.0, 1.0)
        program.say(b"a0 NOOP\r\n")
        ground.puppet.say(b"a0 OK\r\n")
        program.take()
        ground.pass_time(299.0, 1.0)
        self.assertFalse(program.transport.closed)
        ground.pass_time(2.0)
        self.ended(ground, program, b"* BYE Nobody logs in\r\n")

    def test_the_program_is_asked(self) -> None:
        """
        For a literal, or in a dialogue: it is not the server that does not answer.
        """
        for said, asked in ((b"a1 LOGIN {3}\r\n", b"+ go\r\n"), (b"a1 AUTHENTICATE PLAIN\r\n", b"+ \r\n")):
            ground = PuppetGround(login_answer=90.0, login_idle=300.0)
            program = ground.program()
            ground.puppet.say(GREETING)
            program.take()
            program.say(said)
            ground.puppet.say(asked)
            self.assertEqual(program.take(), asked)
            ground.pass_time(299.0, 1.0)
            self.assertFalse(program.transport.closed)
            ground.pass_time(2.0)
            self.ended(ground, program, b"* BYE Nobody logs in\r\n")

    def test_nothing_is_waited_for_later(self) -> None:
        """
        Behind a login with or without a session programs may be silent for as long as they like.
        """
        ground = PuppetGround()
        program = ground.program()
        ground.puppet.say(_CONTINUOUS)
        program.say(LOGIN)
        ground.puppet.say(b"a1 OK in\r\n")
        tag = ground.puppet.heard.splitlines()[-1].split()[0]
        ground.puppet.say(tag + b" BAD what\r\n")
        self.assertIs(program.roamer.phase, Phase.PLAIN)
        ground.pass_time(4000.0, 10.0)
        self.assertFalse(program.transport.closed)
        self.assertEqual(ground.clock.getDelayedCalls(), [])
        self.assertTrue(ground.puppet.wires[-1].keep_alive)

    def test_servers_that_cannot_be_used(self) -> None:
        """
        The program is told something, and the log why.
        """
        for said, why in (
            (b"* PREAUTH welcome\r\n", "the server lets everybody in without a login (PREAUTH)"),
            (b"HTTP/1.0 400 Bad request\r\n", "the server does not greet like an IMAP server"),
            (b"x" * 20000, "the server said a line of more than 16384 octets before login"),
            (b"", "the server has closed the connection before its greeting"),
        ):
            ground = PuppetGround()
            program = ground.program()
            with capturedLogs() as logged:
                ground.puppet.say(said)
                if not said:
                    ground.puppet.close()
            heard = program.take()
            self.assertTrue(heard.startswith(b"* BYE [UNAVAILABLE] "), (said, heard))
            self.assertEqual(heard.count(b"\r\n"), 1)
            self.assertTrue(program.transport.closed)
            warned = [formatEvent(one) for one in logged if one["log_level"].name == "warn"]
            self.assertEqual(warned, [f"test 1: {why}"])

    def test_the_servers_own_bye(self) -> None:
        """
        No other is put behind it.
        """
        ground = PuppetGround()
        program = ground.program()
        ground.puppet.say(b"* BYE come back later\r\n")
        self.ended(ground, program, b"* BYE come back later\r\n")

    def test_too_many_programs(self) -> None:
        """
        One more is told so, and is not connected to the server; when one has gone there is room again.
        """
        ground = PuppetGround(programs=2)
        programs = [ground.program() for _ in range(3)]
        self.assertTrue(programs[2].take().startswith(b"* BYE [LIMIT] "))
        self.assertTrue(programs[2].transport.closed)
        self.assertEqual((len(ground.puppet.wires), len(ground.account.ends)), (2, 2))
        programs[0].transport.lose()
        ground.pass_time(1.0)
        self.assertEqual(ground.program().take(), b"")
        self.assertEqual(len(ground.puppet.wires), 3)

    def test_a_program_that_reads_no_more(self) -> None:
        """
        Its connection is closed, and it does not take that: it is broken off within C{linger}.
        """
        ground = PuppetGround(linger=30.0)
        program = ground.program()
        aborted: list[float] = []
        self.patch(program.transport, "loseConnection", lambda: None)
        self.patch(program.transport, "abortConnection", lambda: aborted.append(ground.clock.seconds()))
        ground.puppet.say(b"* BYE come back later\r\n")
        ground.pass_time(29.0)
        self.assertEqual(aborted, [])
        ground.pass_time(2.0)
        self.assertEqual(len(aborted), 1)

    def test_loopback_by_another_name(self) -> None:
        """
        A port of both families tells of 127.0.0.1 like this.
        """
        program = Program(Ground(), IPv6Address("TCP", "::ffff:127.0.0.1", 5))
        program.take()
        self.assertNotIn(b"LOGINDISABLED", program.say(b"a0 CAPABILITY\r\n"))


def _octets_kept(*others: bytes) -> Iterator[bytes]:
    """
    All octets that something refers to which the collector knows.

    @param others: and these.
    """
    for one in [*gc.get_objects(), list(others)]:
        for found in gc.get_referents(one):
            if isinstance(found, (bytes, bytearray)):
                yield bytes(found)


class PasswordTests(SynchronousTestCase):
    def test_forgotten(self) -> None:
        """
        Once somebody is logged in, nothing refers to the password any more; however it was said.
        """
        backwards = b"nigol eht htiw enog".replace(b" ", b"")
        for flight in (b"a1 LOGIN joe %b\r\n", b'a1 LOGIN joe "%b"\r\n', b"a1 LOGIN joe {%d+}\r\n%b\r\n"):
            for first in (100, 30):
                ground = PuppetGround()
                program = ground.program()
                ground.puppet.say(GREETING)
                told: Any = (len(backwards), backwards[::-1]) if b"%d" in flight else backwards[::-1]
                program.say((flight % told)[:first])
                program.say((flight % told)[first:])
                del told
                self.assertIn(backwards[::-1], ground.puppet.heard)
                if first == 100:
                    self.assertTrue(any(backwards[::-1] in one for one in _octets_kept(ground.puppet.heard)))
                ground.puppet.say(b"a1 OK in\r\n")
                self.assertTrue(program.end.relaying)
                ground.puppet.wires[-1].clear()
                gc.collect()
                self.assertEqual([one for one in _octets_kept() if backwards[::-1] in one], [])
