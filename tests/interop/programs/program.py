"""
What all mail programs have in common for a test.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from tests.interop.programs.result import Mailboxes, Result, read_index
from tests.interop.programs.target import CHECKOUT, Target, execute


class NotInstalled(Exception):
    """
    A program is missing; the text says how to get it.
    """


class Program:
    """
    A mail program.

    @cvar name: of the program.
    @cvar needs: what is run, and the Debian package that has it.
    @cvar misses: the fixture's mailboxes that it cannot name, through a fault of its own.
    @cvar alters: it does not keep all messages octet by octet, but writes some anew.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, str] | None] = None
    misses: ClassVar[tuple[str, ...]] = ()
    alters: ClassVar[bool] = False

    patience: float | None = None
    """Seconds for a run of the program; None for what L{execute} has."""

    def check(self) -> None:
        """
        @raise NotInstalled: something that it needs is not here.
        """
        if self.needs is not None and shutil.which(self.needs[0]) is None:
            raise NotInstalled(f"{self.name} is not installed: apt-get install {self.needs[1]}")

    def synchronise(self, target: Target, folder: Path, within: Sequence[str] = ()) -> Mailboxes:
        """
        Bring what the server has, then change things on the server, as far as the program can.

        @param folder: an empty folder for all that the program keeps.
        @param within: see L{execute}.
        @return: what it brought.
        @raise ProgramFailed: it did not work.
        """
        raise NotImplementedError

    def bring(self, target: Target, folder: Path, within: Sequence[str] = ()) -> Mailboxes:
        """
        Only bring what the server has.

        @param folder: for all that the program keeps; empty, or as the program itself has left it.
        @return: see L{brought}.
        @raise ProgramFailed: it did not work.
        """
        raise NotImplementedError

    def brought(self, folder: Path) -> Mailboxes:
        """
        What the program has brought so far, also one that failed.
        """
        raise NotImplementedError

    def run(
        self, target: Target, folder: Path, within: Sequence[str] = (), look: Callable[[], Mailboxes] | None = None
    ) -> Result:
        """
        One whole run.

        @param look: tells what the server has afterwards.  The default goes the way that the program went.
        @raise ProgramFailed: it did not work.
        @raise NotInstalled: something that it needs is not here.
        """
        self.check()
        folder.mkdir(parents=True, exist_ok=True)
        brought = self.synchronise(target, folder, within)
        if look is not None:
            return Result(brought, look())
        return Result(brought, inventory(target, folder / "inventory", within))


def inventory(target: Target, folder: Path, within: Sequence[str] = ()) -> Mailboxes:
    """
    What a server has, all of it, by a process of its own.

    @param folder: for files in between.
    @raise ProgramFailed: it could not be read.
    """
    return run_script("tests.interop.programs.inventory", target, folder, within)


def run_script(module: str, target: Target, folder: Path, within: Sequence[str] = ()) -> Mailboxes:
    """
    Run a module as a process, with the target as its arguments (see L{target_of}), and read the index that it writes.

    @raise ProgramFailed: it did not work.
    """
    folder.mkdir(parents=True, exist_ok=True)
    execute([sys.executable, "-m", module, *arguments(target, folder)], folder, within=within, cwd=CHECKOUT)
    return read_index(folder)


def arguments(target: Target, folder: Path) -> list[str]:
    """
    For a script: host, port, the PEM file or nothing, user, password, folder.
    """
    return [target.host, str(target.port), str(target.authority or ""), target.user, target.password, str(folder)]


def target_of(words: Sequence[str]) -> tuple[Target, Path]:
    """
    In a script: what L{arguments} made.
    """
    host, port, authority, user, password, folder = words
    return Target(host, int(port), Path(authority) if authority else None, user, password), Path(folder)
