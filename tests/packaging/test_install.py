"""
Whatever way it is installed, C{twistd mem-continuity} is there and serves: from a wheel, from a source archive and
from an editable checkout.

The wheel goes into a virtual environment with nothing in it, so its declared dependencies are what it runs with.  The
other two are then installed in its place, without dependencies.  Nothing is built in the checkout itself: a copy is, so
that old build folders cannot help and nothing is left behind.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent.parent

NOT_SOURCE = (
    ".git",
    ".venv*",
    "*.egg-info",
    "build",
    "dist",
    "var",
    "_trial_temp*",
    "__pycache__",
    "*.pyc",
    ".hypothesis",
    ".*_cache",
    "dropin.cache",
)
"""What git ignores, and git's own folder."""

COMMAND_TIME = 240.0
"""Seconds for one command that may have to fetch something."""

START_TIME = 60.0
"""Seconds until a server that was started must greet, with the making of its certificate."""

STOP_TIME = 20.0
"""Seconds until a server must be gone after SIGTERM."""


def environment() -> dict[str, str]:
    """
    That of this process, without what would lead another Python back to this checkout.
    """
    hidden = ("PYTHONPATH", "PYTHONHOME", "PYTHONWARNINGS", "VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL")
    return {name: value for name, value in os.environ.items() if name not in hidden}


def run(command: Sequence[str | Path], where: Path) -> str:
    """
    Run a command to its end.

    @return: what it wrote.
    @raise AssertionError: it failed; the text has all that it wrote.
    """
    done = subprocess.run(
        list(map(str, command)),
        cwd=where,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_TIME,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


@dataclass(frozen=True)
class Built:
    """
    What was built of a copy of the checkout.

    @ivar work: a folder outside of the checkout, for everything that the tests make.
    @ivar copy: the copy of the checkout.
    @ivar unpacked: the source archive, unpacked.
    """

    work: Path
    copy: Path
    wheel: Path
    archive: Path
    unpacked: Path


@cache
def built() -> Built:
    """
    Build source archive and wheel (the wheel out of the archive, as C{build} does); once for all tests.
    """
    work = Path("packaging").resolve()
    copy, dist = work / "copy", work / "dist"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, copy], work)
    (wheel,) = dist.glob("*.whl")
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        # Python 3.11.2, which Debian 12 has, knows no filters.
        opened.extraction_filter = getattr(tarfile, "data_filter", None)
        opened.extractall(work / "unpacked")
    (unpacked,) = (work / "unpacked").iterdir()
    return Built(work, copy, wheel, archive, unpacked)


@cache
def clean_environment() -> Path:
    """
    A new virtual environment with the wheel and its dependencies, and nothing else; once for all tests.

    @return: its folder of commands.
    """
    folder = built().work / "venv"
    run([sys.executable, "-m", "venv", folder], built().work)
    pip(folder / "bin", built().wheel)
    return folder / "bin"


