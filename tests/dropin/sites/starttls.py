"""
A site on the plain port: its protocol has a context and does STARTTLS.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import ServerFactory
from twisted.mail.imap4 import IMAP4Server

from tests.dropin.sites.office import make_portal


class Server(IMAP4Server):
    """
    Writes down what it is asked.
    """

    journal: list[str]

    def lineReceived(self, line: bytes) -> Any:
        self.journal.append(f"C: {line.decode()}, TLS: {self.startedTLS}")
        return super().lineReceived(line)

    def connectionLost(self, reason: Any = None) -> None:
        self.journal.append(f"lost in state {self.state}")
        super().connectionLost(reason)


class MailFactory(ServerFactory):
    """
    Gives its protocols a TLS context.
    """

    noisy = False

    def __init__(self, context: Any, journal: list[str]) -> None:
        self.context = context
        self.journal = journal
        self.portal = make_portal(journal)

    def buildProtocol(self, addr: Any) -> Any:
        made: Any = Server(contextFactory=self.context)
        made.portal, made.journal = self.portal, self.journal
        return made


def listen(reactor: Any, context: Any, journal: list[str]) -> Any:
    return reactor.listenTCP(0, MailFactory(context, journal), interface="127.0.0.1")
