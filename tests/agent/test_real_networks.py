"""
The agent on a handset with two networks of the kernel's own: it watches them by itself, and the mail program notices nothing.
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
from tests.handover.server import big_message
from tests.support.certificates import certificate_pem


class RealNetworksTests(HandoverTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.start_server()
        self.folder = Path(tempfile.mkdtemp(prefix="agent-", dir="/tmp"))
        self.addCleanup(subprocess.run, ["rm", "-rf", str(self.folder)], check=True)
        (self.folder / "ca.pem").write_bytes(certificate_pem())
        server = f"tls:{self.lab.server_address}:{self.port}:authority={self.folder}/ca.pem:name=localhost"
        words = ["mem-continuity-agent", "--data", str(self.folder / "data"), "--server", server, "--verbose"]
        words += ["--network", self.wlan.interface, "--listen", "tcp:10143:interface=127.0.0.1"]
        self.log = (self.folder / "log").open("wb")
        self.addCleanup(self.log.close)
        self.agent = self.lab.popen(
            self.lab.handset,
            [sys.executable, "-c", TWISTD, "--nodaemon", "--pidfile=", *words],
            cwd=ROOT,
            stdout=self.log,
            stderr=self.log,
        )
        self.addCleanup(self.agent.wait, 10.0)
        self.addCleanup(self.agent.terminate)
        self.eventually_so(lambda: (self.folder / "data" / "status.sock").exists())
        self.eventually_so(lambda: len(self.state()["networks"]) == 2)

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

    def test_a_network_goes_and_comes(self) -> None:
        """
        In the middle of a FETCH: the session follows what the kernel tells of networks, away from one and back to it.
        """
        program = self.program()
        self.eventually_so(lambda: self.on(self.wlan.interface))
        self.assertEqual(self.fetch(program, self.wlan.detach), big_message())
        self.eventually_so(lambda: self.on(self.xg.interface))
        self.assertEqual(self.fetch(program, self.wlan.attach), big_message())
        self.eventually_so(lambda: self.on(self.wlan.interface))
        self.assertEqual([one["handovers"] for one in self.state()["connections"]], [2])
        self.assertEqual(program.logout()[0], "BYE")

    def test_a_network_falls_silent(self) -> None:
        """
        Nobody tells of it: the session is on the other within seconds.
        """
        program = self.program()
        self.eventually_so(lambda: self.on(self.wlan.interface))
        self.assertEqual(self.fetch(program, self.wlan.silence), big_message())
        self.eventually_so(lambda: self.on(self.xg.interface))
        self.assertEqual(program.noop()[0], "OK")

    def test_no_network_at_all(self) -> None:
        """
        For a while: the program waits, and its command is answered when there is one again.
        """
        program = self.program()
        self.xg.detach()
        self.wlan.detach()
        program.send(b"n1 NOOP\r\n")
        self.eventually_so(lambda: self.state()["connections"][0]["phase"] == "away")
        self.xg.attach()
        self.assertEqual(program.readline(), b"n1 OK NOOP No operation performed\r\n")
        self.assertEqual(self.state()["connections"][0]["network"], self.xg.interface)
