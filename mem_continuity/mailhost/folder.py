"""
One Maildir folder, shared by all sessions that have it open.

Invariants: C{entries} is in rising order of UID, and holds exactly the messages that were there at the last look.
Every change, whether made here or by another program, is told to all views (L{IFolderView}) in the same turn: new
messages, flags, vanished ones.  A folder is looked at again only when a directory changed, every few seconds while
somebody listens and whenever it is selected.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mem_continuity.mailhost import index
from mem_continuity.mailhost.linking import Linking
from mem_continuity.mailhost.maildir import (
    Delivery,
    Name,
    clear_stale,
    known_flags,
    listing,
    make_maildir,
    sync_directory,
)
from mem_continuity.mailhost.octets import Octets, open_octets

_log = Logger()

#: A directory that changed this many nanoseconds ago may change again without a new time stamp.
_TIME_GRAIN = 1_000_000_000

#: Runs work that waits for the disk, away from the reactor where there are threads.
Worker = Callable[[Callable[[], None]], "Deferred[None]"]


class IFolderView(Protocol):
    """
    A session's view of a folder.
    """

    def grown(self, uids: Sequence[int]) -> None:
        """
        New messages.
        """

    def flagged(self, uids: Sequence[int], origin: object) -> None:
        """
        Other flags; C{origin} is the view that asked for them.
        """

    def vanished(self, uids: Sequence[int]) -> None:
        """
        Messages are gone.
        """


class Entry:
    """
    A message: where it is now.
    """

    __slots__ = ("directory", "filename", "name", "uid")

    def __init__(self, uid: int, directory: str, filename: str) -> None:
        self.uid = uid
        self.place(directory, filename)

    def place(self, directory: str, filename: str) -> None:
        """
        It is there now.
        """
        self.directory = directory
        self.filename = filename
        self.name = Name.parse(filename)


class Folder:
    """
    A folder's messages.

    @ivar path: its Maildir.
    @ivar entries: UID to message, rising.
    @ivar unclaimed: UIDs that no session was told of as C{\\Recent} yet.
    @ivar is_deleted: the folder itself is gone.
    """

    def __init__(
        self, path: Path, clock: IReactorTime, interval: float, work: Worker, fresh_validity: Callable[[], int]
    ) -> None:
        """
        @param clock: for the looks at the directory.
        @param interval: seconds between them.
        @raise OSError: the folder cannot be read or written.
        """
        self.path = path
        self.entries: dict[int, Entry] = {}
        self.unclaimed: set[int] = set()
        self.is_deleted = False
        self._clock = clock
        self._interval = interval
        self._work = work
        # In the order of their making: who came first is told first, and so gets what is recent.
        self._views: WeakKeyDictionary[IFolderView, None] = WeakKeyDictionary()
        self._watchers = 0
        self._linkings = 0
        self._looking: LoopingCall | None = None
        self._seen: tuple[int, int] | None = None
        self._is_loaded = False
        make_maildir(path, is_folder=path.name.startswith("."))
        clear_stale(path, time.time())
        self.index = index.UidIndex(path / index.FILE_NAME, fresh_validity)
        self._by_base: dict[str, Entry] = {}
        self.look()

    # Views

    def add_view(self, view: IFolderView) -> None:
        """
        Tell this view of changes for as long as somebody else holds it.
        """
        self._views[view] = None

    def watch(self) -> None:
        """
        Somebody listens: look at the folder from time to time.
        """
        self._watchers += 1
        if self._looking is None:
            self._looking = LoopingCall(self._look_safely)
            self._looking.clock = self._clock
            self._looking.start(self._interval, now=False)

    def unwatch(self) -> None:
        """
        The opposite of L{watch}.
        """
        self._watchers -= 1
        if not self._watchers and self._looking is not None:
            self._looking.stop()
            self._looking = None

    def _look_safely(self) -> None:
        try:
            self.look()
        except OSError as error:
            _log.error("cannot look into {path}: {error}", path=str(self.path), error=error.strerror)

    def _tell(self, act: Callable[[IFolderView], None]) -> None:
        for view in list(self._views):
            act(view)

    # Looking

    def look(self) -> None:
        """
        Take in what other programs did: messages that arrived, were flagged, or are gone.  Cheap when nothing changed.

        @raise OSError: the directory cannot be read.
        """
        if self.is_deleted or self._linkings:
            return
        now = time.time_ns()
        stamps = (os.stat(self.path / "new").st_mtime_ns, os.stat(self.path / "cur").st_mtime_ns)
        if stamps == self._seen:
            return
        found = listing(self.path)
        missing = [base for base in self._by_base if base not in found]
        if missing:
            # A rename in the middle of a listing can hide a file: only what is missing twice is gone.
            again = listing(self.path)
            found = {**found, **{base: again[base] for base in missing if base in again}}
            missing = [base for base in missing if base not in found]
        self._seen = stamps if max(stamps) < now - _TIME_GRAIN else None
        self._forget(missing)
        flagged = []
        for base, entry in self._by_base.items():
            directory, filename = found[base]
            if (directory, filename) != (entry.directory, entry.filename):
                before = entry.name.flags
                entry.place(directory, filename)
                if entry.name.flags != before:
                    flagged.append(entry.uid)
        self._take_in({base: place for base, place in found.items() if base not in self._by_base})
        if flagged:
            self._tell(lambda view: view.flagged(flagged, None))

    def _take_in(self, places: dict[str, tuple[str, str]], is_ours: bool = False) -> list[int]:
        """
        Messages that are new here; at the first look also those that are known from before a restart.

        @param is_ours: made here: recent wherever they lie, and their UIDs are in the order given.
        """
        known = self.index.uids
        pairs = []
        if not self._is_loaded:
            self._is_loaded = True
            self.index.forget([base for base in known if base not in places])
            pairs = [(uid, base) for base, uid in known.items()]
        fresh = list(places) if is_ours else sorted(base for base in places if base not in known)
        if fresh:
            pairs.extend(zip(self.index.assign(fresh), fresh, strict=True))
        added = []
        for uid, base in sorted(pairs):
            directory, filename = places[base]
            entry = self.entries[uid] = self._by_base[base] = Entry(uid, directory, filename)
            if directory == "new" or is_ours:
                self.unclaimed.add(uid)
            added.append(entry.uid)
        if added:
            self._tell(lambda view: view.grown(added))
        return added

    def _forget(self, bases: Iterable[str]) -> None:
        gone = [self._by_base.pop(base).uid for base in bases]
        if gone:
            self.index.forget([self.entries.pop(uid).name.base for uid in gone])
            self.unclaimed.difference_update(gone)
            self._tell(lambda view: view.vanished(gone))

    def find(self, entry: Entry) -> Path:
        """
        Where a message was at the last look.
        """
        return self.path / entry.directory / entry.filename

    def _with_file(self, entry: Entry, act: Callable[[Path], object]) -> None:
        """
        Do something with a message's file, which another program may have renamed since the last look.

        @raise FileNotFoundError: it is gone.
        """
        try:
            act(self.find(entry))
        except FileNotFoundError:
            self._seen = None
            self.look()
            if entry.uid not in self.entries:
                raise
            act(self.find(entry))

    def open(self, entry: Entry) -> Octets:
        """
        Open a message.

        @raise FileNotFoundError: it is gone.
        """
        opened: list[Octets] = []
        self._with_file(entry, lambda path: opened.append(open_octets(path)))
        return opened[0]

    def date_of(self, entry: Entry) -> float:
        """
        The internal date of a message, in seconds since the epoch.

        @raise FileNotFoundError: it is gone.
        """
        dates: list[float] = []
        self._with_file(entry, lambda path: dates.append(path.stat().st_mtime))
        return dates[0]

    # Changing

    def deliver(self, delivery: Delivery, flags: Iterable[str], date: float | None) -> Deferred[int]:
        """
        Add a message.  It is on the disk and visible when the answer comes, or was dropped when that is an error.

        @return: its UID.
        """
        kept = known_flags(flags)

        def stored(_: None) -> int:
            if self.is_deleted:
                raise FileNotFoundError("the folder is gone")
            directory, filename = delivery.commit(self.path, kept, date)
            (uid,) = self._take_in({Name.parse(filename).base: (directory, filename)}, is_ours=True)
            return uid

        def failed(reason: object) -> object:
            delivery.discard()
            return reason

        answer: Deferred[int] = self._work(delivery.sync).addCallback(stored)
        answer.addErrback(failed)
        return answer

    @contextmanager
    def linking(self) -> Iterator[Linking]:
        """
        Add messages that are already files on this file system, without copying them; all or none.  It may take many turns
        of the reactor: until it is over, the folder is not looked at, so that none of them is seen before its time.
        """
        one = Linking(self)
        self._linkings += 1
        try:
            yield one
        finally:
            self._linkings -= 1
            one.undo()

    def take_in_links(self, places: dict[str, tuple[str, str]]) -> list[int]:
        """
        What a L{Linking} made is there.

        @return: the UIDs, in the order given, rising.
        @raise OSError: the folder is gone, or cannot be written.
        """
        if self.is_deleted:
            raise FileNotFoundError("the folder is gone")
        sync_directory(self.path / "cur")
        return self._take_in(places, is_ours=True)

    def claim(self, uids: Iterable[int]) -> set[int]:
        """
        A session takes the C{\\Recent} of these messages; no other gets it, now or after a restart.
        """
        claimed = self.unclaimed.intersection(uids)
        self.unclaimed -= claimed
        for uid in claimed:
            entry = self.entries[uid]
            if entry.directory == "new":
                self._move(entry, lambda name: name)
        return claimed & self.entries.keys()

    def change_flags(self, uids: Iterable[int], change: Callable[[Name], Name], origin: object) -> None:
        """
        Give messages other flags.  What is gone is left out.

        @param change: from the name that a message has to the one that it shall have.
        @param origin: the view that asks.
        @raise OSError: the folder cannot be written.
        """
        changed = []
        for uid in uids:
            entry = self.entries.get(uid)
            if entry is not None and change(entry.name) != entry.name and self._move(entry, change):
                changed.append(uid)
        if changed:
            self._tell(lambda view: view.flagged(changed, origin))

    def _move(self, entry: Entry, change: Callable[[Name], Name]) -> bool:
        def move(path: Path) -> None:
            # The name is read here: another program may have changed it since.
            wanted = change(entry.name).filename
            os.rename(path, self.path / "cur" / wanted)
            entry.place("cur", wanted)

        try:
            self._with_file(entry, move)
        except FileNotFoundError:
            return False
        return True

    def expunge(self, uids: Iterable[int]) -> None:
        """
        Remove messages for good.

        @raise OSError: the folder cannot be written.
        """
        gone = []
        for uid in uids:
            entry = self.entries.get(uid)
            if entry is not None:
                with suppress(FileNotFoundError):
                    self._with_file(entry, os.unlink)
                if uid in self.entries:
                    gone.append(entry.name.base)
        self._forget(gone)

    def moved(self, path: Path) -> None:
        """
        The folder was renamed.
        """
        self.path = path
        self.index.moved(path / index.FILE_NAME)
        self._seen = None

    def deleted(self) -> None:
        """
        The folder is gone, and all of its messages with it.
        """
        self.is_deleted = True
        gone = list(self.entries)
        self.entries.clear()
        self._by_base.clear()
        self.unclaimed.clear()
        self._tell(lambda view: view.vanished(gone))
