"""
Tests of L{mem_continuity.imap.front} with an upstream from the beginning, which is L{mem_continuity.imap.gate}.
"""

from __future__ import annotations

from base64 import b64encode

from mem_continuity.imap.actions import Action, BeginTLS, Failed, LoggedIn, LoginFailed, ToClient, ToServer
from tests.imap import Transcript, single
from tests.imap.front_case import GREETING, FrontCase, plain

WORDS = (
    b"IMAP4rev1 STARTTLS LOGINDISABLED XCONTINUITY CLIENTID SASL-IR AUTH=PLAIN auth=external AUTH=SCRAM-SHA-256 "
    b"AUTH=SCRAM-SHA-256-PLUS AUTH=SCRAM-SHA-1 COMPRESS=DEFLATE"
)
SHOWN = b"IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=SCRAM-SHA-1"


class CapabilityTests(FrontCase):
    """
    What the upstream says of itself.
    """

    def test_greeting(self) -> None:
        self.begin(greeting=b"* OK [CAPABILITY " + WORDS + b"] hi\r\n")
        self.assertEqual(self.transcript.to_client, b"* OK [CAPABILITY " + SHOWN + b"] hi\r\n")

    def test_every_place(self) -> None:
        for before, after in [
            (b"* CAPABILITY ", b"\r\n"),
            (b"* OK [CAPABILITY ", b"] x\r\n"),
            (b"* NO [CAPABILITY ", b"] x\r\n"),
        ]:
            self.assertEqual(self.say(before + WORDS + after), before + SHOWN + after)
        self.upstream.answers[b"NOOP"] = b"TAG OK [CAPABILITY " + WORDS + b"] x\r\n"
        self.assertEqual(self.send(b"a NOOP\r\n"), b"a OK [CAPABILITY " + SHOWN + b"] x\r\n")
        self.upstream.answers[b"LOGIN"] = b"TAG NO [CAPABILITY " + WORDS + b"] x\r\n"
        self.assertEqual(self.send(b"a LOGIN joe pw\r\n"), b"a NO [CAPABILITY " + SHOWN + b"] x\r\n")

    def test_in_the_clear(self) -> None:
        self.begin(greeting=b"* OK [CAPABILITY " + WORDS + b"] hi\r\n", secure=False, tls=True)
        self.assertEqual(self.transcript.to_client, b"* OK [CAPABILITY IMAP4rev1 SASL-IR STARTTLS LOGINDISABLED] hi\r\n")
        self.tls = False
        self.assertEqual(self.say(b"* CAPABILITY A AUTH=PLAIN\r\n"), b"* CAPABILITY A LOGINDISABLED\r\n")
        self.secure = self.tls = True
        self.assertEqual(self.say(b"* CAPABILITY A AUTH=PLAIN\r\n"), b"* CAPABILITY A AUTH=PLAIN STARTTLS\r\n")

    def test_after_login(self) -> None:
        self.begin(tls=True)
        self.upstream.answers[b"LOGIN"] = b"TAG OK [CAPABILITY " + WORDS + b"] x\r\n* CAPABILITY " + WORDS + b"\r\n"
        self.assertEqual(
            self.send(b"a LOGIN joe pw\r\n"),
            b"a OK [CAPABILITY " + SHOWN + b" COMPRESS=DEFLATE] x\r\n* CAPABILITY " + WORDS + b"\r\n",
        )


