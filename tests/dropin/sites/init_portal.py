"""
A site whose protocol makes its portal in C{__init__}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import ServerFactory
from twisted.mail.imap4 import IMAP4Server

from tests.dropin.sites.office import make_portal


class Server(IMAP4Server):
    """
    Needs an argument.
    """

    portal: Any

    def __init__(self, journal: list[str]) -> None:
        super().__init__()
        self.portal = make_portal(journal)


class MailFactory(ServerFactory):
    """
    Makes protocols that need an argument.
    """

    noisy = False

    def __init__(self, journal: list[str]) -> None:
        self.journal = journal

    def startFactory(self) -> None:
        self.journal.append("factory started")

    def stopFactory(self) -> None:
        self.journal.append("factory stopped")

    def buildProtocol(self, addr: Any) -> Any:
        return Server(self.journal)


def listen(reactor: Any, context: Any, journal: list[str]) -> Any:
    return reactor.listenSSL(0, MailFactory(journal), context, interface="127.0.0.1")
