"""
One connection of a mail program, and the roaming connection to its server that belongs to it.

Until the program has logged in, a L{Front<mem_continuity.imap.front.Front>} speaks to both sides: the program's TLS ends here,
and what depends on it.  From then on octets pass untouched both ways, whatever becomes of the links below.

Invariants:

- While the session is away nothing of the program's is closed, repeated or answered.
- Each side is the producer of what is written to the other, so a slow reader on either side stops the other.
- What the program sent before it closed is still handed to the server, within the policy's C{linger}.
- When the session is really gone, the program's connection ends at once, with BYE where there is a place for it.
- Nobody is left without a word: a server that cannot be used, or says nothing, ends in a BYE as well.
- Names and passwords are passed on and forgotten; nothing of what passes is in a log.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from twisted.internet.address import UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, ITCPTransport, ITLSTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from mem_continuity.agent.dialing import trouble_of
from mem_continuity.agent.patience import Patience
from mem_continuity.agent.reaching import Reaching
from mem_continuity.agent.server_end import ServerEnd, ServerEnds
from mem_continuity.agent.waiting import LoginWait, Wait
from mem_continuity.client.errors import ContinuityLost
from mem_continuity.client.roamer import Phase, Roamer
from mem_continuity.client.roaming import roamer_of
from mem_continuity.gateway.brake import Brake
from mem_continuity.gateway.errors import Trouble
from mem_continuity.imap.actions import Action, BeginTLS, Close, Failed, ToClient, ToServer
from mem_continuity.imap.front import Front
from mem_continuity.layer.sockets import is_secure

if TYPE_CHECKING:
    from mem_continuity.agent.account import Account

_log = Logger("mem_continuity.agent")
_LOST = b"[UNAVAILABLE] The connection to the mail server is lost"
_TOO_MANY = b"* BYE [LIMIT] There are too many connections to the agent\r\n"


class ProgramEnd(Protocol):
    """
    A mail program's connection.  Made by the account's factory.

    @ivar number: among the connections of its account since the start; for people.
    @ivar roamer: keeps the session on a link; None before the first one stands.
    @ivar relaying: somebody is logged in; octets pass untouched.
    @ivar since: when the phase began that the session is in, by the reactor's clock.
    @ivar path: the network in use, or the last one while there is none; None before the first link stands.
    """

    transport: Any

    def __init__(self, account: Account, number: int) -> None:
        self.number = number
        self.roamer: Roamer | None = None
        self.relaying = False
        self.since = account.reactor.seconds()
        self.path: str | None = None
        self._account = account
        self._front = Front(account.policy, self._secure, self._can_start_tls)
        limits = account.limits
        self._patience = Patience(
            account.reactor, account.policy, limits.keep_warm, limits.keep_warm_idle, self._say, self._is_missing
        )
        self._wait = LoginWait(account.reactor, account.limits, self._late)
        self._deadline: IDelayedCall | None = None
        self._server: ServerEnd | None = None
        self._reaching = Reaching(
            account.reactor,
            account.limits.network_wait,
            lambda: account.endpoint.connect(ServerEnds(self)),
            account.has_network,
            self._not_reached,
        )
        self._pumping = False
        self._spoken = False
        self._away = False
        self._over = False
        self._gone = False

    # The program's side

    def connectionMade(self) -> None:
        """
        A program is there; what it hears is its server's greeting.
        """
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)
        self._brake = Brake(self.transport)
        full = len(self._account.ends) >= self._account.limits.programs
        self._account.joined(self)
        if full:
            _log.warn("{account}: there are too many connections of mail programs", account=self._account.name)
            self._say(_TOO_MANY)
            self._finish()
            return
        self._reaching.begin()

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the program.
        """
        if self._over:
            return
        if self.relaying:
            self._patience.program_data(data)
            if self._server is not None:
                self._server.transport.write(data)
            return
        self._front.client_data(data)
        self._pump()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The program is gone.
        """
        self._over = self._gone = True
        self._patience.stop()
        self._wait.stop()
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()
        self._reaching.stop()
        self._release()
        self._check_left()

    def _secure(self) -> bool:
        if is_secure(self.transport):
            return True
        peer = self.transport.getPeer()
        if isinstance(peer, UNIXAddress):
            return True
        try:
            address = ipaddress.ip_address(str(getattr(peer, "host", "")).partition("%")[0])
        except ValueError:
            return False
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback

    def _can_start_tls(self) -> bool:
        has_tls = self._account.tls is not None and ITLSTransport.providedBy(self.transport)
        return has_tls and not is_secure(self.transport)

    def _say(self, octets: bytes) -> None:
        self._spoken = True
        self.transport.write(octets)

    # The dialogue before login

    def _pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        try:
            while not self._over:
                action = self._front.next_action()
                if action is None:
                    break
                self._carry_out(action)
        finally:
            self._pumping = False
        if not self._over:
            self._brake.pace(self._front.held > self._account.policy.preamble_buffer)
            self.relaying = self._front.over
            self._wait.begin(self._awaited)

    @property
    def _awaited(self) -> Wait | None:
        """
        What somebody owes, until the session has begun or it is clear that there will be none.
        """
        roamer = self.roamer
        if roamer is None or (self.relaying and roamer.phase is not Phase.OPENING):
            return None
        if not self._spoken:
            return Wait.GREETING
        return Wait.ANSWER if self.relaying or self._front.server_owes else Wait.LOGIN

    def _late(self, wait: Wait) -> None:
        if wait is not Wait.LOGIN:
            self._warn(wait.value.decode("ascii").partition("] ")[2])
        self._bye(wait.value)

    def _carry_out(self, action: Action) -> None:
        if isinstance(action, ToClient):
            if self._front.over:
                self._patience.server_data(action.octets)
            self._say(action.octets)
        elif isinstance(action, ToServer):
            if self._front.over:
                self._patience.program_data(action.octets)
            if self._server is not None:
                self._server.transport.write(action.octets)
        elif isinstance(action, BeginTLS):
            self.transport.startTLS(self._account.tls)
        elif isinstance(action, (Failed, Close)):
            if isinstance(action, Failed):
                self._failed(action.text)
            self._finish()

    def _failed(self, why: str) -> None:
        why = why.replace("the upstream", "the server")
        if self._spoken:
            self._tell("closed", why.rpartition("] ")[2])
            return
        # What the server said instead of a greeting, if anything, was not fit to be shown.
        self._warn(why)
        self._say(b"* BYE [UNAVAILABLE] " + Trouble.UNFIT.error(why).public + b"\r\n")

    def _warn(self, why: str) -> None:
        _log.warn("{account} {number}: {why}", account=self._account.name, number=self.number, why=why)

    # The server's side

    def _not_reached(self, failure: Failure) -> None:
        if self._over:
            return
        error = trouble_of(failure)
        self._warn(error.detail)
        self._say(b"* BYE [UNAVAILABLE] " + error.public + b"\r\n")
        self._finish()

    def server_ready(self, server: ServerEnd) -> None:
        """
        The first link stands.  Called by L{ServerEnd}.
        """
        if self._over:
            server.transport.abortConnection()
            return
        self._server = server
        self.roamer = roamer_of(server)
        self.roamer.watchers.append(self._happened)
        self.path = self.roamer.path
        self._tell("connected", f"by {self.path}")
        server.transport.setTcpKeepAlive(True)  # the program asks it of its own connection only, which ends here
        server.transport.registerProducer(self._brake, True)
        self.transport.registerProducer(server.transport, True)
        self._pump()

    def server_received(self, octets: bytes) -> None:
        """
        Octets of the server.  Called by L{ServerEnd}.
        """
        if self._over:
            return
        if self.relaying:
            self._patience.server_data(octets)
            self._say(octets)
            return
        self._front.server_data(octets)
        self._pump()

    def server_lost(self, reason: Failure) -> None:
        """
        The session is over.  Called by L{ServerEnd}.
        """
        self._server = None
        roamer, error = self.roamer, reason.value
        if roamer is not None and roamer.conduit is None:  # otherwise it has told so itself
            self._tell("ended", "closed" if reason.check(ConnectionDone) else reason.getErrorMessage())
        if isinstance(error, ContinuityLost):
            received = "an unknown part" if error.received is None else error.received
            self._warn(f"the session is lost ({error.why}): the server had received {received} of {error.written} octets")
        if not self._over:
            if not self._spoken:
                self._warn("the server has closed the connection before its greeting")
            self._bye(b"" if self._spoken and reason.check(ConnectionDone) else _LOST)
        self._check_left()

    def _happened(self, word: str, text: str) -> None:
        """
        Something happened to the session; see L{Roamer.watchers}.
        """
        roamer, now = self.roamer, self._account.reactor.seconds()
        if word == "live" and self._away:
            text += f"; it was away for {now - self.since:.1f} s"
        if word in ("live", "plain", "away", "ended"):
            self.since = now
            self._away = word == "away"
        if roamer is not None and roamer.path is not None:
            self.path = roamer.path
        if word in ("away", "doubt") and not self._over:
            self._patience.begin()
        elif word in ("live", "plain", "ended"):
            self._patience.stop()
            self._wait.begin(self._awaited)
        self._tell(word, text)

    def _is_missing(self) -> bool:
        return self.roamer is not None and (self.roamer.away or self.roamer.doubtful)

    def _tell(self, word: str, text: str) -> None:
        self._account.tell(self, word, text)

    def networks_changed(self) -> None:
        """
        There are other networks than before, and no link stands yet.
        """
        if not self._over:
            self._reaching.networks_changed()

    # Ends

    def network_gone(self) -> None:
        """
        The network is gone by which the server is connected to.  Without a session that outlives it this is the end; the program
        hears of it now, as it would if it were connected itself.
        """
        if self._server is not None and self.roamer is not None and self.roamer.phase in (Phase.OPENING, Phase.PLAIN):
            self._tell("lost", f"{self.roamer.path} is gone, and there is no session that could go on")
            self._server.transport.abortConnection()

    def close(self) -> None:
        """
        The agent stops.
        """
        if not self._over:
            self._bye(b"The agent on this host stops")

    def abort(self) -> None:
        """
        Break off what is left, on both sides.
        """
        if self._server is not None:
            self._server.transport.abortConnection()
        self.transport.abortConnection()

    def _check_left(self) -> None:
        if self._gone and self._server is None:
            self._account.left(self)

    def _bye(self, text: bytes) -> None:
        """
        The end, which is said where there is a place for it.

        @param text: nothing when the server has ended it in good order, and has said so itself.
        """
        if text and (self.relaying or not self._spoken):
            if not self.relaying or self._patience.may_speak:
                self._say(b"* BYE " + text + b"\r\n")
        elif text:
            self._front.expire(text)
            self._pump()
        if not self._over:
            self._finish()

    def _finish(self) -> None:
        """
        Nothing more is said to this program.
        """
        self._over = True
        self._patience.stop()
        self._wait.stop()
        self.transport.unregisterProducer()
        self._release()
        self.transport.resumeProducing()  # its end is not heard unless it is read
        self.transport.loseConnection()
        if not self._gone:  # a program that reads no more would keep all this for ever
            self._deadline = self._account.reactor.callLater(self._account.limits.linger, self.transport.abortConnection)

    def _release(self) -> None:
        """
        Let go of the server's side: what was written for it still goes out.
        """
        server = self._server
        if server is not None:
            server.transport.unregisterProducer()
            server.transport.resumeProducing()
            server.transport.loseConnection()
