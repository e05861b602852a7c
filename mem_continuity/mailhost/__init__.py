"""
The embedded default: a small correct IMAP4 server on Maildir.

From the file up: L{maildir<mem_continuity.mailhost.maildir>} is the format, L{index<mem_continuity.mailhost.index>} the
UIDs, L{folder<mem_continuity.mailhost.folder>} what sessions share, L{mailbox<mem_continuity.mailhost.mailbox>} what
each has of its own, L{account<mem_continuity.mailhost.account>} and L{realm<mem_continuity.mailhost.realm>} the way there
from a login, L{protocol<mem_continuity.mailhost.protocol>} the server.  The seam to all that is above is Twisted's: a realm
whose avatars are L{IAccountIMAP<twisted.mail.interfaces.IAccountIMAP>}.
"""

from __future__ import annotations

from mem_continuity.mailhost.factory import MailhostFactory
from mem_continuity.mailhost.protocol import MailhostProtocol
from mem_continuity.mailhost.realm import MaildirRealm

__all__ = ["MaildirRealm", "MailhostFactory", "MailhostProtocol"]
