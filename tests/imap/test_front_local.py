"""
Tests of L{mem_continuity.imap.front} where the upstream depends on who logs in.
"""

from __future__ import annotations

from base64 import b64encode

from mem_continuity.imap.actions import Action, BeginTLS, Close, LoggedIn, LoginFailed, Route, ToClient, ToServer
from mem_continuity.imap.front import LocalFront
from tests.imap import single
from tests.imap.front_case import ALL, HELLO, SCRAM, UPSTREAM, LocalCase, plain


class ByItselfTests(LocalCase):
    """
    What is said without an upstream.
    """

    def test_greeting(self) -> None:
        self.assertEqual((self.transcript.to_client, self.front.local), (HELLO, True))
        self.front.greet()
        self.pull()
        self.assertEqual(self.transcript.to_client, HELLO)
        self.begin(LocalFront(b"hi", ALL, (b"IMAP4rev2",)), secure=False, tls=True)
        self.assertEqual(self.transcript.to_client, b"* OK [CAPABILITY IMAP4rev2 STARTTLS LOGINDISABLED] hi\r\n")

    def test_nothing_before_the_greeting(self) -> None:
        self.front._greeted = False
        self.assertEqual(self.send(b"a NOOP\r\n"), b"")
        self.front.greet()
        self.assertTrue(self.send().endswith(b""))
        self.assertEqual(self.send(b"").count(b"a OK"), 1)

    def test_fronts_that_cannot_be(self) -> None:
        for mechanism in (b"CRAM-MD5", b"DIGEST-MD5", b"GSSAPI", b"EXTERNAL", b"SCRAM-SHA-1-PLUS", b"plain", b"\xff"):
            self.assertRaises(ValueError, LocalFront, b"x", (mechanism,))
        for text, words in [(b"a\r\nb", ()), (b"", ()), (b"x", (b"A B",)), (b"x", (b"",)), (b"x", (b"]",))]:
            self.assertRaises(ValueError, LocalFront, text, (b"PLAIN",), words)

    def test_commands(self) -> None:
        for octets, answer in [
            (b"a CAPABILITY\r\n", b"* CAPABILITY IMAP4rev1 ID SASL-IR AUTH=PLAIN AUTH=LOGIN\r\na OK CAPABILITY done\r\n"),
            (b"a noop\r\n", b"a OK NOOP done\r\n"),
            (b'a ID ("name" "x")\r\n', b"* ID NIL\r\na OK ID done\r\n"),
            (b'a ID ("name" {2+}\r\n\r\n)\r\n', b"* ID NIL\r\na OK ID done\r\n"),
            (b'a ID ("name" {2}\r\n\r\n)\r\n', b"+ Ready for 2 octets\r\n* ID NIL\r\na OK ID done\r\n"),
            (b"a NOOP x\r\n", b"a BAD This cannot be done before login\r\n"),
            (b"a SELECT INBOX\r\n", b"a BAD This cannot be done before login\r\n"),
            (b"a SELECT {5+}\r\nINBOX\r\n", b"a BAD Before login there are literals in LOGIN and ID only\r\n"),
            (b"a AUTHENTICATE CRAM-MD5\r\n", b"a NO [CANNOT] There is no such mechanism\r\n"),
            (b"a AUTHENTICATE SCRAM-SHA-256 =\r\n", b"a NO [CANNOT] There is no such mechanism\r\n"),
            (b"a STARTTLS\r\n", b"a BAD STARTTLS cannot be done now\r\n"),
            (b"junk\r\n", b"* BAD A command begins with a tag, a space, and a name\r\n"),
            (b"a LOGIN joe\r\n", b"a BAD LOGIN takes a user name and a password\r\n"),
            (b"a LOGIN joe pw x\r\n", b"a BAD LOGIN takes a user name and a password\r\n"),
            (b"a LOGIN joe {2+}\r\npw x\r\n", b"a BAD LOGIN takes a user name and a password\r\n"),
            (b"a LOGIN {3+}\r\njoex pw\r\n", b"a BAD Arguments must be separated by one space\r\n"),
            (b'a LOGIN "" pw\r\n', b"a NO [AUTHENTICATIONFAILED] This names nobody\r\n"),
            (b"a LOGIN {1+}\r\n\0 pw\r\n", b"a NO [AUTHENTICATIONFAILED] This names nobody\r\n"),
            (b"a AUTHENTICATE PLAIN AAAA\r\n", b"a NO [AUTHENTICATIONFAILED] This names nobody\r\n"),
            (b"a AUTHENTICATE PLAIN =\r\n", b"a NO [AUTHENTICATIONFAILED] This names nobody\r\n"),
            (b"a AUTHENTICATE PLAIN\r\n!\n\r\n", b"+ \r\na NO [AUTHENTICATIONFAILED] This names nobody\r\n"),
            (b"a AUTHENTICATE PLAIN\r\n*\r\n", b"+ \r\na BAD AUTHENTICATE was cancelled\r\n"),
            (b"a AUTHENTICATE LOGIN\r\n*\r\n", b"+ VXNlcm5hbWU6\r\na BAD AUTHENTICATE was cancelled\r\n"),
        ]:
            for parts in ([octets + b"z NOOP\r\n"], list(single(octets + b"z NOOP\r\n"))):
                self.begin(LocalFront())
                self.assertEqual(self.send(*parts), answer + b"z OK NOOP done\r\n", octets)
                self.assertEqual((self.transcript.to_server, self.actions()), (b"", []))

    def test_logout(self) -> None:
        self.assertEqual(self.send(b"a LOGOUT\r\nb NOOP\r\n"), b"* BYE Logging out\r\na OK LOGOUT done\r\n")
        self.assertEqual(self.actions(), [Close()])
        self.assertEnded()

    def test_in_the_clear(self) -> None:
        self.begin(LocalFront(), secure=False, tls=True)
        for octets in (b"a LOGIN {3+}\r\njoe pw\r\n", b"a LOGIN {3}\r\n", b"a AUTHENTICATE PLAIN\r\n"):
            self.assertEqual(self.send(octets), b"a NO [PRIVACYREQUIRED] Log in under TLS\r\n")
        self.transcript.to_client = b""
        self.send(b"b STARTTLS\r\nc NOOP\r\n")
        self.assertEqual((self.transcript.to_client, self.actions()), (b"b OK Begin TLS\r\n", [BeginTLS()]))
        self.secure, self.tls = True, False
        self.send(b"d LOGIN joe pw\r\n")
        self.assertEqual(self.routes(), [b"joe"])

    def test_limits(self) -> None:
        for octets, answer in [
            (b"a LOGIN {101}\r\n", b"a BAD Literals of LOGIN are limited to 100 octets\r\nz OK NOOP done\r\n"),
            (
                b"a LOGIN {60+}\r\n%b {41}\r\n" % (b"x" * 60),
                b"a BAD Literals of LOGIN are limited to 100 octets\r\nz OK NOOP done\r\n",
            ),
            (
                b"a LOGIN {101+}\r\n%b {5+}\r\nabcde\r\n" % (b"x" * 101),
                b"a BAD Literals of LOGIN are limited to 100 octets\r\nz OK NOOP done\r\n",
            ),
            (b"a LOGIN {0+}\r\n" + b" {0+}\r\n" * 20, b"* BYE The line is longer than 64 octets\r\n"),
            (b"a LOGIN " + b"x" * 80 + b"\r\n", b"* BYE The line is longer than 64 octets\r\n"),
            (b"a AUTHENTICATE PLAIN\r\n" + b"x" * 80 + b"\r\n", b"+ \r\n* BYE The line is longer than 64 octets\r\n"),
        ]:
            self.begin(LocalFront(), preamble_line=64, preamble_literal=100)
            self.assertEqual(self.send(octets + b"z NOOP\r\n"), answer, octets)
            if b"BYE" in answer:
                self.assertEnded()

    def test_too_many(self) -> None:
        for octets in (
            b"a LOGIN joe\r\n",
            b"a AUTHENTICATE PLAIN\r\n*\r\n",
            b"a AUTHENTICATE PLAIN AAAA\r\n",
            b"a LOGIN joe pw\r\n",
        ):
            self.begin(LocalFront(), login_attempts=3)
            self.upstream.answers[b"LOGIN"] = b"TAG NO wrong\r\n"
            got = self.send(octets * 9)
            self.assertTrue(got.endswith(b"* BYE Too many logins failed\r\n"))
            self.assertEqual((got.count(b"a NO") + got.count(b"a BAD"), self.failed()), (3, ["Too many logins failed"]))
            self.assertEnded()

    def test_upstream_octets_do_not_count(self) -> None:
        self.assertEqual(self.say(b"* OK hi\r\njunk\r\n"), b"")
        self.assertEqual(self.actions(), [])


