"""
The Maildir format: file names, flags, delivery.  No mail protocol and no reactor here.

Invariants: a message appears in C{new/} or C{cur/} by one rename of a file that is complete and on the disk, so a crash
at any point leaves either no message or the whole message, never two.  A message's I{base} (its file name up to the
colon) never changes; its flags are the part after the colon and change by rename.  What is not ours in that part, the
letters that other programs put there, is kept.

Sources: D. J. Bernstein, "Using maildir format" (U{https://cr.yp.to/proto/maildir.html}) and the Maildir++ convention
for folders (C{.Name.Inner} beside C{cur}, with the marker file C{maildirfolder}).
"""

from __future__ import annotations

import itertools
import os
import secrets
import socket
import time
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import twisted.mail.imap4  # noqa: F401  registers the codec of mailbox names, modified UTF-7

#: What stands between the levels of a folder's name; given by Maildir++.
DELIMITER = "."
INBOX = "INBOX"

#: IMAP flag (RFC 3501, section 2.3.2) to letter.
LETTERS = {"\\Draft": "D", "\\Flagged": "F", "\\Answered": "R", "\\Seen": "S", "\\Deleted": "T"}
_FLAGS = {letter: flag for flag, letter in LETTERS.items()}
_CANONICAL = {flag.lower(): flag for flag in LETTERS}

#: A file in C{tmp/} that is older than this many seconds was left by a crash: 36 hours, as the format has it.
STALE_AFTER = 36 * 3600.0

#: The most octets of a folder's directory name; file systems end at 255, and the name may grow by a rename below it.
_LONGEST = 200

_counter = itertools.count(1)


class FolderNameError(ValueError):
    """
    A mailbox name that cannot be a folder here; the text is ASCII and says why.
    """


@dataclass(frozen=True, slots=True)
class Name:
    """
    A message's file name taken apart.

    @ivar base: the part that never changes.
    @ivar letters: the flag letters, sorted, each once; unknown ones among them.
    """

    base: str
    letters: str = ""

    @classmethod
    def parse(cls, filename: str) -> Name:
        """
        Take a file name apart; an information part of another version than 2 counts as no flags.
        """
        base, _, info = filename.partition(":")
        letters = info[2:] if info.startswith("2,") else ""
        return cls(base, "".join(sorted({one for one in letters if one.isascii() and one.isalpha()})))

    @property
    def filename(self) -> str:
        """
        The name in C{cur/}.
        """
        return f"{self.base}:2,{self.letters}"

    @property
    def flags(self) -> tuple[str, ...]:
        """
        The IMAP flags, without C{\\Recent}.
        """
        return tuple(_FLAGS[one] for one in self.letters if one in _FLAGS)

    @property
    def wire_size(self) -> int | None:
        """
        The octets that the message has in IMAP when the name tells it (C{,W=}), otherwise C{None}.
        """
        for field in self.base.split(",")[1:]:
            if field.startswith("W=") and field[2:].isascii() and field[2:].isdigit():
                return int(field[2:])
        return None

    def with_flags(self, flags: Iterable[str]) -> Name:
        """
        The same message with these flags and the unknown letters that it had.
        """
        foreign = {one for one in self.letters if one not in _FLAGS}
        return Name(self.base, "".join(sorted(foreign | {LETTERS[flag] for flag in known_flags(flags)})))


def known_flags(flags: Iterable[str]) -> set[str]:
    """
    The flags that can be kept, in their usual spelling; IMAP flags are compared without regard to case.
    """
    return {_CANONICAL[flag.lower()] for flag in flags if flag.lower() in _CANONICAL}


def unique_base() -> str:
    """
    A base that no other delivery on this or another host uses.
    """
    now = time.time_ns()
    host = socket.gethostname().replace("/", "\\057").replace(":", "\\072").replace(",", "\\054")
    seconds, rest = divmod(now, 1_000_000_000)
    return f"{seconds}.M{rest // 1000:06d}P{os.getpid()}Q{next(_counter)}R{secrets.token_hex(4)}.{host}"


def copy_base(name: Name) -> str:
    """
    A base for a copy of a message: unique, with what the old one tells about sizes.
    """
    sizes = [field for field in name.base.split(",")[1:] if field[:2] in ("S=", "W=")]
    return ",".join([unique_base(), *sizes])


