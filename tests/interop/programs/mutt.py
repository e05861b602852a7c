"""
mutt, on a terminal of its own: every mailbox is opened and copied to a local one, two messages are changed, and a draft is left
on the server.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from twisted.mail import imap4  # its codec is what is wanted

from tests.interop.programs.fixture import MAILBOXES
from tests.interop.programs.maildirs import FLAGGED, REMOVED, read_maildirs
from tests.interop.programs.program import Program
from tests.interop.programs.result import Mailboxes
from tests.interop.programs.target import ProgramFailed, Target, execute

_CONFIG = """
set folder={scheme}://{host}:{port}/
set spoolfile=+INBOX
set postponed=+Drafts
set imap_user={user} imap_pass={password}
{security}
set imap_authenticators=plain:login
set ssl_starttls=no tunnel=""
set mbox_type=Maildir header_cache="" message_cachedir="" record="" mbox="" certificate_file="{folder}/known"
set tmpdir="{folder}" charset=utf-8 assumed_charset="" rfc2047_parameters=yes
set confirmcreate=no confirmappend=no move=no delete=yes quit=yes recall=no wait_key=no beep=no mark_old=no sleep_time=0
set abort_nosubject=no abort_unmodified=no include=no autoedit=yes edit_headers=no editor="{folder}/edit"
set from="joe@b.example" hostname=b.example realname=Joe use_domain=no signature="" crypt_use_gpgme=no
set keep_flagged=yes imap_keepalive=300 net_inc=0 read_inc=0 write_inc=0
bind editor <space> noop
push {keys}
"""

_EDITOR = """#!/bin/sh
printf 'Gr\\303\\274\\303\\237e,\\n\\n.\\nFrom here\\n' >"$1"
"""


def _word(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`")
    return f'"{escaped}"'


class Mutt(Program):
    """
    The keys are typed as if by hand.
    """

    name = "mutt"
    needs = ("mutt", "mutt")

    def synchronise(self, target: Target, folder: Path, within: Sequence[str] = ()) -> Mailboxes:
        (folder / "mail").mkdir()
        editor = folder / "edit"
        editor.write_text(_EDITOR, "utf-8")
        editor.chmod(0o700)
        names = [str(imap4.decoder(name.encode("ascii"))[0]) for name in MAILBOXES]
        keys = [
            f"<change-folder>={name}<enter><tag-pattern>~A<enter><tag-prefix><copy-message>{folder}/mail/{number}<enter>"
            for number, name in enumerate(names)
        ]
        keys += [
            "<change-folder>=INBOX<enter>",
            f"<limit>~s {FLAGGED:03d}<enter><flag-message><limit>~s {REMOVED:03d}<enter><delete-message>",
            "<limit>~A<enter><sync-mailbox>",
            "<mail>ann@a.example<enter>a draft<enter><postpone-message><quit>",
        ]
        words = {
            "scheme": "imap" if target.authority is None else "imaps",
            "host": target.host,
            "port": target.port,
            "user": _word(target.user),
            "password": _word(target.password),
            "security": f'set ssl_ca_certificates_file="{target.authority}"' if target.authority else "set ssl_force_tls=no",
            "folder": folder,
            "keys": _word("".join(keys)),
        }
        config = folder / "muttrc"
        config.write_text(_CONFIG.format(**words), "utf-8")
        with _terminal() as (descriptor, shown):
            try:
                command = ["mutt", "-n", "-F", str(config)]
                execute(command, folder, within=within, stdin=descriptor, stdout=descriptor, stderr=descriptor)
            except ProgramFailed as error:
                raise ProgramFailed(f"{error}\nThe terminal had: {bytes(shown[-3000:])!r}") from None
        return {
            name: messages
            for number, name in enumerate(MAILBOXES)
            for messages in (read_maildirs(folder / "mail").get(str(number), ()),)
        }


@contextlib.contextmanager
def _terminal() -> Iterator[tuple[int, bytearray]]:
    """
    The far end of a terminal, and what is written to it.
    """
    near, far = os.openpty()
    shown = bytearray()

    def read() -> None:
        # EIO says that nobody has the far end any more.
        with contextlib.suppress(OSError):
            while octets := os.read(near, 65536):
                shown.extend(octets)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield far, shown
    finally:
        os.close(far)
        reader.join(5.0)
        os.close(near)
