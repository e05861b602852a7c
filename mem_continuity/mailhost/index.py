"""
Stable UIDs of one folder, in a small file beside its messages.

The file is text: a first line C{1 UIDVALIDITY UIDNEXT}, then a line C{UID BASE} for each message in rising order.

Invariants: a UID is on the disk before anybody hears of it, so a crash never gives the same number to another message.
Numbers rise and are never used again under one UIDVALIDITY.  New messages are appended by one write; everything else is
a new file moved into place by rename.  An incomplete last line (a crash in that write) is no line.  A file that makes
no sense is replaced by a new one under a new UIDVALIDITY, which tells every client to forget what it kept (RFC 3501,
section 2.3.1.1).

One object per folder and process; the reactor's thread is the lock between sessions (L{Folder
<mem_continuity.mailhost.folder.Folder>} objects are shared).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

FILE_NAME = "mem-continuity-uids"
_VERSION = "1"
_MOST = 0xFFFFFFFF


class _Broken(ValueError):
    """
    The file makes no sense.
    """


def replace_file(path: Path, content: bytes) -> None:
    """
    Write a file whole or not at all.

    @raise OSError: it could not be written; the old one is as it was.
    """
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)


class UidIndex:
    """
    Base of a message to its UID.

    @ivar uidvalidity: as IMAP has it.
    @ivar uidnext: the UID of the next new message.
    @ivar uids: base to UID, in rising order.
    """

    def __init__(self, path: Path, fresh_validity: Callable[[], int]) -> None:
        """
        @param path: the file; it is made when it is not there.
        @param fresh_validity: gives a UIDVALIDITY that was never given before.
        """
        self._path = path
        self._fresh_validity = fresh_validity
        self._whole = True
        self._lines = 0
        self.uidvalidity = 0
        self.uidnext = 1
        self.uids: dict[str, int] = {}
        try:
            self._load(path.read_bytes())
        except (FileNotFoundError, _Broken):
            self.restart()

    def moved(self, path: Path) -> None:
        """
        The file was moved together with its folder.
        """
        self._path = path

    def restart(self) -> None:
        """
        Begin anew with no messages under a new UIDVALIDITY.
        """
        self.uidvalidity = self._fresh_validity()
        self.uidnext = 1
        self.uids = {}
        self.rewrite()

    def _load(self, content: bytes) -> None:
        complete, _, torn = content.rpartition(b"\n")
        lines = complete.split(b"\n")
        try:
            version, validity, uidnext = lines[0].decode("ascii").split(" ")
            self.uidvalidity, self.uidnext = int(validity), int(uidnext)
            if version != _VERSION or not 0 < self.uidvalidity <= _MOST or not 0 < self.uidnext <= _MOST:
                raise _Broken(version)
            last = 0
            for line in lines[1:]:
                number, _, base = line.partition(b" ")
                uid = int(number)
                if not last < uid <= _MOST or not base:
                    raise _Broken(line)
                name = os.fsdecode(base)
                self.uids.pop(name, None)
                self.uids[name] = last = uid
        except ValueError as error:
            raise _Broken(str(error)) from error
        self.uidnext = max(self.uidnext, last + 1)
        self._lines = len(lines) - 1
        if torn:
            self.rewrite()

    def assign(self, bases: Sequence[str]) -> list[int]:
        """
        Give UIDs to new messages.

        @return: one for each, rising; they are on the disk.
        @raise OSError: they could not be written, and nothing was given.
        """
        given = list(range(self.uidnext, self.uidnext + len(bases)))
        added = b"".join(b"%d %s\n" % (uid, os.fsencode(base)) for uid, base in zip(given, bases, strict=True))
        if not self._whole:
            self.rewrite()
        try:
            with open(self._path, "ab") as stream:
                stream.write(added)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError:
            # Part of it may be there: the next attempt begins with a whole new file.
            self._whole = False
            raise
        self._lines += len(given)
        self.uidnext += len(given)
        self.uids.update(zip(bases, given, strict=True))
        return given

    def forget(self, bases: Iterable[str]) -> None:
        """
        Messages are gone.  Their lines go when the file is next written anew; until then they do no harm.
        """
        for base in bases:
            self.uids.pop(base, None)
        if self._lines > 2 * len(self.uids) + 64:
            self.rewrite()

    def rewrite(self) -> None:
        """
        Write the whole file anew.

        @raise OSError: as L{replace_file}.
        """
        lines = [f"{_VERSION} {self.uidvalidity} {self.uidnext}\n".encode("ascii")]
        lines.extend(b"%d %s\n" % (uid, os.fsencode(base)) for base, uid in self.uids.items())
        replace_file(self._path, b"".join(lines))
        self._lines = len(self.uids)
        self._whole = True
