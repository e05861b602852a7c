"""
The bench's hold on a server process.

Invariants: it is ended by its own id, at the latest when the block is left; an answer is waited for, but not for ever.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.netlab import Lab
from tests.support.certificates import certificate_pem

ROOT = Path(__file__).resolve().parent.parent
_ANSWER = 60.0


class ServerProcess:
    """
    A L{bench._server}, on loopback or on a lab's server.
    """

    def __init__(
        self,
        mode: str,
        *,
        lab: Lab | None = None,
        messages: int = 10,
        size: int = 1000,
        tickets: bool = False,
        fast_open: bool = False,
        module: str = "bench._server",
    ) -> None:
        """
        @param mode: C{bare} or C{continuous}.
        @param size: octets of each message.
        @param module: another one with these options.
        """
        self.address = "127.0.0.1" if lab is None else lab.server_address
        argv = [sys.executable, "-m", module, "--mode", mode, "--address", self.address]
        argv += ["--messages", str(messages), "--size", str(size)]
        argv += ["--tickets"] * tickets + ["--fast-open"] * fast_open
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(certificate_pem())
            file.flush()
            argv += ["--pem", file.name]
            options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": ROOT}
            self._process = subprocess.Popen(argv, **options) if lab is None else lab.popen(lab.server, argv, **options)
            self._buffer = b""
            try:
                self.port: int = self._answer()["port"]
            except BaseException:
                self.close()
                raise

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            if not select.select([descriptor], (), (), _ANSWER)[0]:
                raise TimeoutError(f"the server process did not answer within {_ANSWER} s")
            octets = os.read(descriptor, 65536)
            if not octets:
                raise RuntimeError(f"the server process ended with code {self._process.wait(5)}")
            self._buffer += octets
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def ask(self, do: str, **arguments: Any) -> Any:
        """
        Have one of the methods of L{bench._server.Control} called.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        self._process.stdin.flush()
        return self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """
        End it.
        """
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(3)
