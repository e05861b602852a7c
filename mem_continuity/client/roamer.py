"""
What keeps a roaming connection on a link.

Invariants:

- The protocol above sees one transport for as long as the session lives, and one honest C{connectionLost} when it does not.
- A link is given up when another has been granted the session, or when it is dead; never on suspicion alone.  A doubt is
  answered by seeking another link while this one is kept.
- A displaced session (MOVED) is not fetched back: two clients would fight for ever.  But after a RESUME of ours whose answer
  was lost it is ourselves who displaced us.
- When the session is over nothing is left: no timer, no connection that is being made, no link in reserve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IProtocol, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mem_continuity.client.errors import ContinuityLost
from mem_continuity.client.link import ClientLink, LinkFailed
from mem_continuity.client.paths import AnyPath, Path
from mem_continuity.client.reserve import Reserve
from mem_continuity.client.seeker import Seeker
from mem_continuity.client.watch import LinkWatch
from mem_continuity.core.handshake import Binding, HandshakeError, Refused, Resumed, parse_started
from mem_continuity.core.policy import RoamingPolicy
from mem_continuity.core.session import Session
from mem_continuity.core.states import State
from mem_continuity.imap.actions import Started
from mem_continuity.layer.conduit import Conduit
from mem_continuity.layer.sockets import exported_binding
from mem_continuity.layer.transport import VirtualTransport


class Phase(Enum):
    """
    Where a roaming connection stands.  Forward only, but for LIVE and AWAY, which take turns.
    """

    OPENING = auto()
    """The protocol logs in on its first link; a lost link is a lost connection."""
    PLAIN = auto()
    """The server has no continuity: as OPENING, for good."""
    LIVE = auto()
    AWAY = auto()
    ENDED = auto()


class Ways(Protocol):
    """
    What a roamer needs of its endpoint.
    """

    policy: RoamingPolicy
    clock: IReactorTime
    paths: list[Path]
    client_id: tuple[bytes, bytes] | None
    prepare: bool

    def ways(self, only: str | None, without: str | None, last: str | None) -> AnyPath: ...

    def connect_by(self, ways: AnyPath) -> Deferred[Any]: ...


class Roamer:
    """
    Keeps one protocol's session on a link.  L{roamer_of<mem_continuity.client.roaming.roamer_of>} finds it.

    @ivar phase: where it stands.
    @ivar watchers: called with a word for each thing that happens (C{live}, C{plain}, C{away}, C{doubt}, C{trying}, C{ended}) and
        a text, for people.
    @ivar endpoint: what it was made by: policy, clock, ways to the server.
    @ivar link: the present link.
    @ivar reserve: the link in reserve.
    @ivar conduit: what joins session and protocol; None before the session has begun.
    """

    _log = Logger()

    def __init__(self, endpoint: Ways, protocol: IProtocol, link: ClientLink) -> None:
        self.phase = Phase.OPENING
        self.watchers: list[Callable[[str, str], object]] = []
        self.conduit: Conduit | None = None
        self.endpoint = endpoint
        self._policy = endpoint.policy
        self._clock = endpoint.clock
        self.link: ClientLink | None = link
        self._left: ClientLink | None = None
        self._inner = VirtualTransport(link, protocol)
        self._inner.roamer = self  # type: ignore[attr-defined]
        self._done: Callable[[], object] = lambda: None
        self.reserve = Reserve(self)
        self._watch: LinkWatch | None = None
        self._seeker: Seeker | None = None
        self._server_received: int | None = None
        self._why: str | None = None

    # Beginning

    def open(self, done: Callable[[], object]) -> None:
        """
        Let the protocol open its session on the first link.  Called by the endpoint.

        @param done: called when the protocol has lost its connection for good.
        """
        link = self.link
        assert link is not None
        self._done = done
        link.on_lost = self._opening_lost
        link.on_started = self._started
        link.on_plain = self._plain
        link.open(self._inner, self.endpoint.client_id)

    def _opening_lost(self, link: ClientLink, reason: Failure) -> None:
        self.phase = Phase.ENDED
        self.link = None
        self._inner.lose(reason)
        self._done()

    def _plain(self) -> None:
        self.phase = Phase.PLAIN
        self.tell("plain", "the server has no continuity: this is an ordinary connection")

    def _started(self, started: Started) -> None:
        link = self.link
        assert link is not None
        binding = Binding.TLS_EXPORTER if exported_binding(link.transport) else Binding.NONE
        words = [started.session_id, started.key, b"%d" % started.grace, b"%d" % started.window]
        try:
            terms = parse_started(words, binding)
        except HandshakeError as error:
            self._log.warn("The server's answer to START cannot be used: {error}", error=str(error))
            link.abort()
            return
        # Here the session lasts until the server says that it is over, or has been out of reach for too long.
        terms = replace(terms, grace=max(1, round(self._policy.give_up)))
        session = Session(terms, self._policy, self._clock.seconds())
        conduit = self.conduit = link.conduit = Conduit(session, self._inner, self._clock, self)
        self._watch = LinkWatch(self._policy, self._clock, conduit, self._doubted)
        self._inner.observe(self._watch.received, self._watch.written)
        self.phase = Phase.LIVE
        self._seeker = Seeker(self, conduit, link.tls_context)
        link.on_lost = self.link_lost
        conduit.begin(link)
        self._watch.attached()
        self.tell("live", f"session begun by {link.path_name}")
        if started.rest:
            conduit.link_received(link, started.rest)
        self.reserve.soon(0.0)

    def tell(self, word: str, text: str) -> None:
        """
        Tell the watchers.
        """
        for watcher in list(self.watchers):
            watcher(word, text)

    # What people and network watchers ask

    @property
    def away(self) -> bool:
        """
        Whether the session has no link and seeks one.
        """
        return self.phase is Phase.AWAY

    @property
    def live(self) -> bool:
        """
        Whether the session is on a link.
        """
        return self.phase is Phase.LIVE

    @property
    def doubtful(self) -> bool:
        """
        Whether the present link is in doubt: it gives no sign of life where there should be one.
        """
        return self.live and self._watch is not None and self._watch.silent

    @property
    def handovers(self) -> int:
        """
        How often a new link took over.
        """
        return 0 if self.conduit is None else self.conduit.handovers

    @property
    def path(self) -> str | None:
        """
        The name of the path in use; None while away.
        """
        return None if self.link is None else self.link.path_name

    @property
    def prepared(self) -> str | None:
        """
        The name of the path by which a link stands ready in reserve.
        """
        return self.reserve.path_name

    def network_changed(self) -> None:
        """
        A hint: an address, a route or an interface has come or gone.  A live link is asked for a sign of life; while away, the
        next try is made now, and paths that have failed in the present one are tried again.
        """
        if self.phase is Phase.LIVE and self._watch is not None:
            self._watch.ask()
        if self._seeker is not None:
            self._seeker.hint()

    def link_is_dead(self) -> None:
        """
        A hint from somebody who knows: give the present link up and come back on another.
        """
        if self.phase is Phase.LIVE and self.link is not None:
            self.link.drop("told to")

    def switch(self, path: str | None = None) -> Deferred[None]:
        """
        Move to another path while the present link still works (make before break).

        @param path: the name of a path; the best that works when None.
        @return: fires when the session is on the new link.  When that fails the present link goes on: L{LinkFailed} and the
            errors of connecting.
        """
        if self.phase is not Phase.LIVE or self._seeker is None:
            return fail(LinkFailed("there is no live session to switch"))
        if self._seeker.moving or (self.conduit is not None and self.conduit.moving):
            return fail(LinkFailed("a switch is under way"))
        if self._watch is not None:
            self._watch.ask()  # it has the time in which the other link comes about
        begun = self._clock.seconds()
        return self._seeker.move(path, False, lambda: True, lambda: self._lives(begun))

    def _lives(self, begun: float) -> bool:
        conduit = self.conduit
        assert conduit is not None
        return conduit.session.heard_at >= min(begun, self._clock.seconds() - self._policy.probe_quiet)

    def link_lost(self, link: ClientLink, reason: Failure) -> None:
        """
        A link is gone: the present one, the one in reserve, or one that is neither.
        """
        if not self.reserve.lost(link) and self.conduit is not None:
            self.conduit.link_lost(link)
        if link is self._left:
            self._left = None

    async def fresh_link(self, without: str | None) -> ClientLink:
        """
        A link for the reserve.
        """
        assert self._seeker is not None
        return await self._seeker.fresh_link(without=without)

    def take_over(self, link: ClientLink, commit: Callable[[], None], granted: Resumed) -> None:
        """
        RESUME was granted on a link.

        @param commit: attaches the session.
        """
        conduit = self.conduit
        assert conduit is not None
        old: object = None
        self._left = None
        if granted.start is None:
            old = conduit.exchange(link, commit)
        else:
            self._left = self.link
            conduit.succeed(link, commit, self._policy.drain_quiet, self._policy.drain)
        self.link = link
        self.phase = Phase.LIVE
        session = conduit.session
        rest = link.become_framed(conduit)
        conduit.flush()
        if self._watch is not None and session.state is not State.ENDED:
            self._watch.attached()
        self.tell("live", f"resumed by {link.path_name}, the server had {granted.received} octets of ours")
        if rest:
            conduit.link_received(link, rest)
        if isinstance(old, ClientLink):
            old.finish()
        self.reserve.soon(0.0)

    def refused(self, answer: Refused) -> None:
        """
        The server has said for good that it will not resume.
        """
        self._server_received = answer.number
        self._why = answer.refusal.name
        if self.conduit is not None:
            self.conduit.end(answer.refusal.value)

    def _doubted(self) -> None:
        if self.phase is not Phase.LIVE or self._watch is None or self._seeker is None or self._seeker.moving:
            return
        if self.conduit is not None and self.conduit.moving:
            return  # the present link is not read yet
        watch = self._watch
        self.tell("doubt", f"{self.path} gives no sign of life; another link is sought")
        moving = self._seeker.move(None, True, lambda: watch.silent, lambda: False)
        moving.addErrback(lambda why: self.tell("doubt", why.getErrorMessage()))

    # Owner of the conduit

    def session_parked(self) -> None:
        """
        @see: L{Owner<mem_continuity.layer.roles.Owner.session_parked>}
        """
        links, self.link, self._left = (self._left, self.link), None, None
        self.phase = Phase.AWAY
        self.tell("away", "the link is gone")
        if self.away and self._seeker is not None:  # a watcher may have ended it
            # A link whose former one failed was dropped with it, and has done nothing wrong.
            self._seeker.come_back(next((one.path_name for one in links if one is not None and one.dropped), None))

    def session_moved(self) -> None:
        """
        @see: L{Owner<mem_continuity.layer.roles.Owner.session_moved>}
        """
        seeker = self._seeker
        if seeker is not None and seeker.asking:
            # The old link was faster than the answer on the new one, which decides.
            self.link = None
            self.phase = Phase.AWAY
        elif seeker is not None and seeker.unsettled:
            self.session_parked()
        else:
            self._why = "MOVED"
            if self.conduit is not None:
                self.conduit.end(b"MOVED")

    def session_grace_over(self) -> None:
        """
        @see: L{Owner<mem_continuity.layer.roles.Owner.session_grace_over>}
        """
        if self.conduit is not None:
            self.conduit.end(b"UNREACHABLE")

    def session_ended(self) -> None:
        """
        @see: L{Owner<mem_continuity.layer.roles.Owner.session_ended>}
        """
        self.phase = Phase.ENDED
        self.link = None
        if self._watch is not None:
            self._watch.stop()
        self.reserve.stop()
        if self._seeker is not None:
            self._seeker.stop()
        self.tell("ended", self._why or "closed")
        self._clock.callLater(0, self._done)

    def session_retained(self, change: int) -> None:
        """
        @see: L{Owner<mem_continuity.layer.roles.Owner.session_retained>}; one session has its window and its overrun.
        """

    @property
    def waits_for_delivery(self) -> bool:
        """
        @see: L{Owner<mem_continuity.layer.roles.Owner.waits_for_delivery>}
        """
        return True

    def failure_of(self, reason: bytes) -> Failure:
        """
        @see: L{Owner<mem_continuity.layer.roles.Owner.failure_of>}
        """
        if reason == b"ABORTED":
            return Failure(ConnectionAborted())
        assert self.conduit is not None
        sender = self.conduit.session.sender
        if reason == b"CLOSED":
            return Failure(ConnectionDone())
        received = self._server_received
        if received is None and self.conduit.session.peer_ended is not None:
            received = sender.acknowledged
        return Failure(ContinuityLost(self._why or reason.decode("ascii", "replace"), received, sender.end))
