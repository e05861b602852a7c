"""
The patience of a mail program: what may be said to it by somebody who is not its server, and when.

Invariants: nothing is said but an untagged C{OK}, which tells nothing of any state (RFC 9051 section 7.1), and C{BYE}; both only
where no response of the server has begun and not ended, no literal of the program is under way, and the dialogue can be followed:
behind COMPRESS, or when more commands are in flight than are counted, nothing is said any more.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from mem_continuity.core.policy import Policy
from mem_continuity.imap.observer import StateObserver

_STILL_HERE = b"* OK Still here; the way to the mail server is sought\r\n"


class Patience:
    """
    Watches one program's dialogue from its login on, and speaks while the session is away or its link in doubt.
    """

    def __init__(
        self,
        clock: IReactorTime,
        policy: Policy,
        every: float,
        at_rest: float,
        say: Callable[[bytes], object],
        is_needed: Callable[[], bool],
    ) -> None:
        """
        @param policy: bounds what is kept of the dialogue; see L{StateObserver}.
        @param every: seconds in which nothing was said on either side, and then between two signs of life, while the program
            waits for an answer; 0 for none at all.
        @param at_rest: the same while it waits for nothing, or is in IDLE: some take any word there for news, and then wait for
            an answer.
        @param say: writes to the program.
        @param is_needed: whether the session still is away, or its link in doubt.
        """
        self._observer = StateObserver(policy)
        self._clock = clock
        self._every = every
        self._at_rest = max(every, at_rest)
        self._say = say
        self._is_needed = is_needed
        self._said_at = clock.seconds()
        self._timer: IDelayedCall | None = None

    def program_data(self, octets: bytes) -> None:
        """
        The program says something to the server.
        """
        self._said_at = self._clock.seconds()
        if not self._observer.blind:
            self._observer.client_data(octets)

    def server_data(self, octets: bytes) -> None:
        """
        The server says something to the program.
        """
        self._said_at = self._clock.seconds()
        if not self._observer.blind:
            self._observer.server_data(octets)

    @property
    def may_speak(self) -> bool:
        """
        Whether this is a place for a response that is not the server's.
        """
        observer = self._observer
        return not observer.blind and observer.between_responses and not observer.client_in_literal

    def begin(self) -> None:
        """
        The session has no link, or one in doubt.
        """
        if self._every and self._timer is None:
            self._wait()

    @property
    def _due_at(self) -> float:
        return self._said_at + (self._at_rest if self._observer.at_rest else self._every)

    def _wait(self) -> None:
        # What the program says meanwhile may make it due sooner.
        left = min(self._due_at - self._clock.seconds(), self._every)
        self._timer = self._clock.callLater(max(0.0, left), self._due)

    def stop(self) -> None:
        """
        The session has a link again, or is over.
        """
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _due(self) -> None:
        self._timer = None
        if not self._is_needed():
            return
        now = self._clock.seconds()
        if now >= self._due_at:
            self._said_at = now
            if self.may_speak:
                self._say(_STILL_HERE)
        self._wait()
