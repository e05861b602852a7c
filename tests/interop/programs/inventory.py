"""
Reads all that an account has, and changes nothing: C{python -m tests.interop.programs.inventory}, with the arguments of
L{tests.interop.programs.program.arguments}.
"""

from __future__ import annotations

import imaplib
import json
import re
import sys
from pathlib import Path
from typing import Any

from tests.interop.programs.imap_words import connect, names_of, quoted
from tests.interop.programs.program import target_of

_ATTRIBUTES = re.compile(rb"UID (\d+) FLAGS \(([^)]*)\)")


def collect(client: imaplib.IMAP4, folder: Path) -> None:
    """
    Write all messages, and the index that L{tests.interop.programs.result.read_index} reads.

    @raise AssertionError: the server refuses something, or what it tells makes no sense.
    """
    index: list[dict[str, Any]] = []
    for name in names_of(ask(client, "LIST", '""', '"*"')):
        index.append({"mailbox": name})
        answer, _ = client.select(quoted(name), readonly=True)
        assert answer == "OK", name
        for item in ask(client, "UID", "FETCH", "1:*", "(UID FLAGS BODY.PEEK[])"):
            if not isinstance(item, tuple):
                continue
            match = _ATTRIBUTES.search(item[0])
            assert match is not None, item[0]
            file = f"{len(index)}.eml"
            (folder / file).write_bytes(item[1])
            index.append({"mailbox": name, "file": file, "flags": match[2].decode().split(), "uid": int(match[1])})
    (folder / "index.json").write_text(json.dumps(index), "utf-8")


def ask(client: imaplib.IMAP4, command: str, *words: str) -> list[Any]:
    """
    Give a command.

    @return: what was said untagged.
    @raise AssertionError: it was refused.
    """
    if command == "UID":
        answer, data = client.uid(*words)
    elif command == "LIST":
        answer, data = client.list(*words)
    else:
        answer, data = client.xatom(command, *words)
    assert answer == "OK", (command, words, data)
    return [one for one in data if one is not None]


def main() -> None:
    target, folder = target_of(sys.argv[1:])
    with connect(target) as client:
        collect(client, folder)


if __name__ == "__main__":
    main()
