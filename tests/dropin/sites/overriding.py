"""
A site that overrides what there is to override in C{IMAP4Server}; the portal stands on the factory and is copied.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import ServerFactory
from twisted.mail.imap4 import IMAP4Server

from tests.dropin.sites.office import make_portal


class Server(IMAP4Server):
    """
    Writes down what it is asked and what it says.
    """

    journal: list[str]
    transport: Any

    def connectionMade(self) -> None:
        self.journal.append(f"made, peer is a {type(self.transport.getPeer()).__name__}")
        super().connectionMade()

    def lineReceived(self, line: bytes) -> Any:
        self.journal.append(f"C: {line.decode()}")
        return super().lineReceived(line)

    def sendLine(self, line: bytes) -> Any:
        self.journal.append(f"S: {line.decode()}")
        return super().sendLine(line)

    def capabilities(self) -> Any:
        found = super().capabilities()
        found[b"X-OFFICE"] = None
        return found

    def authenticateLogin(self, user: bytes, passwd: bytes) -> Any:
        self.journal.append(f"authenticateLogin {user.decode()}")
        return super().authenticateLogin(user.lower(), passwd)

    def connectionLost(self, reason: Any = None) -> None:
        self.journal.append(f"lost, {reason.type.__name__}")
        super().connectionLost(reason)


class MailFactory(ServerFactory):
    """
    Copies its portal to each protocol.
    """

    protocol = Server
    noisy = False
    portal: Any
    journal: list[str]

    def buildProtocol(self, addr: Any) -> Any:
        made: Any = super().buildProtocol(addr)
        made.portal = self.portal
        made.journal = self.journal
        return made


def listen(reactor: Any, context: Any, journal: list[str]) -> Any:
    factory = MailFactory()
    factory.portal = make_portal(journal)
    factory.journal = journal
    return reactor.listenSSL(0, factory, context, interface="127.0.0.1")
