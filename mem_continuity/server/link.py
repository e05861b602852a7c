"""
A link: one connection of a client, from accept to close.

A link goes through modes, and never back::

    PREAMBLE -> PLAIN    the first command of somebody else's: octets pass untouched, as if we were not there
    PREAMBLE -> FRAMED   START or RESUME was granted: octets are frames, and a conduit has them
    any      -> FENCED   nothing that still arrives counts: the session has moved on, or the link is being closed

Invariants:

- The inner protocol is bound as late as can be: when TLS stands and the peer's address is known, and not at all when the first
  command is a RESUME that is granted.  A protocol that was bound and is not needed after all is told C{connectionLost}.
- The link is the only producer that is ever registered with its transport.
- In the preamble and in plain mode the link is the inner transport's carrier; once fenced it carries nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mem_continuity.core.frames import FrameType, encode
from mem_continuity.directory.record import ClientID
from mem_continuity.imap.actions import (
    Action,
    Authenticated,
    Extension,
    Over,
    Refused,
    StartTLS,
    ToClient,
    ToServer,
)
from mem_continuity.imap.preamble import ServerPreamble
from mem_continuity.layer.base_link import BaseLink
from mem_continuity.layer.conduit import Conduit
from mem_continuity.layer.sockets import hasten_death, hurry
from mem_continuity.layer.tls_socket import handshakes
from mem_continuity.server.hub import Hub
from mem_continuity.server.proxied import when_peer_known
from mem_continuity.server.served import Served


class Mode(Enum):
    """
    What a link's octets are.
    """

    PREAMBLE = auto()
    PLAIN = auto()
    FRAMED = auto()
    FENCED = auto()


@implementer(IHandshakeListener)
class ServerLink(BaseLink):
    """
    The protocol that stands directly on a client's connection.

    @ivar served: the session on this link: the inner protocol bound here, or the one that a RESUME brought.
    @ivar client_id: what the client named itself, under TLS and before login.
    @ivar commands: carries out our own commands; set by the factory.
    """

    _log = Logger()

    def __init__(self, hub: Hub, commands: Callable[[ServerLink, Extension], None]) -> None:
        super().__init__(hub.clock, hub.policy.notsent_lowat, hub.policy.moved_deadline)
        self.hub = hub
        self.served: Served | None = None
        self.client_id: ClientID | None = None
        self.mode = Mode.PREAMBLE
        self.preamble = ServerPreamble(hub.policy, self._announced, bound=False)
        self._commands = commands
        self._read_paused = False
        self._binding: IDelayedCall | None = None

    # The connection

    def connectionMade(self) -> None:
        """
        The connection stands, though TLS may not yet.
        """
        super().connectionMade()
        hurry(self.transport)
        self._deadline = self.hub.clock.callLater(self.hub.policy.preamble_time, self._too_slow)
        if not handshakes(self.transport):
            when_peer_known(self.transport, self._bind_soon)

    def handshakeCompleted(self) -> None:
        """
        TLS stands.  A RESUME that came with the last flight of the handshake is read before anything is bound.
        """
        self._bind_soon()

    def admit(self) -> bool:
        """
        The peer's address is known and TLS stands: may this link go on?  Whoever says no has said why, and closes it.
        """
        return True

    def _bind_soon(self) -> None:
        if self._binding is None and self.served is None and self.admit():
            self._binding = self.hub.clock.callLater(0, self._bind_now)

    def _bind_now(self) -> None:
        self._binding = None
        if self.mode is Mode.PREAMBLE and self.preamble.first_is_resume() is not True:
            self.bind()

    def bind(self) -> None:
        """
        Make the inner protocol for this link, if there is none: its greeting goes out.
        """
        if self.served is not None or self._closing:
            return
        self._cancel_binding()
        try:
            protocol = self.hub.build(self.transport.getPeer())
            if protocol is None:
                self.finish()
                return
            self.served = self.hub.serve(self.hub, self, protocol)
            self.served.transport.connect()
        except Exception:
            self._log.failure("No protocol could be made for a connection; it is closed.")
            self.carry_abort()
            return
        self.pump()

    def unbind(self) -> None:
        """
        The inner protocol that was bound here is not needed: the link has got another session.
        """
        self._cancel_binding()
        served, self.served = self.served, None
        if served is not None:
            served.link = None
            served.end_with(Failure(ConnectionDone()))

    def _too_slow(self) -> None:
        self._deadline = None
        if self.mode is Mode.PREAMBLE and not self.preamble.authenticated:
            self.hub.table.counts["limit_preamble_time"] += 1
            self._log.info("A link from {peer} did not log in in time.", peer=self.peer_host)
            self.transport.write(b"* BYE no login in time\r\n")
            self.finish()

    @property
    def peer_host(self) -> str:
        """
        The peer's host as text; empty for a peer that has none.
        """
        return str(getattr(self.transport.getPeer(), "host", ""))

    @property
    def trusted(self) -> bool:
        """
        Whether keys may be told on this link: under TLS, or where the operator allows it.
        """
        return self.secure or self.hub.allow_insecure

    def dataReceived(self, octets: bytes) -> None:
        """
        Octets of the client.
        """
        if self.mode is Mode.FRAMED:
            conduit = self.conduit
            if conduit is not None:
                conduit.link_received(self, octets)
        elif self.mode is Mode.PLAIN:
            if self.served is not None:
                self.served.transport.deliver(octets)
        elif self.mode is Mode.PREAMBLE:
            self.preamble.client_data(octets)
            self.pump()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The link is gone; what becomes of its session is for the session to say.
        """
        super().connectionLost(reason)
        self._cancel_binding()
        served = self.served
        if served is None:
            return
        if served.conduit is not None:
            served.conduit.link_lost(self)
        elif served.link is self:
            served.link_lost(reason)

    # The preamble

    def _announced(self) -> tuple[bytes, ...]:
        return (b"CLIENTID", b"XCONTINUITY") if self.trusted else ()

    def pump(self) -> None:
        """
        Carry out what the preamble asks for.  A call from within is left to the one that runs already.
        """
        if self._pumping:
            return
        self._pumping = True
        try:
            self._carry_out()
        finally:
            self._pumping = False
        if self._closing:
            if self.mode is Mode.PREAMBLE:
                self.drain()  # the answer that the inner protocol has closed behind
            self._close()
        elif self.mode is Mode.PREAMBLE:
            self._pace()

    def _carry_out(self) -> None:
        # A client that does not read its answers gets no more of them, or they would pile up in the transport.
        while self.mode is Mode.PREAMBLE and not self.congested and not self._closing:
            action = self.preamble.next_action()
            if action is None:
                return
            self._carry_out_one(action)

    def _carry_out_one(self, action: Action) -> None:
        if isinstance(action, ToClient):
            self.transport.write(action.octets)
        elif isinstance(action, ToServer):
            self._to_inner(action.octets)
        elif isinstance(action, Extension):
            self._commands(self, action)
        elif isinstance(action, Authenticated):
            self._authenticated(action.user)
        elif isinstance(action, StartTLS):
            self.client_id = None
        elif isinstance(action, Over):
            self._over(action.octets)
        elif isinstance(action, Refused):
            self.transport.write(action.octets)
            if action.close:
                self.finish()

    def _to_inner(self, octets: bytes) -> None:
        self.bind()
        if self.served is not None and octets:
            if not self.preamble.authenticated:
                self.served.client_id = self.client_id  # a realm wants to know it while the login goes on
            self.served.before_command()
            self.served.transport.deliver(octets)

    def _authenticated(self, user: bytes | None) -> None:
        self._stop_deadline()
        if self.served is not None:
            self.served.client_id = self.client_id
            self.served.authenticated(user)

    def drain(self) -> None:
        """
        Write what the inner protocol has said so far, though a command of ours is being carried out.
        """
        while (action := self.preamble.next_due()) is not None:
            self._carry_out_one(action)

    def _over(self, octets: bytes) -> None:
        for left in self._left_over():
            self.transport.write(left)
        self.mode = Mode.PLAIN
        self.bind()
        if self.served is not None:
            self.served.settle()
            self.served.transport.deliver(octets)
        self._read_on()

    def _left_over(self) -> list[bytes]:
        self.preamble.flush()
        left = []
        while isinstance(action := self.preamble.next_action(), ToClient):
            left.append(action.octets)
        return left

    def _pace(self) -> None:
        if self.preamble.buffered > self.hub.policy.preamble_buffer:
            self._read_paused = True
            self._wire.pauseProducing()  # each time, for the inner protocol may have read on
        else:
            self._read_on()

    def _read_on(self) -> None:
        paused, self._read_paused = self._read_paused, False
        if paused and not self._lost and (self.served is None or self.served.transport.reading):
            self._wire.resumeProducing()

    def answer(self, tag: bytes, condition: bytes, text: bytes) -> None:
        """
        Write a tagged response of our own, behind all that the inner protocol has said.
        """
        self.transport.write(b"%b %b %b\r\n" % (tag, condition, text))

    # Becoming framed

    @property
    def conduit(self) -> Conduit | None:
        """
        The conduit of the session on this link.
        """
        return None if self.served is None else self.served.conduit

    def become_framed(self, served: Served) -> tuple[bytes, list[bytes]]:
        """
        The layer begins on this link.

        @return: octets that the client sent behind its command, which are frames; and octets of the inner protocol that was
            bound here which are not written yet.
        """
        self._stop_deadline()
        self._cancel_binding()
        self.served = served
        served.link = self
        served.peer_host = self.peer_host
        self.mode = Mode.FRAMED
        rest = self.preamble.take_rest()
        unsaid = self._left_over()
        self._read_paused = False
        self._wire.resumeProducing()  # the preamble or the inner protocol may have paused it
        return rest, unsaid

    # Ends

    def fence(self) -> None:
        """
        Nothing that still arrives on this link counts.
        """
        self.mode = Mode.FENCED

    def displaced(self) -> None:
        """
        Another link has the session now: say so, and close.
        """
        self.mode = Mode.FENCED
        self.transport.write(encode(FrameType.MOVED))
        self.finish()

    def left(self) -> None:
        """
        @see: L{Link<mem_continuity.layer.roles.Link.left>}; the client closes it, when it has read to the end.  Were it closed
        here, a reset could take with it what is on its way.
        """
        self.mode = Mode.FENCED
        if not self._lost and not self._finishing:
            self._stop_deadline()
            self._deadline = self.hub.clock.callLater(self.hub.policy.drain, self.abort)

    def suspect(self) -> None:
        """
        This client was seen at another address: is this link still alive?  One that is not is found out within seconds.
        """
        policy = self.hub.policy
        hasten_death(
            self.transport,
            policy.suspect_idle,
            policy.suspect_interval,
            policy.suspect_probes,
            policy.suspect_timeout,
        )
        if self.mode is Mode.FRAMED and self.conduit is not None:
            self.conduit.probe(policy.suspect_timeout)

    def drop(self, reason: str) -> None:
        """
        Break off now: the session, if there is one, is parked.
        """
        self._log.info("A link from {peer} is dropped: {reason}", peer=self.peer_host, reason=reason)
        if self.mode is Mode.FRAMED and self.conduit is not None:
            self.mode = Mode.FENCED
            self.conduit.link_lost(self)
        self.abort()

    def _cancel_binding(self) -> None:
        binding, self._binding = self._binding, None
        if binding is not None:
            binding.cancel()

    def _flow(self) -> None:
        if self.mode is Mode.FRAMED:
            if self.conduit is not None:
                self.conduit.link_flow(self)
            return
        if self.mode is Mode.PREAMBLE and not self.congested:
            self.pump()
        if self.mode in (Mode.PREAMBLE, Mode.PLAIN) and self.served is not None:
            self.served.transport.flow(not self.congested)

    # Carrier of the inner transport, in the preamble and in plain mode

    def carry_write(self, octets: bytes) -> None:
        """
        @see: L{Carrier<mem_continuity.layer.roles.Carrier.carry_write>}
        """
        if self.mode is Mode.PREAMBLE:
            self.preamble.server_data(octets)
            self.pump()
        elif self.mode is Mode.PLAIN:
            self.transport.write(octets)

    def carry_abort(self) -> None:
        """
        @see: L{Carrier<mem_continuity.layer.roles.Carrier.carry_abort>}
        """
        self._closing = True
        super().carry_abort()

    def carry_start_tls(self, context: Any, normal: bool) -> None:
        """
        The inner protocol has just told its peer to begin TLS: that answer goes out in clear first.
        """
        if self.mode is Mode.PREAMBLE:
            self.drain()
            self.preamble.forget_client()
        self._wire.startTLS(context, normal)
