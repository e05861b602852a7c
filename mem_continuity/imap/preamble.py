"""
The preamble on the server's side: what stands between a link and an IMAP server from connect until the first command
that belongs to neither the opening of a connection nor to us.

The commands CLIENTID and XCONTINUITY are ours: they are collected whole, with their literals, and never reach the
server.  All other commands of the preamble are streamed to the server one at a time (see
L{mem_continuity.imap.relay}), and its answers to the client, in which capability data gets our words.

Invariants, beyond those of the relay: memory is bounded by the policy plus what the caller feeds while C{buffered}
says that it should not; octets that arrived before TLS are never used after it; nothing of ours is written into the
middle of a response of the server, nor before its greeting, but for the answer to RESUME, for which no server is
needed.
"""

from __future__ import annotations

from collections.abc import Callable

from mem_continuity.core.policy import Policy
from mem_continuity.imap.actions import (
    Action,
    Authenticated,
    Extension,
    Over,
    Refused,
    StartTLS,
    ToClient,
    ToServer,
)
from mem_continuity.imap.collecting import Collected, LiteralTooLong, Progress
from mem_continuity.imap.lexer import CommandLine, CommandSyntaxError, is_tag
from mem_continuity.imap.logins import LOGIN_COMMANDS, LoginWatch
from mem_continuity.imap.relay import CommandRelay, LineTooLong
from mem_continuity.imap.responses import rewrite_capability, status_of

__all__ = [
    "EXTENSION_COMMANDS",
    "PREAMBLE_COMMANDS",
    "Action",
    "Authenticated",
    "Extension",
    "Over",
    "Refused",
    "ServerPreamble",
    "StartTLS",
    "ToClient",
    "ToServer",
]

#: The commands that are ours.
EXTENSION_COMMANDS = frozenset((b"CLIENTID", b"XCONTINUITY"))

#: The commands of the server that do not end the preamble.
PREAMBLE_COMMANDS = frozenset(
    (b"CAPABILITY", b"NOOP", b"ID", b"STARTTLS", b"AUTHENTICATE", b"LOGIN", b"ENABLE", b"NAMESPACE", b"LOGOUT")
)

_RESUME = (b"XCONTINUITY", b"RESUME")
_PEEK = 256  # a RESUME with a longer tag is still a RESUME, but the server is bound before it is known for one


def _keep(word: bytes) -> bool:
    return False


def _is_resume(command: CommandLine) -> bool:
    return command.name == _RESUME[0] and command.rest[1:].split(b" ", 1)[0].upper() == _RESUME[1]


def _extension(collected: Collected) -> Extension:
    """
    @raise CommandSyntaxError: it is not well-formed.
    """
    arguments, pieces = collected.arguments(), collected.pieces
    tag, name = collected.first.tag, collected.first.name
    literal = None
    resumes = name == _RESUME[0] and len(arguments) > 1 and arguments[0].upper() == _RESUME[1]
    if resumes and len(pieces) > 1 and not pieces[-1]:
        literal = arguments.pop()
    return Extension(tag, name, arguments, literal)


def _bad(collected: Collected, text: bytes) -> Refused:
    return Refused(b"%b BAD %b\r\n" % (collected.first.tag, text), False)


