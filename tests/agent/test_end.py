"""
What a mail program sees while links come and go: on a clock, octet by octet.
"""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.agent.account import AgentFactory
from mem_continuity.client.roamer import Phase
from mem_continuity.core.policy import Policy
from tests.agent.ground import LOGIN, Ground, Program
from tests.support.site import Site

_STILL_HERE = b"* OK Still here; the way to the mail server is sought\r\n"


class LoginTests(SynchronousTestCase):
    """
    Until the session has begun.
    """

    def test_greeting_has_no_word_of_ours(self) -> None:
        """
        The program sees its server's greeting and capabilities, without what ends at the agent.
        """
        program = Program(Ground())
        self.assertIn(b"* OK", program.take())
        self.assertIn(b"XCONTINUITY", program._ground.gates["wlan"].wires[0].heard)
        said = program.say(b"a0 CAPABILITY\r\n")
        self.assertTrue(said.endswith(b"a0 OK CAPABILITY completed\r\n"), said)
        for word in (b"XCONTINUITY", b"CLIENTID", b"STARTTLS", b"LOGINDISABLED"):
            self.assertNotIn(word, said)

    def test_session_begins_behind_the_login(self) -> None:
        ground = Ground()
        program = Program(ground).log_in()
        self.assertIs(program.roamer.phase, Phase.LIVE)
        self.assertEqual(ground.site.logins, ["joe"])

    def test_names_itself(self) -> None:
        """
        CLIENTID and START are said around the login, and the program hears of neither.
        """
        ground = Ground(client_id=(b"UUID", b"23bf83be"))
        program = Program(ground)
        heard = program.take() + program.say(LOGIN) + program.say(b"a2 NOOP\r\n")
        said = b"".join(one.octets for one in ground.site.trace if one.who == "C")
        self.assertLess(said.index(b" CLIENTID UUID 23bf83be\r\n"), said.index(LOGIN))
        self.assertLess(said.index(LOGIN), said.index(b" XCONTINUITY START\r\n"))
        self.assertEqual([line.split()[0] for line in heard.splitlines() if not line.startswith(b"*")], [b"a1", b"a2"])
        for word in (b"CLIENTID", b"XCONTINUITY"):
            self.assertNotIn(word, heard)

    def test_pipelined_behind_the_login(self) -> None:
        """
        What a program sends in one flight with its login goes into the session.
        """
        program = Program(Ground())
        program.take()
        said = program.say(LOGIN + b"a2 SELECT INBOX\r\na3 NOOP\r\na4 CAPABILITY\r\n")
        places = [said.index(tag + b" OK") for tag in (b"a1", b"a2", b"a3", b"a4")]
        self.assertEqual(places, sorted(places))
        self.assertIs(program.roamer.phase, Phase.LIVE)

    def test_passwords_of_other_hosts_need_tls(self) -> None:
        program = Program(Ground(), IPv4Address("TCP", "192.0.2.9", 5))
        program.take()
        self.assertIn(b"LOGINDISABLED", program.say(b"a0 CAPABILITY\r\n"))
        self.assertTrue(program.say(LOGIN).startswith(b"a1 NO [PRIVACYREQUIRED]"))
        self.assertEqual(program._ground.site.logins, [])

    def test_server_cannot_be_reached(self) -> None:
        ground = Ground()
        ground.shut()
        program = Program(ground)
        self.assertTrue(program.take().startswith(b"* BYE [UNAVAILABLE] "))
        self.assertTrue(program.transport.closed)
        self.assertEqual(ground.account.ends, [])

    def test_program_gives_up_while_connecting(self) -> None:
        """
        Nothing is left: no connection that is being made, no timer.
        """
        ground = Ground()
        ground.gates["wlan"].mode = "black"
        program = Program(ground)
        program.transport.lose()
        ground.site.settle()
        self.assertEqual((ground.gates["wlan"].cancelled, ground.account.ends), (1, []))
        self.assertEqual(ground.site.clock.getDelayedCalls(), [])

    def test_link_lost_before_login(self) -> None:
        """
        There is no session yet: the program's connection ends, with BYE.
        """
        ground = Ground()
        program = Program(ground)
        program.take()
        ground.shut()
        self.assertTrue(program.take().startswith(b"* BYE [UNAVAILABLE] "))
        self.assertTrue(program.transport.closed)
        self.assertEqual(ground.account.ends, [])

    def test_server_without_continuity(self) -> None:
        """
        A server that will not begin a session (here for want of TLS) is an ordinary connection, and a lost link its end.
        """
        ground = Ground(site=Site(allow_insecure=False))
        ground.gates["wlan"].strip_tls()
        program = Program(ground)
        program.take()
        self.assertIn(b"a0 OK", program.say(b"a0 CAPABILITY\r\n"))


