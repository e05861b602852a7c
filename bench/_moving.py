"""
The ground of L{bench.switch}: a handset with two networks and an agent, a server, and what happens to the networks.

Invariants: every ride begins with the networks as its case wants them, and the agent knows them so; both networks have the same
round trip and rate, so that what differs is the switch.
"""

from __future__ import annotations

import fcntl
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench._mail_program import Program, dial
from bench._mptcp import PathManager
from bench._process import ROOT, ServerProcess
from bench._switch_server import IPPROTO_MPTCP
from mem_continuity.agent.status import ask
from tests.agent.process import TWISTD
from tests.netlab import Lab, Network, Shape
from tests.support.certificates import certificate_pem

_RATE = 20e6
_QUEUE = 1 << 20
_BODY = 2_000_000_000
_MESSAGES = 10
_PATIENCE = 15.0
_LOOK = 0.01
_JOINED = 0.1
"""Seconds, beyond its three round trips, until a subflow is surely there: before that its predecessor is not made a backup."""
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


class Case(Enum):
    """
    What happens.
    """

    PLANNED = "planned"
    """A better network is attached, the one in use goes on working."""
    GONE = "gone"
    """The one in use is detached, the other was there all the time."""
    REPLACED = "replaced"
    """The one in use is detached; then the other one is attached."""
    SILENT = "silent"
    """The one in use falls silent, and nothing tells of it; the other is there."""

    @property
    def attached(self) -> list[str]:
        """
        The networks at the beginning, the better one first.
        """
        return {Case.PLANNED: ["xg"], Case.REPLACED: ["wlan"]}.get(self, ["wlan", "xg"])

    @property
    def leads_to(self) -> str:
        """
        The network in the end.
        """
        return "wlan" if self is Case.PLANNED else "xg"


