"""
What the tests of L{tests.netlab.Lab} share: a lab for each test, bounded sockets, a bounded wait, a look at processes.

They need root, and fail without; there is nothing to be seen otherwise.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.netlab import Lab
from tests.netlab.namespaces import NETNS

TIMEOUT = 10.0
QUIET = 0.4
CHECKOUT = Path(__file__).resolve().parents[2]


def eventually(condition: Callable[[], bool], what: str) -> None:
    """
    Wait for a condition, but not for ever.
    """
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {TIMEOUT} s: {what}")
        select.select((), (), (), 0.01)


def namespaces_of(pid: int) -> list[str]:
    """
    The namespaces that a process made.
    """
    return [path.name for path in NETNS.iterdir() if path.name.startswith(f"mc-{pid}-")]


def children_of(parent: int, word: str) -> list[int]:
    """
    The living processes of a parent whose command line has a word.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, ppid = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if int(ppid) == parent and state != "Z" and word.encode() in words:
                    found.append(int(entry.name))
    return found


def is_alive(pid: int) -> bool:
    """
    Whether a process still runs; one that only waits to be reaped does not.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class LabTestCase(SynchronousTestCase):
    """
    A lab for each test, and what they do with it.
    """

    emulated: ClassVar[bool] = False

    def setUp(self) -> None:
        self.lab = Lab(emulated=self.emulated)
        self.addCleanup(self.lab.close)
        self.wlan, self.xg = self.lab.networks.values()

    def keep(self, one: socket.socket) -> socket.socket:
        """
        Bound in time, closed at the end.
        """
        one.settimeout(TIMEOUT)
        self.addCleanup(one.close)
        return one

    def listen(self, address: str = "") -> socket.socket:
        """
        On the server.
        """
        with self.lab.inside(self.lab.server):
            return self.keep(socket.create_server((address or self.lab.server_address, 0)))

    def connect(self, listener: socket.socket, source: str = "") -> tuple[socket.socket, socket.socket]:
        """
        From the handset; the connection's two ends, the handset's first.
        """
        with self.lab.inside(self.lab.handset):
            bound = (source, 0) if source else None
            handset = self.keep(socket.create_connection(listener.getsockname(), TIMEOUT, source_address=bound))
        return handset, self.keep(listener.accept()[0])

    def datagrams(self, source: str) -> tuple[socket.socket, socket.socket]:
        """
        Two UDP sockets, the handset's first; it is connected.
        """
        with self.lab.inside(self.lab.server):
            server = self.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            server.bind((self.lab.server_address, 0))
        with self.lab.inside(self.lab.handset):
            handset = self.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            handset.bind((source, 0))
        handset.connect(server.getsockname())
        return handset, server

    def receive(self, one: socket.socket, count: int) -> bytes:
        """
        Exactly so many octets.
        """
        received = b""
        while len(received) < count:
            data = one.recv(count - len(received))
            self.assertNotEqual(data, b"", "a FIN came instead of data")
            received += data
        return received
