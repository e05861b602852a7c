"""
IMAPClient: reads all, changes things, and waits with IDLE for a message that a second connection of it puts there.
"""

from __future__ import annotations

import json
import ssl
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.interop.programs.maildirs import FLAGGED, LOCAL, REMOVED
from tests.interop.programs.program import Program, run_script, target_of
from tests.interop.programs.result import Mailboxes
from tests.interop.programs.target import PATIENCE, Target


class ImapClient(Program):
    """
    The module is run as a process.
    """

    name = "IMAPClient"

    def synchronise(self, target: Target, folder: Path, within: Sequence[str] = ()) -> Mailboxes:
        return run_script("tests.interop.programs.imapclient_sync", target, folder, within)


def _connect(target: Target) -> Any:
    import imapclient  # type: ignore[import-untyped]

    context = None if target.authority is None else ssl.create_default_context(cafile=target.authority)
    client = imapclient.IMAPClient(target.host, target.port, ssl=context is not None, ssl_context=context, timeout=PATIENCE)
    client.folder_encode = False  # the index has names as on the wire
    client.login(target.user, target.password)
    return client


def _collect(client: Any, folder: Path) -> None:
    index: list[dict[str, Any]] = []
    for flags, _, listed in client.list_folders():
        if b"\\Noselect" in flags or b"\\NonExistent" in flags:
            continue
        name = listed.decode("ascii") if isinstance(listed, bytes) else listed
        index.append({"mailbox": name})
        client.select_folder(name, readonly=True)
        for uid, parts in sorted(client.fetch(client.search(), ["FLAGS", "BODY.PEEK[]"]).items()):
            file = f"{len(index)}.eml"
            (folder / file).write_bytes(parts[b"BODY[]"])
            index.append({"mailbox": name, "file": file, "flags": [one.decode() for one in parts[b"FLAGS"]], "uid": uid})
    (folder / "index.json").write_text(json.dumps(index), "utf-8")


def _wait_for_message(idler: Any, other: Any) -> None:
    count = idler.select_folder("INBOX")[b"EXISTS"]
    idler.idle()
    other.append("INBOX", LOCAL.replace(b"\n", b"\r\n"), [b"\\Flagged"])
    until = time.monotonic() + PATIENCE
    told: list[Any] = []
    while (count + 1, b"EXISTS") not in told:
        assert time.monotonic() < until, told
        told += idler.idle_check(timeout=1.0)
    idler.idle_done()


def main() -> None:
    target, folder = target_of(sys.argv[1:])
    with _connect(target) as client, _connect(target) as other:
        _collect(client, folder)
        _wait_for_message(client, other)
        client.add_flags([FLAGGED + 1], [b"\\Flagged", b"Neu"])
        client.delete_messages([REMOVED + 1])
        client.expunge([REMOVED + 1])
        client.move([30, 31, 32], "Trash")
        client.create_folder("Made/&2D3eAA- here")


if __name__ == "__main__":
    main()