class CommandTests(FrontCase):
    """
    What passes, and what is answered here.
    """

    def check(self, octets: bytes, answer: bytes) -> None:
        """
        The upstream gets nothing of it, and what follows is a new command.
        """
        for parts in ([octets + b"z NOOP\r\n"], list(single(octets + b"z NOOP\r\n"))):
            self.begin(secure=self.secure, tls=self.tls)
            self.assertEqual(self.send(*parts), answer + b"\r\nz OK done\r\n", octets)
            self.assertEqual(self.transcript.to_server, b"z NOOP\r\n", octets)
            self.assertEqual(self.actions(), [], octets)

    def test_commands_pass(self) -> None:
        octets = b'a CAPABILITY\r\nb ID ("name"  odd NIL)\r\nc ENABLE X\r\nd SELECT INBOX\r\ne LOGOUT\r\n'
        self.send(octets)
        self.assertEqual(b"".join(self.upstream.commands), octets)
        self.assertEqual((self.actions(), self.front.over), ([], False))

    def test_identity(self) -> None:
        """
        What a server might take for our own word about the client does not pass, however it is written.
        """
        for octets, passed in (
            (b'a ID ("name" {3}\r\nx y "os" NIL)\r\n', b'a ID ("name" "x y" "os" "NIL")\r\n'),
            (b'a ID ("name" {1+}\r\n\n)\r\n', b'a ID ("name" NIL)\r\n'),
            (b'a ID ("x-originating-ip" "192.0.2.1")\r\n', b"a ID NIL\r\n"),
            (b'a ID ("name" "me" "X-Originating-IP" "192.0.2.1")\r\n', b'a ID ("name" "me")\r\n'),
            (b'a ID ({16+}\r\nx-originating-ip "1" "n" "x-y")\r\n', b'a ID ("n" "x-y")\r\n'),
            (b'a ID ("\\x-proxy-ttl" "1")\r\n', b""),
            (b'a ID ("x\\-originating-ip" "192.0.2.1")\r\n', b""),  # Dovecot takes the backslash for nothing
            (b'a ID ("x-session-id" "1" "n")\r\n', b""),
            (b'a ID  ("x-session-id" "1")\r\n', b""),
            (b'a ID ("a" {1}\r\nx\r\n', b""),
        ):
            for parts in ([octets], list(single(octets))):
                self.begin()
                said = self.send(*parts)
                self.assertEqual(b"".join(self.upstream.commands), passed, octets)
                self.assertIn(b"a OK done\r\n" if passed else b"a BAD ", said)

    def test_nothing_before_the_greeting(self) -> None:
        self.begin(greeting=None)
        self.assertEqual(self.send(b"a COMPRESS DEFLATE\r\nb NOOP\r\n"), b"")
        self.assertEqual((self.transcript.to_server, self.front.held), (b"", 28))
        self.assertEqual(self.say(b"* OK hi\r\n")[:25], b"* OK hi\r\na NO [CANNOT] CO")
        self.assertEqual((self.transcript.to_server, self.front.held), (b"b NOOP\r\n", 0))

    def test_nothing_inside_a_response(self) -> None:
        self.say(b"* ID ({2}\r\n")
        self.assertEqual(self.send(b"a COMPRESS DEFLATE\r\n"), b"")
        self.assertEqual(self.say(b"xy)\r\n")[:9], b"xy)\r\na NO")

    def test_not_commands(self) -> None:
        for octets in (b"\r\n", b"x\r\n", b" a NOOP\r\n", b"a  LOGIN joe pw\r\n", b"a\tLOGIN joe pw\r\n", b"* LOGIN joe pw\r\n"):
            self.check(octets, b"* BAD A command begins with a tag, a space, and a name")
        for octets in (b"a LOGIN\tjoe pw\r\n", b"a L\xd6GIN joe pw\r\n", b"+ LOGIN {3+}\r\njoe {2+}\r\npw\r\n"):
            self.check(octets, b"* BAD A command begins with a tag, a space, and a name")

    def test_bare_line_ends(self) -> None:
        for octets in (b"a NOOP x\nb LOGIN joe pw\r\n", b"a NOOP x\rb LOGIN joe pw\r\n", b"a LOGIN joe p\0w\r\n"):
            self.check(octets, b"a BAD A line ends with CRLF, and has no CR, LF or NUL before")

    def test_bare_line_ends_within(self) -> None:
        for octets in (
            b"a LOGIN {3}\r\njoe pw\nb NOOP\r\n",
            b"a AUTHENTICATE PLAIN\r\n*\nb NOOP\r\n",
        ):
            self.begin()
            self.assertIn(b"* BYE A line ends with CRLF", self.send(octets))
            self.assertEqual((len(self.failed()), self.transcript.to_server.count(b"NOOP")), (1, 0))
            self.assertNotIn(b"joe pw", self.transcript.to_server)
            self.assertEnded()

    def test_literals_elsewhere(self) -> None:
        answer = b"a BAD Before login there are literals in LOGIN and ID only"
        for octets in (b"a NOOP {16+}\r\nb LOGIN joe pw\r\n\r\n", b"a SELECT {5}\r\n", b"a FOO {1+}\r\nx {2+}\r\nyz {3}\r\n"):
            self.check(octets, answer)

    def test_compress(self) -> None:
        self.check(b"a COMPRESS DEFLATE\r\n", b"a NO [CANNOT] COMPRESS comes after login")

    def test_logins_in_the_clear(self) -> None:
        self.secure, answer = False, b"a NO [PRIVACYREQUIRED] Log in under TLS"
        for octets in (
            b"a LOGIN joe pw\r\n",
            b"a login {3}\r\n",
            b"a LOGIN {3+}\r\njoe {2}\r\n",
            b"a LOGIN {3+}\r\njoe {10+}\r\nb NOOP\r\nxx\r\n",
            b"a LOGIN {0+}\r\n\r\n",
            b"a AUTHENTICATE PLAIN " + plain(b"joe") + b"\r\n",
            b"a AUTHENTICATE PLAIN\r\n",
            b"a AUTHENTICATE {5+}\r\nPLAIN\r\n",
        ):
            self.check(octets, answer)

    def test_mechanisms_that_need_tls_all_the_way(self) -> None:
        for octets in (b"a AUTHENTICATE scram-sha-1-plus\r\n", b"a authenticate External =\r\n"):
            self.check(octets, b"a NO [CANNOT] This mechanism needs TLS all the way, but TLS ends here")

    def test_odd_authenticate(self) -> None:
        for rest in (b"", b' "EXTERNAL"', b" {8}", b" {8+}\r\nEXTERNAL", b" EXTERNAL x y", b" PLAIN *"):
            self.check(
                b"a AUTHENTICATE" + rest + b"\r\n", b"a BAD AUTHENTICATE takes a mechanism and perhaps an initial response"
            )

    def test_long_lines(self) -> None:
        for octets in (b"a NOOP " + b"x" * 64, b"a NOOP {1+}\r\nx" + b"x" * 70, b"a ID {1+}\r\nx" + b"x" * 70):
            for parts in ([octets + b"\r\n"], list(single(octets))):
                self.begin(preamble_line=64, greeting=b"* OK hi\r\n")
                self.assertEqual(self.send(*parts), b"* BYE The line is longer than 64 octets\r\n")
                self.assertEqual(self.failed(), ["The line is longer than 64 octets"])
                self.assertEnded()

    def test_no_bye_inside_a_response(self) -> None:
        self.begin(preamble_line=64, greeting=b"* OK hi\r\n")
        self.send(b"a ID {1+}\r\nx")
        self.assertEqual(self.say(b"* X {10}\r\nabc"), b"* X {10}\r\nabc")
        self.assertEqual(self.send(b"x" * 70), b"")
        self.assertEqual(self.failed(), ["The line is longer than 64 octets"])

    def test_swallowed_literals_take_no_memory(self) -> None:
        self.secure = False
        self.front.client_data(b"a LOGIN {1000000000000+}\r\n")
        for _ in range(10):
            self.send(b"x" * 100_000)
            self.assertEqual((len(self.front._client), self.front.held), (0, 0))

    # STARTTLS

    def test_starttls(self) -> None:
        self.begin(secure=False, tls=True)
        self.transcript = Transcript()
        self.front.client_data(b"a STARTTLS\r\nb LOGIN eve x\r\n")
        self.assertEqual(self.front.next_action(), ToClient(b"a OK Begin TLS\r\n"))
        self.front.client_data(b"c LOGIN eve x\r\n")
        self.assertEqual(self.front.next_action(), BeginTLS())
        self.secure, self.tls = True, False
        self.assertIsNone(self.front.next_action())
        self.assertEqual(self.front.held, 0)
        self.send(b"d LOGIN joe pw\r\n")
        self.assertEqual((self.transcript.to_server, self.logged_in()), (b"d LOGIN joe pw\r\n", [(b"joe", b"joe")]))

    def test_scenario_17_at_every_octet(self) -> None:
        octets = b"a STARTTLS\r\nb NOOP\r\n"
        for place in range(len(b"a STARTTLS\r\n"), len(octets)):
            self.begin(secure=False, tls=True)
            self.front.client_data(octets[:place])
            self.front.next_action()
            self.front.client_data(octets[place:])
            self.pull()
            self.assertEqual((self.transcript.to_server, self.actions()), (b"", [BeginTLS()]))

    def test_no_starttls(self) -> None:
        self.check(b"a STARTTLS\r\n", b"a BAD STARTTLS cannot be done now")
        self.tls = True
        self.check(b"a STARTTLS x\r\n", b"a BAD STARTTLS cannot be done now")
        self.check(b"a STARTTLS {1+}\r\nx\r\n", b"a BAD STARTTLS cannot be done now")


