"""
A session's view of a folder, as Twisted's IMAP server wants a mailbox.

Invariants (RFC 3501, section 7.4.1): what a sequence number means changes only when the session is told.  The view is a
list of UIDs that was taken at SELECT; it grows at its end, which is announced by C{newMessages}; a message that another
session removed keeps its number, is left out of FETCH, and goes when C{expunge} or L{MaildirMailbox.take_expunged}
gives its number to the server, which sends it.  So it works under an unmodified C{IMAP4Server}, which tells about
others' expunges together with its own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from shutil import copyfileobj
from typing import Any, BinaryIO

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.mail.imap4 import IMAP4Exception, MailboxException, MessageSet, ReadOnlyMailbox, statusRequestHelper
from twisted.mail.interfaces import (
    ICloseableMailboxIMAP,
    IMailboxIMAP,
    IMailboxIMAPListener,
    IMessageIMAPCopier,
    ISearchableIMAPMailbox,
)
from zope.interface import implementer

from mem_continuity.mailhost.folder import Folder, Worker
from mem_continuity.mailhost.interfaces import IExpungeListener
from mem_continuity.mailhost.linking import link_all
from mem_continuity.mailhost.maildir import DELIMITER, LETTERS, Delivery, Name, known_flags
from mem_continuity.mailhost.message import MaildirMessage, parse_date
from mem_continuity.mailhost.search import compile_search, find_all

_log = Logger()



@implementer(IMailboxIMAP, ICloseableMailboxIMAP, ISearchableIMAPMailbox, IMessageIMAPCopier)
class MaildirMailbox:
    """
    A folder as one session sees it.

    @ivar folder: the folder that it shares with the others.
    """

    def __init__(self, folder: Folder, is_writeable: bool, clock: IReactorTime, work: Worker) -> None:
        self.folder = folder
        self._is_writeable = is_writeable
        self._clock = clock
        self._work = work
        self._listeners: list[IMailboxIMAPListener] = []
        self._uids = list(folder.entries)
        self._gone: set[int] = set()
        self._is_expunging = False
        self._recent = folder.unclaimed.intersection(self._uids)
        folder.add_view(self)

    # What the mailbox is

    def getFlags(self) -> list[str]:
        """
        The flags that can be kept.
        """
        return list(LETTERS)

    def getHierarchicalDelimiter(self) -> str:
        """
        What divides the levels of names.
        """
        return DELIMITER

    def getUIDValidity(self) -> int:
        """
        The UIDVALIDITY.
        """
        return self.folder.index.uidvalidity

    def getUIDNext(self) -> int:
        """
        The UID of the next new message.
        """
        return self.folder.index.uidnext

    def getUID(self, message: int) -> int:
        """
        The UID of a sequence number.

        @raise IndexError: there is no such number.
        """
        if not 0 < message <= len(self._uids):
            raise IndexError(message)
        return self._uids[message - 1]

    def getMessageCount(self) -> int:
        """
        The highest sequence number.
        """
        return len(self._uids)

    def getRecentCount(self) -> int:
        """
        How many are C{\\Recent} to this session.
        """
        return len(self._recent)

    def getUnseenCount(self) -> int:
        """
        How many were not seen.
        """
        return sum("S" not in entry.name.letters for entry in self.folder.entries.values())

    def isWriteable(self) -> bool:
        """
        Whether it was opened by SELECT.
        """
        return self._is_writeable

    def requestStatus(self, names: Iterable[str]) -> dict[str, int]:
        """
        For STATUS.

        @raise IMAP4Exception: a name is unknown.
        """
        try:
            status: dict[str, int] = statusRequestHelper(self, names)
        except KeyError:
            raise IMAP4Exception("unknown status item") from None
        return status

    # Listeners

    def addListener(self, listener: IMailboxIMAPListener) -> None:
        """
        A session selects this view, or takes it over.
        """
        if listener not in self._listeners:
            self._listeners.append(listener)
            if len(self._listeners) == 1:
                self.folder.watch()
            if self._is_writeable:
                self._recent |= self.folder.claim(self._uids)

    def removeListener(self, listener: IMailboxIMAPListener) -> None:
        """
        The opposite; nothing happens when it does not listen.
        """
        if listener in self._listeners:
            self._listeners.remove(listener)
            if not self._listeners:
                self.folder.unwatch()

    def close(self) -> None:
        """
        The session has done with it.
        """
        for listener in list(self._listeners):
            self.removeListener(listener)

    def destroy(self) -> None:
        """
        The folder is about to be deleted.
        """
        self.close()

    def grown(self, uids: Sequence[int]) -> None:
        """
        See L{IFolderView<mem_continuity.mailhost.folder.IFolderView>}.
        """
        self._uids.extend(uids)
        if self._is_writeable and self._listeners:
            self._recent |= self.folder.claim(uids)
        else:
            self._recent |= self.folder.unclaimed.intersection(uids)
        for listener in list(self._listeners):
            listener.newMessages(self.getMessageCount(), self.getRecentCount())

    def flagged(self, uids: Sequence[int], origin: object) -> None:
        """
        See L{IFolderView<mem_continuity.mailhost.folder.IFolderView>}.
        """
        if origin is not self and self._listeners:
            changed = {self._number(uid): self._flags(uid) for uid in uids if uid in self.folder.entries}
            for listener in list(self._listeners):
                listener.flagsChanged(changed)

    def vanished(self, uids: Sequence[int]) -> None:
        """
        See L{IFolderView<mem_continuity.mailhost.folder.IFolderView>}.
        """
        self._gone.update(uids)
        if self._is_expunging:
            # Its own listeners learn it from the answer.
            return
        for listener in list(self._listeners):
            interested = IExpungeListener(listener, None)
            if interested is not None:
                interested.messagesVanished()

    def take_expunged(self) -> list[int]:
        """
        The sequence numbers of removed messages, the highest first: to be sent as C{EXPUNGE} in this order, at once.
        Called by a protocol when it may send them.
        """
        numbers = sorted((self._number(uid) for uid in self._gone), reverse=True)
        self._uids = [uid for uid in self._uids if uid not in self._gone]
        self._recent -= self._gone
        self._gone = set()
        return numbers

    # Messages

    def _number(self, uid: int) -> int:
        return bisect_left(self._uids, uid) + 1

    def _flags(self, uid: int) -> list[str]:
        return [*self.folder.entries[uid].name.flags, *(["\\Recent"] if uid in self._recent else [])]

    def _message(self, uid: int) -> MaildirMessage | None:
        entry = self.folder.entries.get(uid)
        return None if entry is None else MaildirMessage(self.folder, entry, uid in self._recent)

    def numbers_of(self, messages: MessageSet, uid: bool) -> list[int]:
        """
        The sequence numbers that a set stands for, rising; what is not there is left out.

        @param uid: the set is of UIDs.
        """
        last = (self._uids[-1] if uid else len(self._uids)) if self._uids else 0
        chosen: set[int] = set()
        for low, high in messages.ranges:
            low, high = sorted((last if low is None else low, last if high is None else high))
            if uid:
                chosen.update(range(bisect_left(self._uids, low) + 1, bisect_left(self._uids, high + 1) + 1))
            else:
                chosen.update(range(max(low, 1), min(high, len(self._uids)) + 1))
        return sorted(chosen)

    def fetch(self, messages: MessageSet, uid: bool) -> Iterator[tuple[int, MaildirMessage]]:
        """
        Messages with their sequence numbers; what was removed meanwhile is left out.
        """
        for wanted in [self._uids[number - 1] for number in self.numbers_of(messages, uid)]:
            message = self._message(wanted)
            if message is not None:
                yield self._number(wanted), message

    def store(self, messages: MessageSet, flags: Iterable[str], mode: int, uid: bool) -> dict[int, list[str]]:
        """
        Set (mode 0), add (1) or take away (-1) flags.

        @return: sequence number to flags, for those that are still there.
        @raise MailboxException: opened by EXAMINE, or the folder cannot be written.
        """
        self._need_writeable()
        given = known_flags(flags)
        chosen = [self._uids[number - 1] for number in self.numbers_of(messages, uid)]

        def change(name: Name) -> Name:
            before = set(name.flags)
            return name.with_flags(given if mode == 0 else before | given if mode > 0 else before - given)

        self._on_disk(lambda: self.folder.change_flags(chosen, change, self))
        return {self._number(one): self._flags(one) for one in chosen if one in self.folder.entries}

    def expunge(self) -> list[int]:
        """
        Remove what is flagged C{\\Deleted}.

        @return: the numbers to be sent as C{EXPUNGE}, those that others removed among them.
        @raise MailboxException: opened by EXAMINE, or the folder cannot be written.
        """
        return self._expunge(self._uids)

    def expunge_uids(self, messages: MessageSet) -> list[int]:
        """
        The same, for the named UIDs only (RFC 4315, section 2.1).
        """
        return self._expunge([self._uids[number - 1] for number in self.numbers_of(messages, True)])

    def _expunge(self, uids: Sequence[int]) -> list[int]:
        self._need_writeable()
        entries = self.folder.entries
        gone = [uid for uid in uids if uid in entries and "T" in entries[uid].name.letters]
        self._is_expunging = True
        try:
            self._on_disk(lambda: self.folder.expunge(gone))
        finally:
            self._is_expunging = False
        return self.take_expunged()

    def _need_writeable(self) -> None:
        if not self._is_writeable:
            raise ReadOnlyMailbox()

    @staticmethod
    def _on_disk(act: Callable[[], None]) -> None:
        try:
            act()
        except OSError as error:
            _log.error("a folder cannot be written: {error}", error=error)
            raise MailboxException(f"The folder cannot be written: {error.strerror}") from None

    # New messages

    def addMessage(
        self, message: BinaryIO | Delivery, flags: Iterable[str | bytes] = (), date: bytes | str | None = None
    ) -> Deferred[int]:
        """
        Add a message.

        @param message: a file, which is closed in the end, or a delivery that was already written.
        @param date: as in IMAP or in a C{Date} field.
        @return: its UID, when it is safe.
        """
        kept = [flag.decode("ascii", "replace") if isinstance(flag, bytes) else flag for flag in flags]
        when = parse_date(date)
        if isinstance(message, Delivery):
            return self.folder.deliver(message, kept, when)
        delivery = Delivery(self.folder.path)
        source = message

        def failed(reason: Any) -> Any:
            delivery.discard()
            return reason

        def copy() -> None:
            # Nobody else closes the temporary file that an unmodified server hands in.
            with source:
                copyfileobj(source, delivery)

        copied = self._work(copy)
        copied.addErrback(failed)
        return copied.addCallback(lambda _: self.folder.deliver(delivery, kept, when))

    def copy(self, messageObject: Any) -> Deferred[int]:
        """
        Add a copy of a message.

        @return: its UID here.
        """
        return self.copy_all([messageObject]).addCallback(lambda uids: uids[0])

    @inlineCallbacks
    def copy_all(self, messages: Sequence[Any]) -> Generator[Deferred[Any], Any, list[int]]:
        """
        Add copies of messages, all or none; without touching their octets where the file system can do that.

        @return: their UIDs here, rising.
        """
        own = [one for one in messages if isinstance(one, MaildirMessage)]
        if len(own) == len(messages):
            try:
                uids: list[int] = yield link_all(self.folder, own, self._clock)
                return uids
            except OSError:
                pass  # Other file systems, no hard links, or a file was renamed: by their octets then.
        copied: list[int] = []
        try:
            for one in messages:
                uid = yield self.addMessage(one.open(), one.getFlags(), one.getInternalDate())
                copied.append(uid)
        except Exception:
            self.folder.expunge(copied)
            raise
        return copied

    # Searching

    def search(self, query: list[Any], uid: bool) -> Deferred[list[int]]:
        """
        The sequence numbers of what matches; the server turns them into UIDs.

        @raise IllegalQueryError: the query is not understood.
        """
        matches = compile_search(query, len(self._uids), self._uids[-1] if self._uids else 0)
        there = ((uid, self._message(uid)) for uid in list(self._uids))
        numbered = ((self._number(uid), message) for uid, message in there if message is not None)
        return find_all(matches, numbered, self._clock)
