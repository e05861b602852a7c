"""
A site whose portal stands on the protocol class, and whose factory is C{Factory.forProtocol}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory
from twisted.mail.imap4 import IMAP4Server

from tests.dropin.sites.office import make_portal


def listen(reactor: Any, context: Any, journal: list[str]) -> Any:
    class Server(IMAP4Server):
        portal: Any = make_portal(journal)

        def connectionLost(self, reason: Any = None) -> None:
            journal.append("lost")
            super().connectionLost(reason)

    return reactor.listenSSL(0, Factory.forProtocol(Server), context, interface="127.0.0.1")
