"""
Tests of L{mem_continuity.imap.preamble}: what passes, and what is ours.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mem_continuity.core.policy import Policy
from mem_continuity.imap.actions import (
    Authenticated,
    Extension,
    Over,
    Refused,
    StartTLS,
    ToClient,
    ToServer,
)
from mem_continuity.imap.preamble import ServerPreamble
from tests.imap import cut, cuts, single
from tests.imap.preamble_case import GREETING, SHOWN_GREETING, PreambleCase, announce


class PreambleTests(PreambleCase):
    """
    The machine between a link and L{ToyServer}.
    """

    # Streaming

    def test_greeting_and_capability(self) -> None:
        self.begin(None)
        self.preamble.server_data(GREETING)
        self.send(b"a CAPABILITY\r\n")
        self.assertEqual(self.transcript.to_client, SHOWN_GREETING + b"* CAPABILITY IMAP4rev1 IDLE XCONTINUITY\r\na OK done\r\n")

    def test_words_are_asked_anew(self) -> None:
        words = [b"ONE"]
        preamble = ServerPreamble(Policy(), lambda: tuple(words))
        preamble.server_data(b"* CAPABILITY A\r\n")
        words[:] = [b"TWO"]
        preamble.server_data(b"* CAPABILITY A\r\n")
        self.assertEqual(preamble.next_action(), ToClient(b"* CAPABILITY A ONE\r\n* CAPABILITY A TWO\r\n"))

    def test_one_command_at_a_time(self) -> None:
        self.preamble.client_data(b"a NOOP\r\nb NOOP\r\n")
        self.assertEqual(self.preamble.next_action(), ToServer(b"a NOOP\r\n"))
        self.assertIsNone(self.preamble.next_action())
        self.assertEqual((self.preamble.waiting, self.preamble.current_tag, self.preamble.buffered), (True, b"a", 8))
        self.preamble.server_data(b"* 1 EXISTS\r\nb OK not this\r\na OK done\r\n")
        self.assertEqual(self.preamble.next_action(), ToClient(b"* 1 EXISTS\r\nb OK not this\r\na OK done\r\n"))
        self.assertEqual(self.preamble.next_action(), ToServer(b"b NOOP\r\n"))

    def test_literal_waits_for_invitation(self) -> None:
        self.preamble.client_data(b"a LOGIN {3}\r\njoe {2}\r\npw\r\nb NOOP\r\n")
        self.assertEqual(self.preamble.next_action(), ToServer(b"a LOGIN {3}\r\n"))
        self.assertIsNone(self.preamble.next_action())
        for answer in self.server.receive(b"a LOGIN {3}\r\n"):
            self.preamble.server_data(answer)
        self.pull()
        self.assertEqual(self.server.commands, [b"a LOGIN {3}\r\njoe {2}\r\npw\r\n", b"b NOOP\r\n"])
        self.assertEqual(self.actions(), [Authenticated(b"a", b"joe")])

    def test_refused_literal_never_comes(self) -> None:
        self.preamble.client_data(b"a ID {9}\r\n")
        self.assertEqual(self.preamble.next_action(), ToServer(b"a ID {9}\r\n"))
        self.preamble.server_data(b"a BAD no\r\n")
        self.send(b"b NOOP\r\n")
        self.assertEqual(self.server.commands, [b"b NOOP\r\n"])

    def test_refused_non_synchronizing_literal_comes(self) -> None:
        self.preamble.client_data(b"a ID {6+}\r\nb ")
        self.assertEqual(self.preamble.next_action(), ToServer(b"a ID {6+}\r\n"))
        self.preamble.server_data(b"a BAD no\r\n")
        self.preamble.client_data(b"X\r\nx\r\nc CLIENTID UUID x\r\n")
        self.pull()
        self.assertEqual(self.transcript.to_server, b"b X\r\nx\r\n")
        self.assertEqual(self.actions(), [Extension(b"c", b"CLIENTID", [b"UUID", b"x"], None)])

    def test_authenticate(self) -> None:
        self.send(b"a AUTHENTICATE PLAIN\r\nxxxx\r\nb NOOP\r\n")
        self.assertEqual(self.server.commands, [b"a AUTHENTICATE PLAIN\r\nxxxx\r\n", b"b NOOP\r\n"])
        self.assertEqual(self.actions(), [Authenticated(b"a", None)])
        self.assertTrue(self.preamble.authenticated)

    def test_users(self) -> None:
        for arguments, user in [
            (b"joe pw", b"joe"),
            (b'"j\\"o e" pw', b'j"o e'),
            (b"{3+}\r\nj\r\n pw", b"j\r\n"),
            (b"{3}\r\njoe {3}\r\nxyz", b"joe"),
            (b"{0+}\r\n {3+}\r\nxyz", b""),
            (b"joe {2+}\r\npw", b"joe"),
            (b'joe"x" pw', None),
            (b"j\xe4 pw", None),
            (b"joe", None),
            (b'"joe pw', None),
        ]:
            self.begin()
            self.send(b"a LOGIN " + arguments + b"\r\n")
            self.assertEqual(self.actions(), [Authenticated(b"a", user)], arguments)
            self.assertEqual(self.preamble.user, user)

    def test_failed_login(self) -> None:
        self.server.answers[b"LOGIN"] = b"TAG NO wrong\r\n"
        self.send(b"a LOGIN joe pw\r\n")
        self.assertEqual((self.actions(), self.preamble.authenticated), ([], False))

    def test_user_of_a_failed_login_is_forgotten(self) -> None:
        for login in (b"b AUTHENTICATE PLAIN\r\nxyz\r\n", b"b LOGIN j\xe4 pw\r\n"):
            self.begin()
            self.server.answers[b"LOGIN"] = b"TAG NO wrong\r\n"
            self.send(b"a LOGIN joe pw\r\n")
            del self.server.answers[b"LOGIN"]
            self.send(login)
            self.assertEqual(self.actions(), [Authenticated(b"b", None)])
            self.assertIsNone(self.preamble.user)

    def test_authenticated_stands_before_its_answer(self) -> None:
        self.send(b"a LOGIN joe pw\r\n")
        self.assertEqual(self.transcript.events, [(Authenticated(b"a", b"joe"), 0)])
        self.assertEqual(self.transcript.to_client, b"a OK done\r\n")

    def test_preauth(self) -> None:
        self.begin(b"* PREAUTH hi\r\n")
        self.assertEqual(self.actions(), [Authenticated(b"*", None)])
        self.preamble.server_data(b"* PREAUTH again\r\n")
        self.pull()
        self.assertEqual(len(self.actions()), 1)

    def test_malformed_lines_do_not_wait(self) -> None:
        junk = b"\r\nfoo\r\n a NOOP\r\n+ NOOP\r\n* NOOP\r\nbare\nlf\r\n\xff\xff x\r\n+x y {4}\r\n+x y {4+}\r\nfoo!\r\n"
        for octet in single(junk):
            self.preamble.client_data(octet)
        self.preamble.client_data(b"a NOOP\r\n")
        forwarded = b""
        while (action := self.preamble.next_action()) is not None:
            assert isinstance(action, ToServer)
            forwarded += action.octets
        self.assertEqual((forwarded, self.preamble.current_tag), (junk + b"a NOOP\r\n", b"a"))

    def test_logout(self) -> None:
        self.send(b"a LOGOUT\r\n")
        self.assertEqual((self.actions(), self.server.commands), ([], [b"a LOGOUT\r\n"]))

    def test_over(self) -> None:
        self.send(b"a NOOP\r\nb SELECT {5}\r\nINBOX\r\nc CLIENTID A b\r\n", b"d XCONTINUITY START\r\n")
        self.assertEqual(self.actions(), [Over(b"b SELECT {5}\r\nINBOX\r\nc CLIENTID A b\r\n")])
        self.assertTrue(self.preamble.over)
        self.assertEqual(self.transcript.to_server.count(b"START"), 1)
        before = len(self.transcript.to_client)
        self.preamble.server_data(b"* CAPABILITY X\r\n* CAPAB")
        self.pull()
        self.assertEqual(self.transcript.to_client[before:], b"* CAPABILITY X\r\n* CAPAB")

    def test_over_shows_what_was_held_back_of_the_server(self) -> None:
        self.preamble.server_data(b"* CAPAB")
        self.send(b"b SELECT x\r\n")
        self.assertEqual(self.transcript.to_client[:7], b"* CAPAB")

    def test_server_literals_hide_lines(self) -> None:
        octets = b"* X {28}\r\na OK\r\n* CAPABILITY X\r\n12345)\r\n"
        self.preamble.client_data(b"a NOOP\r\n")
        self.preamble.next_action()
        self.preamble.server_data(octets)
        self.pull()
        self.assertEqual((self.transcript.to_client, self.preamble.current_tag), (octets, b"a"))

    def test_long_answer_ends_the_command(self) -> None:
        self.server.answers[b"NOOP"] = b"TAG OK " + b"x" * 40000 + b"\r\n"
        self.send(b"a NOOP\r\nb NOOP\r\n")
        self.assertEqual(len(self.server.commands), 2)
        self.assertEqual(len(self.transcript.to_client), 2 * 40007)

    # STARTTLS

    def test_scenario_17_octets_behind_starttls_never_run(self) -> None:
        self.send(b"a STARTTLS\r\nb CLIENTID A evil\r\nc LOGIN eve x\r\n")
        self.assertEqual(self.transcript.events, [(StartTLS(), 0)])
        self.assertEqual((self.server.commands, self.transcript.to_client), ([b"a STARTTLS\r\n"], b"a OK done\r\n"))
        self.send(b"d LOGIN joe pw\r\n")
        self.assertEqual(self.server.commands[1:], [b"d LOGIN joe pw\r\n"])

    def test_scenario_17_octets_before_the_answer_is_written_never_run(self) -> None:
        self.preamble.client_data(b"a STARTTLS\r\n")
        self.preamble.next_action()
        self.preamble.server_data(b"a OK go\r\n")
        self.assertEqual(self.preamble.next_action(), StartTLS())
        self.preamble.client_data(b"b NOOP\r\n")
        self.assertEqual(self.preamble.next_action(), ToClient(b"a OK go\r\n"))
        self.assertIsNone(self.preamble.next_action())
        self.preamble.client_data(b"c NOOP\r\n")
        self.assertEqual(self.preamble.next_action(), ToServer(b"c NOOP\r\n"))

    def test_refused_starttls_drops_nothing(self) -> None:
        self.server.answers[b"STARTTLS"] = b"TAG NO\r\n"
        self.send(b"a STARTTLS\r\nb NOOP\r\n")
        self.assertEqual((self.actions(), self.server.commands[1:]), ([], [b"b NOOP\r\n"]))

    def test_forget_client(self) -> None:
        self.preamble.client_data(b"a\tSTARTTLS\r\nb NOOP\r\n")
        self.assertEqual(self.preamble.next_action(), ToServer(b"a\tSTARTTLS\r\n"))
        self.preamble.forget_client()
        self.assertIsNone(self.preamble.next_action())

    # Our own commands

    def test_extension_stands_still(self) -> None:
        self.preamble.client_data(b"a xcontinuity start\r\nrest\r\n")
        self.assertEqual(self.preamble.next_action(), Extension(b"a", b"XCONTINUITY", [b"start"], None))
        self.assertIsNone(self.preamble.next_action())
        self.assertEqual(self.preamble.buffered, 6)
        self.preamble.server_data(b"* 3 EXISTS\r\n* 4 EX")
        self.assertEqual(self.preamble.next_action(), ToClient(b"* 3 EXISTS\r\n"))
        self.assertEqual(self.preamble.take_rest(), b"rest\r\n")
        self.assertTrue(self.preamble.over)
        self.assertEqual(self.preamble.next_action(), ToClient(b"* 4 EX"))

    @given(st.lists(st.binary(max_size=12), max_size=4), cuts, st.booleans())
    def test_scenario_35_values_arrive_exactly(self, values: list[bytes], places: list[int], waits: bool) -> None:
        self.begin()
        plus = b"" if waits else b"+"
        octets = b"a CLIENTID" + b"".join(b" {%d%b}\r\n%b" % (len(value), plus, value) for value in values) + b"\r\n"
        self.send(*cut(octets, places))
        self.assertEqual(self.actions(), [Extension(b"a", b"CLIENTID", values, None)])
        self.assertEqual(self.transcript.to_client.count(b"+ Ready"), len(values) if waits else 0)
        self.assertEqual(self.server.commands, [])

    def test_scenario_35_quoted_or_refused(self) -> None:
        for argument, value in [
            (b'"a\tb\\"\xc3\xa4"', b'a\tb"\xc3\xa4'),
            (b'"a\nb"', None),
            (b'"a\rb"', None),
            (b'"a\x00b"', None),
            (b'"a\xe4b"', None),
            (b"a\tb", None),
            (b"a\x00b", None),
            (b"{1+}\r\naX", None),
            (b'"open', None),
        ]:
            self.begin()
            self.send(b"a CLIENTID UUID " + argument + b"\r\nb NOOP\r\n")
            (action,) = self.actions()
            if value is None:
                assert isinstance(action, Refused)
                self.assertRegex(action.octets, rb"^a BAD [ -~]+\r\n\Z")
                self.assertFalse(action.close)
            else:
                self.assertEqual(action, Extension(b"a", b"CLIENTID", [b"UUID", value], None))
            self.assertEqual(self.server.commands, [b"b NOOP\r\n"])

    def test_resume_literal(self) -> None:
        for octets, arguments, literal in [
            (b"resume id {4+}\r\n\r\n\x00\xff\r\n", [b"resume", b"id"], b"\r\n\x00\xff"),
            (b"RESUME id\r\n", [b"RESUME", b"id"], None),
            (b"{6+}\r\nRESUME\r\n", [b"RESUME"], None),
            (b"RESUME {2+}\r\nid x\r\n", [b"RESUME", b"id", b"x"], None),
            (b"GRAFT {2+}\r\nid\r\n", [b"GRAFT", b"id"], None),
        ]:
            self.begin()
            self.send(b"r XCONTINUITY " + octets)
            self.assertEqual(self.actions(), [Extension(b"r", b"XCONTINUITY", arguments, literal)])

    RESUME = b"r1 xcontinuity Resume id 1 0 0 pr+/oof= {8+}\r\na NOOP\r\n\r\n"

    def test_scenario_09_resume_before_the_greeting_split_at_every_octet(self) -> None:
        expected = Extension(b"r1", b"XCONTINUITY", [b"Resume", b"id", b"1", b"0", b"0", b"pr+/oof="], b"a NOOP\r\n")
        octets = self.RESUME + b"FRAMES"
        splits = [[octets[:place], octets[place:]] for place in range(len(octets))] + [list(single(octets))]
        for parts in splits:
            self.begin(None)
            preamble, actions = self.preamble, []
            for part in parts:
                preamble.client_data(part)
                while (action := preamble.next_action()) is not None:
                    actions.append(action)
            self.assertEqual(actions, [expected])
            self.assertIs(preamble.first_is_resume(), True)
            self.assertFalse(preamble.bound)
            self.assertEqual(preamble.take_rest(), b"FRAMES")

    def test_refused_resume_leaves_an_ordinary_link(self) -> None:
        self.begin(None)
        self.preamble.client_data(self.RESUME + b"a LOGIN joe pw\r\n")
        self.assertIsInstance(self.preamble.next_action(), Extension)
        self.preamble.proceed()
        self.assertEqual(self.preamble.next_action(), ToServer(b"a LOGIN joe pw\r\n"))
        self.assertTrue(self.preamble.bound)

    def test_first_is_resume(self) -> None:
        for octets, expected in [
            (b"", None),
            (b"r", None),
            (b"r xcont", None),
            (b"r XCONTINUITY ", None),
            (b"r XCONTINUITY RES", None),
            (b"r XCONTINUITY RESUME ", True),
            (b"r XCONTINUITY RESUME\r", True),
            (b"r XCONTINUITY RESUMED", False),
            (b"r XCONTINUITY START\r\n", False),
            (b"r XCONTINUITY\r\n", False),
            (b"r NOOP", False),
            (b"r\r", False),
            (b" X", False),
            (b"t" * 256, False),
        ]:
            for parts in ([octets], list(single(octets))):
                preamble = ServerPreamble(Policy(), announce, bound=False)
                for part in parts:
                    preamble.client_data(part)
                self.assertIs(preamble.first_is_resume(), expected, octets)
        preamble.client_data(b"\r\nr XCONTINUITY RESUME \r\n")
        self.assertIs(preamble.first_is_resume(), False)

    def test_other_extensions_wait_for_the_greeting(self) -> None:
        self.begin(None)
        self.preamble.client_data(b"a CLIENTID UUID x\r\n")
        self.assertEqual(self.preamble.next_action(), ToServer(b""))
        self.assertIsNone(self.preamble.next_action())
        self.preamble.server_data(b"* OK h")
        self.assertIsNone(self.preamble.next_action())
        self.preamble.server_data(b"i\r\n")
        self.assertEqual(self.preamble.next_action(), ToClient(b"* OK hi\r\n"))
        self.assertIsInstance(self.preamble.next_action(), Extension)

    def test_nothing_of_ours_inside_a_response(self) -> None:
        self.preamble.server_data(b"* X {4}\r\nab")
        self.preamble.client_data(b"a CLIENTID UUID {1}\r\n")
        self.assertEqual(self.preamble.next_action(), ToClient(b"* X {4}\r\nab"))
        self.assertIsNone(self.preamble.next_action())
        self.preamble.server_data(b"cd)\r\n")
        self.assertEqual(self.preamble.next_action(), ToClient(b"cd)\r\n"))
        self.assertEqual(self.preamble.next_action(), ToClient(b"+ Ready for 1 octets\r\n"))
