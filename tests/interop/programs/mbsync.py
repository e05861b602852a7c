"""
mbsync (isync): everything into Maildirs, changes there, and a second run that brings them to the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.interop.programs.maildirs import FLAGGED, REMOVED, add_letter, add_message, find_message, read_maildirs
from tests.interop.programs.program import Program
from tests.interop.programs.result import Mailboxes
from tests.interop.programs.target import Target, execute

_WITHOUT_TLS = rb"\*\*\* IMAP Warning \*\*\* Password is being sent in the clear\n"

_CONFIG = """
IMAPAccount account
Host {host}
Port {port}
User {user}
PassCmd "cat {folder}/password"
{security}
Timeout 60

IMAPStore far
Account account

MaildirStore near
Path {folder}/mail/
Inbox {folder}/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Near
Expunge Both
SyncState *
"""


class Mbsync(Program):
    """
    It keeps flags, but no keywords.
    """

    name = "mbsync"
    needs = ("mbsync", "isync")

    def synchronise(self, target: Target, folder: Path, within: Sequence[str] = ()) -> Mailboxes:
        brought = self.bring(target, folder, within)
        inbox = folder / "mail" / "INBOX"
        add_letter(inbox, find_message(inbox, FLAGGED), "F")
        add_letter(inbox, find_message(inbox, REMOVED), "T")
        add_message(folder / "mail" / "Two  words")
        self.bring(target, folder, within)
        return brought

    def bring(self, target: Target, folder: Path, within: Sequence[str] = ()) -> Mailboxes:
        """
        Both ways: what the Maildirs below C{mail} have and the server has not goes there.
        """
        (folder / "mail").mkdir(exist_ok=True)
        (folder / "password").write_text(target.password, "utf-8")
        security = "SSLType None\nAuthMechs LOGIN"
        if target.authority is not None:
            security = f"SSLType IMAPS\nSystemCertificates no\nCertificateFile {target.authority}"
        words = {"host": target.host, "port": target.port, "user": target.user, "folder": folder, "security": security}
        config = folder / "mbsyncrc"
        config.write_text(_CONFIG.format(**words), "utf-8")
        command = ["mbsync", "--config", str(config), "--quiet", "--all"]
        execute(command, folder, within=within, tolerated=_WITHOUT_TLS, patience=self.patience)
        return self.brought(folder)

    def brought(self, folder: Path) -> Mailboxes:
        return read_maildirs(folder / "mail")