def folder_directory(name: str) -> str:
    """
    The directory of a mailbox below the Maildir, C{""} for the inbox.

    @raise FolderNameError: the name is not possible; nothing that passes can leave the Maildir.
    """
    if name.upper() == INBOX:
        return ""
    levels = name.split(DELIMITER)
    if levels[0].upper() == INBOX:
        levels[0] = INBOX
    if not all(levels):
        raise FolderNameError("A level of the folder's name is empty; use names divided by single dots")
    if any(one == "/" or unicodedata.category(one) in ("Cc", "Cs") for one in name):
        raise FolderNameError("The folder's name has a slash or a control character")
    if any(one in "*%" for one in name):
        raise FolderNameError("The folder's name has a wildcard in it")
    directory = DELIMITER + DELIMITER.join(levels).encode("imap4-utf-7").decode("ascii")
    if len(directory) > _LONGEST or "/" in directory:
        raise FolderNameError("The folder's name is too long")
    return directory


def folder_name(directory: str) -> str | None:
    """
    The mailbox that a directory below the Maildir holds, or C{None} when it is none of ours.
    """
    if not directory.startswith(DELIMITER) or not directory.isascii():
        return None
    try:
        name = directory[1:].encode("ascii").decode("imap4-utf-7")
        return name if folder_directory(name) == directory else None
    except (FolderNameError, UnicodeError):
        return None


def make_maildir(path: Path, is_folder: bool = False) -> None:
    """
    Make a Maildir, or what is missing of one.

    @param is_folder: it lies below another Maildir and gets the marker file.
    @raise OSError: the directory cannot be made.
    """
    for inner in ("tmp", "new", "cur"):
        (path / inner).mkdir(mode=0o700, parents=True, exist_ok=True)
    if is_folder:
        (path / "maildirfolder").touch(mode=0o600)


def listing(path: Path) -> dict[str, tuple[str, str]]:
    """
    What is in a Maildir: base to (C{"new"} or C{"cur"}, file name).  C{new/} is read first, so a message that another
    program moves to C{cur/} meanwhile is seen at least once.
    """
    found: dict[str, tuple[str, str]] = {}
    for inner in ("new", "cur"):
        with os.scandir(path / inner) as entries:
            for entry in entries:
                # A name with a control character would break the lines of the UID index.
                if not entry.name.startswith(".") and not any(one < " " for one in entry.name):
                    found[Name.parse(entry.name).base] = (inner, entry.name)
    return found


def clear_stale(path: Path, now: float) -> None:
    """
    Remove what crashed deliveries left in C{tmp/}.

    @param now: seconds since the epoch.
    """
    with os.scandir(path / "tmp") as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False) and now - entry.stat(follow_symlinks=False).st_mtime > STALE_AFTER:
                os.unlink(entry.path)


def sync_directory(path: Path) -> None:
    """
    Make the renames in a directory durable.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Delivery:
    """
    A message on its way into a Maildir: written to C{tmp/}, then made visible by L{commit}, or dropped by L{discard}.

    @ivar size: octets written so far.
    """

    def __init__(self, maildir: Path) -> None:
        self._base = unique_base()
        self._path = maildir / "tmp" / self._base
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "wb", buffering=256 * 1024)
        self._pending = True
        self._first = b""
        self.size = 0

    def write(self, data: bytes) -> None:
        """
        Add octets of the message.
        """
        if self.size < 1024:
            self._first += data[:1024]
        self.size += len(data)
        self._file.write(data)

    def sync(self) -> None:
        """
        Bring it all to the disk.  May be called in another thread while nothing else is done with this delivery.

        @raise OSError: the disk is full, or the like.
        """
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def commit(self, target: Path, flags: Iterable[str], date: float | None) -> tuple[str, str]:
        """
        Make the message visible.  L{sync} comes before.

        @param target: the Maildir of the folder, on the same file system.
        @param date: the internal date in seconds since the epoch; C{None} means now.
        @return: C{"new"} or C{"cur"}, and the file name in there.
        @raise OSError: it could not be moved; it may be discarded then.
        """
        base = f"{self._base},S={self.size}"
        line_end = self._first.find(b"\n")
        if line_end < 0 or self._first[:line_end].endswith(b"\r"):
            base += f",W={self.size}"
        name = Name(base).with_flags(flags)
        inner, filename = ("cur", name.filename) if name.letters else ("new", base)
        if date is not None:
            os.utime(self._path, (date, date))
        os.rename(self._path, target / inner / filename)
        self._pending = False
        sync_directory(target / inner)
        return inner, filename

    def discard(self) -> None:
        """
        Forget the message; nothing happens when it is already there or already forgotten.
        """
        if self._pending:
            self._pending = False
            # What could not be written (a full disk) is not wanted any more.
            with suppress(OSError):
                self._file.close()
            self._path.unlink(missing_ok=True)

    def __del__(self) -> None:
        if getattr(self, "_pending", False):
            self.discard()
