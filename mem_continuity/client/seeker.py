"""
How a session comes by its next link: coming back when it has none, moving while it still has one.

Invariants:

- At most one RESUME of ours is under way: with two, an answer could name counts that the other has made untrue.
- A link that works is read to its end when it is left; one in doubt is not waited for.
- A link that did not do is closed, whatever went wrong on it; a link that came too late is closed or used, never forgotten.
- A link that is asked may have died unnoticed, in reserve or just now, so another is sought when it does not answer soon.
- Pauses between tries grow as long as no link was good for anything; a hint that the network has changed ends a pause.

Twisted's C{ClientService} was looked at for the reconnecting and does not fit: it holds one connection at a time and takes none
that is lost while it is being prepared, where this races several paths and prepares one link while another works.  Its
C{backoffPolicy} is used.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from random import random
from typing import TYPE_CHECKING, Any

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mem_continuity.client.link import ClientLink, LinkFailed
from mem_continuity.client.paths import AnyPath
from mem_continuity.client.search import Search
from mem_continuity.core.frames import FrameType, encode
from mem_continuity.core.handshake import Binding, Refusal, Refused
from mem_continuity.core.resumption import Attempt
from mem_continuity.core.states import State
from mem_continuity.layer.conduit import Conduit
from mem_continuity.layer.sockets import exported_binding

if TYPE_CHECKING:
    from mem_continuity.client.roamer import Roamer


class Seeker:
    """
    The part of one roamer that seeks links.

    @ivar unsettled: a RESUME of ours may have been granted without our hearing of it.
    @ivar tls_context: what the inner protocol began TLS with, when it did so itself: later links do it too.
    """

    _log = Logger()

    def __init__(self, roamer: Roamer, conduit: Conduit, tls_context: Any) -> None:
        self.unsettled = False
        self.tls_context = tls_context
        self._begun_secure = roamer.link is not None and roamer.link.secure
        self._roamer = roamer
        self._conduit = conduit
        self._endpoint = roamer.endpoint
        self._policy = policy = roamer.endpoint.policy
        self._clock = roamer.endpoint.clock
        self._pauses = backoffPolicy(policy.backoff_first, policy.backoff_most, policy.backoff_factor, lambda: 0.0)
        self._work: Deferred[None] | None = None
        self._moving: Deferred[None] | None = None
        self._hedge: Deferred[None] | None = None
        self._connecting: Search | None = None
        self._leaving: Search | None = None
        self._racing: list[AnyPath] = []
        self._asking: ClientLink | None = None
        self._asked_at = 0.0
        self._pause: Deferred[None] | None = None
        self._stopped = False
        self._tries = 0
        self._resumed_at: tuple[float, int, int] | None = None
        self._silent_path: str | None = None

    @property
    def asking(self) -> bool:
        """
        Whether a RESUME waits for its answer.
        """
        return self._asking is not None

    @property
    def moving(self) -> bool:
        """
        Whether a move is under way.
        """
        return self._moving is not None

    def stop(self) -> None:
        """
        The session is over.
        """
        self._stopped = True
        for work in (self._work, self._moving, self._hedge):
            if work is not None:
                work.cancel()

    def hint(self) -> None:
        """
        The network has changed: try now what waits, and again what has failed.
        """
        for race in list(self._racing):
            race.retry()
        names = {path.name for path in self._endpoint.paths}
        for search in (self._connecting, self._leaving):
            if search is not None and search.outdated(names, self._roamer.path):
                search.anew = True
                search.link.cancel()
        self._doubt_asked()
        self._end_pause()

    def _doubt_asked(self) -> None:
        asked = self._asking
        if asked is None:
            return
        if all(path.name != asked.path_name for path in self._endpoint.paths):
            asked.give_up("its network is gone")
        elif self._clock.seconds() - self._asked_at > asked.took:
            self._begin_hedge(asked)

    # Coming back

    def come_back(self, silent_path: str | None) -> None:
        """
        The session has lost its link.  When a RESUME is under way, its answer decides first.

        @param silent_path: the path by which the link had come, if it fell silent: that path is tried last.
        """
        if silent_path is not None:
            self._silent_path = silent_path
        if self._got_on():
            self._tries = 0
        if self._work is None and self._asking is None:
            self._begin_work()

    async def _come_back(self) -> None:
        roamer = self._roamer
        while roamer.away:
            if self._tries and self._roamer.reserve.path_name is None:
                await self._wait(self._pauses(self._tries - 1) * (1.0 + random() * self._policy.backoff_jitter))
            self._tries += 1
            try:
                await self._try()
            except CancelledError:
                if self._stopped:
                    return
            except Exception as error:
                self._roamer.tell("trying", f"try {self._tries}: {error}")

    async def _try(self) -> None:
        doubt = self._policy.path_stagger
        link = self._roamer.reserve.take()
        if link is None:
            doubt = self._policy.answer_doubt
            self._connecting = self._search(self._endpoint.ways(None, None, self._silent_path))
            try:
                link = await self._connecting.link
            finally:
                self._connecting = None
        refused = await self._ask(link, doubt)
        if refused is not None:
            await self._refused(refused)

    def _begin_hedge(self, asked: ClientLink) -> None:
        if self._hedge is None:
            hedge = self._hedge = self._start(self._hedge_with(asked))
            if hedge.called:
                self._hedge = None

    async def _hedge_with(self, asked: ClientLink) -> None:
        try:
            fresh = await self.fresh_link(last=asked.path_name)
        finally:
            self._hedge = None
        if self._asking is asked:
            self._roamer.reserve.put(fresh)
            asked.give_up("a fresh link came about before its answer")
        else:
            fresh.finish()

    def _start(self, coroutine: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
        """
        Begin something that nobody waits for and that may fail.
        """
        return Deferred.fromCoroutine(coroutine).addErrback(self._shrug)

    def _shrug(self, why: Failure) -> None:
        if why.check(CancelledError) is None:
            self._log.debug("{error}", error=why.getErrorMessage())

    async def _wait(self, seconds: float) -> None:
        self._pause = Deferred()
        timer = self._clock.callLater(seconds, self._end_pause)
        try:
            await self._pause
        finally:
            self._pause = None
            if timer.active():
                timer.cancel()

    def _end_pause(self) -> None:
        pause, self._pause = self._pause, None
        if pause is not None:
            pause.callback(None)

    async def fresh_link(self, only: str | None = None, without: str | None = None, last: str | None = None) -> ClientLink:
        """
        A link that is ready for a RESUME, as secure as the first one.

        @param only: by this path alone.
        @param without: not by this path.
        @param last: by this path only if no other works.
        """
        return await self._link_by(self._endpoint.ways(only, without, last))

    def _search(self, ways: AnyPath) -> Search:
        return Search(ways, Deferred.fromCoroutine(self._link_by(ways)))

    async def _link_by(self, ways: AnyPath) -> ClientLink:
        begun = self._clock.seconds()
        self._racing.append(ways)
        try:
            link: ClientLink = await self._endpoint.connect_by(ways)
        finally:
            self._racing.remove(ways)
        link.took = self._clock.seconds() - begun
        link.on_lost = self._roamer.link_lost
        if self.tls_context is not None and not link.secure:
            try:
                await link.secure_again(self.tls_context).addTimeout(self._policy.connect_timeout, self._clock)
            except BaseException:
                link.abort()
                raise
        return link

    async def _ask(self, link: ClientLink, doubt: float, drain: bool = False) -> Refused | None:
        """
        RESUME on a link.  Raises when this link did not do.

        @param doubt: seconds without an answer after which another link is sought; longer on a slow network.
        @param drain: the present link goes on until the answer comes, and is read to its end then.
        @return: why the server will not; None when the session is on this link, or over.
        """
        session = self._conduit.session
        before = self.unsettled
        self._asking = link
        self._asked_at = self._clock.seconds()
        timer = self._clock.callLater(max(doubt, 2 * link.took), self._begin_hedge, link)
        try:
            exported = exported_binding(link.transport)
            if session.terms.binding is Binding.TLS_EXPORTER and not exported:
                raise LinkFailed("the new link has no TLS 1.3")
            if self._begun_secure and not link.secure:
                raise LinkFailed("the session was begun under TLS, the new link has none")
            literal, repeat = self._policy.resume_literal, self._policy.resume_repeat
            attempt = Attempt(session, exported, literal, repeat, drain=drain)
            self.unsettled = True
            answer = await link.resume(attempt)
            if isinstance(answer, Refused):
                link.finish()
                self.unsettled = before or answer.refusal is Refusal.STALE
                return answer
            if session.state is State.ENDED:
                # There is nobody left here to go on; the server need not wait for us.
                link.transport.write(encode(FrameType.END, b"ABORTED"))
                link.finish()
                return None
            attempt.verify(answer)
            granted = answer
        except BaseException:
            link.abort()
            raise
        finally:
            self._asking = None
            if timer.active():
                timer.cancel()
            if self._hedge is not None:
                self._hedge.cancel()
        self.unsettled = False
        self._silent_path = None
        self._roamer.take_over(link, lambda: attempt.granted(granted, self._clock.seconds()), granted)
        session = self._conduit.session
        self._resumed_at = (self._clock.seconds(), session.receiver.arrived, session.sender.acknowledged)
        return None

    async def _refused(self, answer: Refused) -> None:
        if answer.refusal is Refusal.STALE:
            raise LinkFailed("the server knew a later attempt; trying again with the next number")
        if answer.refusal is Refusal.RETRY:
            await self._wait(float(answer.number or 0))
            raise LinkFailed("the server asked to try again later")
        if not self._roamer.away:
            return
        self._roamer.refused(answer)

    # Moving while the present link stands

    def move(self, only: str | None, leaving: bool, wanted: Callable[[], bool], lives: Callable[[], bool]) -> Deferred[None]:
        """
        Take another link and then leave the present one.

        @param only: by this path alone.
        @param leaving: not by the present one, if there is another.
        @param wanted: asked when the new link stands: is it still needed?
        @param lives: asked then, too: does the present link work?  Then it is read until it has brought what is on it.
        """
        moving = Deferred.fromCoroutine(self._moved(only, leaving, wanted, lives))
        self._moving = moving

        def over(result: Any) -> Any:
            self._moving = None
            return result

        return moving.addBoth(over)

    async def _moved(self, only: str | None, leaving: bool, wanted: Callable[[], bool], lives: Callable[[], bool]) -> None:
        link = self._roamer.reserve.take(only)
        while link is None:
            link = await self._next_link(only, leaving)
        old = self._roamer.link
        if not self._roamer.live or old is None or self._asking is not None:
            self._offer(link)
            raise LinkFailed("the link was lost before the switch")
        if not wanted():
            link.finish()
            return
        drain = lives()
        if drain:
            self._conduit.anticipate(True)
        else:
            old.hold(True)
        try:
            refused = await self._ask(link, self._policy.answer_doubt, drain)
            if refused is not None:
                raise LinkFailed(f"the server refused: {refused.refusal.name}")
        finally:
            if drain:
                self._conduit.anticipate(False)
            else:
                old.hold(False)
            if self._roamer.away and self._work is None:
                self._begin_work()

    async def _next_link(self, only: str | None, leaving: bool) -> ClientLink | None:
        """
        A link for a move; None when there are other paths by now, so that it has to be sought anew.
        """
        if only is not None:
            return await self.fresh_link(only)
        without = self._roamer.path if leaving and len(self._endpoint.paths) > 1 else None
        search = self._leaving = self._search(self._endpoint.ways(None, without, None))
        try:
            return await search.link
        except CancelledError:
            if not search.anew or self._stopped:
                raise
            return None
        finally:
            self._leaving = None

    def _offer(self, link: ClientLink) -> None:
        """
        Here is a link, made for something else: if one is needed, it is used.
        """
        if not self._roamer.away or self._asking is not None:
            link.finish()
            return
        self._roamer.reserve.put(link)
        if self._connecting is not None:
            self._connecting.link.cancel()
        self._end_pause()

    def _got_on(self) -> bool:
        """
        Whether the last link was good for anything; when it was not, the pauses go on growing.
        """
        if self._resumed_at is None:
            return True
        since, arrived, acknowledged = self._resumed_at
        session = self._conduit.session
        if (session.receiver.arrived, session.sender.acknowledged) != (arrived, acknowledged):
            return True
        return self._clock.seconds() - since >= self._policy.probe_timeout

    def _begin_work(self) -> None:
        work = self._work = Deferred.fromCoroutine(self._come_back())
        work.addBoth(self._work_done)

    def _work_done(self, result: object) -> None:
        self._work = None
        if isinstance(result, Failure) and result.check(CancelledError) is None:
            self._log.failure("Coming back failed.", result)
