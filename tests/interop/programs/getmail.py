"""
getmail (getmail6): every message to a delivery program, then gone from the server; of one mailbox they are kept.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import twisted.mail.imap4  # noqa: F401 - knows the encoding of names of mailboxes

from tests.interop.programs.fixture import MAILBOXES
from tests.interop.programs.program import Program
from tests.interop.programs.result import Mailboxes, in_order, make_message
from tests.interop.programs.target import Target, execute

_KEPT = "INBOX"

_LINGER = 0.05
"""Seconds.  getmail does not notice the end of a delivery program that has ended before it waits for that."""

_CONFIG = """
[retriever]
type = {kind}
server = {host}
port = {port}
username = {user}
password_command = ("cat", "{folder}/password")
mailboxes = ({mailbox!r},)
record_mailbox = false
timeout = 60
{security}

[destination]
type = MDA_external
path = {deliver}
allow_root_commands = true

[options]
verbose = 0
read_all = false
delete = {delete}
delivered_to = false
received = false
"""


class Getmail(Program):
    """
    It keeps no flags, and writes header lines anew.  Each mailbox is one connection, so that it is known what came from where.
    """

    name = "getmail"
    needs = ("getmail", "getmail6")
    alters = True

    def __init__(self, mailboxes: Sequence[str] = tuple(MAILBOXES)) -> None:
        """
        @param mailboxes: which ones it is to read.
        """
        self._places = {name: f"mail{number}" for number, name in enumerate(mailboxes)}

    def synchronise(self, target: Target, folder: Path, within: Sequence[str] = ()) -> Mailboxes:
        return self.bring(target, folder, within)

    def bring(self, target: Target, folder: Path, within: Sequence[str] = ()) -> Mailboxes:
        (folder / "password").write_text(target.password, "utf-8")
        kind, security = "SimpleIMAPRetriever", ""
        if target.authority is not None:
            kind, security = "SimpleIMAPSSLRetriever", f"ca_certs = {target.authority}"
        command = ["getmail", "--getmaildir", str(folder)]
        for name, place in self._places.items():
            (folder / place).mkdir(exist_ok=True)
            deliver = folder / f"deliver-{place}"
            where = shlex.quote(str(folder / place))
            deliver.write_text(f'#!/bin/sh\ncat > "$(mktemp -p {where})"\nsleep {_LINGER}\n', "utf-8")
            deliver.chmod(0o700)
            config = folder / f"{place}.rc"
            words = {"host": target.host, "port": target.port, "user": target.user, "folder": folder, "security": security}
            decoded = name.encode("ascii").decode("imap4-utf-7")
            delete = "false" if name == _KEPT else "true"
            words |= {"kind": kind, "deliver": deliver, "mailbox": decoded, "delete": delete}
            config.write_text(_CONFIG.format(**words), "utf-8")
            command += ["--rcfile", str(config)]
        execute(command, folder, within=within, patience=self.patience)
        return self.brought(folder)

    def brought(self, folder: Path) -> Mailboxes:
        files = {name: (folder / place).iterdir() for name, place in self._places.items()}
        return in_order({name: [make_message(file.read_bytes()) for file in found] for name, found in files.items()})