class AwayTests(SynchronousTestCase):
    """
    The session has no link.
    """

    def test_nothing_is_closed_and_nothing_lost(self) -> None:
        """
        A command that is said while away is answered once there is a link again.
        """
        ground = Ground(keep_warm=0.0)
        program = Program(ground).log_in()
        ground.shut()
        self.assertIs(program.roamer.phase, Phase.AWAY)
        self.assertEqual(program.say(b"a3 NOOP\r\n"), b"")
        ground.pass_time(300.0, 1.0)
        self.assertEqual((program.take(), program.transport.closed), (b"", False))
        ground.open()
        ground.pass_time(60.0, 1.0)
        self.assertIn(b"a3 OK", program.take())
        self.assertEqual(program.roamer.handovers, 1)

    def test_kept_warm(self) -> None:
        """
        Not before the time, so often, and no more once there is a link.
        """
        ground = Ground(keep_warm=20.0)
        program = Program(ground).log_in()
        ground.shut()
        program.say(b"a3 NOOP\r\n")
        ground.pass_time(19.0, 1.0)
        self.assertEqual(program.take(), b"")
        ground.pass_time(2.0, 1.0)
        self.assertEqual(program.take(), _STILL_HERE)
        ground.pass_time(40.0, 1.0)
        self.assertEqual(program.take(), _STILL_HERE * 2)
        ground.open()
        ground.pass_time(60.0, 1.0)
        self.assertIs(program.roamer.phase, Phase.LIVE)
        program.take()
        ground.pass_time(100.0, 1.0)
        self.assertEqual(program.take(), b"")

    def test_seldom_in_idle(self) -> None:
        """
        A program there waits for nothing, and may take any word for news; but when it has said DONE it waits.
        """
        ground = Ground(keep_warm=10.0, keep_warm_idle=100.0)
        program = Program(ground).log_in()
        program.say(b"a3 IDLE\r\n")
        ground.shut()
        ground.pass_time(99.0, 1.0)
        self.assertEqual(program.take(), b"")
        ground.pass_time(12.0, 1.0)
        self.assertEqual(program.take(), _STILL_HERE)
        program.say(b"DONE\r\n")
        ground.pass_time(9.0, 1.0)
        self.assertEqual(program.take(), b"")
        ground.pass_time(8.0, 1.0)
        self.assertEqual(program.take(), _STILL_HERE)

    def test_kept_warm_while_in_doubt(self) -> None:
        """
        The link is not given up yet, but the program waits: since its own words, not since the doubt.
        """
        ground = Ground(keep_warm=10.0, probe_timeout=60.0)
        program = Program(ground).log_in()
        ground.pass_time(100.0, 1.0)
        ground.gates["wlan"].mode = "black"
        wire = ground.gates["wlan"].wires[-1]
        wire.silence()
        self.assertEqual(program.say(b"a3 NOOP\r\n"), b"")
        ground.pass_time(9.5, 0.5)
        self.assertTrue(program.roamer.doubtful)
        self.assertEqual(program.take(), b"")
        ground.pass_time(1.0, 0.5)
        self.assertEqual((program.take(), program.roamer.phase), (_STILL_HERE, Phase.LIVE))

    def test_a_doubt_that_is_over_says_nothing(self) -> None:
        ground = Ground(keep_warm=10.0)
        program = Program(ground).log_in()
        ground.gates["wlan"].mode = "black"
        wire = ground.gates["wlan"].wires[-1]
        wire.slow = 2.0
        self.assertEqual(program.say(b"a3 NOOP\r\n"), b"")
        ground.pass_time(30.0, 0.5)
        self.assertNotIn(_STILL_HERE, program.take())

    def test_never_inside_a_response(self) -> None:
        """
        Cut all along a FETCH with a literal: the sign of life stands between responses or nowhere, and what the program hears
        beside it is what it hears without a cut.
        """
        whole = self._fetch(None)
        places = {}
        for cut_after in range(0, 250, 3):
            said = self._fetch(cut_after)
            self.assertEqual(said.replace(_STILL_HERE, b""), whole, cut_after)
            if _STILL_HERE in said:
                place = said.index(_STILL_HERE)
                self.assertIn(whole[:place][-2:], (b"\r\n", b""))
                self.assertFalse(whole.index(b"BODY[]") < place < whole.index(b"a3 OK"), said)
            places[_STILL_HERE in said] = cut_after
        self.assertEqual(set(places), {True, False})

    def _fetch(self, cut_after: int | None) -> bytes:
        ground = Ground(keep_warm=1.0)
        ground.site.mailbox().deliver(b"Subject: lines\r\n\r\none\r\n* 2 EXISTS\r\nthree\r\n")
        program = Program(ground).log_in()
        wire = ground.gates["wlan"].wires[-1]
        if cut_after is not None:
            ground.gates["wlan"].mode = "shut"
            wire.count_from_now()
            wire.cut_after = (1, cut_after)
        said = program.say(b"a3 FETCH 1 (BODY.PEEK[])\r\n")
        ground.pass_time(2.5, 0.5)
        said += program.take()
        ground.open()
        ground.pass_time(20.0, 1.0)
        return said + program.take()

    def test_never_while_the_program_says_a_literal(self) -> None:
        ground = Ground(keep_warm=1.0)
        program = Program(ground).log_in()
        self.assertTrue(program.say(b"a3 APPEND INBOX () {10}\r\n").startswith(b"+"))
        program.say(b"01234")
        ground.shut()
        ground.pass_time(5.0, 0.5)
        self.assertEqual(program.take(), b"")
        program.end.dataReceived(b"56789\r\n")
        ground.open()
        ground.pass_time(20.0, 1.0)
        self.assertIn(b"a3 OK", program.take())

    def test_never_when_the_dialogue_cannot_be_followed(self) -> None:
        """
        Behind COMPRESS nothing is said, not even at the end.
        """
        ground = Ground(keep_warm=1.0, give_up=30.0)
        program = Program(ground).log_in()
        program.end._patience.program_data(b"a9 COMPRESS DEFLATE\r\n")
        program.end._patience.server_data(b"a9 OK compressed\r\n")
        ground.shut()
        ground.pass_time(60.0, 1.0)
        self.assertEqual((program.take(), program.transport.closed), (b"", True))

    def test_a_slow_server_slows_the_program(self) -> None:
        """
        While away so much is kept as the window has room for; then the program is not read.
        """
        ground = Ground(Policy(window=4096))
        program = Program(ground).log_in()
        ground.shut()
        self.assertTrue(program.transport.reading)
        program.say(b"a3 NOOP\r\n" * 500)
        self.assertFalse(program.transport.reading)
        ground.open()
        ground.pass_time(60.0, 1.0)
        self.assertTrue(program.transport.reading)
        self.assertEqual(program.take().count(b"a3 OK"), 500)

    def test_a_slow_program_slows_the_server(self) -> None:
        ground = Ground()
        program = Program(ground).log_in()
        program.transport.producer.pauseProducing()
        self.assertEqual(program.say(b"a3 NOOP\r\n"), b"")
        program.transport.producer.resumeProducing()
        self.assertIn(b"a3 OK", program.take())