class RoutingTests(LocalCase):
    """
    Logins, and the upstream that is found for them.
    """

    def test_stands_still(self) -> None:
        self.stand()
        self.send(b"a LOGIN joe pw\r\nb NOOP\r\n")
        self.assertEqual((self.actions(), self.transcript.to_server, self.front.held), ([Route(b"joe")], b"", 8))
        self.front.attach(UPSTREAM)
        self.assertFalse(self.front.local)
        self.pull()
        self.assertEqual(self.actions()[1:], [LoggedIn(b"a", b"joe", b"joe")])
        self.assertEqual(self.upstream.commands, [b"a LOGIN joe pw\r\n", b"b NOOP\r\n"])
        self.assertEqual(self.transcript.to_client, HELLO + b"a OK done\r\nb OK done\r\n")
        self.assertTrue(self.front.over)

    def test_logins(self) -> None:
        """
        What an upstream gets, with and without LITERAL+ and SASL-IR.
        """
        token = b64encode(b"n,a=joe,\x01auth=Bearer x\x01\x01")
        quoted = b'a LOGIN "joe" pw\r\n'
        plus, waits = b"a LOGIN {3+}\r\njoe {2+}\r\npw\r\n", b"a LOGIN {3}\r\njoe {2}\r\npw\r\n"
        asked, given = b"a AUTHENTICATE %b\r\n%b\r\n", b"a AUTHENTICATE %b %b\r\n"
        names = b"am9l", b"cHc="
        scram_asked, scram_given = (form % (b"SCRAM-SHA-256", b"%b\r\n%b" % SCRAM) for form in (asked, given))
        dialogue = asked % (b"LOGIN", b"%b\r\n%b" % names)
        for octets, with_words, without, user in [
            (quoted.replace(b"LOGIN", b"login"), quoted, quoted, b"joe"),
            (waits, plus, waits, b"joe"),
            (plus, plus, waits, b"joe"),
            (asked % (b"plain", plain(b"joe")), given % (b"PLAIN", plain(b"joe")), asked % (b"PLAIN", plain(b"joe")), b"joe"),
            (given % (b"PLAIN", plain(b"joe")), given % (b"PLAIN", plain(b"joe")), asked % (b"PLAIN", plain(b"joe")), b"joe"),
            (dialogue, dialogue, dialogue, b"joe"),
            (given % (b"LOGIN", b"%b\r\n%b" % names), dialogue, dialogue, b"joe"),
            (scram_asked, scram_given, scram_asked, b"joe"),
            (scram_given, scram_given, scram_asked, b"joe"),
            (asked % (b"OAUTHBEARER", token), given % (b"OAUTHBEARER", token), asked % (b"OAUTHBEARER", token), None),
        ]:
            for capabilities, expected in [(UPSTREAM, with_words), (frozenset[bytes](), without)]:
                self.begin(LocalFront(mechanisms=ALL))
                self.capabilities = capabilities
                self.send(octets)
                self.assertEqual(self.upstream.commands, [expected], (octets, capabilities))
                self.assertEqual((self.routes(), self.logged_in()), ([b"joe"], [(b"joe", user)]), octets)

    def test_what_the_client_is_asked(self) -> None:
        """
        Once for everything, whatever the upstream asks.
        """
        for capabilities in (UPSTREAM, frozenset[bytes]()):
            for octets, prompts in [
                (b"a LOGIN {3}\r\njoe {2}\r\npw\r\n", b"+ Ready for 3 octets\r\n+ Ready for 2 octets\r\n"),
                (b"a LOGIN {3+}\r\njoe {2+}\r\npw\r\n", b""),
                (b"a AUTHENTICATE PLAIN\r\n%b\r\n" % plain(b"joe"), b"+ \r\n"),
                (b"a AUTHENTICATE PLAIN %b\r\n" % plain(b"joe"), b""),
                (b"a AUTHENTICATE LOGIN\r\nam9l\r\ncHc=\r\n", b"+ VXNlcm5hbWU6\r\n+ \r\n"),
                (b"a AUTHENTICATE LOGIN am9l\r\ncHc=\r\n", b"+ \r\n"),
            ]:
                self.begin(LocalFront())
                self.capabilities = capabilities
                self.assertEqual(self.send(octets), prompts + b"a OK done\r\n")

    def test_claimed_is_routed_by(self) -> None:
        self.send(b"a AUTHENTICATE PLAIN " + plain(b"joe", b"boss") + b"\r\n")
        self.assertEqual((self.routes(), self.logged_in()), ([b"boss"], [(b"boss", b"boss\0joe")]))

    def test_each_flight_waits(self) -> None:
        self.stand()
        self.send(b"a LOGIN {3+}\r\njoe {2+}\r\npw\r\n")
        self.front.attach(frozenset())
        self.assertEqual(self.front.next_action(), ToServer(b"a LOGIN {3}\r\n"))
        self.assertIsNone(self.front.next_action())
        self.front.server_data(b"* OK wait\r\n+ ")
        self.assertEqual(self.front.next_action(), ToClient(b"* OK wait\r\n"))
        self.assertIsNone(self.front.next_action())
        self.front.server_data(b"go\r\n")
        self.assertEqual(self.front.next_action(), ToServer(b"joe {2}\r\n"))
        self.assertIsNone(self.front.next_action())
        self.front.server_data(b"a NO none of that\r\n+ late\r\n")
        self.assertEqual(self.front.next_action(), LoginFailed(b"a"))
        self.assertEqual(self.front.next_action(), ToClient(b"a NO none of that\r\n+ late\r\n"))
        self.assertIsNone(self.front.next_action())
        self.assertEqual(len(self.front._flights), 0)

    def test_ok_too_early(self) -> None:
        self.stand()
        self.send(b"a LOGIN {3+}\r\njoe pw\r\n")
        self.front.attach(frozenset())
        self.front.next_action()
        self.front.server_data(b"a OK come in\r\n")
        self.pull()
        self.assertEqual(self.failed(), ["the upstream took a login before it was told all of it"])
        self.assertEnded()

    def test_capability_data_of_the_upstream(self) -> None:
        self.upstream.answers[b"LOGIN"] = b"* CAPABILITY A STARTTLS\r\nTAG OK [CAPABILITY B CLIENTID] x\r\n"
        self.assertEqual(self.send(b"a LOGIN joe pw\r\n"), b"* CAPABILITY A\r\na OK [CAPABILITY B] x\r\n")

    # What goes wrong

    def test_refuse(self) -> None:
        self.stand()
        self.send(b"a LOGIN joe pw\r\nb NOOP\r\n")
        self.front.refuse(b"[UNAVAILABLE] Later")
        self.assertEqual(self.send(), b"")
        self.pull()
        self.assertEqual(self.transcript.to_client, HELLO + b"a NO [UNAVAILABLE] Later\r\nb OK NOOP done\r\n")
        self.assertRaises(RuntimeError, self.front.refuse, b"x")
        self.assertRaises(RuntimeError, self.front.attach, UPSTREAM)
        self.handle = self.carry_out
        self.send(b"c AUTHENTICATE PLAIN %b\r\n" % plain(b"jane"))
        self.assertEqual((self.routes(), self.logged_in()), ([b"joe", b"jane"], [(b"jane", b"jane")]))

    def test_refuse_too_often(self) -> None:
        self.begin(LocalFront(), login_attempts=2)
        self.handle = lambda action: self.front.refuse(b"no") if isinstance(action, Route) else None
        self.send(b"a LOGIN joe pw\r\nb LOGIN joe pw\r\nc LOGIN joe pw\r\n")
        self.assertEqual(self.transcript.to_client, HELLO + b"a NO no\r\nb NO no\r\n* BYE Too many logins failed\r\n")
        self.assertEnded()

    def test_failed_login_is_routed_anew(self) -> None:
        self.upstream.answers[b"LOGIN"] = b"* BYE twice wrong\r\nTAG NO wrong\r\n* BYE go\r\n"
        self.assertEqual(self.send(b"a LOGIN joe pw\r\nb CAPABILITY\r\n")[:12], b"a NO wrong\r\n")
        self.assertTrue(self.front.local)
        del self.upstream.answers[b"LOGIN"]
        self.send(b"c LOGIN jane pw\r\n")
        self.assertEqual((self.routes(), self.logged_in()), ([b"joe", b"jane"], [(b"jane", b"jane")]))
        self.assertEqual(self.upstream.commands, [b"c LOGIN jane pw\r\n"])
        self.assertNotIn(b"BYE", self.transcript.to_client)

    def test_upstream_that_is_kept(self) -> None:
        """
        Without C{detach()} the next commands go to the same upstream.
        """
        self.handle = lambda action: self.front.attach(UPSTREAM) if isinstance(action, Route) else None
        self.upstream.answers[b"LOGIN"] = b"TAG NO wrong\r\n"
        self.assertEqual(self.send(b"a LOGIN joe pw\r\nb NOOP\r\n"), b"a NO wrong\r\nb OK done\r\n")
        del self.upstream.answers[b"LOGIN"]
        self.send(b"c LOGIN joe {2}\r\npw\r\n")
        self.assertEqual((self.routes(), self.logged_in()), ([b"joe"], [(b"joe", b"joe")]))
        self.assertRaises(RuntimeError, self.front.detach)

    def test_upstream_lost_over_a_login(self) -> None:
        for octets, before, answer in [
            (b"a LOGIN joe pw\r\n", b"", b"a NO [UNAVAILABLE] The server is gone\r\n"),
            (b"a AUTHENTICATE LOGIN\r\nam9l\r\n", b"+ \r\n+ UGFzc3dvcmQ6\r\n", b"a NO [UNAVAILABLE] The server is gone\r\n"),
        ]:
            self.begin(LocalFront())
            self.stand()
            self.send(octets)
            self.front.attach(frozenset())
            while self.front.next_action() is not None:
                pass
            self.say(before + b"* BYE bye\r\n* half a li")
            shown = len(self.transcript.to_client)
            self.front.detach()
            self.send(b"z NOOP\r\n")
            self.assertEqual(self.transcript.to_client[shown:], answer + b"z OK NOOP done\r\n")
            self.handle = self.carry_out
            self.assertEqual(self.send(b"b LOGIN joe pw\r\n"), b"b OK done\r\n")

    def test_upstream_lost_before_it_was_told(self) -> None:
        self.stand()
        self.send(b"a LOGIN joe pw\r\n")
        self.front.attach(UPSTREAM)
        self.front.refuse(b"gone")
        self.pull()
        self.assertEqual((self.transcript.to_server, self.transcript.to_client), (b"", HELLO + b"a NO gone\r\n"))

    def test_upstream_lost_within_a_command(self) -> None:
        """
        The client goes on to the end of what it had begun.
        """
        for octets, rest in [
            (b"b LOGIN joe {20+}\r\nc NOOP\r\n", b"0123456789\r\n\r\n"),
            (b"b LOGIN {3+}\r\njoe", b" {3+}\r\nxyz\r\n"),
        ]:
            self.begin(LocalFront())
            self.handle = lambda action: self.front.attach(UPSTREAM) if isinstance(action, Route) else None
            self.upstream.answers[b"LOGIN"] = b"TAG NO wrong\r\n"
            self.send(b"a LOGIN joe pw\r\n", octets)
            self.front.detach()
            self.assertEqual(self.send(rest + b"z NOOP\r\n"), b"b NO [UNAVAILABLE] The server is gone\r\nz OK NOOP done\r\n")

    def test_upstream_lost_after_an_early_answer(self) -> None:
        self.handle = lambda action: self.front.attach(UPSTREAM) if isinstance(action, Route) else None
        self.upstream.answers[b"LOGIN"] = b"TAG NO wrong\r\n"
        self.send(b"a LOGIN joe pw\r\nb LOGIN joe {3+}\r\nx")
        self.assertEqual(self.say(b"b BAD no\r\n"), b"b BAD no\r\n")
        self.assertTrue(self.front.waiting)
        self.front.refuse(b"gone")
        self.assertEqual(self.send(b"yz\r\nz NOOP\r\n"), b"z OK NOOP done\r\n")
        self.handle = lambda action: self.front.refuse(b"full") if isinstance(action, Route) else None
        self.assertEqual(self.send(b"c LOGIN joe pw\r\n"), b"c NO full\r\n")
        self.handle = self.carry_out
        del self.upstream.answers[b"LOGIN"]
        self.assertEqual(self.send(b"d LOGIN joe pw\r\n"), b"d OK done\r\n")

    def test_upstream_lost_in_a_response(self) -> None:
        self.stand()
        self.send(b"a LOGIN joe pw\r\n")
        self.front.attach(UPSTREAM)
        self.front.next_action()
        self.say(b"* X {10}\r\nabc")
        self.front.detach()
        self.pull()
        self.assertEqual(self.failed(), ["the upstream was lost in the middle of a response"])
        self.assertEnded()

    def test_upstream_lost_between_commands(self) -> None:
        self.front.detach()
        self.assertEqual(self.send(b"z NOOP\r\n"), b"z OK NOOP done\r\n")

    def test_deny(self) -> None:
        def handle(action: Action) -> bytes | None:
            if action == LoggedIn(b"a", b"joe", b"joe"):
                self.front.client_data(b"LO\r\n")
                self.front.deny(b"[LIMIT] Not you")
            return self.carry_out(action)

        self.handle = handle
        self.assertEqual(
            self.send(b"a LOGIN joe pw\r\nb NOOP\r\nc HEL"),
            b"a NO [LIMIT] Not you\r\nb OK NOOP done\r\nc BAD This cannot be done before login\r\n",
        )
        self.assertEqual((self.upstream.commands, self.front.over, self.front.local), ([b"a LOGIN joe pw\r\n"], False, True))
        self.send(b"d LOGIN jane pw\r\n")
        self.assertEqual((self.routes(), self.front.over), ([b"joe", b"jane"], True))

    def test_denied_too_often(self) -> None:
        self.begin(LocalFront(), login_attempts=1)
        self.handle = lambda action: self.front.deny(b"x") if isinstance(action, LoggedIn) else self.carry_out(action)
        self.assertEqual(self.send(b"a LOGIN joe pw\r\n"), b"a NO x\r\n* BYE Too many logins failed\r\n")
        self.assertEnded()

    def test_nothing_secret_is_kept_or_printed(self) -> None:
        self.stand()
        for octets in (
            b"a LOGIN {3+}\r\njoe {6+}\r\nSECRET\r\n",
            b"a AUTHENTICATE PLAIN " + plain(b"joe", b"", b"SECRET") + b"\r\n",
        ):
            self.begin(LocalFront())
            self.stand()
            self.send(octets)
            self.assertNotIn("SECRET", repr(self.front._login) + repr(self.front._watch) + repr(self.actions()))
            self.front.attach(frozenset())
            self.handle = self.carry_out
            self.pull()
            self.assertTrue(self.front.over)
            kept = (self.front._login, self.front._watch, self.front._collected, self.front._prompted, len(self.front._flights))
            self.assertEqual(kept, (None, None, None, None, 0))
