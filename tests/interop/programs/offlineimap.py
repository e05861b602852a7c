"""
OfflineIMAP: everything into Maildirs, changes there, and a second run that brings them to the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.interop.programs.fixture import QUOTED
from tests.interop.programs.maildirs import FLAGGED, REMOVED, add_letter, add_message, find_message, read_maildirs
from tests.interop.programs.program import Program
from tests.interop.programs.result import Mailboxes
from tests.interop.programs.target import Target, execute

_CONFIG = """
[general]
metadata = {folder}/metadata
accounts = account
ui = quiet
socktimeout = 60

[Account account]
localrepository = near
remoterepository = far

[Repository near]
type = Maildir
localfolders = {folder}/mail
sep = /

[Repository far]
type = IMAP
remotehost = {host}
remoteport = {port}
remoteuser = {user}
remotepassfile = {folder}/password
maxconnections = 2
folderfilter = lambda name: '"' not in name
{security}
"""


class OfflineImap(Program):
    """
    It keeps flags; keywords it would need a table for.  A quote inside of a name it does not escape.
    """

    name = "offlineimap"
    needs = ("offlineimap", "offlineimap3")
    misses = (QUOTED,)
    alters = True

    def synchronise(self, target: Target, folder: Path, within: Sequence[str] = ()) -> Mailboxes:
        brought = self.bring(target, folder, within)
        inbox = folder / "mail" / "INBOX"
        add_letter(inbox, find_message(inbox, FLAGGED), "F")
        find_message(inbox, REMOVED).unlink()
        add_message(folder / "mail" / "Two  words")
        self.bring(target, folder, within)
        return brought

    def bring(self, target: Target, folder: Path, within: Sequence[str] = ()) -> Mailboxes:
        (folder / "mail").mkdir(exist_ok=True)
        (folder / "password").write_text(target.password, "utf-8")
        security = "ssl = no\nstarttls = no"
        if target.authority is not None:
            security = f"ssl = yes\nsslcacertfile = {target.authority}"
        words = {"host": target.host, "port": target.port, "user": target.user, "folder": folder, "security": security}
        config = folder / "offlineimaprc"
        config.write_text(_CONFIG.format(**words), "utf-8")
        command = ["offlineimap", "-c", str(config), "-o"]
        execute(command, folder, within=within, patience=self.patience)
        return self.brought(folder)

    def brought(self, folder: Path) -> Mailboxes:
        return read_maildirs(folder / "mail")
