"""
C{twistd mem-continuity-agent} and C{mem-continuity-agent}: options, the first start, and how they fail.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.agent.accounts import AccountSpec
from mem_continuity.agent.status import in_words, socket_path
from mem_continuity.agent.tap import Options
from mem_continuity.core.policy import AgentPolicy, limits_of
from tests.agent.process import COMMAND, ROOT, TWISTD, AgentProcess
from tests.interop.servers import free_ports, read_greeting

_SERVER = "tls:imap.example.org"


class OptionsTests(SynchronousTestCase):
    """
    Reading the command line.
    """

    def read(self, *words: str) -> Options:
        options = Options()
        options.parseOptions(list(words))
        return options

    def test_defaults(self) -> None:
        options = self.read("--server", _SERVER)
        self.assertEqual(options["policy"], AgentPolicy())
        [spec] = options["accounts"]
        self.assertEqual((spec.name, spec.listen), ("imap.example.org", ("tcp:10143:interface=127.0.0.1",)))

    def test_one_account(self) -> None:
        words = ["--listen", "tcp:1", "--listen", "unix:x", "--network", "wlan*", "--metered", "wwan*", "--ignored", "docker*"]
        [spec] = self.read("--server", _SERVER, *words, "--client-id", "UUID/23", "--prepare")["accounts"]
        wanted = AccountSpec(
            "imap.example.org",
            spec.server,
            ("tcp:1", "unix:x"),
            ("wlan*",),
            ("wwan*",),
            ("docker*",),
            (b"UUID", b"23"),
            True,
        )
        self.assertEqual(spec, wanted)

    def test_every_limit_is_an_option(self) -> None:
        for limit in limits_of(AgentPolicy):
            value = type(limit.default)(limit.least + 1)
            options = self.read("--server", _SERVER, f"--{limit.name.replace('_', '-')}", str(value))
            self.assertEqual(getattr(options["policy"], limit.name), value)

    def test_mistakes(self) -> None:
        file = Path(self.mktemp())
        file.write_text('[accounts.a]\nserver = "tls:a.example"\n', "utf-8")
        for words, said in (
            ([], "name the mail server: --server"),
            (["--server", _SERVER, "--accounts", str(file)], "name the mail server: --server"),
            (["--server", "unix:/x"], "--server: 'unix:/x': a socket of this host"),
            (["--server", _SERVER, "--client-id", "x"], "--client-id: a client ID is TYPE/VALUE"),
            (["--server", _SERVER, "--keep-warm", "soon"], "--keep-warm must be a number of seconds"),
            (["--server", _SERVER, "--keep-warm", "-1"], "--keep-warm is -1.0"),
            (["--server", _SERVER, "--nope"], "not recognized"),
            (["--accounts", "/nowhere/at all"], "cannot be read"),
            (["--accounts", str(file), "--listen", "tcp:1"], "--listen is said in the file of --accounts"),
            (["--accounts", str(file), "--prepare"], "--prepare is said in the file of --accounts"),
        ):
            error = self.assertRaises(SystemExit, self.read, *words)
            self.assertIn(said, str(error))
            self.assertTrue(str(error).startswith("twistd mem-continuity-agent: "), error)
            self.assertNotIn("\n", str(error))

    def test_found_by_twistd(self) -> None:
        from twisted.application.service import IServiceMaker

        self.assertIn("mem-continuity-agent", [one.tapname for one in getPlugins(IServiceMaker)])


class ProcessTests(SynchronousTestCase):
    """
    As it is run.
    """

    timeout = 60

    def twistd(self, *words: str) -> tuple[int, str]:
        """
        Run it to its end.
        """
        command = [sys.executable, "-c", TWISTD, "--nodaemon", "--pidfile="]
        done = subprocess.run(
            [*command, "mem-continuity-agent", *words],
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        return done.returncode, done.stderr

    def test_first_start(self) -> None:
        """
        What it needs it makes, for the owner alone; it is kept, and the socket is gone at the end.
        """
        with AgentProcess("--server", f"tcp:localhost:{free_ports(1)[0]}", "--listen", "unix:program.sock") as agent:
            with socket.socket(socket.AF_UNIX) as program:
                program.connect(str(agent.folder / "program.sock"))
                self.assertTrue(program.recv(100).startswith(b"* BYE [UNAVAILABLE] "))
            self.assertEqual(agent.data.stat().st_mode & 0o777, 0o700)
            kept = (agent.data / "client-ids.json").read_bytes()
            self.assertEqual(socket_path(agent.data).stat().st_mode & 0o777, 0o600)
            self.assertTrue(read_greeting("127.0.0.1", agent.port).startswith(b"* BYE [UNAVAILABLE] the mail server cannot be"))
            again = self.twistd("--data", str(agent.data), "--server", _SERVER)
            self.assertEqual(again[0], 1)
            self.assertIn("is in use by another process", again[1])
            agent.stop()
            self.assertFalse(socket_path(agent.data).exists())
            self.assertIn("no agent runs with the folder", agent.ask().stderr)
            self.assertEqual(agent.ask().returncode, 1)
            agent.start()
            self.assertEqual((agent.data / "client-ids.json").read_bytes(), kept)
            self.assertNotIn("Traceback", agent.log())

    def test_no_status(self) -> None:
        """
        Something that is no socket has its name: that is said, and mail goes on.
        """
        agent = AgentProcess("--server", f"tcp:localhost:{free_ports(1)[0]}")
        self.addCleanup(agent.close)
        (agent.data / "status.sock" / "x").mkdir(0o700, parents=True)
        agent.data.chmod(0o700)
        self.patch(agent, "ready", lambda: read_greeting("127.0.0.1", agent.port))
        agent.start()
        agent.wait_for_log("Nobody can ask how it stands: ")
        self.assertNotIn("Traceback", agent.log())

    def test_a_terminal_is_closed(self) -> None:
        """
        It stops in good order, as at a SIGTERM.
        """
        with AgentProcess("--server", f"tcp:localhost:{free_ports(1)[0]}") as agent:
            os.kill(agent.pid, signal.SIGHUP)
            agent.wait_for_log("Server Shut Down")
            self.assertFalse(socket_path(agent.data).exists())
            self.assertNotIn("Traceback", agent.log())

    def test_several_accounts(self) -> None:
        """
        From a file: each has its own port and client ID, and the status tells of each.
        """
        ports = free_ports(3)
        agent = AgentProcess("--accounts", "accounts.toml", listen=())
        self.addCleanup(agent.close)
        (agent.folder / "accounts.toml").write_text(
            "".join(
                f'[accounts.{name}]\nserver = "tcp:localhost:{ports[2]}"\nlisten = "tcp:{port}:interface=127.0.0.1"\n'
                for name, port in zip("ab", ports, strict=False)
            ),
            "utf-8",
        )
        agent.start()
        for port in ports[:2]:
            self.assertTrue(read_greeting("127.0.0.1", port).startswith(b"* BYE [UNAVAILABLE]"))
        found = agent.status()["accounts"]
        told = [(one["account"], one["networks"], one["connections"]) for one in found]
        self.assertEqual(told, [("a", ["default"], []), ("b", ["default"], [])])
        words = agent.ask().stdout
        self.assertIn(f"b: tcp:localhost:{ports[2]}, networks: default\n  no mail program is connected\n", words)

    def test_one_line(self) -> None:
        """
        What cannot be had is said in one line, with status 1.
        """
        data = tempfile.mkdtemp(prefix="agent-", dir="/tmp")  # short, wherever the checkout is: a socket's name has little room
        self.addCleanup(shutil.rmtree, data, ignore_errors=True)
        theirs = Path(data, "theirs")
        theirs.mkdir()
        theirs.chmod(0o775)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            for words, said in (
                (["--listen", f"tcp:{port}:interface=127.0.0.1"], "Address already in use; choose another with --listen"),
                (["--listen", "nope:1"], "listen nope:1: this is no server endpoint"),
                (["--network", "x" * 100], "is no pattern of device names"),
                (["--certificate", "/nowhere"], "the certificate /nowhere cannot be read"),
                (["--data", "/dev/null/x"], "cannot be written"),
                (["--data", str(theirs)], f"can be written by others; take that right from them: chmod go-w {theirs}"),
                (["--data", str(Path(data).absolute() / ("x" * 100))], "is too long for a socket in it"),
            ):
                status, error = self.twistd("--data", data, "--server", _SERVER, *words)
                self.assertEqual(status, 1, error)
                self.assertIn(said, error)
                self.assertTrue(error.startswith("twistd mem-continuity-agent: "), error)
                self.assertEqual(error.count("\n"), 1, error)

    def test_help(self) -> None:
        """
        Both say what they are for.
        """
        for command in ([TWISTD, "mem-continuity-agent", "--help"], [COMMAND, "status", "--help"]):
            done = subprocess.run(
                [sys.executable, "-c", *command],
                capture_output=True,
                text=True,
                timeout=50,
                check=False,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn("--data", done.stdout)


class WordsTests(SynchronousTestCase):
    """
    The status, for reading.
    """

    def test_connections(self) -> None:
        live = {"number": 1, "phase": "live", "network": "wlan0", "seconds": 1.5, "handovers": 2, "kept_octets": 0}
        away = {"number": 2, "phase": "away", "network": None, "seconds": 67.2, "handovers": 1, "kept_octets": 512}
        none = {"number": 3, "phase": "connecting", "network": None, "seconds": 7300.0, "handovers": 0, "kept_octets": 0}
        connections = [live | {"last_network": "wlan0"}, away | {"last_network": "wlan0"}, none | {"last_network": None}]
        account = {"account": "a", "server": "tls:x:993", "networks": ["wlan0", "wwan0"], "connections": connections}
        self.assertEqual(
            in_words({"accounts": [account]}),
            "a: tls:x:993, networks: wlan0, wwan0\n"
            "  1: live by wlan0 for 1.5 s, 2 handovers, 0 octets kept\n"
            "  2: away (last by wlan0) for 1 min 7 s, 1 handover, 512 octets kept\n"
            "  3: connecting for 2 h 1 min, 0 handovers, 0 octets kept",
        )
