"""
A site that counts traffic by patching the transport of its protocols, and keeps things of its own there.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import ServerFactory
from twisted.mail.imap4 import IMAP4Server

from tests.dropin.sites.office import make_portal


class Server(IMAP4Server):
    """
    Counts what it writes.
    """

    journal: list[str]

    def connectionMade(self) -> None:
        transport: Any = self.transport
        write = transport.write
        self.written = 0

        def counting_write(data: bytes) -> None:
            self.written += len(data)
            write(data)

        transport.write = counting_write
        transport.custom = self
        super().connectionMade()

    def connectionLost(self, reason: Any = None) -> None:
        transport: Any = self.transport
        self.journal.append(f"lost after {self.written} octets, transport is mine: {transport.custom is self}")
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


def listen(reactor: Any, context: Any, journal: list[str]) -> Any:
    return reactor.listenSSL(0, MailFactory(journal), context, interface="127.0.0.1")
