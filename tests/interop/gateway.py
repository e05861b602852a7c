"""
The gateway, as an operator runs it: C{twistd mem-continuity --upstream ...} in a process of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.interop.servers import Rig, free_ports, read_greeting

ROOT = Path(__file__).parents[2]
TWISTD = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"


class GatewayProcess(Rig):
    """
    A gateway on loopback, with a folder and a certificate of its own.

    @ivar ports: its listeners, in the order of C{--listen}.
    """

    name = "gateway"

    def __init__(self, upstream: str, *options: str, listen: Sequence[str] = ("tls",)) -> None:
        """
        @param upstream: for C{--upstream}.
        @param options: more of the command line.
        @param listen: the first word of each C{--listen}: C{tls} or C{tcp}.
        """
        super().__init__()
        self.make_certificate()
        self.ports = free_ports(len(listen))
        self._upstream = upstream
        self._options = options
        self._listen = tuple(listen)

    @property
    def port(self) -> int:
        return self.ports[0]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}

    def command(self) -> list[str]:
        words = [sys.executable, "-W", "error::ResourceWarning", "-c", TWISTD, "--nodaemon", "--pidfile=", "mem-continuity"]
        words += ["--data", str(self.folder / "data"), "--upstream", self._upstream, "--certificate", str(self.certificate)]
        for kind, port in zip(self._listen, self.ports, strict=True):
            words += ["--listen", f"{kind}:{port}:interface={self.host}"]
        return [*words, *self._options]

    def ready(self) -> None:
        """
        A TLS port says nothing by itself: it is enough that it lets us in.
        """
        for kind, port in zip(self._listen, self.ports, strict=True):
            if kind == "tls":
                with self.connect(port):
                    pass
            else:
                read_greeting(self.host, port)


def upstream_of(port: int, authority: Path, *, kind: str = "tls") -> str:
    """
    The description of a server on this machine, for C{--upstream}.

    @param kind: C{tls}, or another that the gateway knows.
    """
    return f"{kind}:localhost:{port}:authority={authority}"
