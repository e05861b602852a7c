"""
A link in reserve: TCP and TLS stand on another path while the present link works, so that a handover takes one round trip.

Invariants: at most one is kept; it is made anew before a server would close it for idleness; when the session is over it is
closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from mem_continuity.client.link import ClientLink

if TYPE_CHECKING:
    from mem_continuity.client.roamer import Roamer


class Reserve:
    """
    The reserve of one roamer.  It also takes a link that was made for something else and is left over while one is needed.
    """

    _log = Logger()

    def __init__(self, roamer: Roamer) -> None:
        self._roamer = roamer
        self._link: ClientLink | None = None
        self._making: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self._stopped = False

    @property
    def path_name(self) -> str | None:
        """
        The path of the link that stands ready, if there is one.
        """
        return None if self._link is None else self._link.path_name

    def take(self, only: str | None = None) -> ClientLink | None:
        """
        The link, if there is one and it came by that path.
        """
        if self._link is None or only not in (None, self._link.path_name):
            return None
        link, self._link = self._link, None
        return link

    def put(self, link: ClientLink) -> None:
        """
        Keep a link that is ready; one that was kept before is closed.
        """
        old, self._link = self._link, link
        if old is not None:
            old.finish()

    def lost(self, link: ClientLink) -> bool:
        """
        A link is gone.

        @return: whether it was the one in reserve.
        """
        if link is not self._link:
            return False
        self._link = None
        self.soon(self._roamer.endpoint.policy.backoff_first)
        return True

    def soon(self, delay: float) -> None:
        """
        The session is on a link: make one in reserve, if that is wanted, so many seconds from now.
        """
        if self._stopped:
            return
        if not self._roamer.endpoint.prepare:
            left = self.take()  # it was for coming back, and is not needed any more
            if left is not None:
                left.finish()
            return
        if self._making is not None or not self._roamer.live:
            return
        self._cancel_timer()
        self._timer = self._roamer.endpoint.clock.callLater(delay, self._make)

    def _make(self) -> None:
        self._timer = None
        if self._roamer.live and self._making is None:
            making = self._making = Deferred.fromCoroutine(self._make_one())
            making.addBoth(self._made)

    def _made(self, result: Failure | None) -> None:
        self._making = None
        if result is not None:
            result.trap(CancelledError)

    async def _make_one(self) -> None:
        roamer, policy = self._roamer, self._roamer.endpoint.policy
        without = roamer.path if len(roamer.endpoint.paths) > 1 else None
        try:
            link = await roamer.fresh_link(without=without)
        except CancelledError:
            raise
        except Exception as error:
            self._log.debug("No link could be prepared: {error}", error=str(error))
            delay = policy.backoff_most
        else:
            self.put(link)
            delay = policy.prepared_refresh
        self._making = None
        stale = self._link is not None and without is not None and self._link.path_name == roamer.path
        self.soon(0.0 if stale else delay)

    def _cancel_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def stop(self) -> None:
        """
        The session is over.
        """
        self._stopped = True
        self._cancel_timer()
        link = self.take()
        if link is not None:
            link.abort()
        if self._making is not None:
            self._making.cancel()
