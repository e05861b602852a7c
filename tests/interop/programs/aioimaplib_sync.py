"""
aioimaplib: reads all, then sits in IDLE while a second connection of it puts messages there, and reads each that it is told of.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.interop.programs.imap_words import names_of, quoted
from tests.interop.programs.maildirs import LOCAL
from tests.interop.programs.program import Program, run_script, target_of
from tests.interop.programs.result import Mailboxes
from tests.interop.programs.target import PATIENCE, Target

ROUNDS = 3
"""Messages that come while the program waits."""

TOLD = "told in IDLE"
"""Where the result has them."""

_FETCHED = re.compile(rb"\d+ FETCH \(.*UID (\d+) FLAGS \(([^)]*)\)")


class AioImapLib(Program):
    """
    The module is run as a process.
    """

    name = "aioimaplib"

    def synchronise(self, target: Target, folder: Path, within: Sequence[str] = ()) -> Mailboxes:
        return run_script("tests.interop.programs.aioimaplib_sync", target, folder, within)


async def _connect(target: Target) -> Any:
    import aioimaplib  # type: ignore[import-untyped]

    if target.authority is None:
        client = aioimaplib.IMAP4(target.host, target.port, timeout=PATIENCE)
    else:
        context = ssl.create_default_context(cafile=target.authority)
        client = aioimaplib.IMAP4_SSL(target.host, target.port, timeout=PATIENCE, ssl_context=context)
    await client.wait_hello_from_server()
    _check(await client.login(target.user, quoted(target.password)[1:-1]))
    return client


def _check(response: Any) -> list[Any]:
    assert response.result == "OK", response
    lines: list[Any] = response.lines
    return lines


async def _read(client: Any, which: str, name: str, folder: Path, index: list[dict[str, Any]]) -> None:
    lines = _check(await client.uid("FETCH", which, "(UID FLAGS BODY.PEEK[])"))
    for line, literal in pairwise(lines):
        match = _FETCHED.match(line)
        if match is not None:
            file = f"{len(index)}.eml"
            (folder / file).write_bytes(literal)
            index.append({"mailbox": name, "file": file, "flags": match[2].decode().split(), "uid": int(match[1])})


async def _synchronise(target: Target, folder: Path) -> None:
    client, other = await asyncio.gather(_connect(target), _connect(target))
    index: list[dict[str, Any]] = []
    listed = [bytes(line) for line in _check(await client.list('""', '"*"'))]
    for name in names_of([line for line in listed if line.startswith(b"(")]):
        index.append({"mailbox": name})
        _check(await client.select(quoted(name)))
        await _read(client, "1:*", name, folder, index)
    lines = _check(await client.select("INBOX"))
    count = next(int(line.split()[0]) for line in lines if line.endswith(b" EXISTS"))
    for _ in range(ROUNDS):
        count += 1
        idling = await client.idle_start(PATIENCE)
        _check(await other.append(LOCAL.replace(b"\n", b"\r\n"), "INBOX", "\\Flagged"))
        while b"%d EXISTS" % count not in await client.wait_server_push(PATIENCE):
            pass
        client.idle_done()
        _check(await asyncio.wait_for(idling, PATIENCE))
        await _read(client, "*", TOLD, folder, index)
    (folder / "index.json").write_text(json.dumps(index), "utf-8")
    for one in (other, client):
        _check(await one.logout())


def main() -> None:
    target, folder = target_of(sys.argv[1:])
    asyncio.run(asyncio.wait_for(_synchronise(target, folder), PATIENCE))


if __name__ == "__main__":
    main()
