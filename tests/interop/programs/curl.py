"""
curl: lists, reads each message and its flags, and uploads one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from tests.interop.programs.imap_words import names_of
from tests.interop.programs.maildirs import LOCAL
from tests.interop.programs.program import Program
from tests.interop.programs.result import Mailboxes, in_order, make_message
from tests.interop.programs.target import Target, execute

_FETCHED = re.compile(rb"^\* \d+ FETCH \((?:UID (\d+) FLAGS \(([^)]*)\)|FLAGS \(([^)]*)\) UID (\d+))\)\r?$", re.MULTILINE)


def _word(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Curl(Program):
    """
    Each call is one connection.
    """

    name = "curl"
    needs = ("curl", "curl")

    def synchronise(self, target: Target, folder: Path, within: Sequence[str] = ()) -> Mailboxes:
        scheme = "imap" if target.authority is None else "imaps"
        top = f"{scheme}://{target.host}:{target.port}/"
        general = ["silent", "show-error", "fail", f"user = {_word(f'{target.user}:{target.password}')}"]
        if target.authority is not None:
            general.append(f"cacert = {_word(str(target.authority))}")

        def call(lines: Iterable[str]) -> bytes:
            config = folder / "curlrc"
            config.write_text("\n".join([*general, *lines]) + "\n", "utf-8")
            return execute(["curl", "--disable", "--config", str(config)], folder, within=within)

        listed = call([f"url = {_word(top)}"])
        names = names_of([line.removeprefix(b"* LIST ") for line in listed.splitlines()])
        found = {}
        for number, name in enumerate(names):
            url = top + quote(name, safe="")
            told = call([f"url = {_word(url)}", 'request = "UID FETCH 1:* (FLAGS)"'])
            flags = {int(one[1] or one[4]): (one[2] or one[3] or b"").decode().split() for one in _FETCHED.finditer(told)}
            place = folder / f"mail{number}"
            place.mkdir()
            if flags:
                call(
                    line
                    for uid in flags
                    for line in (f"url = {_word(f'{url};UID={uid}')}", f"output = {_word(str(place / str(uid)))}")
                )
            found[name] = [make_message((place / str(uid)).read_bytes(), flags[uid], uid) for uid in flags]
        upload = folder / "upload.eml"
        upload.write_bytes(LOCAL.replace(b"\n", b"\r\n"))
        call([f"url = {_word(top + quote('Two  words', safe=''))}", f"upload-file = {_word(str(upload))}"])
        return in_order(found)