class EndTests(SynchronousTestCase):
    """
    It is over.
    """

    def test_logout(self) -> None:
        """
        The server's own BYE and no other; nothing is left anywhere.
        """
        ground = Ground()
        program = Program(ground).log_in()
        said = program.say(b"a3 LOGOUT\r\n")
        ground.pass_time(5.0)
        said += program.take()
        self.assertEqual((said.count(b"* BYE"), said.count(b"a3 OK")), (1, 1))
        self.assertTrue(program.transport.closed)
        self.assertEqual((ground.account.ends, ground.site.logouts), ([], ["joe"]))

    def test_program_closes(self) -> None:
        """
        Without LOGOUT: the session ends at the server, and is not kept there.
        """
        ground = Ground()
        program = Program(ground).log_in()
        program.transport.lose()
        ground.pass_time(5.0)
        self.assertEqual((ground.account.ends, ground.site.logouts), ([], ["joe"]))

    def test_program_closes_while_away(self) -> None:
        """
        What it said last still gets there, within the policy's linger.
        """
        ground = Ground(linger=30.0)
        program = Program(ground).log_in()
        ground.shut()
        program.say(b"a3 CREATE last\r\n")
        program.transport.lose()
        ground.pass_time(2.0)
        self.assertEqual(len(ground.account.ends), 1)
        ground.open()
        ground.pass_time(20.0)
        self.assertIn(b"a3 CREATE last\r\n", ground.site.servers[0].heard)
        self.assertEqual((ground.account.ends, ground.site.logouts), ([], ["joe"]))

    def test_session_gone(self) -> None:
        """
        The server does not know it any more: BYE at once, and the log says how far it had got.
        """
        ground = Ground(Policy(grace=5.0), keep_warm=0.0)
        program = Program(ground).log_in()
        ground.shut()
        program.say(b"a3 NOOP\r\n")
        ground.pass_time(10.0, 1.0)
        self.assertEqual(program.take(), b"")
        ground.open()
        with capturedLogs() as logged:
            ground.pass_time(60.0, 1.0)
        lines = [formatEvent(one) for one in logged if "account" in one and "lost" in formatEvent(one)]
        self.assertEqual(lines, ["test 1: the session is lost (ENDED): the server had received 17 of 26 octets"])
        self.assertEqual(program.take(), b"* BYE [UNAVAILABLE] The connection to the mail server is lost\r\n")
        self.assertTrue(program.transport.closed)
        self.assertEqual(ground.account.ends, [])

    def test_session_gone_inside_a_literal(self) -> None:
        """
        Nothing is invented, neither inside the server's literal nor inside the program's: the connection ends.
        """
        for inside_the_servers in (True, False):
            ground = Ground(Policy(grace=5.0), keep_warm=1.0)
            ground.site.mailbox().deliver(b"Subject: lines\r\n\r\n" + b"0123456789\r\n" * 20)
            program = Program(ground).log_in()
            wire = ground.gates["wlan"].wires[-1]
            if inside_the_servers:
                wire.count_from_now()
                wire.cut_after = (1, 150)
                ground.gates["wlan"].mode = "shut"
                said = program.say(b"a3 FETCH 1 (BODY.PEEK[])\r\n")
                self.assertIn(b"BODY[] {", said)
            else:
                program.say(b"a3 APPEND INBOX () {1000}\r\n")
                program.say(b"01234")
            ground.shut()
            with capturedLogs() as logged:
                ground.pass_time(10.0, 1.0)
                ground.open()
                ground.pass_time(60.0, 1.0)
            self.assertEqual((program.take(), program.transport.closed), (b"", True))
            self.assertIn("the session is lost", "".join(formatEvent(one) or "" for one in logged))

    def test_what_is_told(self) -> None:
        """
        A line for each event: the account, the connection, a word, and what happened; nothing of what was said.
        """
        with capturedLogs() as logged:
            ground = Ground(keep_warm=0.0)
            program = Program(ground).log_in()
            ground.shut()
            ground.pass_time(3.0, 0.1)
            ground.open()
            ground.pass_time(3.0, 0.1)
            program.say(b"a3 LOGOUT\r\n")
            ground.pass_time(3.0, 0.1)
        lines = [formatEvent(one) or "" for one in logged if one["log_namespace"] == "mem_continuity.agent"]
        words = [line.split(": ")[1] for line in lines]
        self.assertEqual([word for word in words if word != "trying"], ["connected", "live", "away", "live", "ended"])
        self.assertTrue(all(line.startswith("test 1: ") for line in lines), lines)
        self.assertRegex(lines[-2], r"resumed by wlan, .*; it was away for 3\.\d s$")
        self.assertNotIn("secret", "".join(lines))

    def test_agent_stops(self) -> None:
        ground = Ground()
        program = Program(ground).log_in()
        stopping = AgentFactory(ground.account).shutdown()
        self.assertEqual(program.take(), b"* BYE The agent on this host stops\r\n")
        ground.pass_time(3.0)
        self.successResultOf(stopping)
        self.assertEqual((ground.account.ends, ground.site.logouts), ([], ["joe"]))

    def test_agent_stops_while_away(self) -> None:
        """
        It does not wait for what may never come.
        """
        ground = Ground()
        Program(ground).log_in()
        ground.shut()
        stopping = AgentFactory(ground.account).shutdown()
        ground.pass_time(3.0)
        self.successResultOf(stopping)
        ground.pass_time(1.0)
        self.assertEqual(ground.account.ends, [])
