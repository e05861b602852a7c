"""
Users and their Maildirs: one folder for each user below a root.

Invariants: all sessions of one user share one L{Store<mem_continuity.mailhost.store.Store>}; a user's name reaches
the file system only through L{user_directory}, so no name leaves the root, hides, or meets another's.  A root belongs to one
realm at a time, of all processes: two would give the same UID to different messages.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from weakref import WeakValueDictionary, finalize

from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.mail.interfaces import IAccountIMAP
from zope.interface import Interface, implementer

from mem_continuity.core.policy import Policy
from mem_continuity.mailhost.account import MaildirAccount
from mem_continuity.mailhost.folder import Worker
from mem_continuity.mailhost.store import Store

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+@.")
_LONGEST = 200
#: No user's directory begins with a dot.
_LOCK = ".mem-continuity-lock"


def user_directory(user: str) -> str:
    """
    The directory of a user below the root.

    @raise ValueError: the name is empty or too long.
    """
    octets = user.encode("utf-8", "surrogateescape")
    name = "".join(chr(one) if chr(one) in _PLAIN else f"%{one:02x}" for one in octets)
    if name.startswith("."):
        name = "%2e" + name[1:]
    if not 0 < len(name) <= _LONGEST:
        raise ValueError("a user's name must have at least one character and at most 200")
    return name


def disk_worker(reactor: IReactorTime) -> Worker:
    """
    What runs work that waits for the disk: threads where the reactor has them.
    """
    if not IReactorThreads.providedBy(reactor):
        return lambda work: maybeDeferred(work)

    def run(work: Callable[[], None]) -> Deferred[None]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), work)

    return run


def _lock(root: Path) -> int:
    """
    Have the root for this realm alone, until the descriptor that is returned is closed.

    @raise OSError: somebody else has it, or it cannot be written.
    """
    descriptor = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno == errno.EWOULDBLOCK:
            raise BlockingIOError(errno.EWOULDBLOCK, "it is in use by another server", str(root)) from None
        raise
    return descriptor


@implementer(IRealm)
class MaildirRealm:
    """
    Gives L{MaildirAccount} avatars.
    """

    def __init__(self, root: Path, reactor: IReactorTime, policy: Policy | None = None) -> None:
        """
        @param root: the folder that has a Maildir for each user; made when it is not there.
        @param policy: C{folder_interval} is used from it.
        @raise OSError: it cannot be made, or another realm, maybe of another process, has it.
        """
        self._root = root
        self._reactor = reactor
        self._interval = (policy or Policy()).folder_interval
        self._stores: WeakValueDictionary[str, Store] = WeakValueDictionary()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._unlock = finalize(self, os.close, _lock(root))

    def close(self) -> None:
        """
        Give the root free for another realm.  Called when the service has stopped; the realm is not used after that.
        """
        self._unlock()

    def store(self, user: str) -> Store:
        """
        A user's mail; its Maildir is made when it is not there.

        @raise ValueError: as L{user_directory}.
        @raise OSError: the Maildir cannot be made.
        """
        directory = user_directory(user)
        store = self._stores.get(directory)
        if store is None:
            work = disk_worker(self._reactor)
            store = self._stores[directory] = Store(self._root / directory, self._reactor, self._interval, work)
        return store

    def requestAvatar(
        self, avatarId: bytes | str | tuple[()], mind: object, *interfaces: type[Interface]
    ) -> tuple[type[Interface], MaildirAccount, Callable[[], None]]:
        """
        Called by a portal.

        @raise NotImplementedError: no mail account is asked for.
        @raise UnauthorizedLogin: nobody in particular asks.
        """
        if IAccountIMAP not in interfaces:
            raise NotImplementedError("this realm has mail accounts only")
        if not avatarId:
            raise UnauthorizedLogin("a mail account has a name")
        user = avatarId if isinstance(avatarId, str) else bytes(avatarId).decode("utf-8", "surrogateescape")
        try:
            account = MaildirAccount(self.store(user))
        except ValueError as error:
            raise UnauthorizedLogin(str(error)) from None
        return IAccountIMAP, account, account.logout