class UpstreamTests(FrontCase):
    """
    What an upstream says that it should not.
    """

    def test_greetings(self) -> None:
        for greeting, shown, text in [
            (b"* PREAUTH [CAPABILITY X] hi\r\n", b"", "the upstream lets everybody in without a login (PREAUTH)"),
            (b"* BYE full\r\n", b"* BYE full\r\n", "the upstream does not want this connection"),
            (b"220 smtp\r\n", b"", "the upstream does not greet like an IMAP server"),
            (b"* CAPABILITY X\r\n", b"", "the upstream does not greet like an IMAP server"),
            (b"* NO hi\r\n", b"", "the upstream does not greet like an IMAP server"),
            (b"a OK hi\r\n", b"", "the upstream does not greet like an IMAP server"),
            (b"+ OK hi\r\n", b"", "the upstream does not greet like an IMAP server"),
            (b"\r\n", b"", "the upstream does not greet like an IMAP server"),
            (b"\x16\x03\x01" * 7000, b"", "the upstream said a line of more than 16384 octets before login"),
        ]:
            for parts in ([greeting + b"* OK hi\r\n"], list(single(greeting)) if len(greeting) < 99 else [greeting]):
                self.begin(greeting=None)
                self.send(b"a NOOP\r\n")
                for part in parts:
                    self.say(part)
                self.assertEqual((self.transcript.to_client, self.actions()), (shown, [Failed(text)]))
                self.assertEnded()

    def test_answers_to_nothing(self) -> None:
        for octets in (b"a OK hi\r\n", b"* PREAUTH hi\r\n", b"junk\r\n", b"\r\n", b"b OK logged in\r\n", b"b NO no\r\n"):
            for before in (b"", b"a NOOP\r\na2 "):
                self.begin()
                self.upstream.answers[b"NOOP"] = b""
                self.send(before)
                if octets.startswith(b"a ") and before:
                    self.say(octets)
                shown = len(self.transcript.to_client)
                self.say(octets)
                self.assertEqual(self.failed(), ["the upstream answered what it was not asked"], octets)
                self.assertEqual(len(self.transcript.to_client), shown)
                self.assertEnded()

    def test_a_command_hidden_in_a_literal(self) -> None:
        """
        An upstream that refuses a command without reading its literal takes that for commands.
        """
        self.send(b"a ID {16+}\r\n")
        self.say(b"a BAD no\r\n")
        self.send(b"a LOGIN joe pw\r\n\r\n")
        self.transcript.to_client = b""
        self.assertEqual(self.say(b"a OK logged in\r\n"), b"")
        self.assertEqual(self.failed(), ["the upstream answered what it was not asked"])

    def test_endless_lines(self) -> None:
        self.say(b"* OK " + b"x" * 17000)
        self.assertEqual(self.failed(), ["the upstream said a line of more than 16384 octets before login"])
        self.assertEnded()

    def test_bye_passes(self) -> None:
        self.assertEqual((self.say(b"* BYE idle\r\n"), self.actions()), (b"* BYE idle\r\n", []))


