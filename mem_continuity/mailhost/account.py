"""
A user's folders, as Twisted's IMAP server wants an account.

L{MaildirAccount} is one session's avatar: it remembers which views it gave out, because C{IMAP4Server} does not close
its mailbox when a connection is lost.

Invariants: a mailbox name reaches the file system only through L{folder_directory
<mem_continuity.mailhost.maildir.folder_directory>}.  Texts of errors are ASCII, as the server sends them in answers.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakSet

from twisted.logger import Logger
from twisted.mail.imap4 import MailboxException
from twisted.mail.interfaces import IAccountIMAP, IMailboxIMAPInfo, INamespacePresenter
from zope.interface import implementer

from mem_continuity.mailhost.mailbox import MaildirMailbox
from mem_continuity.mailhost.maildir import DELIMITER, INBOX, Delivery, FolderNameError, folder_directory
from mem_continuity.mailhost.store import Store

_log = Logger()


@implementer(IMailboxIMAPInfo)
class MailboxInfo:
    """
    What LIST says about a mailbox.
    """

    def __init__(self, *flags: str) -> None:
        self._flags = flags

    def getFlags(self) -> list[str]:
        """
        Its attributes.
        """
        return list(self._flags)

    def getHierarchicalDelimiter(self) -> str:
        """
        What divides the levels of names.
        """
        return DELIMITER


def matches(pattern: str, name: str) -> bool:
    """
    Whether a name fits a LIST pattern (RFC 3501, section 6.3.8).  It takes time of their lengths' product at most.
    """
    places = {0}
    for one in pattern:
        if one in "*%":
            reached = set(places)
            for place in sorted(places):
                while place < len(name) and (one == "*" or name[place] != DELIMITER) and place + 1 not in reached:
                    place += 1
                    reached.add(place)
            places = reached
        else:
            places = {place + 1 for place in places if place < len(name) and name[place] == one}
        if not places:
            return False
    return len(name) in places


def _canonical(name: str) -> str:
    """
    The inbox has one spelling.
    """
    head, delimiter, rest = name.partition(DELIMITER)
    return (INBOX if head.upper() == INBOX else head) + delimiter + rest


@implementer(IAccountIMAP, INamespacePresenter)
class MaildirAccount:
    """
    A session's avatar.

    @ivar store: what it shares with the other sessions of its user.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._views: WeakSet[MaildirMailbox] = WeakSet()

    def logout(self) -> None:
        """
        The session is over.
        """
        for view in list(self._views):
            view.close()

    def delivery(self) -> Delivery:
        """
        Begin to store a message whose folder will be named at the end; L{MaildirMailbox.addMessage} takes it.
        """
        return Delivery(self.store.path)

    def _attempt(self, act: Callable[[], object]) -> None:
        try:
            act()
        except FolderNameError as error:
            raise MailboxException(str(error)) from None
        except OSError as error:
            _log.error("a mail folder cannot be changed: {error}", error=error)
            raise MailboxException(f"The mail folder cannot be changed: {error.strerror}") from None

    def _check(self, name: str, is_wanted: bool) -> None:
        def check() -> None:
            if self.store.has(name) != is_wanted:
                raise MailboxException("There is no such mailbox" if is_wanted else "There is such a mailbox already")

        self._attempt(check)

    # IAccountIMAP

    def addMailbox(self, name: str, mbox: object = None) -> bool:
        """
        Make a mailbox.

        @raise MailboxException: it cannot be made.
        """
        if mbox is not None:
            raise MailboxException("A mailbox of another kind cannot be added")
        return self.create(name)

    def create(self, pathspec: str) -> bool:
        """
        Make a mailbox.

        @raise MailboxException: it cannot be made, or is there already.
        """
        name = pathspec.removesuffix(DELIMITER)
        self._check(name, False)
        self._attempt(lambda: self.store.create(name))
        return True

    def select(self, name: str, rw: bool = True) -> MaildirMailbox | None:
        """
        A view of a mailbox.

        @return: C{None} when there is none of that name.
        @raise MailboxException: it cannot be read.
        """
        try:
            folder = self.store.folder(name)
        except OSError as error:
            _log.error("a mail folder cannot be read: {error}", error=error)
            raise MailboxException(f"The mail folder cannot be read: {error.strerror}") from None
        if folder is None:
            return None
        view = MaildirMailbox(folder, bool(rw), self.store.clock, self.store.work)
        self._views.add(view)
        return view

    def delete(self, name: str) -> None:
        """
        Remove a mailbox.

        @raise MailboxException: it cannot be removed, or is not there.
        """
        self._check(name, True)
        if _canonical(name) == INBOX:
            raise MailboxException("The inbox cannot be deleted")
        self._attempt(lambda: self.store.delete(name))

    def rename(self, oldname: str, newname: str) -> None:
        """
        Rename a mailbox and those below it.

        @raise MailboxException: it cannot be renamed.
        """
        old, new = _canonical(oldname), _canonical(newname.removesuffix(DELIMITER))
        self._check(old, True)
        self._check(new, False)
        if INBOX in (old, new) or new.startswith(old + DELIMITER):
            raise MailboxException("This mailbox cannot be renamed like that")
        below = [name for name in self.store.names() if name.startswith(old + DELIMITER)]
        pairs = [(name, new + name[len(old) :]) for name in [old, *below]]
        for _, target in pairs:
            self._check(target, False)
        above = new.rpartition(DELIMITER)[0]
        if above:
            self._attempt(lambda: self.store.create(above))
        for source, target in pairs:
            self._attempt(lambda source=source, target=target: self.store.rename(source, target))  # type: ignore[misc]

    def isSubscribed(self, name: str) -> bool:
        """
        Whether it is subscribed to.
        """
        return _canonical(name) in self.store.subscriptions()

    def subscribe(self, name: str) -> None:
        """
        Subscribe to a mailbox, be it there or not.

        @raise MailboxException: there can be none of that name.
        """

        def act() -> None:
            folder_directory(name)
            names = self.store.subscriptions()
            if _canonical(name) not in names:
                self.store.subscribe([*names, _canonical(name)])

        self._attempt(act)

    def unsubscribe(self, name: str) -> None:
        """
        The opposite.

        @raise MailboxException: it was not subscribed to.
        """
        names = self.store.subscriptions()
        if _canonical(name) not in names:
            raise MailboxException("The mailbox is not subscribed to")
        self._attempt(lambda: self.store.subscribe([one for one in names if one != _canonical(name)]))

    def listMailboxes(self, ref: str, wildcard: str) -> list[tuple[str, MailboxInfo]]:
        """
        What LIST asks for.  A level without a mailbox of its own is there too, when there are some below.
        """
        if not wildcard:
            return [("", MailboxInfo("\\Noselect"))]
        pattern = _canonical(ref + wildcard)
        names = self.store.names()
        levels = {name[:at] for name in names for at, one in enumerate(name) if one == DELIMITER}
        listed = []
        for name in [*names, *sorted(levels.difference(names))]:
            if matches(pattern, name):
                flags = ["\\HasChildren" if name in levels else "\\HasNoChildren"]
                if name not in names:
                    flags.append("\\Noselect")
                listed.append((name, MailboxInfo(*flags)))
        return listed

    # INamespacePresenter

    def getPersonalNamespaces(self) -> list[list[bytes]]:
        """
        One, without a prefix.
        """
        return [[b"", DELIMITER.encode("ascii")]]

    def getSharedNamespaces(self) -> None:
        """
        None.
        """

    def getUserNamespaces(self) -> None:
        """
        None.
        """