class Agent:
    """
    C{twistd mem-continuity-agent} on the handset.
    """

    def __init__(self, lab: Lab, server_port: int, port: int, prepare: bool) -> None:
        self.port = port
        self.folder = Path(tempfile.mkdtemp(prefix="switch-", dir="/tmp"))  # short: there is a socket in it
        authority = self.folder / "ca.pem"
        authority.write_bytes(certificate_pem())
        server = f"tls:{lab.server_address}:{server_port}:authority={authority}:name=localhost"
        words = ["mem-continuity-agent", "--data", str(self.folder / "data"), "--server", server, "--verbose"]
        words += ["--network", "wlan", "--network", "xg", "--listen", f"tcp:{port}:interface=127.0.0.1"]
        words += ["--prepare"] * prepare
        command = [sys.executable, "-c", TWISTD, "--nodaemon", "--pidfile=", *words]
        with (self.folder / "log").open("wb") as log:
            self.process = lab.popen(lab.handset, command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        self.wait_for(lambda: (self.folder / "data" / "status.sock").exists(), "it starts")

    def state(self) -> dict[str, Any]:
        """
        Its account, as it describes it.
        """
        [account] = ask(self.folder / "data")["accounts"]
        found: dict[str, Any] = account
        return found

    def wait_for(self, so: Callable[[], object], what: str) -> None:
        """
        @raise RuntimeError: it is not so in time.
        """
        until = time.monotonic() + _PATIENCE
        while not so():
            if time.monotonic() > until:
                log = (self.folder / "log").read_text("utf-8").splitlines()[-20:]
                raise RuntimeError("\n".join([f"waited in vain until {what}; the agent's log:", *log]))
            time.sleep(_LOOK)

    def wait_until_ready(self, networks: list[str]) -> None:
        """
        Until it has no session and knows what networks there are.
        """
        self.wait_for(lambda: not self.state()["connections"], "the session before is over")
        self.wait_for(lambda: self.state()["networks"] == networks, f"it knows {networks}")

    def wait_until_on(self, network: str) -> None:
        """
        Until its one session is there.
        """
        self.wait_for(lambda: self._stand() == ("live", network), f"the session is on {network}")

    def _stand(self) -> tuple[str, str] | None:
        found = self.state()["connections"]
        return (found[0]["phase"], found[0]["network"]) if len(found) == 1 else None

    def close(self) -> None:
        """
        End it, remove its folder.
        """
        self.process.terminate()
        self.process.wait(5)
        shutil.rmtree(self.folder)


class Ground:
    """
    All of it, at one round trip.  A context manager.

    @ivar round_trip: seconds, of both networks.
    @ivar lab: the two machines.
    @ivar agents: those that there are, by whether they keep a link prepared.
    @ivar bare: the server without the layer.
    @ivar server: the one with it.
    @ivar managing: sets MPTCP up.
    """

    def __init__(self, round_trip_ms: int, agents: Iterable[bool]) -> None:
        """
        @param agents: for each agent, whether it keeps a link prepared.
        """
        self.round_trip = round_trip_ms / 1000
        shape = Shape(delay_ms=round_trip_ms / 2, rate=_RATE, queue=_QUEUE)
        with ExitStack() as stack:
            self.lab = stack.enter_context(Lab(emulated=True, wlan=shape, xg=shape))
            self.bare, self.server = (stack.enter_context(self._server(mode)) for mode in ("bare", "continuous"))
            self.agents: dict[bool, Agent] = {}
            for prepare in agents:
                self.agents[prepare] = Agent(self.lab, self.server.port, 10143 + prepare, prepare)
                stack.callback(self.agents[prepare].close)
            self.managing = PathManager(self.lab)
            self._context = ssl.create_default_context(cadata=certificate_pem().decode("ascii"))
            self._stack = stack.pop_all()

    def _server(self, mode: str) -> ServerProcess:
        return ServerProcess(mode, lab=self.lab, messages=_MESSAGES, size=_BODY, module="bench._switch_server")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._stack.close()

    def prepare(self, case: Case) -> None:
        """
        Put the networks back to where a case begins.
        """
        for name, network in self.lab.networks.items():
            network.restore()
            network.attach() if name in case.attached else network.detach()
        for agent in self.agents.values():
            agent.wait_until_ready(case.attached)
        time.sleep(2 * self.round_trip + 0.1)  # what was under way is gone

    def happen(self, case: Case, mptcp: bool, backup: bool = False) -> float:
        """
        Let it happen.

        @param mptcp: a network manager tells the kernel's MPTCP of it.
        @param backup: and wants one network used at a time.
        @return: since when the program waits: for REPLACED, when the new network is usable, else when it began.
        """
        networks, begun = self.lab.networks, time.monotonic()
        if case is Case.SILENT:
            networks["wlan"].silence()
        elif case is Case.PLANNED:
            networks["wlan"].attach()
            if mptcp:
                self.managing.add(networks["wlan"])
            if mptcp and backup:
                time.sleep(3 * self.round_trip + _JOINED)
                self.managing.demote(networks["xg"])
        else:
            self._pull(networks["wlan"])
            networks["wlan"].detach()
            if mptcp:
                self.managing.remove(networks["wlan"])
            if case is Case.REPLACED:
                networks["xg"].attach()
                begun = time.monotonic()
                if mptcp:
                    self.managing.add(networks["xg"])
        return begun

    def _pull(self, network: Network) -> None:
        """
        Take its interface down without a process of C{ip}, which takes milliseconds to begin.
        """
        name = network.interface.encode()
        with self.lab.inside(self.lab.handset), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            found = fcntl.ioctl(asking, _SIOCGIFFLAGS, struct.pack("16sH14x", name, 0))
            flags: int = struct.unpack_from("H", found, 16)[0]
            fcntl.ioctl(asking, _SIOCSIFFLAGS, struct.pack("16sH14x", name, flags & ~_IFF_UP))

    # Programs

    def by_agent(self, prepare: bool) -> Program:
        """
        A program that knows of 127.0.0.1 alone.
        """
        with self.lab.inside(self.lab.handset):
            made = dial("127.0.0.1", self.agents[prepare].port)
        return made.greeted().log_in()

    def direct(self, network: str, mptcp: bool = False) -> Program:
        """
        A program that talks to the server itself, under TLS.
        """
        with self.lab.inside(self.lab.handset):
            way = self.lab.networks[network]
            made = dial(way.reach, self.bare.port, way, IPPROTO_MPTCP if mptcp else 0)
        return made.secure(self._context).greeted().log_in()
