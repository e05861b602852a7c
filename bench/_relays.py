"""
What the gateway is measured beside, each with its processes: Dovecot direct, Dovecot as a proxy, nginx's mail proxy, haproxy.

All of them end TLS for the same clients and speak plain IMAP to the same upstream on this machine.  Each is set up to work in one
process, Dovecot's login service in its "high-performance" mode, with connections enough.

Invariants: a relay's figures are its own processes', never the upstream's nor the clients'; every rig is closed, in whatever way
the bench ends.
"""

from __future__ import annotations

import imaplib
import resource
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench._process import ROOT, ServerProcess
from tests.interop.dovecot import Dovecot, DovecotProxy
from tests.interop.gateway import GatewayProcess
from tests.interop.peers import HAProxy, NginxMailProxy
from tests.interop.servers import HOST, Rig

_MANY = 12_000
_DOVECOT = f"""
default_vsz_limit = 4G
default_process_limit = {_MANY}
service imap-login {{
  service_count = 0
  process_min_avail = 1
  process_limit = 1
  client_limit = {_MANY}
}}
service anvil {{
  client_limit = {3 * _MANY}
}}
service auth {{
  client_limit = {3 * _MANY}
}}
service stats {{
  client_limit = {3 * _MANY}
}}
"""
_GATEWAY = {"sessions": 20000, "links-per-address": 20000, "sessions-per-user": 20000, "parked-per-user": 20000}
_TICK = 100.0


def raise_descriptors() -> None:
    """
    As many descriptors as may be, for this process and what it starts.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Helper(ServerProcess):
    """
    A process of the benches' own that is spoken to by lines of JSON.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        argv = [sys.executable, "-m", module, *arguments]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        self._buffer = b""
        try:
            self.port: int = self._answer()["port"]
        except BaseException:
            self.close()
            raise

    def ask(self, do: str, **arguments: Any) -> Any:
        """
        @raise RuntimeError: the process says that it failed.
        """
        answer = super().ask(do, **arguments)
        if "error" in answer:
            raise RuntimeError(f"{do}: {answer['error']}")
        return answer


class Stub(Helper):
    """
    A L{bench._stub}, with the attributes that rigs ask of what is behind them.

    @ivar users: any; the format takes the session's number.
    """

    authority = None
    users: dict[str, str] = {"user{0}": "secret"}  # noqa: RUF012

    def __init__(self, big: int, small: int) -> None:
        super().__init__("bench._stub", "--big", str(big), "--small", str(small))
        self.imap_port = self.port

    @property
    def connections(self) -> int:
        """
        How many there are.
        """
        found: int = self.ask("count")["connections"]
        return found


class _Nginx(NginxMailProxy):
    """
    With connections for 5,000 sessions, and TLS 1.3, which this version has to be told of.
    """

    def command(self) -> list[str]:
        words = super().command()
        assert self._directory is not None
        self._directory.socket.listen(_MANY)  # it takes five at a time, and a sixth would come again after a second
        config = self.folder / "nginx.conf"
        text = config.read_text("utf-8").replace("mail {\n", "mail {\n  ssl_protocols TLSv1.3;\n", 1)
        lines = ["  worker_connections 19000;" if "worker_connections" in line else line for line in text.splitlines()]
        config.write_text("\n".join(lines) + "\n", "utf-8")
        return words


class Relay:
    """
    One way to the mail.

    @ivar port: takes TLS.
    @ivar layer: its clients begin the layer.
    """

    def __init__(self, name: str, rig: Rig, port: int, layer: bool = False) -> None:
        self.name = name
        self.rig = rig
        self.port = port
        self.layer = layer

    @property
    def cpu(self) -> float:
        """
        Processor seconds so far, of all its processes, those included that have ended.
        """
        total = 0.0
        for pid in self.rig.pids():
            try:
                total += time.clock_gettime(_clock_of(pid))
                if pid == self.rig.pid:
                    fields = Path("/proc", str(pid), "stat").read_bytes().rpartition(b") ")[2].split()
                    total += (int(fields[13]) + int(fields[14])) / _TICK
            except OSError:
                continue  # it has ended meanwhile
        return total

    @property
    def memory(self) -> float:
        """
        Octets of memory of all its processes; what several share counts once (PSS).
        """
        total = 0
        for pid in self.rig.pids():
            try:
                lines = Path("/proc", str(pid), "smaps_rollup").read_text("ascii").splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total * 1024.0


def _clock_of(pid: int) -> int:
    """
    The number of another process's processor clock: see clock_getcpuclockid(3).
    """
    return (~pid << 3) | 2


class Bench:
    """
    The rigs of one bench, and the clients.  A context manager.
    """

    def __init__(self) -> None:
        raise_descriptors()
        self._stack = ExitStack()
        self.load = Helper("bench._load")

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.load.close()  # first: some relays wait for their clients
        self._stack.close()

    def stub(self, big: int, small: int) -> Stub:
        """
        An upstream that costs next to nothing.
        """
        return self._stack.enter_context(Stub(big, small))

    def dovecot(self, users: int, *sizes: int) -> Dovecot:
        """
        A real one: each user has a message of each size.
        """
        names = {f"user{number}": "secret" for number in range(users)}
        server = self._stack.enter_context(Dovecot(users=names, extra=_DOVECOT))
        for name, password in names.items():
            with imaplib.IMAP4(HOST, server.imap_port) as client:
                client.login(name, password)
                for size in sizes:
                    client.append("INBOX", "", None, b"Subject: bench\r\n\r\n" + (b"x" * 70 + b"\r\n") * (size // 72))
        return server

    def start(self, name: str, rig: Any, layer: bool = False) -> Relay:
        """
        Run a rig until the end of the bench, or until L{stop}.
        """
        self._stack.callback(rig.close)
        rig.start()
        return Relay(name, rig, rig.port if isinstance(rig, GatewayProcess) else rig.imaps_port, layer)

    @staticmethod
    def stop(relay: Relay) -> None:
        """
        Before the bench ends.
        """
        relay.rig.close()

    def haproxy(self, behind: Any) -> Relay:
        """
        Ends TLS, relays octets.
        """
        return self.start("haproxy", HAProxy(behind))

    def nginx(self, behind: Any) -> Relay:
        """
        Ends TLS and the login, relays octets.
        """
        return self.start("nginx", _Nginx(behind))

    def proxy(self, behind: Any) -> Relay:
        """
        Dovecot's: ends TLS and the login, relays octets.
        """
        return self.start("Dovecot as a proxy", DovecotProxy(behind, tls=False, extra=_DOVECOT))

    def gateway(self, behind: Any, layer: bool = False) -> Relay:
        """
        Ours.
        """
        options = [word for name, value in _GATEWAY.items() for word in (f"--{name}", str(value))]
        upstream = f"tcp:{HOST}:{behind.imap_port}"
        rig = GatewayProcess(upstream, *options)
        return self.start("gateway, layer on" if layer else "gateway", rig, layer)


