"""
Real servers as ordinary processes on loopback.

Invariants: a rig lives in one folder of its own, with a short path, for names of Unix sockets are bounded; it is a process
session of its own, so all its processes are known, and none is left when it was stopped; nothing on the machine is used but
its programs.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from mem_continuity.mailhost.certificate import make_certificate

HOST = "127.0.0.1"
PATIENCE = 20.0
"""Seconds for a start or a stop: the machine may be busy."""


class NotInstalled(Exception):
    """
    A program of the rig is missing; the text says which package has it.
    """


class RigFailed(Exception):
    """
    A rig does not start; the text has its log.
    """


def find_program(name: str, package: str) -> str:
    """
    Where a program is, C{/usr/sbin} included.

    @raise NotInstalled: nowhere.
    """
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
    if found is None:
        raise NotInstalled(f"{name} is not installed: apt-get install {package}")
    return found


def free_ports(count: int) -> list[int]:
    """
    Ports of loopback on which nothing listens.
    """
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def read_greeting(host: str, port: int, seconds: float = 5.0) -> bytes:
    """
    The first line that a server says by itself.

    @raise OSError: it cannot be reached, or says nothing.
    """
    with socket.create_connection((host, port), seconds) as connection:
        with connection.makefile("rb") as file:
            line = file.readline()
    if not line:
        raise ConnectionError(f"port {port} closed without a greeting")
    return line


def _parents_and_sessions() -> dict[int, tuple[int, int]]:
    """
    Of each process that is not a zombie: its parent and its process session.
    """
    found: dict[int, tuple[int, int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            words = Path("/proc", entry, "stat").read_bytes().rpartition(b") ")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if words[0] not in b"ZX":
            found[int(entry)] = int(words[1]), int(words[3])
    return found


def alive(pids: Iterable[int]) -> list[int]:
    """
    Those of the processes that still run.  One that only waits for its parent to notice its end does not.
    """
    return sorted(_parents_and_sessions().keys() & set(pids))


def _name_of(pid: int) -> str:
    try:
        return Path("/proc", str(pid), "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return ""


class Rig:
    """
    A program with its child processes, its folder and its log.

    @ivar name: for messages.
    @ivar folder: holds all it has; removed by L{close}.
    @ivar certificate: key and certificate of the server, if it has L{made one<make_certificate>}.
    @ivar authority: what its clients have to trust then; readable by all.
    @ivar lingering: names of processes that need not be waited for when they are the last.
    @ivar port: where it is reached first of all.
    """

    name = "rig"
    host = HOST
    lingering: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rig-", dir="/tmp"))
        self.folder.chmod(0o755)  # services drop their privileges, and have to get in
        self.log_file = self.folder / "log"
        self.certificate = self.folder / "tls.pem"
        self.authority = self.folder / "authority.pem"
        self._process: subprocess.Popen[bytes] | None = None
        self._known: set[int] = set()
        self._within: tuple[str, ...] = ()
        self._inside: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext

    def place(
        self, within: Sequence[str], inside: Callable[[], contextlib.AbstractContextManager[None]], host: str = HOST
    ) -> Self:
        """
        Let it run in another network namespace; before the start.

        @param within: what its command is put behind, such as C{ip netns exec NAME}.
        @param inside: brings this thread there, to look whether it serves.
        @param host: its address there.
        """
        self._within, self._inside, self.host = tuple(within), inside, host
        return self

    @property
    def port(self) -> int:
        raise NotImplementedError

    def command(self) -> list[str]:
        """
        Write the configuration, and say what to run.

        @raise NotInstalled: there is no such program here.
        """
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """
        Of its processes.
        """
        return dict(os.environ)

    def ready(self) -> None:
        """
        Look once whether it serves.

        @raise OSError: not yet.
        """
        read_greeting(self.host, self.port)

    def connect(self, port: int | None = None, seconds: float = 5.0) -> socket.socket:
        """
        A connection to it, with a timeout.

        @param port: another of its ports.
        """
        with self._inside():
            return socket.create_connection((self.host, self.port if port is None else port), seconds)

    def start(self) -> Self:
        """
        Run it, and wait until it serves.

        @raise RigFailed: it does not; with its log.
        @raise NotInstalled: there is no such program here.
        """
        if self._process is not None:
            raise RuntimeError(f"{self.name} runs already")
        command = [*self._within, *self.command()]
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                env=self.environment(),
                start_new_session=True,
            )
        until = time.monotonic() + PATIENCE
        while True:
            try:
                with self._inside():
                    self.ready()
                return self
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > until:
                    code = self._process.poll()
                    self.stop()
                    raise RigFailed(f"{self.name} does not serve ({error}; exit code {code}):\n{self.log()}") from None
            time.sleep(0.02)

    def stop(self) -> None:
        """
        End it with all its processes; nothing when it does not run.
        """
        process, self._process = self._process, None
        if process is None:
            return
        self.signal(signal.SIGCONT, self._members(process.pid))
        process.terminate()
        until = time.monotonic() + PATIENCE / 4
        while not {_name_of(one) for one in self._members(process.pid)} <= self.lingering and time.monotonic() < until:
            process.poll()
            time.sleep(0.01)
        self.signal(signal.SIGKILL, self._members(process.pid))
        process.wait(PATIENCE)

    def close(self) -> None:
        """
        Stop it, and forget all it had.
        """
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """
        The first of its processes.
        """
        if self._process is None:
            raise RuntimeError(f"{self.name} does not run")
        return self._process.pid

    def pids(self) -> list[int]:
        """
        All its processes at this moment.
        """
        return sorted(self._members(self._process.pid)) if self._process is not None else []

    def _members(self, first: int) -> set[int]:
        """
        The process, its descendants, and all of its process session, parents or not.
        """
        table = _parents_and_sessions()
        found = {pid for pid, (_, session) in table.items() if pid == first or session == first}
        while grown := {pid for pid, (parent, _) in table.items() if parent in found and pid not in found}:
            found |= grown
        return found

    def signal(self, number: signal.Signals, pids: Iterable[int]) -> None:
        """
        Send a signal to processes of it; those that ended meanwhile are passed over.
        """
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def pause(self) -> None:
        """
        Stop the clock of all its processes: it hangs, its connections stay.
        """
        self.signal(signal.SIGSTOP, self.pids())

    def cont(self) -> None:
        """
        Go on after L{pause}.
        """
        self.signal(signal.SIGCONT, self.pids())

    def log(self) -> str:
        """
        What it has logged and printed so far.
        """
        files = [one for one in (self.folder / "output", self.log_file) if one.exists()]
        return "".join(one.read_text("utf-8", "replace") for one in files)

    def wait_for_log(self, text: str, seconds: float = 5.0) -> None:
        """
        Wait until something is in the log.

        @raise AssertionError: it does not come.
        """
        until = time.monotonic() + seconds
        while text not in self.log():
            if time.monotonic() > until:
                raise AssertionError(f"{self.name} does not log {text!r}:\n{self.log()}")
            time.sleep(0.02)

    def make_certificate(self) -> None:
        """
        For C{localhost} and the loopback addresses, as L{certificate} and L{authority}.
        """
        make_certificate(self.certificate, datetime.datetime.now(datetime.UTC))
        _, begin, rest = self.certificate.read_text("ascii").partition("-----BEGIN CERTIFICATE-----")
        self.authority.write_text(begin + rest, "ascii")


class RealServer(Rig):
    """
    An IMAP server.

    @ivar users: passwords by name.
    @ivar imap_port: plain, with STARTTLS.
    @ivar imaps_port: TLS at once.
    """

    def __init__(self, users: dict[str, str]) -> None:
        super().__init__()
        self.users = users
        self.imap_port, self.imaps_port = free_ports(2)
        self.make_certificate()

    @property
    def port(self) -> int:
        return self.imap_port

    def sessions(self, user: str | None = None) -> list[int]:
        """
        The processes that have a logged-in connection each, of one user or of all, oldest first.
        """
        raise NotImplementedError

    def wait_for_sessions(self, count: int, user: str | None = None, seconds: float = 5.0) -> list[int]:
        """
        Wait until there are so many L{sessions}: a server may answer a login or a logout before it has noted it.

        @raise AssertionError: it does not come to that.
        """
        until = time.monotonic() + seconds
        while len(found := self.sessions(user)) != count:
            if time.monotonic() > until:
                raise AssertionError(f"{self.name} has {len(found)} sessions of {user}, not {count}:\n{self.log()}")
            time.sleep(0.02)
        return found

    def kill_session(self, user: str | None = None) -> int:
        """
        End the newest of L{sessions} as a crash would.

        @return: its process.
        @raise LookupError: there is none.
        """
        found = self.sessions(user)
        if not found:
            raise LookupError(f"{self.name} has no session of {user}")
        os.kill(found[-1], signal.SIGKILL)
        return found[-1]
