"""
Programs that wait for mail, each in a process of its own that says what it learns.

A line of JSON each, with C{event}: C{ready}; C{mail} with C{uid}, C{subject} and C{digest} (SHA-256 of the message); C{gone}
with C{uid}; C{flags} with C{uid} and C{flags}; C{final} with C{messages}, pairs of UID and flags, as it knows them; C{error} with
C{text}.  A line on stdin ends it.

Invariants: what it says has the time at which it was said; it is ended with the block.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.interop.programs.node_packages import find_command, packages
from tests.interop.programs.program import arguments
from tests.interop.programs.target import CHECKOUT, PATIENCE, ProgramFailed, Target, environment


@dataclass(frozen=True)
class Idler:
    """
    A program.

    @ivar command: what is run; the arguments of L{arguments} are put behind it.
    """

    name: str
    version: str
    command: tuple[str, ...]
    variables: Mapping[str, str]


def imapflow() -> Idler:
    """
    @raise NotInstalled: it is not here, and cannot be had.
    """
    script = CHECKOUT / "tests" / "interop" / "programs" / "node" / "imapflow_idle.cjs"
    place = packages()
    version = json.loads((place / "imapflow" / "package.json").read_text("utf-8"))["version"]
    return Idler("imapflow", version, (find_command("node"), str(script)), {"NODE_PATH": str(place)})


def aioimaplib() -> Idler:
    version = importlib.metadata.version("aioimaplib")
    return Idler("aioimaplib", version, (sys.executable, "-m", "tests.interop.programs.aioimaplib_idle"), {})


@dataclass(frozen=True)
class Told:
    """
    What it said.

    @ivar at: when, by C{time.monotonic}.
    """

    at: float
    words: Mapping[str, Any]


class Waiting:
    """
    A context manager: the program waits in INBOX.

    @ivar told: all that it said.
    """

    def __init__(
        self, idler: Idler, target: Target, folder: Path, within: Sequence[str] = (), *, patience: float = PATIENCE
    ) -> None:
        """
        @param patience: seconds for anything.
        """
        self.told: list[Told] = []
        self._patience = patience
        self._more = threading.Condition()
        self._ended = False
        folder.mkdir(parents=True, exist_ok=True)
        self._words = [*within, *idler.command, *arguments(target, folder)]
        self._variables = {**environment(folder), **idler.variables}
        self._errors = folder / "stderr"

    def __enter__(self) -> Waiting:
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self._variables,
                cwd=CHECKOUT,
                start_new_session=True,
            )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        try:
            self.wait_for(lambda one: one["event"] == "ready", "it does not begin")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        # Some commands run the program as a child of theirs.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._thread.join()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._more:
                self.told.append(Told(time.monotonic(), json.loads(line)))
                self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()

    def wait_for(self, so: Callable[[Mapping[str, Any]], object], what: str) -> Told:
        """
        Until it has said something.

        @param what: for the error.
        @raise ProgramFailed: it never did, or said that something is wrong.
        """
        until = time.monotonic() + self._patience
        with self._more:
            while True:
                for one in self.told:
                    if one.words["event"] == "error":
                        raise ProgramFailed(f"{what}: {one.words['text']}")
                    if so(one.words):
                        return one
                left = until - time.monotonic()
                if left <= 0:
                    raise ProgramFailed(f"{what}: not in {self._patience:.0f} seconds")
                if self._ended:
                    raise ProgramFailed(f"{what}: it has ended: {self._errors.read_text('utf-8', 'replace')[-2000:]}")
                self._more.wait(left)

    def finish(self) -> list[tuple[int, tuple[str, ...]]]:
        """
        Tell it that it is enough.

        @return: UIDs and flags, as it knows them.
        @raise ProgramFailed: it does not end in good order.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(b"enough\n")
        self._process.stdin.flush()
        final = self.wait_for(lambda one: one["event"] == "final", "it does not end")
        try:
            code = self._process.wait(self._patience)
        except subprocess.TimeoutExpired:
            raise ProgramFailed(f"it does not end in {self._patience:.0f} seconds") from None
        said = self._errors.read_text("utf-8", "replace")
        if code or said:
            errors = [one.words["text"] for one in self.told if one.words["event"] == "error"]
            raise ProgramFailed(f"it ends with exit status {code}: {errors} {said[-2000:]}")
        return [(uid, tuple(flags)) for uid, flags in final.words["messages"]]
