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
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IPushProducer, IReactorTime, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from mem_continuity.core.handshake import HandshakeError, Refused, Resumed, format_resume, parse_answer
from mem_continuity.core.policy import RoamingPolicy
from mem_continuity.core.resumption import Attempt
from mem_continuity.imap.actions import Failed, Plain, Started, StartTLS, ToClient, ToServer
from mem_continuity.imap.opening import ClientOpening
from mem_continuity.layer.conduit import Conduit
from mem_continuity.layer.sockets import hurry, is_secure, limit_unsent
from mem_continuity.layer.transport import VirtualTransport

_CODE = re.compile(rb"\[XCONTINUITY ([^\]]*)\]", re.IGNORECASE)
_TAG = b"mcr"
_TLS_TAG = b"mct"


class Mode(Enum):
    """
    What a link's octets are.
    """

    IDLE = auto()
    OPENING = auto()
    ASKING = auto()
    PLAIN = auto()
    FRAMED = auto()
    FENCED = auto()


class LinkFailed(Exception):
    """
    A link did not come to what it was made for; the text says why.
    """


@implementer(IHandshakeListener, IPushProducer)
class ClientLink(Protocol):
    """
    The protocol that stands directly on a connection to the server.

    @ivar ready: fires with the link when it can be used, TLS included; fails when it is lost before.
    @ivar on_started: called with the action L{Started} when the layer begins on this link.
    @ivar on_lost: called with the link and the reason when it is gone.
    @ivar path_name: the path by which it came.
    @ivar tls_context: what the inner protocol began TLS with, when it did so itself.
    """

    _log = Logger()
    transport: ITransport

    def __init__(self, policy: RoamingPolicy, clock: IReactorTime) -> None:
        self.policy = policy
        self.mode = Mode.IDLE
        self.congested = False
        self.ready: Deferred[ClientLink] = Deferred()
        self.conduit: Conduit | None = None
        self.inner: VirtualTransport | None = None
        self.on_started: Callable[[Started], object] = lambda started: None
        self.on_lost: Callable[[ClientLink, Failure], object] = lambda link, reason: None
        self.tls_context: Any = None
        self.path_name = ""
        self._clock = clock
        self._opening: ClientOpening | None = None
        self._pumping = False
        self._closing = False
        self._lost = False
        self._heard = b""
        self._answer: Deferred[Resumed | Refused] | None = None
        self._secured: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None

    # The connection

    def connectionMade(self) -> None:
        """
        The connection stands, though TLS may not yet.
        """
        limit_unsent(self.transport, self.policy.notsent_lowat)
        hurry(self.transport)
        self.transport.registerProducer(self, True)  # type: ignore[attr-defined]
        if not isinstance(self.transport, TLSMemoryBIOProtocol):
            self._set_ready()

    def handshakeCompleted(self) -> None:
        """
        TLS stands.
        """
        secured, self._secured = self._secured, None
        if secured is not None:
            secured.callback(None)
        else:
            self._set_ready()

    def _set_ready(self) -> None:
        if not self.ready.called:
            self.ready.callback(self)

    @property
    def secure(self) -> bool:
        """
        Whether this link is under TLS.
        """
        return is_secure(self.transport)

    def dataReceived(self, octets: bytes) -> None:
        """
        Octets of the server.
        """
        if self.mode is Mode.FRAMED and self.conduit is not None:
            self.conduit.link_received(self, octets)
        elif self.mode is Mode.PLAIN and self.inner is not None:
            self.inner.deliver(octets)
        elif self.mode is Mode.OPENING and self._opening is not None:
            self._opening.server_data(octets)
            self._pump()
        elif self.mode in (Mode.IDLE, Mode.ASKING):
            self._heard += octets
            self._read_lines()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The link is gone.
        """
        self._lost = True
        self._stop_timer()
        self.mode = Mode.FENCED
        if not self.ready.called:
            self.ready.errback(reason)
        secured, self._secured = self._secured, None
        if secured is not None:
            secured.errback(reason)
        self._answered(Failure(LinkFailed("the link was lost before the answer to RESUME")))
        self.on_lost(self, reason)

    # A new session

    def open(self, inner: VirtualTransport, client_id: tuple[bytes, bytes] | None) -> None:
        """
        Carry an inner protocol that opens a new session.
        """
        self.inner = inner
        self._opening = ClientOpening(self.policy, client_id, self.secure)
        self.mode = Mode.OPENING
        heard, self._heard = self._heard, b""
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
                self._to_server(action.octets)
            elif isinstance(action, ToClient):
                if self.inner is not None:
                    self.inner.deliver(action.octets)
            elif isinstance(action, Started):
                self.mode = Mode.FRAMED
                self.on_started(action)
            elif isinstance(action, Plain):
                self.mode = Mode.PLAIN
            elif isinstance(action, Failed):
                self._log.warn("The server is not understood: {text}", text=action.text)
                self.abort()
            else:
                assert isinstance(action, StartTLS)

    def _to_server(self, octets: bytes) -> None:
        if self.mode is Mode.FRAMED and self.conduit is not None:
            self.conduit.carry_write(octets)
        else:
            self.transport.write(octets)

    # An old session

    def secure_again(self, context: Any) -> Deferred[None]:
        """
        Put a fresh link under TLS by STARTTLS, as the inner protocol had done on the first one.

        @param context: what the inner protocol had used.
        @return: fires when TLS stands; fails with L{LinkFailed} when the server will not.
        """
        self._secured = Deferred()
        self.tls_context = context
        self.transport.write(_TLS_TAG + b" STARTTLS\r\n")
        return self._secured

    def resume(self, attempt: Attempt) -> Deferred[Resumed | Refused]:
        """
        Ask for a session on this link.  It must be L{ready}.

        @return: fires with the answer, at the latest when C{answer_timeout} is over; fails with L{LinkFailed} when there is none, or with
            L{HandshakeError} when it cannot be read.  After L{Resumed} call L{become_framed} in the same turn.
        """
        self.mode = Mode.ASKING
        self._answer = Deferred()
        self._timer = self._clock.callLater(self.policy.answer_timeout, self._no_answer)
        answer = self._answer
        self.transport.write(format_resume(_TAG, attempt.request))
        return answer

    def become_framed(self, conduit: Conduit) -> bytes:
        """
        RESUME was granted: what arrives from now on are frames.

        @return: frames that came behind the answer.
        """
        self.conduit = conduit
        self.mode = Mode.FRAMED
        rest, self._heard = self._heard, b""
        return rest

    def _read_lines(self) -> None:
        while self.mode in (Mode.IDLE, Mode.ASKING):
            line, found, rest = self._heard.partition(b"\r\n")
            if not found:
                if len(self._heard) > self.policy.preamble_line:
                    self._log.warn("The server sends no lines; the link is dropped.")
                    self.abort()
                return
            self._heard = rest
            tag, _, said = line.partition(b" ")
            if tag == _TAG:
                self._read_answer(said)
            elif tag == _TLS_TAG:
                self._read_tls_answer(said)
            elif said.upper().startswith(b"BYE"):
                self.abort()

    def _read_answer(self, said: bytes) -> None:
        code = _CODE.search(said)
        words = [] if code is None else code.group(1).split()
        try:
            self._answered(parse_answer(said.upper().startswith(b"OK "), words))
        except HandshakeError:
            self._answered(Failure())

    def _read_tls_answer(self, said: bytes) -> None:
        if said.upper().startswith(b"OK") and self._secured is not None:
            self._heard = b""  # what came in the clear is not used under TLS
            self.transport.startTLS(self.tls_context)  # type: ignore[attr-defined]
        elif self._secured is not None:
            secured, self._secured = self._secured, None
            secured.errback(Failure(LinkFailed("the server refused STARTTLS")))

    def _answered(self, answer: Resumed | Refused | Failure) -> None:
        self._stop_timer()
        waiting, self._answer = self._answer, None
        if waiting is not None:
            waiting.callback(answer)

    def _no_answer(self) -> None:
        self._timer = None
        self.abort()
        self._answered(Failure(LinkFailed("no answer to RESUME")))

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    # Ends

    def hold(self, held: bool) -> None:
        """
        While another link asks for the session: read nothing from this one; afterwards, if it was refused, go on.
        """
        if not self._lost:
            transport: Any = self.transport
            (transport.pauseProducing if held else transport.resumeProducing)()

    def fence(self) -> None:
        """
        Nothing that still arrives on this link counts.
        """
        self.mode = Mode.FENCED

    def drop(self, reason: str) -> None:
        """
        Break off now; the session goes on elsewhere.
        """
        self._log.info("A link is dropped: {reason}", reason=reason)
        conduit = self.conduit
        self.mode = Mode.FENCED
        if conduit is not None:
            conduit.link_lost(self)
        self.abort()

    def finish(self) -> None:
        """
        Close once everything is out; break off when that takes too long.
        """
        self._closing = True
        if not self._pumping:
            self._close()

    def _close(self) -> None:
        if self._lost:
            return
        self.mode = Mode.FENCED
        self._stop_timer()
        self.hold(False)
        self.transport.unregisterProducer()  # type: ignore[attr-defined]
        self.transport.loseConnection()
        if not self._lost:
            self._timer = self._clock.callLater(self.policy.answer_timeout, self._overdue)

    def _overdue(self) -> None:
        self._timer = None
        self.abort()

    def abort(self) -> None:
        """
        Break off now.
        """
        self.mode = Mode.FENCED
        if not self._lost:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    # IPushProducer, towards our own transport

    def pauseProducing(self) -> None:
        """
        The transport has enough.
        """
        self.congested = True
        self._flow()

    def resumeProducing(self) -> None:
        """
        The transport takes octets again.
        """
        self.congested = False
        self._flow()

    def _flow(self) -> None:
        if self.mode is Mode.FRAMED and self.conduit is not None:
            self.conduit.link_flow(self)
        elif self.mode is Mode.PLAIN and self.inner is not None:
            self.inner.flow(not self.congested)
        elif self.mode is Mode.OPENING:
            self._pump()

    def stopProducing(self) -> None:
        """
        The transport is dying; C{connectionLost} follows.
        """

    # Carrier of the inner transport while a session is opened, and in plain mode

    def carry_write(self, octets: bytes) -> None:
        """
        @see: L{Carrier<mem_continuity.layer.transport.Carrier.carry_write>}
        """
        if self.mode is Mode.OPENING and self._opening is not None:
            self._opening.client_data(octets)
            self._pump()
        elif self.mode is Mode.PLAIN:
            self.transport.write(octets)

    def carry_close(self) -> None:
        """
        @see: L{Carrier<mem_continuity.layer.transport.Carrier.carry_close>}
        """
        self.finish()

    def carry_abort(self) -> None:
        """
        @see: L{Carrier<mem_continuity.layer.transport.Carrier.carry_abort>}
        """
        self.abort()

    def carry_pause(self) -> None:
        """
        @see: L{Carrier<mem_continuity.layer.transport.Carrier.carry_pause>}
        """
        self.hold(True)

    def carry_resume(self) -> None:
        """
        @see: L{Carrier<mem_continuity.layer.transport.Carrier.carry_resume>}
        """
        self.hold(False)

    def carry_start_tls(self, context: Any, normal: bool) -> None:
        """
        The inner protocol has agreed with the server to begin TLS.
        """
        self.tls_context = context
        self.transport.startTLS(context, normal)  # type: ignore[attr-defined]

    def link_transport(self) -> ITransport | None:
        """
        @see: L{Carrier<mem_continuity.layer.transport.Carrier.link_transport>}
        """
        return self.transport
