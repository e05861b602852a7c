"""
aioimaplib as somebody who waits: sits in IDLE, reads each message that it is told of, and keeps a list of the mailbox by what it
is told alone.  What it learns is written to stdout, a line of JSON each; see L{tests.interop.programs.idling}.

The library's own timeouts are in force.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import ssl
import sys
from itertools import pairwise
from typing import Any

from tests.interop.programs.imap_words import quoted
from tests.interop.programs.program import target_of
from tests.interop.programs.target import Target

_COUNT = re.compile(rb"(\d+) (EXISTS|EXPUNGE)$", re.IGNORECASE)
_FETCH = re.compile(rb"(\d+) FETCH \((.*)", re.IGNORECASE)
_UID = re.compile(rb"\bUID (\d+)")
_FLAGS = re.compile(rb"\bFLAGS \(([^)]*)\)")
_SUBJECT = re.compile(rb"^Subject: ([^\r]*)\r$", re.MULTILINE)


def _say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


class _Idler:
    """
    @ivar messages: UID and flags, by number; 0 for a UID that is not known yet.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self.messages: list[tuple[int, list[str]]] = []

    def heard(self, line: bytes) -> None:
        """
        Take a line, without the asterisk.
        """
        if count := _COUNT.fullmatch(line):
            number = int(count[1])
            if count[2].upper() == b"EXPUNGE":
                uid, _ = self.messages.pop(number - 1)
                _say(event="gone", uid=uid)
            else:
                self.messages += [(0, [])] * (number - len(self.messages))
        elif (fetch := _FETCH.match(line)) and int(fetch[1]) <= len(self.messages):
            place = int(fetch[1]) - 1
            uid, flags = self.messages[place]
            if found := _UID.search(fetch[2]):
                uid = int(found[1])
            if found := _FLAGS.search(fetch[2]):
                flags = sorted(flag for flag in found[1].decode("ascii").split() if flag != "\\Recent")
                if self.messages[place][0]:
                    _say(event="flags", uid=uid, flags=flags)
            self.messages[place] = (uid, flags)

    async def read(self) -> None:
        """
        Fetch what was told of.
        """
        while any(uid == 0 for uid, _ in self.messages):
            first = 1 + max((uid for uid, _ in self.messages), default=0)
            lines = _check(await self.client.uid("FETCH", f"{first}:*", "(UID FLAGS BODY.PEEK[])"))
            for line, octets in pairwise(lines):
                if _FETCH.match(line) and line.endswith(b"}"):
                    self.heard(bytes(line))
                    subject = _SUBJECT.search(octets)
                    uid = _UID.search(line)
                    assert subject is not None and uid is not None, octets[:200]
                    digest = hashlib.sha256(octets).hexdigest()
                    _say(event="mail", uid=int(uid[1]), subject=subject[1].decode(), digest=digest)
                elif _FETCH.match(line):
                    self.heard(bytes(line))

    async def idle(self, stop: asyncio.Future[Any]) -> None:
        """
        Wait until something is told, once, or until somebody says that it is enough.
        """
        idling = await self.client.idle_start()
        pushed = asyncio.ensure_future(self.client.wait_server_push())
        await asyncio.wait({pushed, stop, idling}, return_when=asyncio.FIRST_COMPLETED)
        self.client.idle_done()
        _check(await asyncio.wait_for(idling, self.client.timeout))
        if not pushed.done():
            await asyncio.wait({pushed}, timeout=0.05)
        pushed.cancel()
        if pushed.done() and not pushed.cancelled() and isinstance(pushed.result(), list):
            for line in pushed.result():
                self.heard(bytes(line))


def _check(response: Any) -> list[Any]:
    if response.result != "OK":
        raise RuntimeError(f"the server says {response}")
    lines: list[Any] = response.lines
    return lines


async def _connect(target: Target) -> Any:
    import aioimaplib  # type: ignore[import-untyped]

    if target.authority is None:
        client = aioimaplib.IMAP4(target.host, target.port)
    else:
        context = ssl.create_default_context(cafile=target.authority)
        client = aioimaplib.IMAP4_SSL(target.host, target.port, ssl_context=context)
    await client.wait_hello_from_server()
    _check(await client.login(target.user, quoted(target.password)[1:-1]))
    return client


async def _wait(target: Target) -> None:
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()

    def enough() -> None:
        loop.remove_reader(sys.stdin.fileno())
        stop.set_result(None)

    loop.add_reader(sys.stdin.fileno(), enough)
    client = await _connect(target)
    _check(await client.select("INBOX"))
    idler = _Idler(client)
    lines = _check(await client.uid("FETCH", "1:*", "(UID FLAGS)"))
    idler.messages = [(0, [])] * sum(_FETCH.match(line) is not None for line in lines)
    for line in lines:
        idler.heard(bytes(line))
    _say(event="ready")
    while not stop.done():
        await idler.idle(stop)
        await idler.read()
    _say(event="final", messages=idler.messages)
    _check(await client.logout())


def main() -> None:
    target, _ = target_of(sys.argv[1:])
    try:
        asyncio.run(_wait(target))
    except Exception as error:
        _say(event="error", text=f"{type(error).__name__}: {error}")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
