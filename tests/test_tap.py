"""
C{twistd mem-continuity}: its options, what it makes at a first start, and how it fails.
"""

from __future__ import annotations

import email
import imaplib
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import mem_continuity
from mem_continuity.core.policy import Policy, limits_of
from mem_continuity.options import option_name
from mem_continuity.tap import Options

CHECKOUT = str(Path(mem_continuity.__file__).parents[1])

PLUGIN = '''
from twisted.plugin import IPlugin
from zope.interface import implementer
from mem_continuity.interfaces import IMailRealmFactory

@implementer(IPlugin, IMailRealmFactory)
class Third:
    name, summary, argument_help = "third", "of a third party", "anything"

    def make_realm(self, argument, reactor, policy):
        raise ValueError(f"reached with {argument}")

third = Third()
'''


class OptionsTests(SynchronousTestCase):
    """
    Reading the command line.
    """

    def test_defaults(self) -> None:
        options = Options()
        options.parseOptions([])
        self.assertEqual(options["policy"], Policy())
        self.assertEqual(options["listen"], ["tls:10993:interface=127.0.0.1"])

    def test_every_limit_is_an_option(self) -> None:
        helped = " ".join(str(Options()).split())
        for limit in limits_of(Policy):
            value = type(limit.default)(limit.least + 1)
            options = Options()
            options.parseOptions([f"--{option_name(limit)}", str(value)])
            self.assertEqual(getattr(options["policy"], limit.name), value)
            self.assertIn(
                f"--{option_name(limit)}= [{limit.unit}, {limit.bounds}] {limit.reason} [default: {limit.default}]",
                helped,
            )

    def test_several_ports(self) -> None:
        options = Options()
        options.parseOptions(["--listen", "tcp:1", "--listen", "tcp:2"])
        self.assertEqual(options["listen"], ["tcp:1", "tcp:2"])

    def test_mistakes(self) -> None:
        for arguments, expected in (
            (["--window", "12"], "--window is 12, but it must be a whole number of octets, at least 4096"),
            (["--grace", "long"], "--grace must be a number of seconds"),
            (["--ack-every", "0"], "--ack-every is 0"),
            (["--grace", "nan"], "--grace is nan"),
            (["--nope"], "not recognized"),
            (["--auth", "nope:x"], "Auth plugin"),
            (["--maildir", "x", "--realm", "y"], "exclude each other"),
        ):
            error = self.assertRaises(SystemExit, Options().parseOptions, arguments)
            self.assertIn(expected, str(error.code))
            self.assertNotIn("\n", str(error.code))


