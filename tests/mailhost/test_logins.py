"""
Attempts to log in, held back.
"""

from __future__ import annotations

from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.mail.interfaces import IAccountIMAP
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mem_continuity.core.policy import Policy
from mem_continuity.mailhost.logins import GuardedPortal, LoginGuard

HERE, THERE = "192.0.2.1", "192.0.2.2"


class GuardTests(SynchronousTestCase):
    """
    Who waits, and for how long.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.policy = Policy(login_failures=3, login_failure_time=60.0, login_wait=2.0, peers=5, logins_per_address=2)
        self.guard = LoginGuard(self.policy, self.clock)

    def wrong(self, peer: str) -> None:
        attempt = self.guard.attempt(peer, lambda: fail(UnauthorizedLogin()))
        self.clock.advance(2.0)
        self.failureResultOf(attempt, UnauthorizedLogin)

    def test_waits_grow_and_end(self) -> None:
        waits = []
        for _ in range(8):
            waits.append(self.guard.wait(HERE))
            self.wrong(HERE)
        self.assertEqual(waits, [0, 0, 0, 0.25, 0.5, 1, 2, 2])
        self.assertEqual(self.guard.wait(THERE), 0)
        self.clock.advance(60)
        self.assertEqual(self.guard.wait(HERE), 0)

    def test_nothing_is_asked_while_it_waits(self) -> None:
        for _ in range(4):
            self.wrong(HERE)
        asked: list[int] = []
        attempt = self.guard.attempt(HERE, lambda: asked.append(1))
        self.clock.advance(0.4)
        self.assertEqual(asked, [])
        self.clock.advance(0.2)
        self.successResultOf(attempt)
        self.assertEqual(asked, [1])

    def test_who_is_right_gets_in(self) -> None:
        for _ in range(500):
            self.guard.failed(HERE)
        attempt = self.guard.attempt(HERE, lambda: succeed("in"))
        self.clock.advance(self.policy.login_wait)
        self.assertEqual(self.successResultOf(attempt), "in")

    def test_a_few_of_one_address_at_a_time(self) -> None:
        asked: list[Deferred[None]] = []

        def ask() -> Deferred[None]:
            asked.append(Deferred())
            return asked[-1]

        attempts = [self.guard.attempt(HERE, ask) for _ in range(20)]
        self.assertEqual(len(asked), 2)
        other = self.guard.attempt(THERE, lambda: "in")
        self.assertEqual(self.successResultOf(other), "in")
        attempts[5].cancel()
        self.failureResultOf(attempts[5])
        for one in iter(lambda: asked.pop(0) if asked else None, None):
            one.callback(None)
        for one in attempts[:5] + attempts[6:]:
            self.successResultOf(one)

    def test_other_errors_are_no_failures(self) -> None:
        for _ in range(5):
            self.failureResultOf(self.guard.attempt(HERE, lambda: fail(OSError())), OSError)
        self.assertEqual(self.guard.wait(HERE), 0)

    def test_bounded(self) -> None:
        for number in range(20):
            for _ in range(4):
                self.guard.failed(f"192.0.2.{number}")
        self.assertEqual([self.guard.wait(f"192.0.2.{number}") > 0 for number in (0, 14, 15, 19)], [False, False, True, True])


@implementer(IRealm)
class Realm:
    """
    Gives the name.
    """

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        return interfaces[0], avatarId, lambda: None


class PortalTests(SynchronousTestCase):
    """
    The portal of one session, which this case plays.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.happened: list[str] = []
        portal = Portal(Realm(), [InMemoryUsernamePasswordDatabaseDontUse(joe=b"right")])
        self.guard = LoginGuard(Policy(login_failures=1), self.clock)
        self.portal = GuardedPortal(portal, self.guard, self)

    def block(self) -> None:
        self.happened.append("block")

    def unblock(self) -> None:
        self.happened.append("unblock")

    def peer(self) -> str:
        return HERE

    def login(self, password: bytes) -> Deferred[Any]:
        answer = self.portal.login(UsernamePassword(b"joe", password), None, IAccountIMAP)

        def answered(result: Any) -> Any:
            self.happened.append("no" if isinstance(result, Failure) else "yes")
            return result

        return answer.addBoth(answered)

    def test_not_read_until_answered(self) -> None:
        self.failureResultOf(self.login(b"wrong"), UnauthorizedLogin)
        self.happened.clear()
        second = self.login(b"right")
        self.assertEqual(self.happened, ["block"])
        self.clock.advance(0.25)
        self.assertEqual(self.successResultOf(second)[1], b"joe")
        self.assertEqual(self.happened, ["block", "yes", "unblock"])
        self.assertIsNone(self.portal.waiting)

    def test_lost_while_it_waits(self) -> None:
        self.failureResultOf(self.login(b"wrong"), UnauthorizedLogin)
        self.happened.clear()
        second = self.login(b"right")
        assert self.portal.waiting is not None
        self.portal.waiting.cancel()
        self.clock.advance(60)
        self.assertEqual(self.happened, ["block"])
        self.assertNoResult(second)
        self.assertEqual(self.clock.getDelayedCalls(), [])
