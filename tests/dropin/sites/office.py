"""
What the sites have in common: joe's account with one big message, and cred.
"""

from __future__ import annotations

from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.mail.interfaces import IAccountIMAP
from zope.interface import implementer

from tests.support.mailboxes import Account, Mailbox

MESSAGE = b"Subject: minutes\r\n\r\n" + b"".join(b"%06d all that was said in the meeting\r\n" % n for n in range(12000))


def make_account(name: str) -> Account:
    """
    A user's account.
    """
    inbox = Mailbox()
    inbox.deliver(MESSAGE)
    return Account(name, {"INBOX": inbox})


@implementer(IRealm)
class Realm:
    """
    Writes down logins and logouts.
    """

    def __init__(self, journal: list[str]) -> None:
        self.journal = journal

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        name = avatarId.decode("ascii")
        self.journal.append(f"login {name} mind={mind}")
        return IAccountIMAP, make_account(name), lambda: self.journal.append(f"logout {name}")


def make_portal(journal: list[str]) -> Portal:
    """
    A portal for joe and ann.
    """
    return Portal(Realm(journal), [InMemoryUsernamePasswordDatabaseDontUse(joe=b"secret", ann=b"hidden")])
