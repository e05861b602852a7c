"""
The front of a gateway: what is said to a client until it is logged in at an upstream server.

There are two ways.  With an upstream from the beginning, the front is a L{Gate} and no more.  In the I{local} way the
upstream depends on who logs in: the front greets and answers by itself, keeps the first login that comes, and says it
again to the upstream that the caller has found.  What that upstream answers passes as in the first way; when it refuses
the login, or is lost, the caller may drop it, and the next login is routed anew.

Invariants, beyond those of the gate: in the local way what an upstream says is shown only from the login on that was
said to it, and the link outlives it; passwords are kept until they are said to an upstream and no longer, and are in
nothing that is printed.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from mem_continuity.core.policy import Policy
from mem_continuity.imap.actions import Action, BeginTLS, Close, Failed, LoggedIn, LoginFailed, Route, ToClient, ToServer
from mem_continuity.imap.collecting import Collected, LiteralTooLong, Progress
from mem_continuity.imap.gate import Gate, ends_here
from mem_continuity.imap.identity import without_origin
from mem_continuity.imap.lexer import CommandLine, CommandSyntaxError
from mem_continuity.imap.logins import Authenticate, LoginWatch, tells_first
from mem_continuity.imap.relay import LineTooLong, State
from mem_continuity.imap.replaying import authenticate_flights, login_flights
from mem_continuity.imap.responses import ResponseStream

__all__ = [
    "Action",
    "BeginTLS",
    "Close",
    "Failed",
    "Front",
    "LocalFront",
    "LoggedIn",
    "LoginFailed",
    "Route",
    "ToClient",
    "ToServer",
]

_WORD = re.compile(rb"[!-\\^-~]+")
_TEXT = re.compile(rb"[ -~]+")


@dataclass(frozen=True, slots=True)
class LocalFront:
    """
    What a front says by itself.

    @ivar text: of the greeting, for humans.
    @ivar mechanisms: in upper case, those whose first response is the client's and tells who it is.  The upstreams must
        know them too.
    @ivar words: of the capability data; those for STARTTLS and logins are added.  LITERAL+ is not among the usual ones,
        for a client may go on to rely on it when it has got to an upstream that does not have it.
    """

    text: bytes = b"ready"
    mechanisms: tuple[bytes, ...] = (b"PLAIN", b"LOGIN")
    words: tuple[bytes, ...] = (b"IMAP4rev1", b"ID", b"SASL-IR")

    def __post_init__(self) -> None:
        """
        @raise ValueError: some of it cannot be said or done.
        """
        for mechanism in self.mechanisms:
            if ends_here(mechanism) or not tells_first(mechanism):
                name = mechanism.decode("ascii", "replace")
                raise ValueError(f"{name} cannot be begun before the user's server is known; PLAIN, LOGIN and SCRAM-SHA-256 can")
        if not _TEXT.fullmatch(self.text) or not all(_WORD.fullmatch(word) for word in self.words):
            raise ValueError("A greeting is one line of ASCII, and capability words have no spaces")


@dataclass(slots=True, repr=False)
class _Login:
    """
    A login in the local way that waits for its upstream.

    @ivar flights: what is to be said to an upstream with these capability words.
    """

    tag: bytes
    name: bytes
    flights: Callable[[frozenset[bytes]], list[bytes]]


class Front(Gate):
    """
    The machine.  Called by the gateway's inner end, which carries out what L{next_action} gives, and asks again after
    every call.
    """

    def __init__(
        self,
        policy: Policy,
        secure: Callable[[], bool],
        can_start_tls: Callable[[], bool],
        local: LocalFront | None = None,
    ) -> None:
        """
        @param secure: see L{Gate}.
        @param can_start_tls: see L{Gate}.
        @param local: what to say by oneself; C{None} when there is an upstream from the beginning.
        """
        super().__init__(policy, secure, can_start_tls)
        self._own = local
        self._attached = local is None
        self._collected: Collected | None = None
        self._prompted: tuple[bytes, bytes] | None = None
        self._login: _Login | None = None

    @property
    def local(self) -> bool:
        """
        There is no upstream now.
        """
        return not self._attached

    # The caller's side

    def greet(self) -> None:
        """
        The client is there.  With an upstream from the beginning nothing happens: its own greeting will come.
        """
        if self._own is not None and not self._greeted:
            self._greeted = True
            self._show(b"* OK [CAPABILITY %b] %b\r\n" % (self._own_words(self._own), self._own.text))

    def attach(self, capabilities: frozenset[bytes]) -> None:
        """
        Behind L{Route}: the upstream is there, and its octets from behind its greeting come to L{server_data} from now
        on.

        @param capabilities: its words in upper case.
        @raise RuntimeError: nothing was to be routed.
        """
        login, self._login = self._login, None
        if login is None:
            raise RuntimeError("no login waits for an upstream")
        self._attached = True
        self._is_answered = False
        self.current_tag, self._name = login.tag, login.name
        self._flights.extend(login.flights(capabilities))
        self._next_flight()

    def refuse(self, text: bytes) -> None:
        """
        Behind L{Route}, or when the upstream got lost over a command in the local way: the command fails.  The client
        may try again.

        @param text: for the client, with a response code if there is one: C{[UNAVAILABLE] Try again later}.
        @raise RuntimeError: nobody waits for an answer.
        """
        if self._closed:
            return
        login, self._login = self._login, None
        tag = self.current_tag if login is None else login.tag
        if self._own is None or tag is None:
            raise RuntimeError("no login waits for an upstream")
        answered = login is None and self._is_answered
        self._drop_upstream(b"" if answered else b"%b NO %b\r\n" % (tag, text))

    def detach(self) -> None:
        """
        In the local way: the upstream is gone, or given up; the next login is routed anew.

        @raise RuntimeError: the upstream was there from the beginning, or everything passes already.
        """
        if self._closed:
            return
        if self._own is None or self._over:
            raise RuntimeError("this upstream cannot be detached")
        if self.current_tag is not None or self._login is not None:
            self.refuse(b"[UNAVAILABLE] The server is gone")
        else:
            self._drop_upstream(b"")

    def server_data(self, octets: bytes) -> None:
        if self._attached:
            super().server_data(octets)

    # The client's side

    def _step(self) -> bool:
        if self._login is not None:
            return False
        if self._collected is not None:
            return self._collect(self._collected)
        return super()._step()

    def _pass(self, command: CommandLine, line: bytes, asked: Authenticate | None) -> None:
        own = None if self._attached else self._own
        if command.name == b"ID":
            self._begin_collecting(command, line)
        elif own is None:
            super()._pass(command, line, asked)
        elif asked is None:
            self._answer_here(own, command, line)
        elif asked.mechanism not in own.mechanisms:
            self._reject(line, command.tag + b" NO [CANNOT] There is no such mechanism")
        else:
            self._watch = LoginWatch(command, self._policy.preamble_line)
            self._authenticate_here(command.tag, asked)

    def _line_passes(self, line: bytes) -> bool:
        if self._prompted is None:
            return super()._line_passes(line)
        self._first_response(*self._prompted, line[:-2])
        return False

    def _closing(self, line: bytes) -> None:
        if self._own is None:
            super()._closing(line)

    def _denied(self, answer: bytes, held: bytes) -> None:
        if self._own is None:
            super()._denied(answer, held)
        else:
            self._client.feed(held)
            self._drop_upstream(answer)

    def _stop(self) -> None:
        self._collected = self._login = self._prompted = None
        super()._stop()

    # What is answered here in the local way

    def _own_words(self, own: LocalFront) -> bytes:
        methods = tuple(b"AUTH=" + mechanism for mechanism in own.mechanisms) if self._secure() else ()
        return b" ".join(own.words + self._announce() + methods)

    def _answer_here(self, own: LocalFront, command: CommandLine, line: bytes) -> None:
        tag, name = command.tag, command.name
        if name == b"LOGIN":
            self._begin_collecting(command, line)
            return
        if command.rest or name not in (b"CAPABILITY", b"NOOP", b"LOGOUT"):
            self._reject(line, tag + b" BAD This cannot be done before login")
            return
        if name == b"CAPABILITY":
            self._show(b"* CAPABILITY %b\r\n" % self._own_words(own))
        elif name == b"LOGOUT":
            self._show(b"* BYE Logging out\r\n")
        self._show(b"%b OK %b done\r\n" % (tag, name))
        if name == b"LOGOUT":
            self._stop()
            self._push(Close())

    def _begin_collecting(self, command: CommandLine, line: bytes) -> None:
        collected = Collected(command, self._policy.preamble_line, self._policy.preamble_literal)
        self._collected = collected
        self._collecting(collected, lambda: collected.add_line(command.rest, len(line)))

    def _collect(self, collected: Collected) -> bool:
        if collected.invite:
            if not self._responses.between:
                return False
            self._show(collected.invitation())
            return True
        return self._collecting(collected, lambda: collected.step(self._client))

    def _collecting(self, collected: Collected, step: Callable[[], Progress]) -> bool:
        try:
            progress = step()
        except LineTooLong:
            self._too_long()
            return True
        except LiteralTooLong as error:
            self._collected = None
            self._answer = b"%b BAD %b\r\n" % (collected.first.tag, error.text)
            self._discarding = error.size if error.without_asking else None
            return True
        if progress is Progress.WHOLE:
            self._collected = None
            if collected.first.name == b"LOGIN":
                self._login_here(collected)
            else:
                self._identify(collected)
        self._starved = progress is Progress.STARVED
        return not self._starved

    def _identify(self, collected: Collected) -> None:
        command = collected.first
        if self._own is not None and not self._attached:
            self._show(b"* ID NIL\r\n%b OK ID done\r\n" % command.tag)
            return
        try:
            arguments = without_origin(collected.pieces)
        except CommandSyntaxError as error:
            self._answer = b"%b BAD %b\r\n" % (command.tag, str(error).encode("ascii"))
            return
        self._forward(command, b"%b ID%b\r\n" % (command.tag, arguments))

    def _login_here(self, collected: Collected) -> None:
        tag, pieces = collected.first.tag, collected.pieces
        try:
            if len(collected.arguments()) != 2:
                raise CommandSyntaxError("LOGIN takes a user name and a password")
        except CommandSyntaxError as error:
            self._login_failed(b"%b BAD %b\r\n" % (tag, str(error).encode("ascii")))
            return
        watch = LoginWatch(collected.first, self._policy.preamble_literal)
        for literal, line in zip(pieces[1::2], pieces[2::2], strict=True):
            watch.literal_passes(literal, True)
            watch.line_passes(line)
        self._route(watch, _Login(tag, b"LOGIN", lambda words: login_flights(tag, pieces, words)))

    def _authenticate_here(self, tag: bytes, asked: Authenticate) -> None:
        if asked.initial is not None:
            self._authenticated_here(tag, asked.mechanism, b"" if asked.initial == b"=" else asked.initial)
            return
        self._prompted = (tag, asked.mechanism)
        self._state = State.DIALOGUE
        self._show(b"+ VXNlcm5hbWU6\r\n" if asked.mechanism == b"LOGIN" else b"+ \r\n")

    def _first_response(self, tag: bytes, mechanism: bytes, response: bytes) -> None:
        self._prompted = None
        self._state = State.COMMAND
        if response == b"*":
            self._login_failed(tag + b" BAD AUTHENTICATE was cancelled\r\n")
            return
        if self._watch is not None:
            self._watch.line_passes(response)
        self._authenticated_here(tag, mechanism, response)

    def _authenticated_here(self, tag: bytes, mechanism: bytes, response: bytes) -> None:
        login = _Login(tag, b"AUTHENTICATE", lambda words: authenticate_flights(tag, mechanism, response, words))
        if self._watch is not None:
            self._route(self._watch, login)

    def _route(self, watch: LoginWatch, login: _Login) -> None:
        if not watch.claimed:
            self._login_failed(login.tag + b" NO [AUTHENTICATIONFAILED] This names nobody\r\n")
            return
        self._watch, self._login = watch, login
        self._push(Route(watch.claimed))

    # Logins that fail in the local way

    def _drop_upstream(self, answer: bytes) -> None:
        """
        @param answer: what the client is told in place of the upstream; empty when it has its answer.
        """
        torn = not self._responses.between
        self._attached = False
        self._watch = None
        self._flights.clear()
        self._responses = ResponseStream(self._policy.preamble_line)
        self._actions = deque(action for action in self._actions if not isinstance(action, ToServer))
        if self._state in (State.LITERAL, State.LINE):
            # The client is in the middle of a command, and goes on to its end.
            self._discarding = self._remaining
        self._command_ended()
        if torn:
            self._fail("the upstream was lost in the middle of a response")
        elif answer:
            self._login_failed(answer)

    def _login_failed(self, answer: bytes) -> None:
        if self._discarding is None:
            self._show(answer)
        else:
            self._answer = answer
        self._count_failure()
