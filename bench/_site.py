"""
The site that is measured: Twisted's own IMAP4Server on mailboxes that exist in arithmetic only, so that what is measured is
the way and not the mail store.

Invariant: nothing here knows of continuity; the same factory stands behind the layer and alone.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory
from twisted.mail import imap4
from twisted.mail.interfaces import IMailboxIMAP
from zope.interface import implementer

_LINE = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/0123456789abcd\r\n"
_BLOCK = _LINE * 1024


class Body(io.RawIOBase):
    """
    So many octets of text that is never stored.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        count = self._size - self._at if size < 0 else min(size, self._size - self._at)
        begin = self._at % len(_LINE)
        self._at += count
        return (_BLOCK * (1 + (begin + count) // len(_BLOCK)))[begin : begin + count]


@implementer(imap4.IMessage, imap4.IMessageFile)
class Message:
    """
    A message of a given size.
    """

    def __init__(self, uid: int, size: int) -> None:
        self._uid, self._size = uid, size

    def getUID(self) -> int:
        return self._uid

    def getFlags(self) -> list[str]:
        return ["\\Seen"]

    def getInternalDate(self) -> str:
        return "01-Jan-2024 00:00:00 +0000"

    def getSize(self) -> int:
        return self._size

    def getHeaders(self, negate: bool, *names: str) -> dict[str, str]:
        return {}

    def getBodyFile(self) -> Body:
        return Body(self._size)

    def isMultipart(self) -> bool:
        return False

    def getSubPart(self, part: int) -> Any:
        raise IndexError(part)

    def open(self) -> Body:
        return Body(self._size)


@implementer(IMailboxIMAP)
class Mailbox:
    """
    So many messages; what is appended is counted and thrown away.

    @cvar appended: size and SHA-256 of the last message that was appended to any mailbox.
    """

    appended: tuple[int, str] = (0, "")

    def __init__(self, messages: int, size: int) -> None:
        self._messages, self._size = messages, size

    def getFlags(self) -> list[str]:
        return ["\\Seen"]

    def getHierarchicalDelimiter(self) -> str:
        return "/"

    def getMessageCount(self) -> int:
        return self._messages

    def getRecentCount(self) -> int:
        return 0

    def getUnseenCount(self) -> int:
        return 0

    def getUIDValidity(self) -> int:
        return 7

    def getUIDNext(self) -> int:
        return self._messages + 1

    def getUID(self, message: int) -> int:
        return message

    def isWriteable(self) -> bool:
        return True

    def addListener(self, listener: object) -> None:
        pass

    def removeListener(self, listener: object) -> None:
        pass

    def fetch(self, messages: Any, uid: bool) -> Iterator[tuple[int, Message]]:
        messages.last = self._messages
        for number in messages:
            yield number, Message(number, self._size)

    def expunge(self) -> list[int]:
        return []

    def destroy(self) -> None:
        pass

    def requestStatus(self, names: Any) -> Any:
        return imap4.statusRequestHelper(self, names)

    def store(self, messages: Any, flags: Any, mode: int, uid: bool) -> dict[int, Any]:
        return {}

    def addMessage(self, message: Any, flags: Any = (), date: Any = None) -> Deferred[None]:
        octets = message.read()
        Mailbox.appended = len(octets), hashlib.sha256(octets).hexdigest()
        return succeed(None)


class Account(imap4.MemoryAccountWithoutNamespaces):
    """
    Every name is the same mailbox.
    """

    def __init__(self, name: str, mailbox: Mailbox) -> None:
        super().__init__(name)
        self._mailbox = mailbox

    def select(self, name: str, readwrite: int = 1) -> Mailbox:
        return self._mailbox


@implementer(IRealm)
class Realm:
    """
    Everybody has the same mail.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        return imap4.IAccount, Account(avatarId.decode(), self._mailbox), lambda: None


@implementer(ICredentialsChecker)
class Everybody:
    """
    Who knows the one password gets in.
    """

    credentialInterfaces = (IUsernamePassword,)

    def requestAvatarId(self, credentials: Any) -> Any:
        if credentials.checkPassword(b"secret"):
            return credentials.username
        raise ValueError("wrong password")


class Site(ServerFactory):
    """
    The factory, as a site would write it.
    """

    noisy = False
    protocol = imap4.IMAP4Server

    def __init__(self, messages: int, size: int) -> None:
        self._portal = Portal(Realm(Mailbox(messages, size)), [Everybody()])

    def buildProtocol(self, addr: IAddress | None) -> Any:
        made: Any = imap4.IMAP4Server()
        made.portal = self._portal
        made.factory = self
        return made