def pip(commands: Path, *arguments: str | Path) -> None:
    install: list[str | Path] = [commands / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    run([*install, *arguments], built().work)


def greeting(port: int) -> bytes | None:
    """
    The first line that a server on this port says over TLS; C{None} while nobody listens.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The certificate was made a moment ago and signs itself.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    except ConnectionRefusedError:
        return None
    with plain, context.wrap_socket(plain) as link, link.makefile("rb") as lines:
        return lines.readline()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Server:
    """
    A C{twistd mem-continuity} in a folder of its own.
    """

    def __init__(self, commands: Path, where: Path, port: int) -> None:
        self.port = port
        self.output = b""
        self.process = subprocess.Popen(
            [commands / "twistd", "--nodaemon", "--pidfile=", "mem-continuity", *self.options(where)],
            cwd=where,
            env=environment() | {"HOME": str(where)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def options(self, where: Path) -> list[str]:
        return ["--listen", f"tls:{self.port}:interface=127.0.0.1", "--maildir", str(where / "mail")]

    def read_output(self, wait: float) -> None:
        """
        Take what it has written, and wait at most so many seconds for that.
        """
        assert self.process.stdout is not None
        if select.select([self.process.stdout], [], [], wait)[0]:
            self.output += os.read(self.process.stdout.fileno(), 65536)

    def greeting(self) -> bytes:
        """
        Wait until it listens, and give its first line.
        """
        deadline = time.monotonic() + START_TIME
        while self.process.poll() is None and time.monotonic() < deadline:
            line = greeting(self.port)
            if line is not None:
                return line
            self.read_output(0.1)
        self.process.kill()
        raise AssertionError(f"no greeting, exit code {self.process.wait()}:\n{self.rest()}")

    def stop(self) -> int:
        """
        @return: its exit code after a SIGTERM.
        """
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_TIME)
        finally:
            self.process.kill()
            self.process.wait()

    def rest(self) -> str:
        """
        All that it ever wrote; call it when it is gone.
        """
        assert self.process.stdout is not None
        if not self.process.stdout.closed:
            with self.process.stdout as stream:
                self.output += stream.read()
        return self.output.decode("utf-8", "replace")


class ContentsTests(SynchronousTestCase):
    """
    What is in the archives.
    """

    timeout = 300

    def test_wheel(self) -> None:
        """
        The package, its type marker and the plugin; nothing that would hide Twisted, and no tests.
        """
        with zipfile.ZipFile(built().wheel) as opened:
            names = set(opened.namelist())
        for name in ("mem_continuity/__init__.py", "mem_continuity/py.typed", "mem_continuity/core/policy.py"):
            self.assertIn(name, names)
        copy = built().copy
        plugins = {str(path.relative_to(copy)) for path in (copy / "twisted" / "plugins").glob("*.py")}
        self.assertEqual({name for name in names if name.startswith("twisted/")}, plugins)
        tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
        self.assertEqual(tops, {"mem_continuity", "twisted"})

    def test_wheel_has_every_module(self) -> None:
        with zipfile.ZipFile(built().wheel) as opened:
            packed = {name for name in opened.namelist() if name.startswith("mem_continuity/")}
        copy = built().copy
        there = {str(path.relative_to(copy)) for path in (copy / "mem_continuity").rglob("*") if path.is_file()}
        self.assertEqual(packed, there)

    def test_source_archive_is_complete(self) -> None:
        """
        Everything of the checkout is in it: its tests, documents and measurements too.
        """
        with tarfile.open(built().archive) as opened:
            packed = {member.name.partition("/")[2] for member in opened if member.isfile()}
        copy = built().copy
        there = {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()}
        made = {name for name in packed | there if ".egg-info/" in name} | {"PKG-INFO", "setup.cfg"}
        self.assertEqual(sorted((packed ^ there) - made), [])

    def test_source_archive_can_run_tests(self) -> None:
        scratch = Path(self.mktemp()).resolve()
        trial: list[str | Path] = [sys.executable, "-m", "twisted.trial", "--temp-directory", scratch]
        said = run([*trial, "tests.test_layout.ImportsTests"], built().unpacked)
        self.assertIn("PASSED", said)


class InstallTests(SynchronousTestCase):
    """
    Installed and started in three ways.
    """

    timeout = 300

    def test_wheel(self) -> None:
        commands = clean_environment()
        run([commands / "python", "-m", "pip", "check"], built().work)
        pip(commands, "--force-reinstall", "--no-deps", built().wheel)
        self.check(commands)

    def test_source_archive(self) -> None:
        commands = clean_environment()
        pip(commands, "--force-reinstall", "--no-deps", built().archive)
        self.check(commands)

    def test_editable(self) -> None:
        commands = clean_environment()
        pip(commands, "--force-reinstall", "--no-deps", "--editable", built().unpacked)
        where = self.folder()
        said = run([commands / "python", "-c", "import mem_continuity; print(mem_continuity.__file__)"], where)
        self.assertEqual(said.strip(), str(built().unpacked / "mem_continuity" / "__init__.py"))
        self.check(commands)

    def folder(self) -> Path:
        """
        A new empty folder that is not within the checkout's path.
        """
        where = Path(self.mktemp()).resolve()
        where.mkdir(parents=True)
        return where

    def check(self, commands: Path) -> None:
        """
        The command helps, serves IMAP over TLS at its first start, and stops cleanly when it is told to.
        """
        where = self.folder()
        self.assertIn("--listen", run([commands / "twistd", "mem-continuity", "--help"], where))
        server = Server(commands, where, free_port())
        try:
            line = server.greeting()
        finally:
            code = server.stop()
            said = server.rest()
        self.assertTrue(line.startswith(b"* OK"), line)
        # Twisted shuts down in order, and then ends by the signal that it was told to end by.
        self.assertEqual(code, -signal.SIGTERM, said)
        self.assertIn("Server Shut Down", said)
        self.assertNotIn("Traceback", said)
