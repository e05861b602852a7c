"""
mutt and NeoMutt in a terminal, with somebody who reads, waits for mail and writes drafts: what is typed is what a person types,
and everything that the program shows in its last line is looked at.

Configured is what is needed to reach an account, and what makes them use IDLE: by themselves both look for new mail in an open
mailbox every ten minutes.

Invariants: a thing is done when the screen says so; what the program said that is not known as harmless is a complaint.
"""

from __future__ import annotations

import operator
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType

from tests.interop.programs.target import PATIENCE, ProgramFailed, Target
from tests.interop.programs.tmux import Terminal

_CONFIG = """
set folder={scheme}://{host}:{port}/
set spoolfile=+INBOX postponed=+Drafts
set imap_user={user} imap_pass={password}
{security}
set from="joe@b.example" hostname=b.example realname=Joe use_domain=no
set mbox_type=Maildir editor="{folder}/edit"
{more}
"""

IDLING = "set imap_idle=yes timeout=2"
"""It is told of new mail, and looks every two seconds whether it was."""

POLLING = "set timeout=2"
"""It asks the server every two seconds."""

_EDITOR = """#!/bin/sh
printf 'Dear Ann,\\n\\nsee below.\\n' >"$1"
"""

_HARMLESS = re.compile(
    # what it does
    r"Looking up|Connecting to|Authenticating|Logging in|SSL/TLS connection using|Reading|Selecting|Sorting|Evaluating|Fetching"
    r"|Copying to|Saving|Marking|Encoding|Logging out|Closing connection|New mail in this mailbox|Message postponed"
    r"|Search(ing\.\.\.| wrapped)|\d+ kept"
    # what it asks
    r"|Search for:|Copy to mailbox|Create |Recall postponed|To:|Subject:|Attach file"
    # lists, its own log, and its end
    r"|-|messages \((\d+%|all|end)\)|Pane is dead \(status 0"
)
"""What the last line may have."""

_NEWLY = re.compile(r"Connecting to|Logging in|Authenticating")
_LOG_ENDS = re.compile(r"^messages \((all|end)\)", re.MULTILINE)
_LOGGED = re.compile(r"\[\d\d:\d\d:\d\d\]<[EPW]> .*")


@dataclass(frozen=True)
class Flavour:
    """
    mutt, or one that comes from it.

    @ivar logs: the key M shows what it has said.
    """

    command: str
    logs: bool

    def version(self) -> str:
        said = subprocess.run([self.command, "-v"], capture_output=True, text=True, check=True).stdout
        return said.split("\n", 1)[0].split()[1]


MUTT = Flavour("mutt", logs=False)
NEOMUTT = Flavour("neomutt", logs=True)


