"""
A site behind a balancer that passes TLS through and puts the PROXY header in front of it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import ServerFactory
from twisted.mail.imap4 import IMAP4Server
from twisted.protocols.haproxy import proxyEndpoint
from twisted.protocols.tls import TLSMemoryBIOFactory

from tests.dropin.sites.office import make_portal


class Server(IMAP4Server):
    """
    Writes down who it talks to.
    """

    journal: list[str]
    transport: Any

    def connectionMade(self) -> None:
        self.journal.append(f"made for {self.transport.getPeer().host}")
        super().connectionMade()

    def authenticateLogin(self, user: bytes, passwd: bytes) -> Any:
        self.journal.append(f"authenticateLogin from {self.transport.getPeer().host}")
        return super().authenticateLogin(user, passwd)


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
        self.journal.append(f"asked for {addr.host}")
        made: Any = super().buildProtocol(addr)
        made.portal, made.journal = self.portal, self.journal
        return made


def listen(reactor: Any, context: Any, journal: list[str]) -> Any:
    endpoint = proxyEndpoint(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))
    return endpoint.listen(TLSMemoryBIOFactory(context, False, MailFactory(journal)))
