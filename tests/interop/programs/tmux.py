"""
A program on a terminal, with somebody who types and looks: tmux, with a server of its own.

Invariants: the server listens on a socket in a folder of its own, and is gone with all that runs in it when the block ends; the
screen is looked at each time that something was written to it, so what is there for a moment is seen too.
"""

from __future__ import annotations

import contextlib
import queue
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from tests.interop.programs.target import PATIENCE, ProgramFailed, environment

_CONFIG = """
set -g status off
set -g remain-on-exit on
set -g default-terminal screen
set -g exit-empty off
"""

_PAUSE = 0.02
"""Seconds between two looks, at least."""


class Terminal:
    """
    A context manager: the program runs in it.

    @ivar screen: the lines as they stand now.
    @ivar shown: each line that was ever seen, with the time (C{time.monotonic}) when it was first seen.
    @ivar bottoms: what stood in the last line, one after the other.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        within: Sequence[str] = (),
        *,
        columns: int = 110,
        rows: int = 36,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """
        @param folder: home of the program.
        @param within: what the command is put behind, such as C{ip netns exec NAME}.
        @param variables: more of its environment.
        """
        self.screen: tuple[str, ...] = ()
        self.shown: dict[str, float] = {}
        self.bottoms: list[str] = []
        self._command = [*within, *command]
        self._folder = folder
        self._size = columns, rows
        self._environment = {**environment(folder), **(variables or {})}
        self._answers: queue.SimpleQueue[list[str] | None] = queue.SimpleQueue()
        self._asking = threading.Lock()
        self._looked = threading.Condition()
        self._written = threading.Event()
        self._closed = False

    def __enter__(self) -> Terminal:
        # A socket's path has little room.
        self._place = Path(tempfile.mkdtemp(prefix="tmux-"))
        try:
            (self._place / "conf").write_text(_CONFIG, "ascii")
            columns, rows = self._size
            words = ["-f", str(self._place / "conf"), "new-session", "-d", "-x", str(columns), "-y", str(rows)]
            self._run([*words, "-c", str(self._folder), f"exec {shlex.join(self._command)}"])
            self._control = subprocess.Popen(
                [*self._tmux(), "-C", "attach"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._environment,
            )
        except BaseException:
            self._remove()
            raise
        assert self._control.stdin is not None and self._control.stdout is not None
        self._to: IO[bytes] = self._control.stdin
        self._from: IO[bytes] = self._control.stdout
        self._threads = [threading.Thread(target=one, daemon=True) for one in (self._read, self._look_on)]
        for thread in self._threads:
            thread.start()
        self._written.set()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self._closed = True
        self._remove()
        self._written.set()
        for thread in self._threads:
            thread.join(10.0)
        with contextlib.suppress(BrokenPipeError):
            self._to.close()
        self._from.close()
        self._control.wait(10.0)

    def _remove(self) -> None:
        with contextlib.suppress(ProgramFailed):
            self._run(["kill-server"])
        shutil.rmtree(self._place, ignore_errors=True)

    def _tmux(self) -> list[str]:
        return ["tmux", "-S", str(self._place / "socket")]

    def _run(self, words: Sequence[str]) -> None:
        done = subprocess.run(
            [*self._tmux(), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self._environment,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode:
            raise ProgramFailed(f"tmux {words}: {done.stderr}")

    # Control mode: blocks that begin and end with the same number are answers, everything else says what has happened.

    def _read(self) -> None:
        answer: list[str] = []
        end: tuple[str, str] | None = None
        for octets in self._from:
            line = octets.decode("utf-8", "replace").rstrip("\r\n")
            word, _, rest = line.partition(" ")
            if end is not None:
                if line in end:
                    end = None
                    if rest.endswith(" 1"):
                        self._answers.put(answer)
                else:
                    answer.append(line)
            elif word == "%begin":
                answer, end = [], (f"%end {rest}", f"%error {rest}")
            elif word in ("%output", "%extended-output"):
                self._written.set()
        self._answers.put(None)

    def _ask(self, words: str) -> list[str]:
        with self._asking:
            try:
                self._to.write(words.encode("ascii") + b"\n")
                self._to.flush()
                answer = self._answers.get(timeout=PATIENCE)
            except (OSError, ValueError, queue.Empty) as error:
                raise ProgramFailed(f"tmux does not answer: {error}") from None
        if answer is None:
            self._answers.put(None)
            raise ProgramFailed("tmux has ended")
        return answer

    def _look_on(self) -> None:
        with contextlib.suppress(ProgramFailed):
            while not self._closed:
                self._written.wait(0.5)
                self._written.clear()
                self._look()
                time.sleep(_PAUSE)
        with self._looked:
            self._looked.notify_all()

    def _look(self) -> None:
        lines = tuple(line.rstrip() for line in self._ask("capture-pane -p"))
        with self._looked:
            self.screen = lines
            now = time.monotonic()
            for line in lines:
                self.shown.setdefault(line, now)
            bottom = lines[-1] if lines else ""
            if bottom and self.bottoms[-1:] != [bottom]:
                self.bottoms.append(bottom)
            self._looked.notify_all()

    # What a person does

    def press(self, *keys: str) -> None:
        """
        Press keys by their names: C{Enter}, C{Escape}, C{C-c}.
        """
        self._ask(f"send-keys {' '.join(keys)}")

    def type(self, text: str) -> None:
        """
        Type a text of ASCII characters.
        """
        self._ask("send-keys -H " + " ".join(f"{octet:x}" for octet in text.encode("ascii")))

    def wait_until(self, so: Callable[[str], object], what: str, patience: float = PATIENCE) -> float:
        """
        Look until something is so.

        @param so: is given the whole screen.
        @param what: for the error.
        @return: the time when it was.
        @raise ProgramFailed: it never was; the text has the screen.
        """
        until = time.monotonic() + patience
        with self._looked:
            while not so("\n".join(self.screen)):
                left = until - time.monotonic()
                if left <= 0 or self._closed:
                    raise ProgramFailed(f"{what}: not in {patience:.0f} seconds; the terminal has\n" + "\n".join(self.screen))
                self._looked.wait(min(left, 1.0))
            return time.monotonic()

    def wait_for(self, pattern: str, patience: float = PATIENCE) -> float:
        """
        Look until a regular expression is found on the screen; see L{wait_until}.
        """
        return self.wait_until(re.compile(pattern, re.MULTILINE).search, f"no {pattern!r}", patience)

    @property
    def ended(self) -> bool:
        """
        The program has ended.
        """
        return self._ask("display-message -p '#{pane_dead}'") == ["1"]