def _word(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`")
    return f'"{escaped}"'


class Window:
    """
    A context manager: the program is open in INBOX.

    @ivar terminal: it runs there.
    """

    def __init__(
        self,
        flavour: Flavour,
        target: Target,
        folder: Path,
        within: Sequence[str] = (),
        *,
        more: str = IDLING,
        patience: float = PATIENCE,
    ) -> None:
        """
        @param folder: an empty one; its C{mail} gets the copies.
        @param more: of the configuration.
        @param patience: seconds for anything.
        """
        self._opened = 0
        self._patience = patience
        self._flavour = flavour
        self._folder = folder
        (folder / "mail").mkdir(parents=True)
        editor = folder / "edit"
        editor.write_text(_EDITOR, "utf-8")
        editor.chmod(0o700)
        secure = target.authority is not None
        words = {
            "scheme": "imaps" if secure else "imap",
            "host": target.host,
            "port": target.port,
            "user": _word(target.user),
            "password": _word(target.password),
            "security": f'set ssl_ca_certificates_file="{target.authority}"'
            if secure
            else "set ssl_force_tls=no ssl_starttls=no",
            "folder": folder,
            "more": more,
        }
        config = folder / "muttrc"
        config.write_text(_CONFIG.format(**words), "utf-8")
        self.terminal = Terminal([flavour.command, "-n", "-F", str(config)], folder, within)

    def __enter__(self) -> Window:
        self.terminal.__enter__()
        try:
            self.terminal.wait_for(r"=?\+?INBOX \[Msgs:", self._patience)
        except BaseException:
            self.terminal.__exit__(None, None, None)
            raise
        self._opened = len(self.terminal.bottoms)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self.terminal.__exit__(kind, value, traceback)

    def _for(self, pattern: str) -> float:
        return self.terminal.wait_for(pattern, self._patience)

    def notice(self, subject: str) -> float:
        """
        Wait for a message to be in the list.

        @return: when it was (C{time.monotonic}).
        """
        return self._for(rf"\) {re.escape(subject)}$")

    def _go_to(self, subject: str) -> None:
        terminal = self.terminal
        terminal.type("/")
        self._for("^(Reverse s|S)earch for:")
        terminal.press("C-u")
        terminal.type(f'~s "^{subject}$"')
        terminal.press("Enter")
        self.terminal.wait_until(lambda screen: "earch for:" not in screen, "the search does not end", self._patience)

    def read(self, subject: str, last: str, during: Callable[[], object] | None = None) -> Path:
        """
        Open a message, look at its end, and copy it to a local mailbox.

        @param last: its last line.
        @param during: called right before it is asked for.
        @return: the copy, a file.
        """
        terminal = self.terminal
        self._go_to(subject)
        if during is not None:
            during()
        terminal.press("Enter")
        self._for("^i:Exit")
        terminal.press("End")
        self._for(f"^{re.escape(last)}$")
        place = self._folder / "mail" / re.sub(r"\W", "-", subject)
        terminal.type("C")
        self._for("^Copy to mailbox")
        terminal.press("C-u")
        terminal.type(str(place))
        terminal.press("Enter")
        self._for("^Create ")
        terminal.type("y")
        file = self._until(lambda: [*place.glob("new/*"), *place.glob("cur/*")][:1], f"no copy of {subject}")[0]
        terminal.type("i")
        self._for("^q:Quit")
        return file

    def _until(self, found: Callable[[], list[Path]], what: str) -> list[Path]:
        # A Maildir has a file when it is whole.
        until = time.monotonic() + self._patience
        while not (files := found()):
            if time.monotonic() > until:
                raise ProgramFailed(f"{what}; the terminal has\n" + "\n".join(self.terminal.screen))
            time.sleep(0.02)
        return files

    def postpone(self, subject: str, attachment: Path, during: Callable[[], object] | None = None) -> None:
        """
        Write a message and leave it as a draft.

        @param during: called right before it is saved.
        """
        terminal = self.terminal
        terminal.type("m")
        self._for("^(To|Recall)")
        if terminal.bottoms[-1].startswith("Recall"):
            terminal.type("n")
        for prompt, text in (("^To:", "ann@a.example"), ("^Subject:", subject)):
            self._for(prompt)
            terminal.type(text)
            terminal.press("Enter")
        self._for("^y:Send")
        terminal.type("a")
        self._for("^Attach file")
        terminal.type(str(attachment))
        terminal.press("Enter")
        self._for(r"^ *A +2 ")
        if during is not None:
            during()
        terminal.type("P")
        self._for("^Message postponed")

    def leave(self) -> list[str]:
        """
        Look at what it has said, and quit.

        @return: complaints.
        """
        terminal = self.terminal
        logged: list[str] = []
        if self._flavour.logs:
            terminal.type("M")
            self._for("^messages")
            while not _LOG_ENDS.search("\n".join(screen := terminal.screen)):
                terminal.type(" ")
                terminal.wait_until(partial(operator.ne, "\n".join(screen)), "its log stands still", self._patience)
            logged = [line for line in terminal.shown if _LOGGED.fullmatch(line)]
            terminal.type("q")
            self._for("^q:Quit")
        terminal.type("q")
        terminal.wait_until(lambda screen: "q:Quit" not in screen, "it does not quit", self._patience)
        until = time.monotonic() + self._patience
        while not terminal.ended:
            if time.monotonic() > until:
                raise ProgramFailed("it does not end; the terminal has\n" + "\n".join(terminal.screen))
            time.sleep(0.05)
        return self.complaints() + logged

    def complaints(self) -> list[str]:
        """
        What was in the last line and should not be there.
        """
        found = [line for line in self.terminal.bottoms if not _HARMLESS.match(line)]
        return found + [f"once more: {line}" for line in self.terminal.bottoms[self._opened :] if _NEWLY.match(line)]
