"""
Tests of L{mem_continuity.imap.front}: any split, any junk, and what stands outside of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hypothesis import given
from hypothesis import strategies as st

from mem_continuity.core.policy import Policy
from mem_continuity.imap.actions import (
    Action,
    Authenticated,
    BeginTLS,
    LoggedIn,
    LoginFailed,
    Over,
    Route,
    StartTLS,
    ToClient,
    ToServer,
)
from mem_continuity.imap.front import LocalFront
from mem_continuity.imap.preamble import ServerPreamble
from tests.imap import Transcript, cut, cuts, single
from tests.imap.front_case import ALL, GREETING, SCRAM, UPSTREAM, FrontCase, LocalCase, plain


class UpstreamSplitTests(FrontCase):
    """
    However the octets arrive, the same comes out.
    """

    DIALOGUE = (
        b"a CAPABILITY\r\njunk\r\nb\tLOGIN x y\r\nc NOOP x\ny\r\nd NOOP {3+}\r\n\r\n\r\n\r\ne COMPRESS X\r\nf ID {2}\r\n\r\n\r\n"
        b"g AUTHENTICATE EXTERNAL =\r\nh AUTHENTICATE LOGIN\r\nam9l\r\ncHc=\r\ni LOGIN {3+}\r\njoe {2}\r\npw\r\nj STARTTLS\r\n"
        b"k AUTHENTICATE SCRAM-SHA-256 biwsbj1qb2Uscj14\r\nYz1iaXdz\r\nl SELECT INBOX\r\nm LOGOUT\r\n"
    )

    def _talk(self, parts: Iterable[bytes], theirs: list[int] | None) -> Transcript:
        self.begin(greeting=None)
        self.upstream.answers = {
            b"CAPABILITY": b"* CAPABILITY A STARTTLS AUTH=EXTERNAL\r\nTAG OK done\r\n",
            b"ID": b"* ID ({4}\r\n\r\na )\r\nTAG OK [CAPABILITY B CLIENTID] x\r\n",
            b"LOGIN": b"TAG NO no\r\n",
        }
        self.upstream.answers[b"AUTHENTICATE"] = b"TAG BAD no\r\n"

        def handle(action: Action) -> None:
            self.upstream.answers[b"AUTHENTICATE"] = b"TAG OK [CAPABILITY XCONTINUITY C] yes\r\n* 1 EXISTS\r\n"

        self.handle = handle
        if theirs is not None:
            self.split = lambda octets: cut(octets, theirs)
        for part in self.split(GREETING):
            self.say(part)
        self.send(*parts)
        return self.transcript

    def test_whole(self) -> None:
        whole = self._talk([self.DIALOGUE], None)
        self.assertEqual(self.actions(), [LoginFailed(b"h"), LoginFailed(b"i"), LoggedIn(b"k", b"joe", b"joe")])
        self.assertEqual(self.upstream.commands[-2:], [b"l SELECT INBOX\r\n", b"m LOGOUT\r\n"])
        self.assertEqual(self._talk(single(self.DIALOGUE), list(range(100))), whole)

    @given(cuts, cuts)
    def test_split_anywhere(self, ours: list[int], theirs: list[int]) -> None:
        whole = self._talk([self.DIALOGUE], None)
        self.assertEqual(self._talk(cut(self.DIALOGUE, ours), theirs), whole)

    words = st.sampled_from(
        b'a |b |LOGIN |joe |AUTHENTICATE PLAIN|STARTTLS|NOOP|ID |LOGOUT|\r\n|{3}\r\n|{3+}\r\n|{0}\r\n|{99+}\r\n|abc|"|\r|\n|'
        b"+ |OK |* |NO |BYE |PREAUTH |[CAPABILITY |] ".split(b"|")
    )
    junk = st.lists(words, max_size=60).map(b"".join)

    @given(junk, cuts, junk, st.booleans(), st.booleans())
    def test_scenario_38_likely_junk(self, ours: bytes, places: list[int], theirs: bytes, secure: bool, tls: bool) -> None:
        self.begin(secure=secure, tls=tls, greeting=b"* OK hi\r\n", preamble_line=64, preamble_literal=64)
        for part in cut(ours, places):
            self.send(part)
        self.say(theirs)
        if not secure:
            self.assertNotIn(b"LOGIN", self.transcript.to_server)
            self.assertEqual(self.logged_in(), [])
        if not self.front.over:
            self.assertNotIn(b"* PREAUTH", self.transcript.to_client)


class LocalSplitTests(LocalCase):
    """
    However the octets arrive, the same comes out.
    """

    DIALOGUE = (
        b"a CAPABILITY\r\njunk\r\nb ID (x {2}\r\n\r\n)\r\nc LOGIN {3+}\r\njoe {2}\r\npw\r\nd LOGIN {999+}\r\n"
        + b"x\r\n" * 333
        + b"\r\n"
        b"e AUTHENTICATE LOGIN am9l\r\ncHc=\r\nf AUTHENTICATE SCRAM-SHA-256\r\n%b\r\n%b\r\ng NOOP\r\nh SELECT INBOX\r\n" % SCRAM
    )

    def _talk(self, parts: Iterable[bytes], theirs: list[int] | None, capabilities: frozenset[bytes]) -> Transcript:
        self.begin(LocalFront(mechanisms=ALL), preamble_literal=100)
        self.capabilities = capabilities
        answers = iter(
            [b"TAG NO [CAPABILITY STARTTLS A] no\r\n", b"* OK {\r\nTAG BAD x\r\n", b"TAG OK [CAPABILITY CLIENTID A] x\r\n* 1 X"]
        )

        def handle(action: Action) -> bytes | None:
            if isinstance(action, Route):
                self.upstream.answers[b"LOGIN"] = self.upstream.answers[b"AUTHENTICATE"] = next(answers)
            return self.carry_out(action)

        self.handle = handle
        if theirs is not None:
            self.split = lambda octets: cut(octets, theirs)
        self.send(*parts)
        return self.transcript

    def test_whole(self) -> None:
        for capabilities in (UPSTREAM, frozenset[bytes]()):
            whole = self._talk([self.DIALOGUE], None, capabilities)
            self.assertEqual(
                self.actions(),
                [
                    Route(b"joe"),
                    LoginFailed(b"c"),
                    Route(b"joe"),
                    LoginFailed(b"e"),
                    Route(b"joe"),
                    LoggedIn(b"f", b"joe", b"joe"),
                ],
            )
            self.assertEqual(self.upstream.commands[-2:], [b"g NOOP\r\n", b"h SELECT INBOX\r\n"])
            self.assertEqual(self._talk(single(self.DIALOGUE), list(range(100)), capabilities), whole)

    @given(cuts, cuts, st.sampled_from([UPSTREAM, frozenset[bytes]()]))
    def test_split_anywhere(self, ours: list[int], theirs: list[int], capabilities: frozenset[bytes]) -> None:
        whole = self._talk([self.DIALOGUE], None, capabilities)
        self.assertEqual(self._talk(cut(self.DIALOGUE, ours), theirs, capabilities), whole)

    words = st.sampled_from(
        b"a |b |LOGIN |joe |pw|AUTHENTICATE PLAIN|AUTHENTICATE LOGIN am9l|STARTTLS|NOOP|ID |LOGOUT|\r\n|{3}\r\n|{3+}\r\n|{0}\r\n"
        b'|{9999+}\r\n|abc|"|\r|\n|*\r\n|= |AGpvZQBwdw==\r\n'.split(b"|")
    )

    @given(st.lists(words, max_size=60).map(b"".join), cuts, st.sampled_from(["attach", "refuse", "deny", "lose"]))
    def test_scenario_38_likely_junk(self, octets: bytes, places: list[int], what: str) -> None:
        self.begin(LocalFront(), preamble_line=64, preamble_literal=64)

        def handle(action: Action) -> None:
            if isinstance(action, Route):
                self.assertTrue(action.claimed)
                if what == "refuse":
                    self.front.refuse(b"no")
                else:
                    self.upstream.renew()
                    self.front.attach(frozenset())
                if what == "lose":
                    self.front.detach()
            elif isinstance(action, LoggedIn) and what == "deny":
                self.front.deny(b"no")

        self.handle = handle
        for part in cut(octets, places):
            self.send(part)
            self.assertFalse(self.front.over and what != "attach")


class WithinPreambleTests(LocalCase):
    """
    The front as it stands in a gateway: behind the preamble of a link.
    """

    def link(self, local: bool, **settings: bool) -> None:
        self.begin(LocalFront(mechanisms=ALL) if local else None, None, **settings)
        self.preamble = ServerPreamble(Policy(), lambda: (b"XCONTINUITY",))
        self.seen: list[Action] = []
        self.got = b""
        self.preamble.server_data(self.transcript.to_client)
        if not local:
            self.inner(lambda: self.front.server_data(GREETING))

    def inner(self, call: Callable[[], object]) -> None:
        before, events = len(self.transcript.to_client), len(self.transcript.events)
        call()
        self.pull()
        self.preamble.server_data(self.transcript.to_client[before:])
        if BeginTLS() in self.actions()[events:]:
            while (action := self.preamble.next_due()) is not None:
                self.outer(action)
            self.preamble.forget_client()
            self.secure, self.tls = True, False

    def outer(self, action: Action) -> None:
        if isinstance(action, ToClient):
            self.got += action.octets
        elif isinstance(action, (ToServer, Over)):
            self.inner(lambda: self.front.client_data(action.octets))
        if not isinstance(action, (ToServer, ToClient)):
            self.seen.append(action)

    def type(self, octets: bytes, places: Iterable[int] = ()) -> bytes:
        self.got = b""
        for part in cut(octets, places):
            self.preamble.client_data(part)
            while (action := self.preamble.next_action()) is not None:
                self.outer(action)
        return self.got

    @given(st.booleans(), cuts)
    def test_both_know_the_same_user(self, local: bool, places: list[int]) -> None:
        for octets in (
            b"b LOGIN {3+}\r\njoe {2}\r\npw\r\n",
            b"b AUTHENTICATE PLAIN\r\n%b\r\n" % plain(b"joe", b"boss"),
            b"b AUTHENTICATE LOGIN am9l\r\ncHc=\r\n",
            b"b AUTHENTICATE SCRAM-SHA-256\r\n%b\r\n%b\r\n" % SCRAM,
        ):
            self.link(local)
            got = self.type(b"a CAPABILITY\r\n" + octets + b"c SELECT INBOX\r\n", places)
            ((_, user),) = self.logged_in()
            self.assertIn(user, (b"joe", b"boss\0joe"))
            self.assertEqual(self.seen[0], Authenticated(b"b", user))
            self.assertIn(b"XCONTINUITY", got)
            self.assertEqual(self.upstream.commands[-1], b"c SELECT INBOX\r\n")
            self.assertTrue(self.front.over)

    def test_starttls(self) -> None:
        for local in (False, True):
            self.link(local, secure=False, tls=True)
            self.assertIn(b"STARTTLS LOGINDISABLED", self.type(b""))
            self.assertEqual(self.type(b"a STARTTLS\r\nb NOOP\r\n"), b"a OK Begin TLS\r\n")
            self.assertEqual(self.seen, [StartTLS()])
            self.type(b"c LOGIN joe pw\r\n")
            self.assertEqual(self.seen[1:], [Authenticated(b"c", b"joe")])
            self.assertEqual(self.upstream.commands, [b"c LOGIN joe pw\r\n"])

    def test_denied(self) -> None:
        for local in (False, True):
            self.link(local)
            self.handle = lambda action: self.front.deny(b"no") if isinstance(action, LoggedIn) else self.carry_out(action)
            self.assertTrue(self.type(b"a LOGIN joe pw\r\n").endswith(b"a NO no\r\n"))
            self.assertEqual((self.seen, self.preamble.authenticated), ([], False))
