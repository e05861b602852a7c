"""
Realms of mail accounts that C{twistd mem-continuity --realm NAME[:ARGUMENT]} finds by name.

Read whenever plugins are looked for, so what it needs is imported only when a realm is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.plugin import IPlugin
from zope.interface import implementer

from mem_continuity.interfaces import IMailRealmFactory

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from mem_continuity.core.policy import Policy
    from mem_continuity.mailhost.realm import MaildirRealm


@implementer(IPlugin, IMailRealmFactory)
class MaildirRealmFactory:
    """
    The mailhost's own: a Maildir for each user below a folder.
    """

    name = "maildir"
    summary = "a Maildir for each user below a folder"
    argument_help = "the folder; made when it is not there"

    def make_realm(self, argument: str, reactor: IReactorTime, policy: Policy) -> MaildirRealm:
        """
        See L{IMailRealmFactory}.
        """
        from pathlib import Path

        from mem_continuity.mailhost.realm import MaildirRealm

        if not argument:
            raise ValueError("the maildir realm needs a folder: --realm maildir:/path/to/mail")
        try:
            return MaildirRealm(Path(argument).expanduser(), reactor, policy)
        except OSError as error:
            raise ValueError(f"the folder {argument} cannot be used: {error.strerror}") from None


maildir_realm = MaildirRealmFactory()
