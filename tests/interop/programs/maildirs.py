"""
Mail folders in the Maildir format, as mail programs keep them, and the changes that a user makes there.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.interop.programs.result import Mailboxes, Message, in_order, make_message

FLAGGED, REMOVED = 2, 4
"""Numbers of the messages of INBOX that are changed; they have other flags than the ones they are given."""

LOCAL = b"From: <joe@b.example>\nSubject: made here\nMessage-ID: <local@b.example>\n\nGr\xc3\xbc\xc3\x9fe\n.\nFrom here\n"


def read_maildirs(top: Path) -> Mailboxes:
    """
    All Maildirs below a folder, by their path below it; the flags are the letters in names of files.
    """
    found: dict[str, list[Message]] = {}
    for place, folders, _ in os.walk(top):
        if {"cur", "new", "tmp"} <= set(folders):
            files = [file for kind in ("cur", "new") for file in Path(place, kind).iterdir()]
            found[str(Path(place).relative_to(top))] = [make_message(file.read_bytes(), _letters(file)) for file in files]
    return in_order(found)


def _letters(file: Path) -> str:
    return file.name.rpartition(":2,")[2] if ":2," in file.name else ""


def find_message(maildir: Path, number: int) -> Path:
    """
    The file of one of the fixture's messages.

    @raise LookupError: it is not there.
    """
    wanted = b"\nSubject: message %03d\n" % number
    for kind in ("cur", "new"):
        for file in Path(maildir, kind).iterdir():
            if wanted in file.read_bytes()[:500].replace(b"\r\n", b"\n"):
                return file
    raise LookupError(f"{maildir} has no message {number}")


def add_letter(maildir: Path, file: Path, letter: str) -> None:
    """
    Give a message one more flag.
    """
    name = file.name if ":2," in file.name else f"{file.name}:2,"
    base, _, letters = name.rpartition(":2,")
    file.rename(maildir / "cur" / f"{base}:2,{''.join(sorted({*letters, letter}))}")


def add_message(maildir: Path) -> None:
    """
    Put L{LOCAL} there, seen.
    """
    (maildir / "cur" / f"{int(time.time())}.local_1.client.example:2,S").write_bytes(LOCAL)
