"""
Mail in memory behind Twisted's interfaces: messages as octets, mailboxes that tell their listeners, accounts that share them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.mail.imap4 import MemoryAccountWithoutNamespaces
from twisted.mail.interfaces import IAccountIMAP, ICloseableMailboxIMAP, IMailboxIMAP, IMessageIMAP, IMessageIMAPFile
from zope.interface import implementer


@implementer(IMessageIMAP, IMessageIMAPFile)
class Message:
    """
    A message as octets.
    """

    def __init__(self, uid: int, octets: bytes, flags: list[str] | None = None) -> None:
        self.uid = uid
        self.octets = octets
        self.flags = list(flags or ())

    def getUID(self) -> int:
        return self.uid

    def getFlags(self) -> list[str]:
        return self.flags

    def getInternalDate(self) -> str:
        return "01 Jan 2026 00:00:00 +0000"

    def getHeaders(self, negate: bool, *names: Any) -> dict[str, str]:
        return {"subject": f"message {self.uid}"}

    def getBodyFile(self) -> io.BytesIO:
        return io.BytesIO(self.octets)

    def getSize(self) -> int:
        return len(self.octets)

    def isMultipart(self) -> bool:
        return False

    def getSubPart(self, part: int) -> Any:
        raise IndexError(part)

    def open(self) -> io.BytesIO:
        return io.BytesIO(self.octets)


@implementer(IMailboxIMAP, ICloseableMailboxIMAP)
class Mailbox:
    """
    A mailbox in memory that tells its listeners of new mail and of messages that vanish.

    @ivar closed: how often it was closed.
    @ivar stored: all octets that APPEND has brought.
    """

    def __init__(self, uid_validity: int = 7) -> None:
        self.uid_validity = uid_validity
        self.uid_next = 1
        self.messages: list[Message] = []
        self.listeners: list[Any] = []
        self.stored: list[bytes] = []
        self.closed = 0
        self.writeable = True

    def deliver(self, octets: bytes, flags: list[str] | None = None) -> Message:
        """
        New mail has come: those who have the mailbox selected are told.
        """
        message = Message(self.uid_next, octets, flags)
        self.uid_next += 1
        self.messages.append(message)
        for listener in list(self.listeners):
            listener.newMessages(len(self.messages), None)
        return message

    def vanish(self, number: int) -> None:
        """
        Another client has expunged message C{number}: C{IMAP4Server} has no listener's method for it, so the line is written
        as sites do it.
        """
        del self.messages[number - 1]
        for listener in list(self.listeners):
            listener.sendUntaggedResponse(b"%d EXPUNGE" % number)

    def getUIDValidity(self) -> int:
        return self.uid_validity

    def getUIDNext(self) -> int:
        return self.uid_next

    def getUID(self, message: int) -> int:
        return self.messages[message - 1].uid

    def getMessageCount(self) -> int:
        return len(self.messages)

    def getRecentCount(self) -> int:
        return 0

    def getUnseenCount(self) -> int:
        return sum("\\Seen" not in message.flags for message in self.messages)

    def isWriteable(self) -> bool:
        return self.writeable

    def getFlags(self) -> list[str]:
        return ["\\Seen", "\\Deleted", "\\Flagged"]

    def getHierarchicalDelimiter(self) -> str:
        return "/"

    def requestStatus(self, names: Any) -> dict[str, int]:
        counts = {
            "MESSAGES": self.getMessageCount,
            "RECENT": self.getRecentCount,
            "UIDNEXT": self.getUIDNext,
            "UIDVALIDITY": self.getUIDValidity,
            "UNSEEN": self.getUnseenCount,
        }
        return {name: counts[name]() for name in names}

    def addListener(self, listener: Any) -> None:
        self.listeners.append(listener)

    def removeListener(self, listener: Any) -> None:
        self.listeners.remove(listener)

    def addMessage(self, message: Any, flags: Any = (), date: Any = None) -> Deferred[int]:
        octets = message.read()
        self.stored.append(octets)
        stored = Message(self.uid_next, octets, list(flags))
        self.uid_next += 1
        self.messages.append(stored)
        return succeed(stored.uid)

    def expunge(self) -> list[int]:
        gone = [number for number, one in enumerate(self.messages, 1) if "\\Deleted" in one.flags]
        self.messages = [one for one in self.messages if "\\Deleted" not in one.flags]
        return [number - before for before, number in enumerate(gone)]

    def _chosen(self, messages: Any, uid: bool) -> Iterator[tuple[int, Message]]:
        messages.last = self.uid_next - 1 if uid else len(self.messages)
        for number, message in enumerate(self.messages, 1):
            if (message.uid if uid else number) in messages:
                yield number, message

    def fetch(self, messages: Any, uid: bool) -> list[tuple[int, Message]]:
        return list(self._chosen(messages, uid))

    def store(self, messages: Any, flags: list[str], mode: int, uid: bool) -> dict[int, list[str]]:
        result = {}
        for number, message in self._chosen(messages, uid):
            if mode == 0:
                message.flags = list(flags)
            elif mode > 0:
                message.flags += [flag for flag in flags if flag not in message.flags]
            else:
                message.flags = [flag for flag in message.flags if flag not in flags]
            result[number] = message.flags
        return result

    def close(self) -> None:
        self.closed += 1

    def destroy(self) -> None:
        raise NotImplementedError


@implementer(IAccountIMAP)
class Account(MemoryAccountWithoutNamespaces):
    """
    One login's account, on the mailboxes that all logins of its user share.
    """

    def __init__(self, name: str, mailboxes: dict[str, Mailbox]) -> None:
        super().__init__(name)
        self.mailboxes = mailboxes

    def _emptyMailbox(self, name: str, id: int) -> Mailbox:
        return Mailbox(uid_validity=100 + id)
