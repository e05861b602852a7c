"""
What listens for the mailhost.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.cred.portal import Portal
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import ServerFactory

from mem_continuity.core.policy import Policy
from mem_continuity.mailhost.logins import LoginGuard
from mem_continuity.mailhost.protocol import MailhostProtocol


class MailhostFactory(ServerFactory):
    """
    Makes sessions of the mailhost.

    @ivar portal: who may log in, and what for.
    """

    noisy = False
    protocol: Callable[..., MailhostProtocol] = MailhostProtocol

    def __init__(
        self, portal: Portal, reactor: IReactorTime, policy: Policy | None = None, allow_plaintext: bool = False
    ) -> None:
        """
        @param policy: the limits.
        @param allow_plaintext: take passwords without TLS from loopback addresses.
        """
        self.portal = portal
        self._reactor = reactor
        self._policy = policy or Policy()
        self._guard = LoginGuard(self._policy, reactor)
        self._allow_plaintext = allow_plaintext

    def buildProtocol(self, addr: IAddress | None) -> MailhostProtocol:
        """
        Called by a listening port for each connection.
        """
        session = self.protocol(self._policy, self._reactor, self._allow_plaintext)
        session.factory = self
        session.enter_by(self.portal, self._guard)
        return session
