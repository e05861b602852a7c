"""
A connection that roams: the endpoint that makes one, and what keeps it on a link.

Invariants:

- The protocol above sees one transport for as long as the session lives, and one honest C{connectionLost} when it does not.
- At most one RESUME of ours is under way: with two, an answer could name counts that the other has made untrue.
- A link is given up when another has been granted the session, or when it is dead; never on suspicion alone.
- A displaced session (MOVED) is not fetched back: two clients would fight for ever.

Twisted's C{ClientService} was looked at for the reconnecting and does not fit: it holds one connection at a time and takes none
that is lost while it is being prepared, where this races several paths and prepares one link while another works.  Its
C{backoffPolicy} is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum, auto
from random import random
from typing import Any

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mem_continuity.client.errors import ContinuityLost
from mem_continuity.client.link import ClientLink, LinkFailed
from mem_continuity.client.paths import AnyPath, Path
from mem_continuity.core.handshake import Binding, HandshakeError, Refusal, Refused, parse_started
from mem_continuity.core.policy import RoamingPolicy
from mem_continuity.core.resumption import Attempt
from mem_continuity.core.session import Session
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


class _Links(Factory):
    """
    Builds links for one roaming connection.
    """

    noisy = False

    def __init__(self, policy: RoamingPolicy, clock: IReactorTime) -> None:
        self._policy = policy
        self._clock = clock

    def buildProtocol(self, addr: IAddress | None) -> ClientLink:
        return ClientLink(self._policy, self._clock)


@implementer(IStreamClientEndpoint)
class _Ready:
    """
    An endpoint whose connections are ready when they are given out: TLS stands, within C{connect_timeout}.
    """

    def __init__(self, path: Path, policy: RoamingPolicy, clock: IReactorTime) -> None:
        self._path = path
        self._policy = policy
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        connected: Deferred[IProtocol] = self._path.endpoint.connect(protocolFactory)
        connected.addCallback(self._wait)
        connected.addTimeout(self._policy.connect_timeout, self._clock)
        return connected

    def _wait(self, protocol: IProtocol) -> Deferred[IProtocol]:
        assert isinstance(protocol, ClientLink)
        link = protocol
        link.path_name = self._path.name
        ready: Deferred[IProtocol] = Deferred(lambda _: link.abort())
        link.ready.addCallbacks(lambda _: ready.callback(link), lambda why: None if ready.called else ready.errback(why))
        return ready


@implementer(IStreamClientEndpoint)
class RoamingEndpoint:
    """
    A client endpoint: any protocol that connects through it keeps its transport while links come and go.

    With a server that does not have XCONTINUITY it is an ordinary connection.
    """

    def __init__(
        self,
        paths: Sequence[Path | IStreamClientEndpoint],
        *,
        reactor: IReactorTime | None = None,
        policy: RoamingPolicy | None = None,
        client_id: tuple[bytes, bytes] | None = None,
        prepare: bool = False,
    ) -> None:
        """
        @param paths: the ways to the server, the best first.
        @param reactor: the clock; the running reactor when None.
        @param client_id: type and value for CLIENTID; none is sent when None.
        @param prepare: keep a second link ready on another path while the first works, so that a switch takes one round trip.
        @raise ValueError: no path was given.
        """
        if not paths:
            raise ValueError("a roaming endpoint needs at least one path to the server")
        if reactor is None:
            from twisted.internet import reactor as running  # not before it is needed: importing installs one

            reactor = IReactorTime(running)
        self.policy = RoamingPolicy() if policy is None else policy
        self.clock = reactor
        self.paths = [one if isinstance(one, Path) else Path(f"path {number}", one) for number, one in enumerate(paths)]
        self.client_id = client_id
        self.prepare = prepare

    def connect_link(self, only: str | None = None, without: str | None = None) -> Deferred[Any]:
        """
        A fresh link that is ready, by the best path that works.

        @param only: by this path alone.
        @param without: not by this path.
        """
        chosen = [path for path in self.paths if only in (None, path.name) and path.name != without]
        ready = [Path(path.name, _Ready(path, self.policy, self.clock)) for path in chosen]
        return AnyPath(ready, self.clock, self.policy.path_stagger).connect(_Links(self.policy, self.clock))

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @see: L{IStreamClientEndpoint.connect}
        """
        protocolFactory.doStart()
        connecting = self.connect_link()

        def connected(link: ClientLink) -> IProtocol | Deferred[IProtocol]:
            protocol = protocolFactory.buildProtocol(link.transport.getPeer())
            if protocol is None:
                link.abort()
                protocolFactory.doStop()
                return fail(ConnectionAborted())
            Roamer(self, protocol, link).open(protocolFactory.doStop)
            return protocol

        def failed(reason: Failure) -> Failure:
            protocolFactory.doStop()
            return reason

        return connecting.addCallbacks(connected, failed)


