"""
C{twistd mem-continuity-agent}: options to services.

One account comes from C{--server}, several from a file with C{--accounts}.  What is needed on this host (a folder for state, a
client ID for each account, a certificate for programs that insist on TLS) is made at the first start.  Each limit of
L{AgentPolicy} is an option of its own.

Invariants: what somebody can get wrong ends in one line on stderr and status 1, never in a traceback.  No reactor is imported
before a service is made.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.python import usage

from mem_continuity.agent.accounts import AccountSpec, parse_client_id, parse_server, read_accounts
from mem_continuity.agent.status import StatusService, default_data, socket_path
from mem_continuity.core.policy import AgentPolicy, Policy
from mem_continuity.options import PolicyOptions, limit_parameters
from mem_continuity.service import MailService, one_line

_COMMAND = "twistd mem-continuity-agent"
_ALONE = ("client-id", "prepare")
_HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)


class Options(PolicyOptions):
    """
    The command line of C{twistd mem-continuity-agent}.

    After L{parseOptions} the key C{policy} holds the L{AgentPolicy}, C{accounts} the list of L{AccountSpec}.
    """

    command = _COMMAND
    synopsis = "[options]"
    longdesc = (
        "Runs beside a mail program: the program talks to 127.0.0.1:10143, and its sessions with the server outlive every change "
        "of network. How it stands is told by: mem-continuity-agent status."
    )

    optFlags = [  # noqa: RUF012  Twisted reads it from the class
        ["prepare", None, "Keep a second link to the server ready on another network."],
        ["any-network", None, "Do not watch the networks: the system chooses one for each connection."],
        ["verbose", None, "Log what becomes of each session, a line for each event."],
    ]
    optParameters = [  # noqa: RUF012
        [
            "server",
            None,
            None,
            "The mail server: tls:HOST[:PORT], starttls:HOST[:PORT] or tcp:HOST[:PORT]; then options, as in "
            "tls:imap.example.org:993:authority=ca.pem.",
        ],
        ["accounts", None, None, "A TOML file with several accounts, in place of --server."],
        ["client-id", None, None, "TYPE/VALUE to name this host by. [default: a random UUID, kept in --data]"],
        ["data", None, None, "The folder for state. [default: ~/.local/state/mem-continuity-agent]"],
        ["certificate", None, None, "A PEM file with private key and certificates. [default: made below --data]"],
        *limit_parameters(AgentPolicy),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._lists: dict[str, list[str]] = {"listen": [], "network": [], "metered": [], "ignored": []}

    def opt_listen(self, description: str) -> None:
        """
        A server endpoint for the mail program, repeatable. [default: tcp:10143:interface=127.0.0.1]
        """
        self._lists["listen"].append(description)

    def opt_network(self, pattern: str) -> None:
        """
        A network device to prefer, as in wlan*; repeatable, the best first. [default: the system's order]
        """
        self._lists["network"].append(pattern)

    def opt_metered(self, pattern: str) -> None:
        """
        A network device that costs money and is used last, as in wwan*; repeatable.
        """
        self._lists["metered"].append(pattern)

    def opt_ignored(self, pattern: str) -> None:
        """
        A network device that is never used, as in docker*; repeatable.
        """
        self._lists["ignored"].append(pattern)

    def postOptions(self) -> None:
        """
        Check what depends on more than one option.

        @raise usage.UsageError: it cannot be run like this.
        """
        self["policy"] = self.read_policy(AgentPolicy)
        if (self["server"] is None) == (self["accounts"] is None):
            raise usage.UsageError("name the mail server: --server tls:imap.example.org, or a file of accounts: --accounts FILE")
        if self["accounts"] is not None:
            for name in (*_ALONE, *self._lists):
                if self._lists.get(name) or self.get(name):
                    raise usage.UsageError(f"--{name} is said in the file of --accounts, for each account; leave it out")
        self["accounts"] = self._accounts()
        self["data"] = default_data() if self["data"] is None else self["data"]

    def _accounts(self) -> list[AccountSpec]:
        if self["accounts"] is not None:
            try:
                return read_accounts(self["accounts"])
            except ValueError as error:
                raise usage.UsageError(f"--accounts: {error}") from None
        try:
            server = parse_server(self["server"])
        except ValueError as error:
            raise usage.UsageError(f"--server: {error}") from None
        try:
            client_id = None if self["client-id"] is None else parse_client_id(self["client-id"])
        except ValueError as error:
            raise usage.UsageError(f"--client-id: {error}") from None
        lists = {name: tuple(found) for name, found in self._lists.items() if name != "listen" and found}
        if "network" in lists:
            lists["networks"] = lists.pop("network")
        if self._lists["listen"]:
            lists["listen"] = tuple(self._lists["listen"])
        return [AccountSpec(server.host, server, client_id=client_id, prepare=bool(self["prepare"]), **lists)]


class _AccountService(MailService):
    """
    The ports of one account, and its watch of the networks.
    """

    command = _COMMAND
    follow: Callable[[], object] = staticmethod(lambda: None)

    def startService(self) -> None:
        """
        Start.
        """
        super().startService()
        self.follow()


class _Agent(MultiService):
    """
    All of it.
    """

    def __init__(self, reactor: Any, at_end: Callable[[], object]) -> None:
        super().__init__()
        self._reactor = reactor
        self._at_end = at_end

    def startService(self) -> None:
        """
        Start all parts.  A terminal that is closed ends it in good order, unless C{nohup} has said otherwise.
        """
        super().startService()
        if _HANGUP is not None and signal.getsignal(_HANGUP) is signal.SIG_DFL:
            signal.signal(_HANGUP, lambda *_: self._reactor.callFromThread(self._hung_up))

    def _hung_up(self) -> None:
        with suppress(ReactorNotRunning):  # it stops already
            self._reactor.stop()

    def stopService(self) -> Deferred[Any]:
        """
        Stop all parts, then let go of the folder.
        """
        stopping: Deferred[Any] = super().stopService()

        def over(result: Any) -> Any:
            self._at_end()
            return result

        return stopping.addBoth(over)


def make_agent_service(options: Mapping[str, Any], reactor: Any) -> IService:
    """
    From options to services.  Called by L{makeService}.

    @param options: see L{Options}.
    @param reactor: the reactor that everything runs on.
    @raise usage.UsageError: it cannot be run like this.
    @raise SetupError: the folder or the certificate cannot be used.
    """
    # Only now: reading the command line for --help needs none of it.
    from mem_continuity.agent.account import Account, AgentFactory
    from mem_continuity.agent.dialing import Dialer
    from mem_continuity.agent.following import follow_networks
    from mem_continuity.agent.identity import find_client_id
    from mem_continuity.layer.tls_contexts import ContextFactory, server_context
    from mem_continuity.mailhost.first_start import find_certificate, lock_folder
    from mem_continuity.server.listening import server_endpoint

    data, limits = Path(options["data"]).absolute(), options["policy"]
    lock = lock_folder(data)
    if data.stat().st_mode & 0o022:  # they could have put a certificate there, or another socket
        raise usage.UsageError(f"the folder {data} can be written by others; take that right from them: chmod go-w {data}")
    certificate = find_certificate(options["certificate"], data)[0].read_bytes()
    context = server_context(certificate)
    agent = _Agent(reactor, lock.close)
    accounts: list[Account] = []

    def listen(description: str) -> Any:
        try:
            return server_endpoint(reactor, description, certificate, Policy())
        except Exception as error:
            # What a plugin or the TLS library raises for a bad description is of many kinds.
            raise usage.UsageError(f"listen {description}: this is no server endpoint: {one_line(error)}") from None

    for spec in options["accounts"]:
        try:
            dialer = Dialer(reactor, spec.server, limits)
            client_id = find_client_id(data, spec.name) if spec.client_id is None else spec.client_id
            account = Account(
                spec.name,
                spec.server.label,
                reactor,
                dialer.path(),
                limits,
                client_id=client_id,
                prepare=spec.prepare,
                tls=ContextFactory(context),
                verbose=bool(options["verbose"]),
            )
            follow = follow_networks(reactor, account, spec, dialer, limits)
        except ValueError as error:
            raise usage.UsageError(f"account {spec.name}: {error}") from None
        accounts.append(account)
        service = _AccountService(AgentFactory(account), [(one, listen(one)) for one in spec.listen])
        if not options["any-network"]:
            service.follow = follow
        service.setServiceParent(agent)
    try:
        path = socket_path(data)
    except ValueError as error:
        raise usage.UsageError(str(error)) from None
    status = StatusService(reactor, path, lambda: {"accounts": [one.describe() for one in accounts]})
    status.setServiceParent(agent)
    return agent


def makeService(options: Options) -> IService:
    """
    Called by C{twistd} before it detaches from the terminal.

    @raise SystemExit: it cannot be run like this; the text is one line.
    """
    from twisted.internet import reactor

    from mem_continuity.mailhost.first_start import SetupError

    try:
        return make_agent_service(options, reactor)
    except (SetupError, usage.UsageError) as error:
        raise SystemExit(f"{_COMMAND}: {error}") from None
