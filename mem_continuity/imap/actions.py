"""
What the state machines of this package ask their caller to do.

Invariants: an action is plain data; actions are carried out in the order in which C{next_action} gives them.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ToServer:
    """
    Hand these octets to the server: the protocol in this process, an upstream, or the link to a server.  They may hold a
    password, so they are not part of what is printed.

    The first one asks for the server to be bound if it is not yet there; C{octets} may be empty for that purpose
    alone.
    """

    octets: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ToClient:
    """
    Hand these octets to the client.
    """

    octets: bytes


@dataclass(frozen=True, slots=True)
class Extension:
    """
    The client sent one of our own commands, whole and well-formed.  Answer it, then call C{proceed()}.

    @ivar name: C{CLIENTID} or C{XCONTINUITY}.
    @ivar arguments: the values, the subcommand of XCONTINUITY among them as received.
    @ivar literal: the literal at the end of C{XCONTINUITY RESUME}, which is not among the arguments; C{None} when
        that command did not end in one, and for all others.
    """

    tag: bytes
    name: bytes
    arguments: list[bytes]
    literal: bytes | None


@dataclass(frozen=True, slots=True)
class Authenticated:
    """
    The server took a login.  Stands before the L{ToClient} that carries its answer.

    @ivar tag: of the command; C{*} for a PREAUTH greeting.
    @ivar user: whom the server vouches for by that, see L{LoginWatch.user<mem_continuity.imap.logins.LoginWatch.user>};
        C{None} when that is not certain.
    """

    tag: bytes
    user: bytes | None


@dataclass(frozen=True, slots=True)
class StartTLS:
    """
    The server accepted STARTTLS.  Stands before the L{ToClient} that carries its answer.
    """


@dataclass(frozen=True, slots=True)
class Over:
    """
    The preamble is over: these octets of the client go to the server, and everything from now on, both ways,
    untouched.
    """

    octets: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """
    The client broke a limit or the syntax: write these octets to it, and close the link if so told.
    """

    octets: bytes
    close: bool


@dataclass(frozen=True, slots=True)
class Started:
    """
    The server began the continuity layer.

    @ivar session_id: as on the wire.
    @ivar key: as on the wire: base64.
    @ivar grace: seconds.
    @ivar window: octets.
    @ivar rest: what came from the server behind the answer: frames.
    """

    session_id: bytes
    key: bytes
    grace: float
    window: int
    rest: bytes

    def __repr__(self) -> str:
        """
        Without the key, which must not reach a log.
        """
        return f"Started(session_id={self.session_id!r}, grace={self.grace!r}, window={self.window!r})"


@dataclass(frozen=True, slots=True)
class Plain:
    """
    This is an ordinary connection: from now on everything passes untouched.
    """


@dataclass(frozen=True, slots=True)
class Failed:
    """
    The server said something after which nobody knows what follows: the link must be closed.
    """

    text: str


@dataclass(frozen=True, slots=True)
class BeginTLS:
    """
    Start TLS with the client now.  Stands behind the L{ToClient} that carries the answer to STARTTLS, which goes out in
    the clear.
    """


@dataclass(frozen=True, slots=True)
class Route:
    """
    Somebody wants to log in: find the server of this user and call C{attach()}, or C{refuse()}.

    @ivar claimed: whom the client says it is.  Nothing is proved.
    """

    claimed: bytes


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """
    The upstream took a login.  Stands before the L{ToClient} that carries its answer: C{deny()} it now or never.

    @ivar tag: of the command.
    @ivar claimed: whom the client said it is; C{None} when that cannot be read.
    @ivar user: whom the upstream vouches for: a key for records, see
        L{LoginWatch.user<mem_continuity.imap.logins.LoginWatch.user>}; C{None} when that is not certain.
    """

    tag: bytes
    claimed: bytes | None
    user: bytes | None


@dataclass(frozen=True, slots=True)
class LoginFailed:
    """
    The upstream refused a login.  Stands before the L{ToClient} that carries its answer.

    @ivar tag: of the command.
    """

    tag: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """
    The client logged out, and everything is said: close the link.
    """


Action = (
    ToServer
    | ToClient
    | Extension
    | Authenticated
    | StartTLS
    | Over
    | Refused
    | Started
    | Plain
    | Failed
    | BeginTLS
    | Route
    | LoggedIn
    | LoginFailed
    | Close
)
