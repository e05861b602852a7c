"""
A site without cred: C{authenticateLogin} is its own.
"""

from __future__ import annotations

from typing import Any

from twisted.cred.error import UnauthorizedLogin
from twisted.internet.protocol import ServerFactory
from twisted.mail.imap4 import IMAP4Server
from twisted.mail.interfaces import IAccountIMAP

from tests.dropin.sites.office import make_account


class Server(IMAP4Server):
    """
    Knows one password.
    """

    def authenticateLogin(self, user: bytes, passwd: bytes) -> Any:
        journal = self.factory.journal
        journal.append(f"authenticateLogin {user.decode()}")
        if (user, passwd) != (b"joe", b"secret"):
            raise UnauthorizedLogin("no such user, or not this password")
        return IAccountIMAP, make_account("joe"), lambda: journal.append("logout joe")


class MailFactory(ServerFactory):
    """
    Nothing special.
    """

    protocol = Server
    noisy = False


def listen(reactor: Any, context: Any, journal: list[str]) -> Any:
    factory: Any = MailFactory()
    factory.journal = journal
    return reactor.listenSSL(0, factory, context, interface="127.0.0.1")