class ServerPreamble(CommandRelay):
    """
    The machine of the preamble.  Called by the link, which carries out what L{next_action} gives.

    @ivar bound: the server is there; its octets come to L{server_data}.
    @ivar authenticated: the server took a login.
    @ivar user: whom it vouches for then, see L{LoginWatch.user}.
    """

    def __init__(
        self,
        policy: Policy,
        announce: Callable[[], tuple[bytes, ...]],
        remove: Callable[[bytes], bool] = _keep,
        bound: bool = True,
    ) -> None:
        """
        @param announce: our capability words; asked anew for each capability line, for they depend on TLS.
        @param remove: is this a capability word that the client must not see?
        @param bound: whether the server is there already and its greeting will come; if not, the first L{ToServer}
            asks for it.
        """
        super().__init__(policy.preamble_line)
        self._policy = policy
        self._announce = announce
        self._remove = remove
        self._collected: Collected | None = None
        self._finished: Extension | Refused | None = None
        self._resumes = False
        self._asked = False
        self._standing = False
        self._closed = False
        self._first: bool | None = None
        self._tls_answer: ToClient | None = None
        self._watch: LoginWatch | None = None
        self.bound = bound
        self.authenticated = False
        self.user: bytes | None = None

    @property
    def buffered(self) -> int:
        """
        Octets of the client that wait for the server or for L{proceed}; to be read when L{next_action} gave C{None}.
        Above C{policy.preamble_buffer} the caller stops reading its link.
        """
        return self._held()

    def client_data(self, octets: bytes) -> None:
        if self._tls_answer is not None:
            return  # sent before the answer to STARTTLS could be read: never run
        super().client_data(octets)
        if self._first is None and not self._over:
            self._first = self._looks_like_resume()

    def server_data(self, octets: bytes) -> None:
        self.bound = True
        super().server_data(octets)

    def next_due(self) -> Action | None:
        action = super().next_due()
        if action is not None and action is self._tls_answer:
            self._tls_answer = None
        elif isinstance(action, (ToServer, Over)):
            self.bound = True
        return action

    def first_is_resume(self) -> bool | None:
        """
        Is the first command on this link XCONTINUITY RESUME?  C{None}: what has arrived does not tell yet.
        """
        return self._first

    def proceed(self) -> None:
        """
        Go on behind an L{Extension} that was answered.
        """
        self._standing = False

    def flush(self) -> None:
        """
        Show the client what has arrived of an unfinished line of the server, as when the server is gone.
        """
        self._show(self._responses.take_rest())

    def forget_client(self) -> None:
        """
        Drop all octets of the client that wait.  To be called when TLS is started below this preamble, by whatever
        command a server took for a reason: what was sent in the clear is never run.
        """
        self._client.take(len(self._client))

    def take_rest(self) -> bytes:
        """
        End the preamble without L{Over}, as after START or RESUME.  What the server sent and has not been shown comes
        as L{ToClient} from L{next_action} then, and belongs into the new layer.

        @return: octets of the client that have not been used.
        """
        return self._end()

    # The client's side

    def _looks_like_resume(self) -> bool | None:
        start = self._client.peek(_PEEK)
        tag, space, behind = start.partition(b" ")
        undecided = None if len(start) < _PEEK else False
        if not is_tag(tag):
            return False if tag or space else undecided
        if not space:
            return undecided
        for word in _RESUME:
            got, ended, behind = behind.partition(b" ")
            if not ended:
                if word.startswith(got.upper()):
                    return undecided
                # the word may be ended by the line
                return word == _RESUME[1] and got.upper().startswith(word + b"\r")
            if got.upper() != word:
                return False
        return True

    def _begin(self, command: CommandLine | None, line: bytes) -> None:
        self._watch = None
        if command is None:
            self._forward(None, line)
        elif command.name in EXTENSION_COMMANDS:
            collected = Collected(command, self._policy.preamble_line, self._policy.preamble_literal)
            self._collected, self._resumes = collected, _is_resume(command)
            self._collecting(collected, lambda: collected.add_line(command.rest, len(line)))
        elif command.name in PREAMBLE_COMMANDS:
            if command.name in LOGIN_COMMANDS:
                self._watch = LoginWatch(command, self._policy.preamble_line)
            self._forward(command, line)
        else:
            rest = self._end()
            self._push(Over(line + rest))

    def _literal_passes(self, octets: bytes) -> None:
        if self._watch is not None:
            self._watch.literal_passes(octets, not self._remaining)

    def _line_passes(self, line: bytes) -> bool:
        if self._watch is not None:
            self._watch.line_passes(line[:-2])
        return True

    def _too_long(self) -> None:
        self._hopeless(b"The line is longer than %d octets" % self._policy.preamble_line)

    def _hopeless(self, text: bytes) -> None:
        self._collected = None
        self._closed = True
        self.forget_client()
        self._push(Refused(b"* BYE " + text + b"\r\n", True))

    # Our own commands

    def _step(self) -> bool:
        if self._closed:
            self.forget_client()
            return False
        if self._standing:
            return False
        if self._finished is not None:
            return self._deliver(self._finished)
        if self._collected is not None:
            return self._collect(self._collected)
        return super()._step()

    def _deliver(self, finished: Extension | Refused) -> bool:
        if not self._may_speak():
            return self._ask_for_server()
        self._finished = None
        self._standing = isinstance(finished, Extension)
        self._push(finished)
        return True

    def _may_speak(self) -> bool:
        """
        May something of ours be written to the client now?
        """
        return self._responses.between and (self._greeted or self._resumes)

    def _ask_for_server(self) -> bool:
        if self.bound or self._asked:
            return False
        self._asked = True
        self._push(ToServer(b""))
        return True

    def _collect(self, collected: Collected) -> bool:
        if collected.invite:
            if not self._may_speak():
                return self._ask_for_server()
            self._push(ToClient(collected.invitation()))
            return True
        return self._collecting(collected, lambda: collected.step(self._client))

    def _collecting(self, collected: Collected, step: Callable[[], Progress]) -> bool:
        try:
            progress = step()
            if progress is Progress.WHOLE:
                self._finish(_extension(collected))
        except LineTooLong:
            self._too_long()
        except LiteralTooLong as error:
            if error.without_asking:
                self._hopeless(error.text)  # it is on its way, and may be of any size
            else:
                self._finish(_bad(collected, error.text))
        except CommandSyntaxError as error:
            self._finish(_bad(collected, str(error).encode("ascii")))
        else:
            self._starved = progress is Progress.STARVED
            return not self._starved
        return True

    def _finish(self, finished: Extension | Refused) -> None:
        self._collected, self._finished = None, finished

    # The server's side

    def _untagged(self, line: bytes) -> None:
        status = status_of(line)
        if not self._greeted and status == (b"*", b"PREAUTH"):
            self._logged_in(b"*", None)
        self._show(rewrite_capability(line, self._announce, self._remove))

    def _answered(self, tag: bytes, name: bytes, condition: bytes, line: bytes) -> None:
        line = rewrite_capability(line, self._announce, self._remove)
        if condition == b"OK" and name == b"STARTTLS":
            self.forget_client()
            self._command_ended()
            self._push(StartTLS())
            self._tls_answer = ToClient(line)
            self._push(self._tls_answer)
            return
        watch, self._watch = self._watch, None
        if condition == b"OK" and watch is not None:
            self._logged_in(tag, watch.user)
        self._show(line)

    def _logged_in(self, tag: bytes, user: bytes | None) -> None:
        self.authenticated, self.user = True, user
        self._push(Authenticated(tag, user))
