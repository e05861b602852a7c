"""
One connection of a mail program, and the roaming connection to its server that belongs to it.

Until the program has logged in, a L{Front<mem_continuity.imap.front.Front>} speaks to both sides: the program's TLS ends here,
and what depends on it.  From then on octets pass untouched both ways, whatever becomes of the links below.

Invariants:

- While the session is away nothing of the program's is closed, repeated or answered.
- Each side is the producer of what is written to the other, so a slow reader on either side stops the other.
- What the program sent before it closed is still handed to the server, within the policy's C{linger}.
- When the session is really gone, the program's connection ends at once, with BYE where there is a place for it.
- Names and passwords are passed on and forgotten; nothing of what passes is in a log.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, ITCPTransport, ITLSTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from mem_continuity.agent.dialing import trouble_of
from mem_continuity.agent.patience import Patience
from mem_continuity.client.errors import ContinuityLost
from mem_continuity.client.roamer import Phase, Roamer
from mem_continuity.client.roaming import roamer_of
from mem_continuity.gateway.brake import Brake
from mem_continuity.imap.actions import Action, BeginTLS, Close, Failed, ToClient, ToServer
from mem_continuity.imap.front import Front
from mem_continuity.layer.sockets import is_secure

if TYPE_CHECKING:
    from mem_continuity.agent.account import Account

_LOST = b"[UNAVAILABLE] The connection to the mail server is lost"


class _ServerEnds(Factory):
    """
    Makes the one L{ServerEnd} of a program's connection.
    """

    noisy = False

    def __init__(self, end: ProgramEnd) -> None:
        self._end = end

    def buildProtocol(self, addr: IAddress | None) -> ServerEnd:
        return ServerEnd(self._end)


class ServerEnd(Protocol):
    """
    What is connected through the L{RoamingEndpoint<mem_continuity.client.roaming.RoamingEndpoint>} of an account.
    """

    transport: Any

    def __init__(self, end: ProgramEnd) -> None:
        self._end = end

    def connectionMade(self) -> None:
        """
        The first link stands.
        """
        self._end.server_ready(self)

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the server.
        """
        self._end.server_received(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The session is over, or never was.
        """
        self._end.server_lost(reason)


class ProgramEnd(Protocol):
    """
    A mail program's connection.  Made by the account's factory.

    @ivar number: among the connections of its account since the start; for people.
    @ivar roamer: keeps the session on a link; None before the first one stands.
    @ivar relaying: somebody is logged in; octets pass untouched.
    @ivar since: when the phase began that the session is in, by the reactor's clock.
    """

    _log = Logger()
    transport: Any

    def __init__(self, account: Account, number: int) -> None:
        self.number = number
        self.roamer: Roamer | None = None
        self.relaying = False
        self.since = account.reactor.seconds()
        self._account = account
        self._front = Front(account.policy, self._secure, self._can_start_tls)
        self._patience = Patience(account.reactor, account.policy, account.limits.keep_warm, self._say)
        self._server: ServerEnd | None = None
        self._connecting: Deferred[Any] | None = None
        self._pumping = False
        self._spoken = False
        self._over = False
        self._gone = False

    # The program's side

    def connectionMade(self) -> None:
        """
        A program is there; what it hears is its server's greeting.
        """
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self._brake = Brake(self.transport)
        self._account.joined(self)
        connecting = self._account.endpoint.connect(_ServerEnds(self))
        self._connecting = connecting
        connecting.addCallbacks(self._connected, self._not_connected)

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
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        self._release()
        self._check_left()

    def _secure(self) -> bool:
        if is_secure(self.transport):
            return True
        peer = self.transport.getPeer()
        if isinstance(peer, UNIXAddress):
            return True
        try:
            return ipaddress.ip_address(str(getattr(peer, "host", "")).partition("%")[0]).is_loopback
        except ValueError:
            return False

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
                self._tell("closed before login", action.text)
            self._finish()

    # The server's side

    def _connected(self, server: object) -> None:
        self._connecting = None

    def _not_connected(self, failure: Failure) -> None:
        self._connecting = None
        if self._over or failure.check(CancelledError):
            return
        error = trouble_of(failure)
        self._log.warn("{account} {number}: {why}", account=self._account.name, number=self.number, why=error.detail)
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
        self._account.tell(self, "connected", f"by {self.roamer.path}")
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
        error = reason.value
        if isinstance(error, ContinuityLost):
            self._log.warn(
                "{account} {number}: the session is lost ({why}): the server had received {received} of {written} octets",
                account=self._account.name,
                number=self.number,
                why=error.why,
                received="an unknown part" if error.received is None else error.received,
                written=error.written,
            )
        if not self._over:
            self._bye(b"" if reason.check(ConnectionDone) else _LOST)
        self._check_left()

    def _happened(self, word: str, text: str) -> None:
        """
        Something happened to the session; see L{Roamer.watchers}.
        """
        if word in ("live", "plain", "away", "ended"):
            self.since = self._account.reactor.seconds()
        if word == "away" and not self._over:
            self._patience.away()
        elif word in ("live", "ended"):
            self._patience.stop()
        self._tell(word, text)

    def _tell(self, word: str, text: str) -> None:
        self._account.tell(self, word, text)

    # Ends

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
        self.transport.unregisterProducer()
        self._release()
        self.transport.resumeProducing()  # its end is not heard unless it is read
        self.transport.loseConnection()

    def _release(self) -> None:
        """
        Let go of the server's side: what was written for it still goes out.
        """
        server = self._server
        if server is not None:
            server.transport.unregisterProducer()
            server.transport.resumeProducing()
            server.transport.loseConnection()

    @property
    def phase(self) -> Phase | None:
        """
        Where the session stands; None before the first link stands.
        """
        return None if self.roamer is None else self.roamer.phase