class TwistdTests(SynchronousTestCase):
    """
    The command as an operator runs it.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.data = self.folder / "data"

    def command(self, *arguments: str) -> list[str]:
        twistd = "from twisted.scripts.twistd import run; run()"
        return [sys.executable, "-c", twistd, "-n", "--pidfile=", "mem-continuity", "--data", str(self.data), *arguments]

    def environment(self, *path: str) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": os.pathsep.join([CHECKOUT, *path])}

    def fails(self, *arguments: str, path: tuple[str, ...] = ()) -> str:
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment(*path), cwd=self.folder, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        self.assertNotEqual(done.returncode, 0)
        self.assertNotIn("Traceback", done.stdout + done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertTrue(done.stderr.startswith("twistd mem-continuity: "), done.stderr)
        return done.stderr

    def free_port(self) -> int:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            return port

    def test_mistakes(self) -> None:
        missing = str(self.folder / "missing")
        occupied = self.folder / "file"
        occupied.touch()
        for arguments, expected in (
            (["--window", "12"], "at least 4096"),
            (["--listen", "nope:1"], "--listen nope:1"),
            (["--listen", f"ssl:1:privateKey={missing}"], "No such file"),
            (["--certificate", missing], "No such file"),
            (["--certificate", str(occupied)], "no certificate"),
            (["--maildir", str(occupied)], "cannot be used"),
            (["--realm", "nope"], "there are: maildir"),
            (["--realm", "maildir"], "needs a folder"),
        ):
            self.assertIn(expected, self.fails(*arguments))
        (self.data / "passwords").write_text("# users\njoe:scrypt:3:8:1:c2FsdA==:aGFzaA==\n")
        self.assertIn(f"{self.data / 'passwords'}, line 2: N is 3", self.fails("--listen", "tcp:0"))
        self.data = occupied
        self.assertIn("cannot be written", self.fails())

    def test_port_in_use(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            where = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
            done = subprocess.run(
                self.command("--listen", where),
                env=self.environment(), cwd=self.folder, capture_output=True, text=True, timeout=30, check=False,
            )  # fmt: skip
        self.assertEqual(done.returncode, 1)
        self.assertNotIn("Traceback", done.stdout + done.stderr)
        self.assertIn(f"cannot listen on {where}: Address already in use", done.stderr.splitlines()[-1])

    def test_realm_of_a_third_party(self) -> None:
        plugins = self.folder / "third" / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        (plugins / "third_realm.py").write_text(PLUGIN)
        path = (str(self.folder / "third"),)
        self.assertIn("--realm third: reached with a:b", self.fails("--realm", "third:a:b", path=path))
        self.assertIn("there are: maildir, third", self.fails("--realm", "nope", path=path))

    def test_no_reactor_is_imported(self) -> None:
        code = (
            "import sys, mem_continuity.tap as t; t.Options().parseOptions([]);"
            "sys.exit('twisted.internet.reactor' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], env=self.environment(), timeout=30, check=False)
        self.assertEqual(done.returncode, 0)

    def test_first_and_second_start(self) -> None:
        port = self.free_port()
        arguments = ["--listen", f"tls:{port}:interface=127.0.0.1"]
        log = self.folder / "log"
        shown: list[str] = []
        for _ in range(2):
            with open(log, "ab") as stream:
                process = subprocess.Popen(
                    self.command(*arguments), env=self.environment(), cwd=self.folder,
                    stdout=stream, stderr=subprocess.PIPE, text=True,
                )  # fmt: skip
            try:
                while f"starting on {port}" not in log.read_text():
                    self.assertIsNone(process.poll(), "it ended")
                if not shown:
                    self.in_use_and_welcome(port, process)
            finally:
                process.send_signal(signal.SIGTERM)
                _, errors = process.communicate(timeout=30)
            shown.append(errors)
            log.write_text(log.read_text().replace(f"starting on {port}", ""))
        self.assertNotIn("Password", shown[1])
        self.assertNotIn("Traceback", log.read_text())
        self.assertNotIn(self.password, log.read_text())
        for name in ("passwords", "certificate.pem"):
            self.assertEqual((self.data / name).stat().st_mode & 0o777, 0o600)
        for path in self.data.rglob("*"):
            if path.is_file():
                self.assertNotIn(self.password.encode(), path.read_bytes())

    def in_use_and_welcome(self, port: int, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        text = ""
        while "Password:" not in text:
            text += process.stderr.readline()
        found = re.search(r"Password: +(\S+)", text)
        assert found is not None
        self.password = found[1]
        self.assertIn("in use by another process", self.fails())
        own, self.data = self.data, self.folder / "other"
        for arguments in (["--maildir", str(own / "mail")], ["--realm", f"maildir:{own / 'mail'}"]):
            self.assertIn(f"{own / 'mail'} cannot be used: it is in use by another server", self.fails(*arguments))
        self.data = own
        context = ssl.create_default_context(cafile=str(self.data / "certificate.pem"))
        client = imaplib.IMAP4_SSL("127.0.0.1", port, ssl_context=context, timeout=30)
        client.login("demo", self.password)
        self.assertEqual(client.select()[1], [b"1"])
        _, data = client.fetch("1", "(BODY[])")
        assert isinstance(data[0], tuple)
        welcome = email.message_from_bytes(data[0][1])
        self.assertIn("Welcome", welcome["Subject"])
        body = welcome.get_payload(decode=True)
        assert isinstance(body, bytes)
        fingerprint = re.search(r"SHA-256: +(\S+)", text)
        assert fingerprint is not None
        self.assertIn(fingerprint[1].encode(), body)
        client.logout()
