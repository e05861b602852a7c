"""
What a gateway lets through before login, between a client and an upstream server.

The upstream's greeting and answers pass, and the client's commands are streamed to it one at a time (see
L{mem_continuity.imap.relay}).  Some things end here: TLS, so also what depends on it (STARTTLS, mechanisms bound to the
channel or to a certificate, logins in the clear).  After a login everything passes untouched.

Invariants, beyond those of the relay:

- Nobody gets past this who did not log in with a command that was seen here.  So what two parsers could read
  differently (bare line ends, literals where none belong, words with control characters) is not forwarded, nor is
  COMPRESS; an upstream that answers what it was not asked, or greets with PREAUTH, ends the link.
- A login in the clear never reaches an upstream; neither does anything that the client sent in the clear behind
  STARTTLS.
- Nothing that is said here stands in the middle of a response of the upstream, nor before its greeting.
- Memory is bounded by the policy plus what the caller feeds while C{held} says that it should not.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

from mem_continuity.core.policy import Policy
from mem_continuity.imap.actions import Action, BeginTLS, Failed, LoggedIn, LoginFailed, ToServer
from mem_continuity.imap.lexer import CommandLine, is_tag, literal_suffix
from mem_continuity.imap.logins import LOGIN_COMMANDS, Authenticate, LoginWatch, parse_authenticate
from mem_continuity.imap.relay import CommandRelay, LineTooLong, State
from mem_continuity.imap.responses import Piece, capability_words, rewrite_capability, status_of

_NEVER = re.compile(
    rb"(?:STARTTLS|LOGINDISABLED|(?:XCONTINUITY|CLIENTID)(?:=.*)?|AUTH=(?:.*-PLUS|EXTERNAL))\Z", re.IGNORECASE | re.DOTALL
)
_NOT_YET = re.compile(rb"COMPRESS=", re.IGNORECASE)
_AUTH = re.compile(rb"AUTH=", re.IGNORECASE)
_UNCLEAN = re.compile(rb"[\0\r\n]")
_PLUS = b"-PLUS"


def _nothing() -> tuple[bytes, ...]:
    return ()


def ends_here(mechanism: bytes) -> bool:
    """
    Does this SASL mechanism depend on the client's own TLS?

    @param mechanism: in upper case.
    """
    return mechanism.endswith(_PLUS) or mechanism == b"EXTERNAL"


class Gate(CommandRelay):
    """
    The machine with an upstream.  L{Front<mem_continuity.imap.front.Front>} adds the way without.
    """

    def __init__(self, policy: Policy, secure: Callable[[], bool], can_start_tls: Callable[[], bool]) -> None:
        """
        @param secure: may secrets be told on the client's link now?  Asked anew each time.
        @param can_start_tls: is there no TLS on the client's link, but a certificate to begin it with?  Asked anew
            each time.
        """
        super().__init__(policy.preamble_line)
        self._policy = policy
        self._secure = secure
        self._can_start_tls = can_start_tls
        self._watch: LoginWatch | None = None
        self._flights: deque[bytes] = deque()
        self._discarding: int | None = None
        self._answer = b""
        self._deniable: bytes | None = None
        self._begins_tls = False
        self._closed = False
        self._failures = 0

    @property
    def held(self) -> int:
        """
        Octets of the client that wait for something else; to be read when L{next_action} gave C{None}.  Above
        C{policy.preamble_buffer} the caller pauses the client.
        """
        return self._held()

    def deny(self, text: bytes) -> None:
        """
        While L{LoggedIn} is carried out: the client is told that its login failed, and does not get through.  The
        caller drops the upstream, at which somebody is logged in now.

        @param text: for the client, with a response code if there is one: C{[UNAVAILABLE] Try again later}.
        @raise RuntimeError: it is too late.
        """
        tag, self._deniable = self._deniable, None
        if tag is None:
            raise RuntimeError("no login is being judged")
        held = b"".join(action.octets for action in self._actions if isinstance(action, ToServer))
        self._actions.clear()
        self._to_client.clear()
        self._over = False
        self._denied(b"%b NO %b\r\n" % (tag, text), held)

    def expire(self, text: bytes) -> None:
        """
        Nobody has logged in for too long: say BYE, if there is a place for it, and nothing more.
        """
        if not (self._closed or self._over):
            self._hopeless(text)

    def client_data(self, octets: bytes) -> None:
        if not self._begins_tls and not self._closed:  # what came in the clear behind STARTTLS is never run
            super().client_data(octets)

    def server_data(self, octets: bytes) -> None:
        if not self._closed:
            super().server_data(octets)

    def next_due(self) -> Action | None:
        action = super().next_due()
        self._deniable = action.tag if isinstance(action, LoggedIn) else None
        if isinstance(action, BeginTLS):
            self._begins_tls = False
        return action

    # What the subclass does otherwise

    def _pass(self, command: CommandLine, line: bytes, asked: Authenticate | None) -> None:
        """
        A command that may go on.

        @param asked: what AUTHENTICATE is about.
        """
        if command.name in LOGIN_COMMANDS:
            self._watch = LoginWatch(command, self._policy.preamble_line)
        self._forward(command, line)

    def _denied(self, answer: bytes, held: bytes) -> None:
        """
        @param held: what the client had sent behind its login.
        """
        self._show(answer)
        self._fail("a login was denied")

    def _closing(self, line: bytes) -> None:
        """
        The upstream says BYE.
        """
        self._show_rewritten(line)

    # The client's side

    def _step(self) -> bool:
        if self._closed:
            return False
        if self._discarding is not None:
            return self._discard(self._discarding)
        if self._state is State.COMMAND and not (self._greeted and self._responses.between):
            return False  # a command may have to be answered here
        if self._answer:
            self._show(self._answer)
            self._answer = b""
            return True
        return super()._step()

    def _begin(self, command: CommandLine | None, line: bytes) -> None:
        self._watch = None
        if command is None or not is_tag(command.name):
            self._reject(line, b"* BAD A command begins with a tag, a space, and a name")
        elif _UNCLEAN.search(line[:-2]) is not None:
            self._reject(line, command.tag + b" BAD A line ends with CRLF, and has no CR, LF or NUL before")
        elif command.name in LOGIN_COMMANDS:
            self._begin_login(command, line)
        elif command.name == b"STARTTLS":
            self._begin_tls(command, line)
        elif command.name == b"COMPRESS":
            self._reject(line, command.tag + b" NO [CANNOT] COMPRESS comes after login")
        elif command.name != b"ID" and literal_suffix(line[:-2]) is not None:
            self._reject(line, command.tag + b" BAD Before login there are literals in LOGIN and ID only")
        else:
            self._pass(command, line, None)

    def _begin_login(self, command: CommandLine, line: bytes) -> None:
        asked = parse_authenticate(command.rest) if command.name == b"AUTHENTICATE" else None
        if not self._secure():
            self._reject(line, command.tag + b" NO [PRIVACYREQUIRED] Log in under TLS")
        elif command.name == b"AUTHENTICATE" and asked is None:
            self._reject(line, command.tag + b" BAD AUTHENTICATE takes a mechanism and perhaps an initial response")
        elif asked is not None and ends_here(asked.mechanism):
            self._reject(line, command.tag + b" NO [CANNOT] This mechanism needs TLS all the way, but TLS ends here")
        else:
            self._pass(command, line, asked)

    def _begin_tls(self, command: CommandLine, line: bytes) -> None:
        if command.rest or not self._can_start_tls():
            self._reject(line, command.tag + b" BAD STARTTLS cannot be done now")
            return
        self._client.take(len(self._client))
        self._begins_tls = True
        self._show(command.tag + b" OK Begin TLS\r\n")
        self._push(BeginTLS())

    def _literal_passes(self, octets: bytes) -> None:
        if self._watch is not None:
            self._watch.literal_passes(octets, not self._remaining)

    def _line_passes(self, line: bytes) -> bool:
        if _UNCLEAN.search(line[:-2]) is not None:
            self._hopeless(b"A line ends with CRLF, and has no CR, LF or NUL before")
            return False
        if self._watch is not None:
            self._watch.line_passes(line[:-2])
        return True

    def _reject(self, line: bytes, answer: bytes) -> None:
        """
        Answer a command that goes nowhere, when so much of it is read as comes without being asked for.
        """
        self._answer = answer + b"\r\n"
        self._discard_announced(line)

    def _discard_announced(self, line: bytes) -> None:
        literal = literal_suffix(line[:-2])
        self._discarding = literal[0] if literal is not None and literal[1] else None

    def _discard(self, remaining: int) -> bool:
        if remaining:
            gone = len(self._client.take(remaining))
            self._discarding = remaining - gone
            self._starved = not gone
            return not self._starved
        try:
            line = self._client.take_line()
        except LineTooLong:
            self._too_long()
            return True
        self._starved = line is None
        if line is not None:
            self._discard_announced(line)
        return not self._starved

    # Ends

    def _too_long(self) -> None:
        self._hopeless(b"The line is longer than %d octets" % self._policy.preamble_line)

    def _hopeless(self, text: bytes) -> None:
        if self._greeted and self._responses.between:
            self._show(b"* BYE " + text + b"\r\n")
        self._fail(text.decode("ascii"))

    def _fail(self, text: str) -> None:
        self._stop()
        self._push(Failed(text))

    def _stop(self) -> None:
        """
        Nothing that still arrives counts, and nothing is kept.
        """
        self._closed = True
        self._watch = self.current_tag = None
        self._flights.clear()
        self._client.take(len(self._client))
        self._responses.take_rest()

    def _count_failure(self) -> None:
        self._failures += 1
        if self._failures >= self._policy.login_attempts:
            self._hopeless(b"Too many logins failed")

    # The upstream's side

    def _announce(self) -> tuple[bytes, ...]:
        words = (b"STARTTLS",) if self._can_start_tls() else ()
        return words if self._secure() else (*words, b"LOGINDISABLED")

    def _show_rewritten(self, line: bytes, logged_in: bool = False) -> None:
        """
        Show a line without what the upstream says of itself and is not true here.
        """
        words = [word.upper() for word in capability_words(line) or ()]
        # A client that could bind to the channel, and is not offered to, says so; a server that did offer takes that for
        # an attack (RFC 5802 section 6).  So where -PLUS is taken out, the mechanism without it does not work either.
        unbound = {word[: -len(_PLUS)] for word in words if word.startswith(b"AUTH=") and word.endswith(_PLUS)}
        secure = self._secure()
        # Some servers tell what they can do then before the answer to the login, and not with it.
        before = not logged_in and self._watch is None

        def remove(word: bytes) -> bool:
            if _NEVER.match(word) is not None or word.upper() in unbound:
                return True
            return (before and _NOT_YET.match(word) is not None) or (not secure and _AUTH.match(word) is not None)

        self._show(rewrite_capability(line, _nothing if logged_in else self._announce, remove))

    def _next_flight(self) -> None:
        """
        Say the next part of a command that was collected before.
        """
        self._push(ToServer(self._flights.popleft()))
        self._state = State.UNINVITED if self._flights else State.ANSWER

    def _piece(self, piece: Piece) -> None:
        if piece.first and not piece.whole:
            self._fail(f"the upstream said a line of more than {self._policy.preamble_line} octets before login")
        elif piece.first and not self._greeted:
            self._greeting(piece.octets)
        elif piece.first and self._flights and piece.octets.startswith(b"+"):
            self._next_flight()
        else:
            super()._piece(piece)

    def _greeting(self, line: bytes) -> None:
        status = status_of(line)
        if status == (b"*", b"OK"):
            self._greeted = True
            self._show_rewritten(line)
        elif status == (b"*", b"BYE"):
            self._show_rewritten(line)
            self._fail("the upstream does not want this connection")
        elif status == (b"*", b"PREAUTH"):
            self._fail("the upstream lets everybody in without a login (PREAUTH)")
        else:
            self._fail("the upstream does not greet like an IMAP server")

    def _untagged(self, line: bytes) -> None:
        status = status_of(line)
        if not line.startswith(b"* ") or status == (b"*", b"PREAUTH"):
            self._fail("the upstream answered what it was not asked")
        elif status == (b"*", b"BYE"):
            self._closing(line)
        else:
            self._show_rewritten(line)

    def _answered(self, tag: bytes, name: bytes, condition: bytes, line: bytes) -> None:
        watch, self._watch = self._watch, None
        early = bool(self._flights) or self._is_answered
        self._flights.clear()
        if watch is None:
            self._show_rewritten(line)
        elif condition != b"OK":
            self._push(LoginFailed(tag))
            self._show_rewritten(line)
            self._count_failure()
        elif early:
            self._fail("the upstream took a login before it was told all of it")
        else:
            self._push(LoggedIn(tag, watch.claimed, watch.user))
            self._show_rewritten(line, True)
            rest = self._end()
            if rest:
                self._push(ToServer(rest))
