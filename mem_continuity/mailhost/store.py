"""
A user's Maildir with its folders: what all sessions of the user share.

Invariants: there is one object for each folder, so that two sessions see the same messages.  No two folders of a user, at
any time, have the same UIDVALIDITY.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from pathlib import Path
from weakref import WeakValueDictionary

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mem_continuity.mailhost.folder import Folder, Worker
from mem_continuity.mailhost.index import replace_file
from mem_continuity.mailhost.maildir import (
    DELIMITER,
    INBOX,
    FolderNameError,
    folder_directory,
    folder_name,
    make_maildir,
)

_log = Logger()

_SUBSCRIPTIONS = "subscriptions"
_VALIDITY = "mem-continuity-uidvalidity"


class Store:
    """
    A user's Maildir with its folders.

    @ivar path: the Maildir, which is the inbox.
    """

    def __init__(self, path: Path, clock: IReactorTime, interval: float, work: Worker) -> None:
        """
        @param clock: for looking at folders while somebody listens.
        @param interval: seconds between two looks.
        @param work: runs what waits for the disk.
        @raise OSError: the Maildir cannot be made or used.
        """
        self.path = path
        self.clock = clock
        self.work = work
        self._interval = interval
        self._folders: WeakValueDictionary[str, Folder] = WeakValueDictionary()
        make_maildir(path)

    def _validity(self) -> int:
        """
        A UIDVALIDITY that no folder of this user ever had.
        """
        path = self.path / _VALIDITY
        try:
            last = int(path.read_text("ascii"))
        except (FileNotFoundError, ValueError):
            last = 0
        fresh = max(last + 1, int(time.time()))
        replace_file(path, b"%d\n" % fresh)
        return fresh

    def names(self) -> list[str]:
        """
        The mailboxes there are, the inbox first.
        """
        with os.scandir(self.path) as entries:
            found = [folder_name(entry.name) for entry in entries if entry.is_dir()]
        return [INBOX, *sorted(name for name in found if name is not None)]

    def has(self, name: str) -> bool:
        """
        Whether there is such a mailbox.

        @raise FolderNameError: there can be none.
        """
        return (self.path / folder_directory(name) / "cur").is_dir()

    def folder(self, name: str) -> Folder | None:
        """
        A mailbox, looked at just now; C{None} when there is none.

        @raise OSError: it cannot be read.
        """
        try:
            directory = folder_directory(name)
            if not self.has(name):
                return None
        except FolderNameError:
            return None
        folder = self._folders.get(directory)
        if folder is None:
            folder = Folder(self.path / directory, self.clock, self._interval, self.work, self._validity)
            self._folders[directory] = folder
        else:
            folder.look()
        return folder

    def create(self, name: str) -> None:
        """
        Make a mailbox, and those above it.

        @raise FolderNameError: the name is not possible.
        """
        folder_directory(name)
        levels = name.split(DELIMITER)
        for depth in range(1, len(levels) + 1):
            directory = folder_directory(DELIMITER.join(levels[:depth]))
            if directory:
                make_maildir(self.path / directory, is_folder=True)

    def delete(self, name: str) -> None:
        """
        Remove a mailbox and its messages; those below it stay.
        """
        directory = folder_directory(name)
        doomed = self.path / "tmp" / f"deleted.{secrets.token_hex(8)}"
        os.rename(self.path / directory, doomed)
        folder = self._folders.pop(directory, None)
        if folder is not None:
            folder.deleted()
        # Away from the reactor: many files take their time.  Nobody sees them there any more.
        self.work(lambda: shutil.rmtree(doomed)).addErrback(
            lambda reason: _log.error("{path} cannot be removed: {error}", path=str(doomed), error=reason.value)
        )

    def rename(self, old: str, new: str) -> None:
        """
        Give a mailbox another name.
        """
        before, after = folder_directory(old), folder_directory(new)
        os.rename(self.path / before, self.path / after)
        folder = self._folders.pop(before, None)
        if folder is not None:
            folder.moved(self.path / after)
            self._folders[after] = folder

    def subscriptions(self) -> list[str]:
        """
        The names that were subscribed to.
        """
        try:
            lines = (self.path / _SUBSCRIPTIONS).read_bytes().splitlines()
        except FileNotFoundError:
            return []
        names = []
        for line in lines:
            try:
                names.append(line.decode("imap4-utf-7"))
            except UnicodeError:
                # A line of another program that is no name.
                continue
        return names

    def subscribe(self, names: list[str]) -> None:
        """
        These are subscribed to from now on, and no others.
        """
        replace_file(self.path / _SUBSCRIPTIONS, b"".join(name.encode("imap4-utf-7") + b"\n" for name in names))
