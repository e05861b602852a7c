"""
The agent on a handset with two networks of the kernel's own, and a mail program beside it.
"""

from __future__ import annotations

import imaplib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mem_continuity.agent.status import ask
from tests.agent.process import ROOT, TWISTD
from tests.handover.programs import HandoverTestCase
from tests.support.certificates import certificate_pem


class RealNetworksCase(HandoverTestCase):
    """
    An agent on the handset.

    @ivar folder: with C{log}, and C{data} of the agent.
    """

    def setUp(self) -> None:
        super().setUp()
        self.start_server()
        self.folder = Path(tempfile.mkdtemp(prefix="agent-", dir="/tmp"))
        self.addCleanup(subprocess.run, ["rm", "-rf", str(self.folder)], check=True)
        (self.folder / "ca.pem").write_bytes(certificate_pem())
        server = f"tls:{self.host()}:{self.port}:authority={self.folder}/ca.pem:name=localhost"
        words = ["mem-continuity-agent", "--data", str(self.folder / "data"), "--server", server, "--verbose"]
        words += ["--network", self.wlan.interface, "--listen", "tcp:10143:interface=127.0.0.1"]
        self.log = (self.folder / "log").open("wb")
        self.addCleanup(self.log.close)
        self.agent = self.lab.popen(
            self.lab.handset,
            [*self.within(), sys.executable, "-c", TWISTD, "--nodaemon", "--pidfile=", *words],
            cwd=ROOT,
            stdout=self.log,
            stderr=self.log,
        )
        self.addCleanup(self.agent.wait, 10.0)
        self.addCleanup(self.agent.terminate)
        self.eventually_so(self.has_begun)

    def host(self) -> str:
        """
        The server's, as the agent is told.
        """
        return str(self.lab.server_address)

    def within(self) -> list[str]:
        """
        What the agent's command line begins with.
        """
        return []

    def has_begun(self) -> bool:
        try:
            return len(self.state()["networks"]) == 2
        except ValueError:  # it does not listen yet
            return False

    def state(self) -> dict[str, Any]:
        [account] = ask(self.folder / "data")["accounts"]
        found: dict[str, Any] = account
        return found

    def eventually_so(self, so: Callable[[], object]) -> None:
        until = time.monotonic() + 15.0
        while not so():
            if time.monotonic() > until:
                self.fail((self.folder / "log").read_text("utf-8"))
            time.sleep(0.02)

    def on(self, interface: str) -> bool:
        [one] = self.state()["connections"]
        return bool(one["network"] == interface and one["phase"] == "live")

    def program(self) -> imaplib.IMAP4:
        with self.lab.inside(self.lab.handset):
            made = imaplib.IMAP4("127.0.0.1", 10143, timeout=30)
        self.addCleanup(made.sock.close)
        self.addCleanup(made.file.close)
        made.login("joe", "secret")
        made.select()
        return made

    def fetch(self, program: imaplib.IMAP4, meanwhile: Callable[[], object] = lambda: None) -> bytes:
        """
        The big message.

        @param meanwhile: called when its first octets are there.
        """
        program.send(b"f1 FETCH 1 (RFC822)\r\n")
        while b"{" not in (line := program.readline()):
            pass
        size = int(line.rpartition(b"{")[2].rstrip(b"}\r\n"))
        heard = program.read(1000)
        meanwhile()
        heard += program.read(size - len(heard))
        while not program.readline().startswith(b"f1 OK"):
            pass
        return heard
