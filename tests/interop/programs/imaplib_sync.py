"""
Python's C{imaplib}: reads all, then all that can be changed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.interop.programs.imap_words import connect, quoted
from tests.interop.programs.inventory import ask, collect
from tests.interop.programs.maildirs import FLAGGED, LOCAL, REMOVED
from tests.interop.programs.program import Program, run_script, target_of
from tests.interop.programs.result import Mailboxes
from tests.interop.programs.target import Target


class Imaplib(Program):
    """
    The module is run as a process.
    """

    name = "imaplib"

    def synchronise(self, target: Target, folder: Path, within: Sequence[str] = ()) -> Mailboxes:
        return run_script("tests.interop.programs.imaplib_sync", target, folder, within)


def main() -> None:
    target, folder = target_of(sys.argv[1:])
    with connect(target) as client:
        collect(client, folder)
        answer, _ = client.select()
        assert answer == "OK"
        ask(client, "UID", "STORE", str(FLAGGED + 1), "+FLAGS.SILENT", "(\\Flagged Neu)")
        ask(client, "UID", "STORE", str(REMOVED + 1), "+FLAGS", "(\\Deleted)")
        for answer, data in (
            client.expunge(),
            client.uid("COPY", "20:25,60", quoted("Two  words")),
            client.create(quoted("Made/&2D3eAA- here")),
            client.subscribe(quoted("Made/&2D3eAA- here")),
            client.append(quoted("Two  words"), "(\\Seen)", None, LOCAL.replace(b"\n", b"\r\n")),
            client.rename(quoted("Archive/2023/Z&APw-rich"), quoted("Archive/2024")),
            client.delete("Junk"),
        ):
            assert answer == "OK", data
        assert ask(client, "UID", "SEARCH", "CHARSET", "UTF-8", "SUBJECT", '"message 010"') == [b"11"]


if __name__ == "__main__":
    main()
