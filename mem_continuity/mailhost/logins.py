"""
Attempts to log in, held back where they come too thick: hashing a password is dear on purpose, and a guesser must not have
all of it to himself.

Invariants: a few attempts of one address are looked at at the same time, so that others wait for no more of it.  From an
address with many failures each attempt waits before its password is looked at, so that to come back on a new connection does
not help; who waits may be right, and gets in.  While an attempt is at work, its connection is not read.  Nobody is counted for
longer than the policy says, nor more addresses than that.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Generator
from typing import Any, Protocol
from weakref import WeakValueDictionary

from twisted.cred.credentials import ICredentials
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, inlineCallbacks, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import Interface

from mem_continuity.core.policy import Policy

#: Seconds: the first wait; each failure more doubles it.
_FIRST_WAIT = 0.25


class LoginGuard:
    """
    What is known about failures, by address.  One for all sessions of a factory.
    """

    def __init__(self, policy: Policy, clock: IReactorTime) -> None:
        """
        @param policy: C{login_failures}, C{login_failure_time}, C{login_wait}, C{logins_per_address} and
            C{peers} are used from it.
        """
        self._policy = policy
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._turns: WeakValueDictionary[str, DeferredSemaphore] = WeakValueDictionary()

    def wait(self, peer: str) -> float:
        """
        How long an attempt from there waits now, in seconds.
        """
        times = self._failures.get(peer, deque())
        while times and times[0] <= self._clock.seconds() - self._policy.login_failure_time:
            times.popleft()
        if not times:
            self._failures.pop(peer, None)
        excess = len(times) - self._policy.login_failures
        # A power of two beyond this is longer than any wait, and at some point no float.
        return 0.0 if excess < 0 else float(min(self._policy.login_wait, _FIRST_WAIT * 2 ** min(excess, 64)))

    def failed(self, peer: str) -> None:
        """
        An attempt from there had a wrong name or password.
        """
        times = self._failures.setdefault(peer, deque(maxlen=self._policy.login_failures + 64))
        times.append(self._clock.seconds())
        self._failures.move_to_end(peer)
        while len(self._failures) > self._policy.peers:
            self._failures.popitem(last=False)

    @inlineCallbacks
    def attempt(self, peer: str, login: Callable[[], Any]) -> Generator[Deferred[Any], Any, Any]:
        """
        Make an attempt when its time has come.

        @param login: asks the portal.
        @return: what that gives; cancelled while it waits, it is never made.
        """
        wait = self.wait(peer)
        if wait:
            yield deferLater(self._clock, wait)
        turn = self._turns.get(peer)
        if turn is None:
            turn = self._turns[peer] = DeferredSemaphore(self._policy.logins_per_address)
        yield turn.acquire()
        try:
            result = yield maybeDeferred(login)
        except UnauthorizedLogin:
            self.failed(peer)
            raise
        finally:
            turn.release()
        return result


class Session(Protocol):
    """
    What a session gives to its logins.
    """

    def block(self) -> None:
        """
        Nothing more is read.
        """

    def unblock(self) -> None:
        """
        The opposite.
        """

    def peer(self) -> str:
        """
        The address it comes from.
        """


class GuardedPortal(Portal):
    """
    The portal that one session sees: the real one behind a L{LoginGuard}.

    @ivar waiting: the attempt that is at work, to be cancelled when the connection is lost.
    """

    def __init__(self, portal: Portal, guard: LoginGuard, session: Session) -> None:
        super().__init__(portal.realm)
        self.checkers = portal.checkers
        self._portal = portal
        self._guard = guard
        self._session = session
        self.waiting: Deferred[Any] | None = None

    def login(self, credentials: ICredentials, mind: object, *interfaces: type[Interface]) -> Deferred[Any]:
        """
        See L{Portal}; the session reads nothing more until it has answered.
        """
        answer: Deferred[Any] = Deferred()
        session = self._session
        session.block()

        def settled(result: Any) -> None:
            self.waiting = None
            if isinstance(result, Failure) and result.check(CancelledError):
                return  # The connection is lost: nobody is there to be answered.
            answer.callback(result)
            session.unblock()

        attempt = self._guard.attempt(session.peer(), lambda: self._portal.login(credentials, mind, *interfaces))
        self.waiting = attempt
        attempt.addBoth(settled)
        return answer
