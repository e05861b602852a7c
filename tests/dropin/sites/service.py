"""
A site as a Twisted service on an endpoint, which it is given as a description.
"""

from __future__ import annotations

from typing import Any

from twisted.application.internet import StreamServerEndpointService
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import ServerFactory
from twisted.mail.imap4 import IMAP4Server

from tests.dropin.sites.office import make_portal


class Server(IMAP4Server):
    """
    Writes down who comes and goes.
    """

    journal: list[str]
    transport: Any

    def authenticateLogin(self, user: bytes, passwd: bytes) -> Any:
        self.journal.append(f"authenticateLogin, peer {getattr(self.transport.getPeer(), 'host', 'local')}")
        return super().authenticateLogin(user, passwd)

    def connectionLost(self, reason: Any = None) -> None:
        self.journal.append(f"lost in state {self.state}")
        super().connectionLost(reason)


class MailFactory(ServerFactory):
    """
    Copies its portal to each protocol.
    """

    protocol = Server
    noisy = False

    def __init__(self, journal: list[str]) -> None:
        self.journal = journal
        self.portal = make_portal(journal)

    def buildProtocol(self, addr: Any) -> Any:
        made: Any = super().buildProtocol(addr)
        made.portal, made.journal = self.portal, self.journal
        return made


def make_service(reactor: Any, description: str, journal: list[str]) -> StreamServerEndpointService:
    factory = MailFactory(journal)
    return StreamServerEndpointService(serverFromString(reactor, description), factory)
