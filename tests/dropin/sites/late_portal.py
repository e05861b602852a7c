"""
A site that sets its portal late: on the factory when it listens already, on the protocol in C{connectionMade}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import ServerFactory
from twisted.mail.imap4 import IMAP4Server

from tests.dropin.sites.office import make_portal


class Server(IMAP4Server):
    """
    Asks its factory.
    """

    def connectionMade(self) -> None:
        factory: Any = self.factory
        self.portal = factory.portal
        super().connectionMade()


class MailFactory(ServerFactory):
    """
    Has a portal some time.
    """

    protocol = Server
    noisy = False
    portal: Any = None


def listen(reactor: Any, context: Any, journal: list[str]) -> Any:
    factory = MailFactory()
    port = reactor.listenSSL(0, factory, context, interface="127.0.0.1")
    factory.portal = make_portal(journal)
    return port
