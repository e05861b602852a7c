"""
The agent, as its owner runs it: C{twistd mem-continuity-agent} in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.interop.servers import Rig, free_ports

ROOT = Path(__file__).parents[2]
TWISTD = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"
COMMAND = "import sys; from mem_continuity.agent.command import main; sys.exit(main())"


class AgentProcess(Rig):
    """
    An agent on loopback, with a folder of its own.

    @ivar ports: its listeners, in the order of C{--listen}.
    @ivar data: its folder for state.
    """

    name = "agent"

    def __init__(self, *options: str, listen: Sequence[str] = ("tcp",)) -> None:
        """
        @param options: more of the command line.
        @param listen: the first word of each C{--listen}: C{tls} or C{tcp}; none for an agent with a file of accounts.
        """
        super().__init__()
        self.data = self.folder / "data"
        self.make_certificate()
        self.ports = free_ports(len(listen))
        self._options = options
        self._listen = tuple(listen)

    @property
    def port(self) -> int:
        return self.ports[0]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}

    def command(self) -> list[str]:
        words = [sys.executable, "-W", "error::ResourceWarning", "-c", TWISTD, "--nodaemon", "--pidfile=", "mem-continuity-agent"]
        words += ["--data", str(self.data), "--certificate", str(self.certificate), "--verbose"]
        for kind, port in zip(self._listen, self.ports, strict=True):
            words += ["--listen", f"{kind}:{port}:interface={self.host}"]
        return [*words, *self._options]

    def ready(self) -> None:
        """
        It listens: its status can be asked.
        """
        if not self.data.joinpath("status.sock").exists():
            raise OSError("there is no status yet")
        self.status()

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """
        Run C{mem-continuity-agent status}.
        """
        command = [sys.executable, "-c", COMMAND, "status", "--data", str(self.data), *words]
        return subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=60, check=False)

    def status(self) -> dict[str, Any]:
        """
        What it tells of itself.

        @raise OSError: nothing.
        """
        done = self.ask("--json")
        if done.returncode:
            raise OSError(done.stderr)
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def server_of(port: int, authority: Path, kind: str = "tls") -> str:
    """
    The description of a server on this machine, for C{--server}.
    """
    return f"{kind}:localhost:{port}:authority={authority}"