class Roamer:
    """
    Keeps one protocol's session on a link.  L{roamer_of} finds it.

    @ivar phase: where it stands.
    @ivar handovers: how often a new link took over.
    @ivar watchers: called with a word for each thing that happens (C{live}, C{away}, C{ended}) and a text, for people.
    """

    _log = Logger()

    def __init__(self, endpoint: RoamingEndpoint, protocol: IProtocol, link: ClientLink) -> None:
        self.phase = Phase.OPENING
        self.watchers: list[Callable[[str, str], object]] = []
        self.conduit: Conduit | None = None
        self._endpoint = endpoint
        self._policy = endpoint.policy
        self._clock = endpoint.clock
        self._delay = backoffPolicy(
            self._policy.backoff_first,
            self._policy.backoff_most,
            self._policy.backoff_factor,
            lambda: random() * self._policy.backoff_jitter,
        )
        self._link: ClientLink | None = link
        self._prepared: ClientLink | None = None
        self._inner = VirtualTransport(link, protocol)
        self._inner.roamer = self  # type: ignore[attr-defined]
        self._done: Callable[[], object] = lambda: None
        self._work: Deferred[None] | None = None
        self._asking = False
        self._pause: Deferred[None] | None = None
        self._preparing: Deferred[None] | None = None
        self._refresh: IDelayedCall | None = None
        self._watch: IDelayedCall | None = None
        self._stirred = False
        self._tls_context: Any = None
        self._secure = False
        self._server_received: int | None = None
        self._why: str | None = None

    # Beginning

    def open(self, done: Callable[[], object]) -> None:
        """
        Let the protocol open its session on the first link.  Called by the endpoint.

        @param done: called when the protocol has lost its connection for good.
        """
        link = self._link
        assert link is not None
        self._done = done
        link.on_lost = self._opening_lost
        link.on_started = self._started
        link.open(self._inner, self._endpoint.client_id)

    def _opening_lost(self, link: ClientLink, reason: Failure) -> None:
        if self.phase in (Phase.OPENING, Phase.PLAIN):
            self.phase = Phase.ENDED
            self._inner.lose(reason)
            self._done()

    def _started(self, started: Started) -> None:
        link = self._link
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
        terms = replace(terms, grace=max(terms.grace, int(self._policy.give_up)))
        session = Session(terms, self._policy, self._clock.seconds())
        self.conduit = link.conduit = Conduit(session, self._inner, self._clock, self)
        self._inner.observe(self._stir, self._stir)
        self.phase = Phase.LIVE
        self._tls_context = link.tls_context
        self._secure = link.secure
        link.on_lost = self._link_lost
        self.conduit.begin(link)
        self._tell("live", f"session begun by {link.path_name}")
        if started.rest:
            self.conduit.link_received(link, started.rest)
        self._prepare_soon(0.0)

    def _tell(self, word: str, text: str) -> None:
        self._log.debug("{word}: {text}", word=word, text=text)
        for watcher in list(self.watchers):
            watcher(word, text)

    # What people and network watchers ask

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
        return self._link.path_name if self._link is not None and self.phase in (Phase.LIVE, Phase.OPENING, Phase.PLAIN) else None

    def network_changed(self) -> None:
        """
        A hint: an address, a route or an interface has come or gone.  A live link is asked for a sign of life; while away, the next try
        is made now.
        """
        if self.phase is Phase.LIVE and self.conduit is not None:
            self.conduit.probe(self._policy.probe_timeout)
        pause, self._pause = self._pause, None
        if pause is not None:
            pause.callback(None)

    def link_is_dead(self) -> None:
        """
        A hint from somebody who knows: give the present link up and come back on another.
        """
        if self.phase is Phase.LIVE and self._link is not None:
            self._link.drop("told to")

    def switch(self, path: str | None = None) -> Deferred[None]:
        """
        Move to another path while the present link still works (make before break).

        @param path: the name of a path; the best that works when None.
        @return: fires when the session is on the new link.  When that fails the present link goes on: L{LinkFailed} and the errors of
            connecting.
        """
        if self.phase is not Phase.LIVE:
            return fail(LinkFailed("there is no live session to switch"))
        if self._asking:
            return fail(LinkFailed("a switch is under way"))
        return Deferred.fromCoroutine(self._switch(path))

    # Coming back

    def _link_lost(self, link: ClientLink, reason: Failure) -> None:
        if self._prepared is link:
            self._prepared = None
            self._prepare_soon(self._policy.backoff_first)
        elif self.conduit is not None:
            self.conduit.link_lost(link)

    async def _come_back(self) -> None:
        tries = 0
        while self.phase is Phase.AWAY:
            if tries and self._prepared is None:
                await self._wait(self._delay(tries - 1))
            tries += 1
            try:
                prepared, self._prepared = self._prepared, None
                link = prepared if prepared is not None else await self._fresh_link()
                await self._ask(link)
            except CancelledError:
                return
            except Exception as error:
                self._tell("trying", f"try {tries}: {error}")

    async def _wait(self, seconds: float) -> None:
        if self._pause is None:
            self._pause = Deferred()
        timer = self._clock.callLater(seconds, self._pause_over)
        try:
            await self._pause
        finally:
            if timer.active():
                timer.cancel()

    def _pause_over(self) -> None:
        pause, self._pause = self._pause, None
        if pause is not None:
            pause.callback(None)

    async def _fresh_link(self, only: str | None = None, without: str | None = None) -> ClientLink:
        link: ClientLink = await self._endpoint.connect_link(only, without)
        link.on_lost = self._link_lost
        if self._tls_context is not None:
            await link.secure_again(self._tls_context).addTimeout(self._policy.connect_timeout, self._clock)
        return link

    async def _ask(self, link: ClientLink) -> None:
        """
        RESUME on a link.  Returns when the session is on it or is over; raises when this link did not do.
        """
        assert self.conduit is not None
        conduit, session = self.conduit, self.conduit.session
        exported = exported_binding(link.transport)
        if session.terms.binding is Binding.TLS_EXPORTER and not exported:
            link.abort()
            raise LinkFailed("the new link has no TLS 1.3")
        if self._secure and not link.secure:
            link.abort()
            raise LinkFailed("the session was begun under TLS, the new link has none")
        attempt = Attempt(session, exported, self._policy.resume_literal, self._policy.resume_repeat)
        self._asking = True
        try:
            answer = await link.resume(attempt)
        finally:
            self._asking = False
        if isinstance(answer, Refused):
            link.finish()
            await self._refused(answer)
            return
        try:
            attempt.verify(answer)
        except Exception:
            link.abort()
            raise
        granted = answer
        old = conduit.exchange(link, lambda: attempt.granted(granted, self._clock.seconds()))
        self._link = link
        self.phase = Phase.LIVE
        rest = link.become_framed(conduit)
        conduit.flush()
        self._tell("live", f"resumed by {link.path_name}, the server had {answer.received} octets of ours")
        if rest:
            conduit.link_received(link, rest)
        if isinstance(old, ClientLink):
            old.finish()
        self._prepare_soon(0.0)

    async def _refused(self, answer: Refused) -> None:
        if answer.refusal is Refusal.STALE:
            raise LinkFailed("the server knew a later attempt; trying again with the next number")
        if answer.refusal is Refusal.RETRY:
            await self._wait(float(answer.number or 0))
            raise LinkFailed("the server asked to try again later")
        self._server_received = answer.number
        self._why = answer.refusal.name
        assert self.conduit is not None
        self.conduit.end(answer.refusal.value)

    async def _switch(self, path: str | None) -> None:
        assert self.conduit is not None
        prepared = self._prepared
        if prepared is not None and path in (None, prepared.path_name):
            self._prepared = None
            link = prepared
        else:
            link = await self._fresh_link(only=path)
        old = self._link
        if self.phase is not Phase.LIVE or old is None or self._asking:
            link.abort()
            raise LinkFailed("the session moved meanwhile")
        old.hold(True)
        old.congested = True
        try:
            await self._ask(link)
        finally:
            self._after_switch(old)

    def _after_switch(self, old: ClientLink) -> None:
        if self._link is old and self.conduit is not None:
            old.congested = False
            old.hold(False)
            self.conduit.flush()
        elif self.phase is Phase.AWAY and self._work is None:
            self._begin_work()

    # A link in reserve

    def _prepare_soon(self, delay: float) -> None:
        if not self._endpoint.prepare or self.phase is not Phase.LIVE or self._preparing is not None:
            return
        refresh, self._refresh = self._refresh, None
        if refresh is not None and refresh.active():
            refresh.cancel()
        self._refresh = self._clock.callLater(delay, self._prepare)

    def _prepare(self) -> None:
        self._refresh = None
        if self.phase is Phase.LIVE and self._preparing is None:
            self._preparing = Deferred.fromCoroutine(self._prepare_one())

    async def _prepare_one(self) -> None:
        try:
            without = self.path if len(self._endpoint.paths) > 1 else None
            link = await self._fresh_link(without=without)
            old, self._prepared = self._prepared, link
            if old is not None:
                old.on_lost = lambda *_: None
                old.finish()
            delay = self._policy.prepared_refresh
        except CancelledError:
            return
        except Exception as error:
            self._log.debug("No link could be prepared: {error}", error=str(error))
            delay = self._policy.backoff_most
        finally:
            self._preparing = None
        if self.phase is Phase.ENDED and self._prepared is not None:
            self._prepared.abort()
        self._prepare_soon(delay)

    # Is the link alive?

    def _stir(self, _: bytes) -> None:
        self._stirred = True
        if self._watch is None:
            self._watch = self._clock.callLater(self._policy.probe_quiet, self._look)
        elif self._watch.getTime() - self._clock.seconds() > self._policy.probe_quiet:
            self._watch.reset(self._policy.probe_quiet)

    def _look(self) -> None:
        self._watch = None
        if self.phase is not Phase.LIVE or self.conduit is None:
            return
        stirred, self._stirred = self._stirred, False
        if not stirred:
            self.conduit.probe(self._policy.probe_timeout)
        self._watch = self._clock.callLater(
            self._policy.probe_quiet if stirred else self._policy.probe_idle, self._look
        )

    # Owner of the conduit

    def _begin_work(self) -> None:
        self._work = Deferred.fromCoroutine(self._come_back())
        self._work.addBoth(self._work_done)

    def _work_done(self, result: object) -> None:
        self._work = None
        if isinstance(result, Failure):
            self._log.failure("Coming back failed.", result)

    def session_parked(self) -> None:
        """
        @see: L{Owner<mem_continuity.layer.conduit.Owner.session_parked>}
        """
        self._link = None
        self.phase = Phase.AWAY
        self._tell("away", "the link is gone")
        if self._work is None and not self._asking:
            self._begin_work()

    def session_moved(self) -> None:
        """
        @see: L{Owner<mem_continuity.layer.conduit.Owner.session_moved>}
        """
        self._why = "MOVED"
        if self.conduit is not None:
            self.conduit.end(b"MOVED")

    def session_grace_over(self) -> None:
        """
        @see: L{Owner<mem_continuity.layer.conduit.Owner.session_grace_over>}
        """
        if self.conduit is not None:
            self.conduit.end(b"UNREACHABLE")

    def session_ended(self) -> None:
        """
        @see: L{Owner<mem_continuity.layer.conduit.Owner.session_ended>}
        """
        self.phase = Phase.ENDED
        self._link = None
        for timer in (self._watch, self._refresh):
            if timer is not None and timer.active():
                timer.cancel()
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            prepared.abort()
        for work in (self._work, self._preparing):
            if work is not None and not self._asking:
                work.cancel()
        self._tell("ended", self._why or "closed")
        self._clock.callLater(0, self._done)

    def session_retained(self, change: int) -> None:
        """
        @see: L{Owner<mem_continuity.layer.conduit.Owner.session_retained>}; one session has its window and its overrun.
        """

    @property
    def waits_for_delivery(self) -> bool:
        """
        @see: L{Owner<mem_continuity.layer.conduit.Owner.waits_for_delivery>}
        """
        return True

    def failure_of(self, reason: bytes) -> Failure:
        """
        @see: L{Owner<mem_continuity.layer.conduit.Owner.failure_of>}
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


def roamer_of(protocol: Any) -> Roamer:
    """
    What keeps a protocol's connection on a link: for hints, planned switches and figures.

    @param protocol: connected through a L{RoamingEndpoint}.
    @raise ValueError: it was not.
    """
    roamer = getattr(protocol.transport, "roamer", None)
    if not isinstance(roamer, Roamer):
        raise ValueError("this protocol was not connected through a roaming endpoint")
    return roamer