class LoginTests(FrontCase):
    """
    Logins with an upstream from the beginning.
    """

    def test_login(self) -> None:
        self.send(b"a LOGIN {3}\r\njoe {2+}\r\npw\r\nb SELECT INBOX\r\n")
        self.assertEqual(self.transcript.events, [(LoggedIn(b"a", b"joe", b"joe"), len(GREETING) + 6)])
        self.assertEqual(self.upstream.commands, [b"a LOGIN {3}\r\njoe {2+}\r\npw\r\n", b"b SELECT INBOX\r\n"])
        self.assertTrue(self.front.over)

    def test_everything_passes_then(self) -> None:
        self.send(b"a LOGIN joe pw\r\n")
        self.assertEqual(self.say(b"x\r\n* PREAUTH\r\n* CAPAB"), b"x\r\n* PREAUTH\r\n* CAPAB")
        self.send(b"b\nSTARTTLS")
        self.assertTrue(self.transcript.to_server.endswith(b"b\nSTARTTLS"))

    def test_order(self) -> None:
        self.front.client_data(b"a LOGIN joe pw\r\nb NO")
        self.assertEqual(self.front.next_action(), ToServer(b"a LOGIN joe pw\r\n"))
        self.front.server_data(b"* OK wait\r\na OK hi\r\n* 1 EX")
        self.front.server_data(b"ISTS\r\n")
        actions: list[Action] = []
        while (action := self.front.next_action()) is not None:
            actions.append(action)
        self.assertEqual(
            actions,
            [
                ToClient(b"* OK wait\r\n"),
                LoggedIn(b"a", b"joe", b"joe"),
                ToClient(b"a OK hi\r\n* 1 EX"),
                ToServer(b"b NO"),
                ToClient(b"ISTS\r\n"),
            ],
        )

    def test_authenticate(self) -> None:
        scram = b64encode(b"n,a=boss,n=joe,r=x"), b64encode(b"c=biws,r=xy,p=AAAA")
        for octets, said in [
            (b"PLAIN " + plain(b"joe"), (b"joe", b"joe")),
            (b"PLAIN\r\n" + plain(b"joe", b"boss"), (b"boss", b"boss\0joe")),
            (b"LOGIN\r\nam9l\r\ncHc=", (b"joe", b"joe")),
            (b"LOGIN am9l\r\ncHc=", (b"joe", b"joe")),
            (b"SCRAM-SHA-256\r\n%b\r\n%b" % scram, (b"boss", b"boss\0joe")),
            (b"SCRAM-SHA-256 %b\r\n%b" % scram, (b"boss", b"boss\0joe")),
            (b"OAUTHBEARER " + b64encode(b"n,a=joe,\x01auth=Bearer x\x01\x01"), (b"joe", None)),
            (b"X-OWN\r\n" + plain(b"joe"), (None, None)),
        ]:
            self.begin()
            self.send(b"a AUTHENTICATE " + octets + b"\r\n")
            self.assertEqual((self.logged_in(), len(self.upstream.commands)), ([said], 1), octets)

    def test_failed_login(self) -> None:
        self.upstream.answers = {b"LOGIN": b"TAG NO wrong\r\n", b"AUTHENTICATE": b"TAG BAD wrong\r\n"}
        self.assertEqual(self.send(b"a LOGIN joe pw\r\n"), b"a NO wrong\r\n")
        self.assertEqual(self.send(b"b AUTHENTICATE PLAIN\r\n*\r\n"), b"+ \r\nb BAD wrong\r\n")
        self.assertEqual(self.actions(), [LoginFailed(b"a"), LoginFailed(b"b")])
        del self.upstream.answers[b"AUTHENTICATE"]
        self.send(b"c AUTHENTICATE X\r\n" + plain(b"joe") + b"\r\n")
        self.assertEqual(self.logged_in(), [(None, None)])

    def test_too_many(self) -> None:
        self.begin(login_attempts=3)
        self.upstream.answers[b"LOGIN"] = b"TAG NO wrong\r\n"
        got = self.send(*(b"a%d LOGIN joe pw\r\n" % turn for turn in range(9)))
        self.assertEqual(got, b"a0 NO wrong\r\na1 NO wrong\r\na2 NO wrong\r\n* BYE Too many logins failed\r\n")
        self.assertEqual((len(self.upstream.commands), self.failed()), (3, ["Too many logins failed"]))
        self.assertEnded()

    def test_ok_too_early(self) -> None:
        self.send(b"a LOGIN joe {20+}\r\nxx")
        self.assertEqual(self.say(b"a OK fine\r\n"), b"")
        self.assertEqual(self.failed(), ["the upstream took a login before it was told all of it"])
        self.assertFalse(self.front.over)

    def test_deny(self) -> None:
        def handle(action: Action) -> None:
            if isinstance(action, LoggedIn):
                self.front.server_data(b"* 1 EXISTS\r\n")
                self.front.deny(b"[LIMIT] Not you")

        self.handle = handle
        self.upstream.answers[b"LOGIN"] = b"TAG OK in\r\n* 2 EXISTS\r\n"
        self.assertEqual(self.send(b"a LOGIN joe pw\r\nb SELECT INBOX\r\n"), b"a NO [LIMIT] Not you\r\n")
        self.assertEqual((self.failed(), self.front.over), (["a login was denied"], False))
        self.assertEqual(self.transcript.to_server, b"a LOGIN joe pw\r\n")
        self.assertEnded()

    def test_deny_too_late(self) -> None:
        self.assertRaises(RuntimeError, self.front.deny, b"no")
        self.send(b"a LOGIN joe pw\r\n")
        self.assertRaises(RuntimeError, self.front.deny, b"no")

    def test_misuse(self) -> None:
        for call in (self.front.detach, lambda: self.front.refuse(b"x"), lambda: self.front.attach(frozenset())):
            self.assertRaises(RuntimeError, call)
        self.front.client_data(b"a NOOP\r\n")
        self.front.next_action()
        self.assertRaises(RuntimeError, self.front.refuse, b"x")

    def test_nothing_secret_is_printed(self) -> None:
        self.front.client_data(b"a LOGIN joe SECRET\r\n")
        self.assertNotIn("SECRET", repr(self.front.next_action()) + repr(self.front))
