"""
The ground on which mail programs ride over changes of network: a handset with two networks, and a mail server far away.

Invariants: all that the programs use lies in the namespaces of one lab; at the start the handset has the C{wlan} alone; who
delivers mail or looks into an account does that on the server's side, where no network is disturbed; nothing is left behind.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mem_continuity.agent.status import ask
from tests.agent.process import AgentProcess
from tests.interop.dovecot import Dovecot
from tests.interop.gateway import GatewayProcess, upstream_of
from tests.interop.programs.imap_words import connect, quoted
from tests.interop.programs.program import inventory
from tests.interop.programs.result import Mailboxes
from tests.interop.programs.target import Target
from tests.interop.servers import Rig
from tests.netlab import Lab, Network, Shape
from tests.netlab.namespaces import NETNS as NAMESPACES
from tests.support.certificates import named_pem

NAME = "mail.example"
"""Of the mail server, on the handset and on the server."""

USERS = {"ann": "ann's pass word", "joe": "joe's pass word"}
WLAN = Shape(delay_ms=10, rate=50e6)
XG = Shape(delay_ms=60, rate=20e6)

_NETNS = Path("/etc/netns")


class Way(Enum):
    """
    How a program reaches its mail.

    @cvar AGENT: by the agent on its own machine.
    @cvar DIRECT: Dovecot itself, as the program does without us.
    @cvar GATEWAY: the gateway, without the agent.
    """

    AGENT = "agent"
    DIRECT = "direct"
    GATEWAY = "gateway"


class Ground:
    """
    A context manager.

    @ivar lab: the namespaces and networks.
    @ivar present: the network on which the handset is; L{tests.roaming.journey.Journey} changes it.
    @ivar within: what a command is put behind to run on the handset.
    @ivar home_within: the same for the server's side.
    @ivar dovecot: and C{gateway}, C{agent}: the rigs.
    """

    def __init__(
        self,
        *,
        users: Mapping[str, str] | None = None,
        agent_options: Sequence[str] = (),
        gateway_options: Sequence[str] = (),
        dovecot_extra: str = "",
        wlan: Shape | None = None,
        xg: Shape | None = None,
    ) -> None:
        """
        @param users: passwords by name; L{USERS} if not given.
        @param agent_options: more of the agent's command line.
        @param gateway_options: more of the gateway's.
        @param dovecot_extra: lines for the end of Dovecot's configuration.
        @param wlan: how the network behaves; L{WLAN} if not given.
        @param xg: likewise; L{XG}.
        @raise LabError: there are no namespaces here.
        """
        self.users = dict(USERS if users is None else users)
        self._agent_options = tuple(agent_options)
        self._gateway_options = tuple(gateway_options)
        self._extra = dovecot_extra
        self._shapes = {"wlan": wlan or WLAN, "xg": xg or XG}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._set_up(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def _set_up(self, stack: contextlib.ExitStack) -> None:
        self.lab = stack.enter_context(Lab(emulated=True, **self._shapes))  # type: ignore[arg-type]
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ground-", dir="/tmp")))
        self.within = self._name_hosts(self.lab.handset, stack)
        self.home_within = self._name_hosts(self.lab.server, stack)
        pem = named_pem(NAME, authority=True)

        self.dovecot = Dovecot(users=self.users, extra=self._extra)
        self._start(self.dovecot, self.lab.server, pem, stack)
        upstream = upstream_of(self.dovecot.imaps_port, self.dovecot.authority).replace("localhost", NAME)
        self.gateway = GatewayProcess(upstream, *self._gateway_options)
        self._start(self.gateway, self.lab.server, pem, stack)
        self.present = self.lab.networks["wlan"]
        self.other.detach()
        server = f"tls:{NAME}:{self.gateway.port}:authority={self.gateway.authority}"
        self.agent = AgentProcess("--server", server, *self._agent_options, listen=("tcp", "tls"))
        self._start(self.agent, self.lab.handset, None, stack)

    def _name_hosts(self, namespace: str, stack: contextlib.ExitStack) -> list[str]:
        """
        Names that are known in a namespace; C{ip netns exec} puts these files in their place.  Nobody is asked for others.
        """
        for left in _NETNS.glob("mc-*"):
            if not (NAMESPACES / left.name).exists():  # by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
        folder = _NETNS / namespace
        folder.mkdir(parents=True, exist_ok=True)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        own = f"127.0.0.1 localhost {socket.gethostname()}\n"
        (folder / "hosts").write_text(f"{own}{self.lab.server_address} {NAME}\n", "utf-8")
        (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n", "utf-8")
        return ["ip", "netns", "exec", namespace]

    def _start(self, rig: Rig, namespace: str, pem: bytes | None, stack: contextlib.ExitStack) -> None:
        stack.callback(rig.close)
        if pem is not None:
            rig.certificate.write_bytes(pem)
            rig.authority.write_bytes(pem[pem.index(b"-----BEGIN CERTIFICATE") :])
        host = rig.host if namespace == self.lab.handset else self.lab.server_address
        rig.place(["ip", "netns", "exec", namespace], lambda: self.lab.inside(namespace), host)
        rig.start()

    @property
    def other(self) -> Network:
        """
        The network on which the handset is not.
        """
        (found,) = (one for one in self.lab.networks.values() if one is not self.present)
        return found

    def target(self, user: str, way: Way, *, tls: bool = False) -> Target:
        """
        An account, for a program on the handset.

        @param tls: talk TLS to the agent too; the networks are never crossed without it.
        """
        password = self.users[user]
        if way is Way.AGENT:
            plain, secure = self.agent.ports
            if tls:
                return Target("localhost", secure, self.agent.authority, user, password)
            return Target("127.0.0.1", plain, None, user, password)
        if way is Way.DIRECT:
            return Target(NAME, self.dovecot.imaps_port, self.dovecot.authority, user, password)
        return Target(NAME, self.gateway.port, self.gateway.authority, user, password)

    def home_target(self, user: str) -> Target:
        """
        An account, for a program that is put behind L{home_within}.
        """
        return self.target(user, Way.DIRECT)

    def deliver(self, user: str, *mails: bytes, mailbox: str = "INBOX") -> None:
        """
        Mail arrives, in this order.

        @param mails: messages with lines that end in CR LF.
        @raise imaplib.IMAP4.error: it is refused.
        """
        home = self.home_target(user)
        # This process has not the names of the namespace; TLS would need them.
        with self.lab.inside(self.lab.server):
            client = connect(Target(self.lab.server_address, self.dovecot.imap_port, None, user, home.password))
        with client:
            for mail in mails:
                answer, said = client.append(quoted(mailbox), "", "", mail)
                if answer != "OK":
                    raise client.error(f"refused: {said}")

    def look(self, user: str) -> Mailboxes:
        """
        What is in an account.
        """
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            return inventory(self.home_target(user), Path(folder), self.home_within)

    def restore(self, user: str, folder: Path) -> None:
        """
        Give an account the content of another Dovecot's mail folder.  No session of the user may be open.
        """
        self.dovecot.restore(user, folder)

    def agent_status(self) -> dict[str, Any]:
        """
        How the agent stands.

        @raise ValueError: it does not answer.
        """
        return ask(self.agent.data)

    def agent_log(self) -> str:
        return self.agent.log()
