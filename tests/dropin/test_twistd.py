"""
Shapes B and C in a process of their own: C{twistd -ny site.tac}, a socket from systemd, and SIGTERM.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from mem_continuity import ContinuityLost, RoamingEndpoint
from tests.dropin.clients import connect_lines, connect_mail, endpoint_to, read_mail
from tests.dropin.setups import IMPORT, Change, changed_text
from tests.dropin.sites.office import MESSAGE
from tests.support.certificates import certificate_pem, client_context
from tests.support.relay import Relay
from tests.support.tls_case import TLSTestCase
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
TWISTD = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"
SYSTEMD = """
import os, sys
# As systemd starts a service: the socket is descriptor 3, and the environment names the process that it is for.
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="imap")
os.execv(sys.executable, [sys.executable, "-W", "error::ResourceWarning", "-c", sys.argv[2], *sys.argv[3:]])
"""
SITE_LINE = "return StreamServerEndpointService(serverFromString(reactor, description), factory)"
CHANGED_SITE_LINE = SITE_LINE.replace("factory)", "continuous(factory))")


class Process(ProcessProtocol):
    """
    C{twistd}.

    @ivar output: what it logs.
    """

    def __init__(self) -> None:
        self.output = ""
        self.ended: Deferred[BaseException | None] = Deferred()

    def outReceived(self, data: bytes) -> None:
        self.output += data.decode("utf-8", "replace")

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(None if reason.check(ProcessDone) else reason.value)

    def stop(self, name: str = "TERM") -> Deferred[BaseException | None]:
        """
        Send a signal.
        """
        transport: Any = self.transport
        if transport.pid is not None:
            transport.signalProcess(name)
        return self.ended


class TwistdTests(TLSTestCase):
    """
    A real C{twistd} each.
    """

    timeout = 60

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.pem = self.folder / "localhost.pem"
        self.pem.write_bytes(certificate_pem())
        self.journal_file = self.folder / "journal"
        self.listen = f"ssl:0:privateKey={self.pem}:interface=127.0.0.1"

    @property
    def journal(self) -> list[str]:
        return self.journal_file.read_text("utf-8").splitlines() if self.journal_file.exists() else []

    def tac(self, changes: Sequence[Change]) -> Path:
        """
        The site's C{.tac} file; with changes, its service module stands beside it and is changed.
        """
        tac = self.folder / "site.tac"
        if not changes:
            tac.write_text(changed_text("site.tac", []), "utf-8")
            return tac
        (self.folder / "changed_service.py").write_text(changed_text("service.py", [IMPORT, *changes]), "utf-8")
        line = "from tests.dropin.sites import service as mail"
        tac.write_text(changed_text("site.tac", [(line, "import changed_service as mail")]), "utf-8")
        return tac

    def twistd(self, changes: Sequence[Change] = (), listening: socket.socket | None = None) -> Process:
        """
        C{twistd -ny site.tac}.

        @param listening: hand it over as systemd does.
        """
        arguments = ["-n", "--pidfile=", "-y", str(self.tac(changes))]
        command = [sys.executable, "-c", TWISTD, *arguments]
        descriptors: dict[int, int | str] = {0: "w", 1: "r", 2: "r"}
        if listening is not None:
            command = [sys.executable, "-c", SYSTEMD, "4", TWISTD, *arguments]
            descriptors[4] = listening.fileno()
        return self.spawn(command, descriptors)

    def spawn(self, command: Sequence[str], descriptors: Any = None) -> Process:
        """
        Run a program of the site.
        """
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(self.folder)]),
            "SITE_LISTEN": self.listen,
            "SITE_JOURNAL": str(self.journal_file),
        }
        process = Process()
        IReactorProcess(reactor).spawnProcess(
            process, command[0], command, environment, str(self.folder), childFDs=descriptors
        )
        self.addCleanup(process.stop, "KILL")
        return process

    async def port_of(self, process: Process) -> int:
        await until(lambda: re.search(r"starting on '?\d+", process.output), f"twistd listens; {process.output}", 30)
        found = re.search(r"starting on '?(\d+)", process.output)
        assert found is not None
        return int(found.group(1))

    async def session(self, port: int, *, roaming: bool, tls: bool = True) -> None:
        relay = Relay(reactor, endpoint_to(reactor, port, tls=False))
        endpoint = endpoint_to(reactor, relay.port, tls=tls)
        client = await connect_mail(RoamingEndpoint([endpoint]) if roaming else endpoint, client_context())

        def fetching() -> None:
            if roaming:
                relay.links[-1].cut_at = relay.links[-1].from_server + 100_000

        self.assertEqual(await read_mail(client, fetching), MESSAGE)
        self.assertEqual(len(relay.links), 2 if roaming else 1)
        await relay.close()
        await until(lambda: "logout joe" in self.journal, "the logout")

    async def test_untouched(self) -> None:
        """
        The C{.tac} file as it is.
        """
        process = self.twistd()
        await self.session(await self.port_of(process), roaming=False)
        await process.stop()
        self.assertEqual(self.journal[-2:], ["lost in state select", "logout joe"])

    async def test_one_line(self) -> None:
        """
        With the changed line: a session across a cut, and the same journal as without.  SIGTERM while two are logged in: both
        hear of it, and both are logged out once before the process ends.
        """
        process = self.twistd([(SITE_LINE, CHANGED_SITE_LINE)])
        port = await self.port_of(process)
        await self.session(port, roaming=True)
        self.assertEqual(
            self.journal,
            ["authenticateLogin, peer 127.0.0.1", "login joe mind=None", "lost in state select", "logout joe"],
        )
        await self.stop_with_clients(process, port)

    async def test_description(self) -> None:
        """
        The C{.tac} file as it is, and C{continuity:} in front of the description.
        """
        self.listen = f"continuity:{self.listen}"
        process = self.twistd()
        port = await self.port_of(process)
        await self.session(port, roaming=True)
        await self.stop_with_clients(process, port)

    async def test_script(self) -> None:
        """
        Shape A has nobody but the reactor to stop it: with the changed line and no other, Ctrl-C does as much.
        """
        line = 'port = reactor.listenSSL(0, factory, context, interface="127.0.0.1")'
        changes = [IMPORT, (line, line.replace("factory", "continuous(factory)"))]
        script = self.folder / "script.py"
        script.write_text(changed_text("script.py", changes), "utf-8")
        process = self.spawn([sys.executable, str(script), str(self.pem), str(self.journal_file)])
        port = await self.port_of(process)
        await self.session(port, roaming=True)
        await self.stop_with_clients(process, port, "INT")

    async def stop_with_clients(self, process: Process, port: int, name: str = "TERM") -> None:
        self.journal_file.unlink()
        plain = await connect_lines(endpoint_to(reactor, port, tls=True))
        await plain.say(b"a1 LOGIN ann hidden")
        roaming = await connect_mail(RoamingEndpoint([endpoint_to(reactor, port, tls=True)]))
        await roaming.login(b"joe", b"secret")
        await roaming.select(b"INBOX")
        await process.stop(name)
        await plain.lost
        self.assertIn(b"* BYE server shutting down\r\n", plain.heard)
        self.assertIsInstance(await roaming.lost, ContinuityLost)
        self.assertEqual(sorted(one for one in self.journal if "logout" in one), ["logout ann", "logout joe"])
        self.assertNotIn("Traceback", process.output)

    async def test_systemd(self) -> None:
        """
        A listening socket from systemd, by index and by name.
        """
        for which in ("index=0", "name=imap"):
            self.listen = f"continuity:systemd:domain=INET:{which}:continuityInsecure=yes"
            with socket.create_server(("127.0.0.1", 0)) as listening:
                process = self.twistd(listening=listening)
                port = listening.getsockname()[1]
                await self.port_of(process)
            await self.session(port, roaming=True, tls=False)
            await process.stop()
            self.assertIn("Server Shut Down.", process.output)
            self.assertEqual(self.journal.count("logout joe"), 1)
            self.journal_file.unlink()
