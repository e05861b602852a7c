"""
Copies of messages by hard links.

Invariants: all or none.  Many of them take many turns of the reactor; until the last one is there none is seen.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from mem_continuity.mailhost.maildir import Name, copy_base

if TYPE_CHECKING:
    from mem_continuity.mailhost.folder import Folder
    from mem_continuity.mailhost.message import MaildirMessage

#: Files that are linked in one turn of the reactor.
_AT_ONCE = 200


class Linking:
    """
    Copies of messages on their way into a folder, see L{Folder.linking}.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._places: dict[str, tuple[str, str]] = {}

    def add(self, source: Path, name: Name) -> None:
        """
        One more.

        @param source: its file.
        @param name: its flags and sizes are kept.
        @raise OSError: the file system cannot do that, or the file is gone.
        """
        fresh = Name(copy_base(name), name.letters)
        os.link(source, self._folder.path / "cur" / fresh.filename)
        self._places[fresh.base] = ("cur", fresh.filename)

    def finish(self) -> list[int]:
        """
        That was all.

        @return: their UIDs, in the same order, rising.
        @raise OSError: the folder is gone, or cannot be written.
        """
        uids = self._folder.take_in_links(self._places)
        self._places = {}
        return uids

    def undo(self) -> None:
        """
        Remove what was not finished.
        """
        for directory, filename in self._places.values():
            (self._folder.path / directory / filename).unlink(missing_ok=True)
        self._places = {}


@inlineCallbacks
def link_all(
    folder: Folder, messages: Sequence[MaildirMessage], clock: IReactorTime
) -> Generator[Deferred[Any], Any, list[int]]:
    """
    Add copies of messages to a folder.

    @return: their UIDs there, in the same order, rising; fails with L{OSError} as L{Linking} does.
    """
    with folder.linking() as linking:
        for place, one in enumerate(messages):
            if place and place % _AT_ONCE == 0:
                yield deferLater(clock, 0)
            linking.add(one.folder.find(one.entry), one.entry.name)
        return linking.finish()
