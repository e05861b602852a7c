"""
The examples of C{docs/operator.md}, so that they can be run as they stand there.

An example is a fenced block behind a comment with its name and its kind, C{<!-- example: dovecot command -->}.  What has to be
another at a test (ports, hosts, paths) is said in a table of literal texts.

Invariants: nothing of an example is changed but what the table says; every entry of a table is used, so a table cannot outlive
the text it was made for.
"""

from __future__ import annotations

import imaplib
import os
import re
import shlex
import socket
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.handshake import Resumed
from tests.interop.client import Client
from tests.interop.cyrus import Cyrus
from tests.interop.dovecot import Dovecot
from tests.interop.gateway import ROOT, TWISTD
from tests.interop.plain_client import TRAIN
from tests.interop.servers import HOST, RealServer, Rig, find_program

PEM = "/etc/mem-continuity/certificate.pem"
"""Of the gateway, in the examples."""
LOCAL = "tcp:127.0.0.1:10143:id=yes"
"""The upstream of most examples."""
GUIDE = ROOT / "docs" / "operator.md"
_BLOCK = re.compile(r"^ *<!-- (example|file): (\S+)(?: (\S+))? -->\n( *)```\w*\n(.*?)\n\4```$", re.MULTILINE | re.DOTALL)
_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)\n\1```$", re.MULTILINE | re.DOTALL)

_ACTIVATE = """
import os, socket, sys
domain, count, *words = sys.argv[1:]
place = 3
for port in words[: int(count)]:
    if domain == "INET6":
        one = socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True)
    else:
        one = socket.create_server(("127.0.0.1", int(port)))
    os.dup2(one.fileno(), 100 + place)  # so that no socket is in the way of another one's place
    place += 1
for one in range(3, place):
    os.dup2(100 + one, one)
    os.close(100 + one)
os.environ.update(LISTEN_FDS=count, LISTEN_FDNAMES=":".join(["imap"] * int(count)), LISTEN_PID=str(os.getpid()))
os.execv(words[int(count)], words[int(count) :])
"""
"""Does what systemd does for a socket unit: opens the sockets, and becomes the service."""


class Guide:
    """
    The document.

    @ivar text: all of it.
    """

    def __init__(self) -> None:
        self.text = GUIDE.read_text("utf-8")
        self._blocks = {(kind, name, part): dedent(block) for kind, name, part, _, block in _BLOCK.findall(self.text)}

    def example(self, name: str, part: str, table: Mapping[str, str] | None = None) -> str:
        """
        An example with its replacements.

        @raise LookupError: there is none.
        @raise AssertionError: an entry of the table does not occur.
        """
        return replaced(self._blocks["example", name, part], {} if table is None else table) + "\n"

    def file(self, name: str) -> str:
        """
        A file that is shown in the guide.
        """
        return self._blocks["file", name, ""] + "\n"

    def command(self, name: str, table: Mapping[str, str] | None = None) -> list[str]:
        """
        The options of an example's command line, behind C{twistd mem-continuity}.
        """
        return options_of(self.example(name, "command", table))

    def commands(self) -> list[list[str]]:
        """
        The options of every command line in the guide, examples or not.
        """
        blocks = [dedent(block) for _, language, block in _FENCED.findall(self.text) if language == "sh"]
        return [options_of(block) for block in blocks if block.startswith("twistd ")]


def replaced(text: str, table: Mapping[str, str]) -> str:
    """
    Replace literal texts, the longer ones first, in one pass.

    @raise AssertionError: one of them does not occur.
    """
    if not table:
        return text
    used: set[str] = set()

    def put(match: re.Match[str]) -> str:
        used.add(match[0])
        return table[match[0]]

    text = re.sub("|".join(re.escape(one) for one in sorted(table, key=len, reverse=True)), put, text)
    assert used == set(table), f"not in the example: {sorted(set(table) - used)}"
    return text


def options_of(command: str) -> list[str]:
    """
    What stands behind the name of the service.

    @raise AssertionError: it is run in another way than the guide says everywhere.
    """
    words = shlex.split(command.replace("\\\n", " "), comments=True)
    assert words[0].endswith("twistd") and words[1:4] == ["--nodaemon", "--pidfile=", "mem-continuity"], words
    return words[4:]


class GuideGateway(Rig):
    """
    A gateway with the command line of an example.
    """

    name = "gateway"

    def __init__(self, port: int, *, with_certificate: bool = True) -> None:
        """
        @param port: where it is going to listen.
        """
        super().__init__()
        self._port = port
        self._sockets: tuple[str, ...] = ()
        self.options: list[str] = []
        if with_certificate:
            self.make_certificate()

    @property
    def port(self) -> int:
        return self._port

    def activated(self, domain: str, *ports: int) -> None:
        """
        It gets sockets that listen already.

        @param domain: C{INET6} for both versions of IP, or C{INET}.
        """
        self._sockets = (domain, str(len(ports)), *(str(one) for one in ports))

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "XDG_STATE_HOME": str(self.folder / "state"),
        }

    def command(self) -> list[str]:
        words = [sys.executable, "-c", TWISTD, "--nodaemon", "--pidfile=", "mem-continuity", *self.options]
        if not self._sockets:
            return words
        return [sys.executable, "-c", _ACTIVATE, *self._sockets, *words]

    def ready(self) -> None:
        with socket.create_connection((HOST, self.port), 1.0):
            pass


class GuideHAProxy(Rig):
    """
    A balancer with the configuration of an example.

    @ivar config: set before it is started.
    """

    name = "haproxy"

    def __init__(self, port: int) -> None:
        """
        @param port: where it is going to listen.
        """
        super().__init__()
        self._port = port
        self.config = ""
        self.make_certificate()

    @property
    def port(self) -> int:
        return self._port

    def ready(self) -> None:
        with socket.create_connection((HOST, self.port), 1.0):
            pass

    def command(self) -> list[str]:
        place = self.folder / "haproxy.cfg"
        place.write_text("global\n  maxconn 100\n" + self.config, "utf-8")
        return [find_program("haproxy", "haproxy"), "-db", "-f", str(place)]


class GuideCyrus(Cyrus):
    """
    A server with lines of an example.

    @ivar lines: of C{imapd.conf}, set before it is started.  Cyrus takes no option twice, so they come in place of the rig's.
    """

    lines = ""

    def command(self) -> list[str]:
        command = super().command()
        place = self.folder / "imapd.conf"
        wanted = [line for line in self.lines.splitlines() if line and not line.startswith("#")]
        names = {line.partition(":")[0] for line in wanted}
        kept = [line for line in place.read_text("utf-8").splitlines() if line.partition(":")[0] not in names]
        place.write_text("\n".join([*kept, *wanted, ""]), "utf-8")
        return command


def domain_here() -> str:
    """
    The domain of sockets that systemd opens here for a C{ListenStream=} without an address.
    """
    try:
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True).close()
    except OSError:
        return "INET"
    return "INET6"


def unit_options(path: Path) -> list[tuple[str, str, str]]:
    """
    Section, name and value of each line of a systemd unit; a name may come more than once (systemd.syntax(7)).
    """
    found, section = [], ""
    for line in path.read_text("utf-8").replace("\\\n", " ").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith(("#", ";")):
            name, equals, value = line.partition("=")
            assert equals and section, f"{path.name}: {line!r} is no option"
            found.append((section, name, value))
    return found


class GuideCase(SynchronousTestCase):
    """
    What the tests of examples share.
    """

    timeout = 120

    def setUp(self) -> None:
        self.guide = Guide()

    def dovecot(self, lines: str = "", port: int = 0) -> Dovecot:
        """
        A running Dovecot.

        @param lines: of its configuration.
        @param port: where they say that it listens.
        """
        server = Dovecot(extra=lines)
        self.addCleanup(server.close)
        if port:
            server.imap_port = port
        server.start()
        return server

    def gateway(self, options: list[str], port: int, made: GuideGateway | None = None) -> GuideGateway:
        """
        A running gateway.
        """
        gateway = GuideGateway(port) if made is None else made
        self.addCleanup(gateway.close)
        gateway.options = [one.replace(PEM, str(gateway.certificate)) for one in options]
        gateway.start()
        return gateway

    def client(self, at: Rig, server: RealServer, user: str = "alice") -> Client:
        client = Client(at.port, at.authority, user, server.users[user])
        self.addCleanup(client.close)
        return client

    def resumes(self, client: Client) -> None:
        """
        START, a mailbox, a link that breaks, and RESUME from elsewhere.
        """
        client.start()
        self.assertIn(b" OK ", client.call(b"SELECT INBOX"))
        client.lose()
        self.assertIsInstance(client.resume(TRAIN), Resumed)
        self.assertIn(b" OK ", client.call(b"CHECK"))

    def starts_tls(self, port: int, gateway: Rig) -> None:
        """
        Without TLS nobody logs in, and with STARTTLS one does.
        """
        with imaplib.IMAP4(HOST, port, timeout=10) as client:
            self.assertTrue({"STARTTLS", "LOGINDISABLED"} <= set(client.capabilities))
            with self.assertRaisesRegex(imaplib.IMAP4.error, "Log in under TLS"):
                client.login("alice", "wonderland")
            client.starttls(ssl.create_default_context(cafile=str(gateway.authority)))
            client.login("alice", "wonderland")
