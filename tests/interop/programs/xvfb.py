"""
A screen that nobody sees, for programs with windows.

Invariants: the number of the display is chosen by the server itself, so that several run beside each other; it is reached by a
Unix socket with a name in the file system, from every network namespace.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from types import TracebackType
from typing import Self

from tests.interop.programs.program import NotInstalled
from tests.interop.programs.target import ProgramFailed

_PATIENCE = 20.0
"""Seconds for a start."""


class Xvfb:
    """
    The server.  A context manager.

    @ivar display: for the variable C{DISPLAY} of a program.
    """

    display: str

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """
        @raise NotInstalled: there is none on this machine.
        @raise ProgramFailed: it does not start.
        """
        if shutil.which("Xvfb") is None:
            raise NotInstalled("Xvfb is not installed: apt-get install xvfb")
        near, far = os.pipe()
        try:
            self._process = subprocess.Popen(
                ["Xvfb", "-displayfd", str(far), "-screen", "0", "1280x1024x24", "-nolisten", "tcp", "-noreset"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[far],
                start_new_session=True,
            )
            os.close(far)
            far = -1
            said = b""
            while not said.endswith(b"\n"):
                octets = os.read(near, 16) if select.select([near], [], [], _PATIENCE)[0] else b""
                if not octets:
                    raise ProgramFailed("Xvfb does not start")
                said += octets
            self.display = f":{int(said)}"
        except BaseException:
            self.close()
            raise
        finally:
            os.close(near)
            if far >= 0:
                os.close(far)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """
        End it.  Harmless when repeated.
        """
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
