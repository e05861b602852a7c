"""
A site that turns away some addresses: C{buildProtocol} returns None.  (On the plain port: below Twisted's TLS it must not.)
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import ServerFactory
from twisted.mail.imap4 import IMAP4Server

from tests.dropin.sites.office import make_portal


class MailFactory(ServerFactory):
    """
    Not for 127.0.0.2.
    """

    protocol = IMAP4Server
    noisy = False

    def __init__(self, journal: list[str]) -> None:
        self.journal = journal
        self.portal = make_portal(journal)

    def buildProtocol(self, addr: Any) -> Any:
        self.journal.append(f"asked for {addr.host}")
        if addr.host == "127.0.0.2":
            return None
        made: Any = super().buildProtocol(addr)
        made.portal = self.portal
        return made


def listen(reactor: Any, context: Any, journal: list[str]) -> Any:
    return reactor.listenTCP(0, MailFactory(journal), interface="127.0.0.1")
