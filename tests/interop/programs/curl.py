"""
curl: lists, reads each message and its flags, and uploads one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from tests.interop.programs.imap_words import names_of, quoted
from tests.interop.programs.maildirs import LOCAL
from tests.interop.programs.program import Program
from tests.interop.programs.result import Mailboxes, in_order, make_message
from tests.interop.programs.target import Target, execute

_NEXT = re.compile(rb"\(UIDNEXT (\d+)\)")

_AT_ONCE = 100
"""Messages that it is asked for at once: it takes lines of an answer for headers, and has enough at some hundreds."""

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
        brought = self.bring(target, folder, within)
        upload = folder / "upload.eml"
        upload.write_bytes(LOCAL.replace(b"\n", b"\r\n"))
        top, call = self._caller(target, folder, within)
        call([f"url = {_word(top + quote('Two  words', safe=''))}", f"upload-file = {_word(str(upload))}"])
        return brought

    def _caller(self, target: Target, folder: Path, within: Sequence[str]) -> tuple[str, Callable[..., bytes]]:
        """
        The server's URL, and what runs the program with lines of configuration for each of its requests, on one connection.
        """
        scheme = "imap" if target.authority is None else "imaps"
        top = f"{scheme}://{target.host}:{target.port}/"
        general = ["silent", "show-error", "fail", f"user = {_word(f'{target.user}:{target.password}')}"]
        if target.authority is not None:
            general.append(f"cacert = {_word(str(target.authority))}")

        def call(*requests: Iterable[str]) -> bytes:
            config = folder / "curlrc"
            config.write_text("\nnext\n".join("\n".join([*general, *lines]) for lines in requests) + "\n", "utf-8")
            return execute(["curl", "--disable", "--config", str(config)], folder, within=within, patience=self.patience)

        return top, call

    def bring(self, target: Target, folder: Path, within: Sequence[str] = ()) -> Mailboxes:
        top, call = self._caller(target, folder, within)
        listed = call([f"url = {_word(top)}"])
        names = names_of([line.removeprefix(b"* LIST ") for line in listed.splitlines()])
        index = []
        for number, name in enumerate(names):
            url = top + quote(name, safe="")
            status = _NEXT.search(call([f"url = {_word(top)}", f"request = {_word(f'STATUS {quoted(name)} (UIDNEXT)')}"]))
            assert status is not None, name
            asked = [f"{begin}:{begin + _AT_ONCE - 1}" for begin in range(1, int(status[1]), _AT_ONCE)]
            told = call(*([f"url = {_word(url)}", f'request = "UID FETCH {one} (FLAGS)"'] for one in asked)) if asked else b""
            flags = {int(one[1] or one[4]): (one[2] or one[3] or b"").decode().split() for one in _FETCHED.finditer(told)}
            place = folder / f"mail{number}"
            place.mkdir(exist_ok=True)
            index.append({"mailbox": name, "place": place.name, "flags": flags})
            (folder / "index.json").write_text(json.dumps(index), "utf-8")
            if flags:
                call(
                    line
                    for uid in flags
                    for line in (f"url = {_word(f'{url};UID={uid}')}", f"output = {_word(str(place / str(uid)))}")
                )
        return self.brought(folder)

    def brought(self, folder: Path) -> Mailboxes:
        found = {}
        index = folder / "index.json"
        for entry in json.loads(index.read_text("utf-8")) if index.exists() else ():
            files = {uid: folder / entry["place"] / uid for uid in entry["flags"]}
            found[entry["mailbox"]] = [
                make_message(file.read_bytes(), entry["flags"][uid], int(uid)) for uid, file in files.items() if file.exists()
            ]
        return in_order(found)
