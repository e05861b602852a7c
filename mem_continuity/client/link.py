"""
A link as the client has it: one connection to the server.

A link goes through modes, and never back::

    IDLE     -> OPENING   an inner protocol opens a new session on it; our commands go in between its own
    IDLE     -> ASKING    RESUME is sent
    OPENING  -> FRAMED    START was granted
    OPENING  -> PLAIN     the server has no continuity: octets pass untouched
    ASKING   -> FRAMED    RESUME was granted
    any      -> FENCED    nothing that still arrives counts

An IDLE link is one that was prepared: TCP and TLS stand, and a RESUME takes one round trip.

Invariants: nothing is delivered from a link that is fenced; the owner hears once that a link is lost, and a link that was
told to go is gone within C{answer_timeout}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from mem_continuity.client.asking import Asking, LinkFailed, Mode
from mem_continuity.core.handshake import Refused, Resumed
from mem_continuity.core.policy import RoamingPolicy
from mem_continuity.core.resumption import Attempt
from mem_continuity.imap.actions import Failed, Plain, Started, StartTLS, ToClient, ToServer
from mem_continuity.imap.opening import ClientOpening
from mem_continuity.layer.base_link import BaseLink
from mem_continuity.layer.conduit import Conduit
from mem_continuity.layer.sockets import hurry
from mem_continuity.layer.transport import VirtualTransport

__all__ = ["ClientLink", "LinkFailed", "Mode"]


@implementer(IHandshakeListener)
class ClientLink(BaseLink):
    """
    The protocol that stands directly on a connection to the server.

    @ivar ready: fires with the link when it can be used, TLS included; fails when it is lost before.
    @ivar on_started: called with the action L{Started} when the layer begins on this link.
    @ivar on_plain: called when it is clear that it will not.
    @ivar on_lost: called with the link and the reason when it is gone.
    @ivar path_name: the path by which it came.
    @ivar took: seconds until it stood; 0 for the first one.
    @ivar tls_context: what the inner protocol began TLS with, when it did so itself.
    @ivar dropped: it was broken off from this side, because it was silent or broke the rules.
    """

    _log = Logger()

    def __init__(self, policy: RoamingPolicy, clock: IReactorTime) -> None:
        super().__init__(clock, policy.notsent_lowat, policy.answer_timeout)
        self.policy = policy
        self.mode = Mode.IDLE
        self.ready: Deferred[ClientLink] = Deferred()
        self.conduit: Conduit | None = None
        self.inner: VirtualTransport | None = None
        self.on_started: Callable[[Started], object] = lambda started: None
        self.on_plain: Callable[[], object] = lambda: None
        self.on_lost: Callable[[ClientLink, Failure], object] = lambda link, reason: None
        self.tls_context: Any = None
        self.path_name = ""
        self.took = 0.0
        self.dropped = False
        self._opening: ClientOpening | None = None
        self._asking = Asking(policy, clock, lambda octets: self.transport.write(octets), self.abort)
        self._held = False
        self._kept = b""
        self._close_wanted = False

    # The connection

    def connectionMade(self) -> None:
        """
        The connection stands, though TLS may not yet.
        """
        super().connectionMade()
        hurry(self.transport)
        if not isinstance(self.transport, TLSMemoryBIOProtocol):
            self._set_ready()

    def handshakeCompleted(self) -> None:
        """
        TLS stands.
        """
        if not self._asking.secured():
            self._set_ready()

    def _set_ready(self) -> None:
        if not self.ready.called:
            self.ready.callback(self)

    def dataReceived(self, octets: bytes) -> None:
        """
        Octets of the server.
        """
        if self._held:
            self._kept += octets  # the rest of a chunk that was being read when it was held
        elif self.mode is Mode.FRAMED and self.conduit is not None:
            self.conduit.link_received(self, octets)
        elif self.mode is Mode.PLAIN and self.inner is not None:
            self.inner.deliver(octets)
        elif self.mode is Mode.OPENING and self._opening is not None:
            self._opening.server_data(octets)
            self._pump()
        elif self.mode in (Mode.IDLE, Mode.ASKING):
            self._asking.read(octets)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The link is gone.
        """
        super().connectionLost(reason)
        if not self.ready.called:
            self.ready.errback(reason)
        self._asking.stop(Failure(LinkFailed("the link was lost before the answer")))
        self.on_lost(self, reason)

    # A new session

    def open(self, inner: VirtualTransport, client_id: tuple[bytes, bytes] | None) -> None:
        """
        Carry an inner protocol that opens a new session.
        """
        self.inner = inner
        self._opening = ClientOpening(self.policy, client_id, self.secure)
        self.mode = Mode.OPENING
        heard = self._asking.take_rest()
        inner.connect()
        if heard:
            self.dataReceived(heard)

    def _pump(self) -> None:
        if self._pumping or self._opening is None:
            return
        self._pumping = True
        try:
            self._carry_out(self._opening)
        finally:
            self._pumping = False
        if self._close_wanted and not self._unsaid:
            self._close_wanted = False
            self._stop_deadline()
            if self.mode is Mode.FRAMED and self.conduit is not None:
                self.conduit.carry_close()
            else:
                self._closing = True
        if self._closing:
            self._close()
        elif self.mode is Mode.OPENING and self.inner is not None:
            self.inner.flow(not self.congested and self._opening.held <= self.policy.preamble_buffer)

    def _carry_out(self, opening: ClientOpening) -> None:
        while self.mode is not Mode.FENCED:
            action = opening.next_action()
            if action is None:
                return
            if isinstance(action, ToServer):
                (self.transport.write if self.conduit is None else self.conduit.carry_write)(action.octets)
            elif isinstance(action, ToClient):
                if self.inner is not None:
                    self.inner.deliver(action.octets)
            elif isinstance(action, Started):
                self.mode = Mode.FRAMED
                self.on_started(action)
            elif isinstance(action, Plain):
                self.mode = Mode.PLAIN
                self.on_plain()
            elif isinstance(action, Failed):
                self._log.warn("The server is not understood: {text}", text=action.text)
                self.abort()
            else:
                assert isinstance(action, StartTLS)

    @property
    def _unsaid(self) -> bool:
        return self.mode is Mode.OPENING and self._opening is not None and bool(self._opening.held)

    # An old session

    def secure_again(self, context: Any) -> Deferred[None]:
        """
        Put a fresh link under TLS by STARTTLS, as the inner protocol had done on the first one.

        @param context: what the inner protocol had used.
        @return: fires when TLS stands; fails with L{LinkFailed} when the server will not.
        """
        self.tls_context = context
        return self._asking.secure(lambda: self._wire.startTLS(context))

    def resume(self, attempt: Attempt) -> Deferred[Resumed | Refused]:
        """
        Ask for a session on this link.  It must be L{ready}.

        @return: fires with the answer, at the latest when C{answer_timeout} is over; fails with L{LinkFailed} when there is
            none, or with L{HandshakeError} when it cannot be read.  After L{Resumed} call L{become_framed} in the same turn.
        """
        self.mode = Mode.ASKING
        return self._asking.resume(attempt)

    def become_framed(self, conduit: Conduit) -> bytes:
        """
        RESUME was granted: what arrives from now on are frames.

        @return: frames that came behind the answer.
        """
        self.conduit = conduit
        self.mode = Mode.FRAMED
        return self._asking.take_rest()

    def give_up(self, why: str) -> None:
        """
        Break off; a RESUME that waits here fails with L{LinkFailed}.
        """
        self._asking.give_up(why)

    # Ends

    def hold(self, held: bool) -> None:
        """
        While another link asks for the session this one carries nothing and is not read: what it brought would come again on the
        other.  Afterwards, if that was refused, it goes on.
        """
        self._held = held
        if self._lost:
            return
        (self._wire.pauseProducing if held else self._wire.resumeProducing)()
        if not held:
            kept, self._kept = self._kept, b""
            if kept:
                self.dataReceived(kept)
            self._flow()

    def fence(self) -> None:
        """
        Nothing that still arrives on this link counts.
        """
        self.mode = Mode.FENCED

    def left(self) -> None:
        """
        @see: L{Link<mem_continuity.layer.roles.Link.left>}
        """
        self.finish()

    def drop(self, reason: str) -> None:
        """
        Break off now; the session goes on elsewhere.
        """
        self.dropped = True
        conduit = self.conduit
        self.mode = Mode.FENCED
        if conduit is not None:
            conduit.link_lost(self)
        self.abort()

    def _close(self) -> None:
        if not self._lost:
            self._asking.stop(Failure(LinkFailed("the link was closed")))
        super()._close()

    @property
    def congested(self) -> bool:
        """
        Whether nothing is to be written now: the transport has enough, or another link asks for the session.
        """
        return self._full or self._held

    def _flow(self) -> None:
        if self.mode is Mode.FRAMED and self.conduit is not None:
            self.conduit.link_flow(self)
        elif self.mode is Mode.PLAIN and self.inner is not None:
            self.inner.flow(not self.congested)
        elif self.mode is Mode.OPENING:
            self._pump()

    # Carrier of the inner transport while a session is opened, and in plain mode

    def carry_write(self, octets: bytes) -> None:
        """
        @see: L{Carrier<mem_continuity.layer.roles.Carrier.carry_write>}
        """
        if self.mode is Mode.OPENING and self._opening is not None:
            self._opening.client_data(octets)
            self._pump()
        elif self.mode is Mode.PLAIN:
            self.transport.write(octets)

    def carry_close(self) -> None:
        """
        @see: L{Carrier<mem_continuity.layer.roles.Carrier.carry_close>}; commands that wait for the server's word on the
        layer are still said.
        """
        if not self._unsaid:
            self.finish()
            return
        self._close_wanted = True
        self._stop_deadline()
        self._deadline = self._clock.callLater(self.policy.answer_timeout, self.abort)

    def carry_start_tls(self, context: Any, normal: bool) -> None:
        """
        The inner protocol has agreed with the server to begin TLS.
        """
        self.tls_context = context
        self._wire.startTLS(context, normal)
