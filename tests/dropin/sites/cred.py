"""
A site that gives each login an avatar of its own, with a number.
"""

from __future__ import annotations

from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet.protocol import ServerFactory
from twisted.mail.imap4 import IMAP4Server
from twisted.mail.interfaces import IAccountIMAP
from zope.interface import implementer

from tests.dropin.sites.office import make_account


@implementer(IRealm)
class NumberingRealm:
    """
    Counts avatars.
    """

    def __init__(self, journal: list[str]) -> None:
        self.journal = journal
        self.made = 0

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        self.made += 1
        number = self.made
        account: Any = make_account(avatarId.decode("ascii"))
        account.number = number
        self.journal.append(f"avatar {number} made for {account.name}")
        return IAccountIMAP, account, lambda: self.journal.append(f"avatar {number} logged out")


class Server(IMAP4Server):
    """
    Writes down which avatar it had.
    """

    journal: list[str]

    def connectionLost(self, reason: Any = None) -> None:
        account: Any = self.account
        self.journal.append(f"lost with avatar {getattr(account, 'number', None)}")
        super().connectionLost(reason)


class MailFactory(ServerFactory):
    """
    Copies its portal to each protocol.
    """

    protocol = Server
    noisy = False

    def __init__(self, portal: Portal, journal: list[str]) -> None:
        self.portal = portal
        self.journal = journal

    def buildProtocol(self, addr: Any) -> Any:
        made: Any = super().buildProtocol(addr)
        made.portal, made.journal = self.portal, self.journal
        return made


def listen(reactor: Any, context: Any, journal: list[str]) -> Any:
    checkers = [InMemoryUsernamePasswordDatabaseDontUse(joe=b"secret", ann=b"hidden")]
    portal = Portal(NumberingRealm(journal), checkers)
    return reactor.listenSSL(0, MailFactory(portal, journal), context, interface="127.0.0.1")
