"""
fetchmail: every message to a delivery program, then gone from the server; of one mailbox they are kept.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from tests.interop.programs.fixture import MAILBOXES, QUOTED
from tests.interop.programs.program import Program
from tests.interop.programs.result import Mailboxes, in_order, make_message
from tests.interop.programs.target import Target, execute

_KEPT = "INBOX"
_HARMLESS = (
    rb"(fetchmail: WARNING: Running as root is discouraged\.\n)?"
    rb"(getaddrinfo failed for .*DO repair your /etc/hosts.*instead\.\n)?"
)
"""It says the second where a machine's name has no address; it wants one for a header line that it does not write here."""


def _word(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Fetchmail(Program):
    """
    It keeps no flags.  It does not escape a quote inside of a name.  Each mailbox is one connection, so that the delivery program
    knows it.
    """

    name = "fetchmail"
    needs = ("fetchmail", "fetchmail")
    misses = (QUOTED,)
    alters = True

    def __init__(self, mailboxes: Sequence[str] = tuple(MAILBOXES)) -> None:
        """
        @param mailboxes: which ones it is to read.
        """
        self._places = {name: f"mail{number}" for number, name in enumerate(one for one in mailboxes if one not in self.misses)}

    def synchronise(self, target: Target, folder: Path, within: Sequence[str] = ()) -> Mailboxes:
        return self.bring(target, folder, within)

    def bring(self, target: Target, folder: Path, within: Sequence[str] = ()) -> Mailboxes:
        lines = [
            "set no syslog",
            "set no bouncemail",
            "set no spambounce",
            f"set idfile {_word(str(folder / 'ids'))}",
            f"set pidfile {_word(str(folder / 'pid'))}",
        ]
        security = 'sslproto ""'
        if target.authority is not None:
            security = f"ssl sslcertck sslcertfile {_word(str(target.authority))} sslcertpath {_word(str(folder / 'none'))}"
        for name, place in self._places.items():
            (folder / place).mkdir(exist_ok=True)
            deliver = folder / f"deliver-{place}"
            deliver.write_text(f'#!/bin/sh\ncat > "$(mktemp -p {shlex.quote(str(folder / place))})"\n', "utf-8")
            deliver.chmod(0o700)
            lines += [
                f"poll {place} via {_word(target.host)} protocol imap service {target.port} timeout 60 auth password",
                f"  user {_word(target.user)} password {_word(target.password)} folder {_word(name)}",
                f"  {security}",
                f"  fetchall {'keep' if name == _KEPT else 'nokeep'} no rewrite no mimedecode mda {_word(str(deliver))}",
            ]
        config = folder / "fetchmailrc"
        config.write_text("\n".join(lines) + "\n", "utf-8")
        config.chmod(0o600)
        command = ["fetchmail", "--silent", "--nodetach", "--invisible", "--fetchmailrc", str(config)]
        execute(command, folder, within=within, tolerated=_HARMLESS, patience=self.patience)
        return self.brought(folder)

    def brought(self, folder: Path) -> Mailboxes:
        files = {name: (folder / place).iterdir() for name, place in self._places.items()}
        return in_order({name: [make_message(file.read_bytes()) for file in found] for name, found in files.items()})
