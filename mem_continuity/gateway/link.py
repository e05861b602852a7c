"""
One connection to an upstream, from TCP to the last octet.

Invariants: at first the L{Greeting<mem_continuity.gateway.greeting.Greeting>} has the connection; then, not read, it keeps what
has come already; from L{UpstreamLink.attach} on every octet goes to the receiver straight, for the method that Twisted calls
I{is} the receiver's.  A receiver hears of the end once, and never from within a call of its own.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet import protocol
from twisted.internet.interfaces import IHandshakeListener, IReactorTime, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from mem_continuity.core.policy import Policy
from mem_continuity.gateway.errors import Trouble, UpstreamError
from mem_continuity.gateway.greeting import Greeting, Ready, Say, StartTLS, Step
from mem_continuity.gateway.source import Source, proxy_header
from mem_continuity.gateway.trust import handshake_error, is_pinned
from mem_continuity.gateway.upstream import Upstream

_AT_ONCE = 4 * (64 * 1024 - 4)
"""Octets that are read from an upstream at once, and may wait for it: four DATA frames.  Not a limit."""


class UpstreamReceiver(Protocol):
    """
    Whom an upstream's octets are for.
    """

    def upstream_received(self, octets: bytes) -> object:
        """
        Octets of the upstream, as they come.
        """

    def upstream_lost(self, reason: Failure) -> object:
        """
        The connection is gone; nothing follows.
        """


class LinkOwner(Protocol):
    """
    Who waits for a link to be ready.
    """

    def link_stands(self) -> object:
        """
        The greeting can be waited for: TCP stands, and TLS where it comes first.
        """

    def link_ready(self) -> object:
        """
        L{UpstreamLink.attach} may be called.
        """

    def link_failed(self, error: UpstreamError) -> object:
        """
        It never will be; it is to be told to L{UpstreamLink.give_up}.
        """


@implementer(IHandshakeListener)
class UpstreamLink(protocol.Protocol):
    """
    Made by L{connect_upstream<mem_continuity.gateway.connecting.connect_upstream>}.

    C{transport} is for writing, C{pauseProducing} and C{resumeProducing} (reading), C{registerProducer} and the ends.

    @ivar upstream: where it leads to.
    @ivar greeting: the upstream's greeting, a line with its CRLF, fit to be shown to a client: an untagged OK.
    @ivar capabilities: the upstream's words in upper case; empty when its greeting had none and they were not asked for.
    """

    transport: Any

    def __init__(
        self, clock: IReactorTime, upstream: Upstream, policy: Policy, source: Source | None, want: bool, owner: LinkOwner
    ) -> None:
        self.upstream = upstream
        self.greeting = b""
        self.capabilities: frozenset[bytes] = frozenset()
        self._clock = clock
        self._policy = policy
        self._header = proxy_header(source) if upstream.proxy else b""
        told = source if upstream.tell else None
        self._dialogue: Greeting | None = Greeting(upstream.kind == "starttls", told, want, policy.preamble_line)
        self._owner: LinkOwner | None = owner
        self._receiver: UpstreamReceiver | None = None
        self._kept = b""
        self._handshaking = False
        self._lost: Failure | None = None
        self._attached = False

    # Towards Twisted

    def connectionMade(self) -> None:
        """
        TCP stands.
        """
        if not self.upstream.secured:  # Twisted's TLS would keep buffers of that size
            self.transport.bufferSize = _AT_ONCE
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)
        if self._header:
            self.transport.write(self._header)
            self._header = b""
        if self.upstream.kind == "tls":
            self._begin_tls()
        elif self._owner is not None:
            self._owner.link_stands()

    def handshakeCompleted(self) -> None:
        """
        TLS stands.
        """
        if not self._handshaking:
            return
        self._handshaking = False
        if self.upstream.pins and not is_pinned(self.transport, self.upstream.pins):
            self._fail(Trouble.CERTIFICATE.error("its public key is none of those that pin= names"))
        elif self.upstream.kind == "starttls" and self._dialogue is not None:
            self._take(self._dialogue.secured())
        elif self._owner is not None:
            self._owner.link_stands()

    def dataReceived(self, data: bytes) -> None:
        """
        Octets before L{attach}.
        """
        if self._dialogue is None:
            self._keep(data)
            return
        try:
            steps = self._dialogue.feed(data)
        except UpstreamError as error:
            self._fail(error)
        else:
            self._take(steps)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection is gone.
        """
        self._lost = reason
        self.__dict__.pop("dataReceived", None)
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.upstream_lost(reason)
        elif self._handshaking:
            self._fail(handshake_error(reason.value))
        else:
            self._fail(Trouble.LOST.error(f"the connection ended before it was ready: {reason.getErrorMessage()}"))

    # The opening

    def _begin_tls(self) -> None:
        self._handshaking = True
        self.transport.startTLS(self.upstream.creator)

    def _take(self, steps: list[Step]) -> None:
        for step in steps:
            if isinstance(step, Say):
                self.transport.write(step.octets)
            elif isinstance(step, StartTLS):
                self._begin_tls()
            else:
                self._ready(step)

    def _ready(self, ready: Ready) -> None:
        self.greeting, self.capabilities, self._kept = ready
        self._dialogue = None
        owner, self._owner = self._owner, None
        self.transport.pauseProducing()
        if owner is not None:
            owner.link_ready()

    def _fail(self, error: UpstreamError) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.link_failed(error)

    def give_up(self) -> None:
        """
        Nobody waits any more.  Called by the owner.
        """
        self._owner = self._dialogue = None
        self.abort()

    def _keep(self, data: bytes) -> None:
        self._kept += data
        if len(self._kept) > self._policy.preamble_buffer:
            self._kept = b""
            self.abort()

    # Afterwards

    @property
    def rest(self) -> bytes:
        """
        Octets that came behind the opening and wait for a receiver.
        """
        return self._kept

    @property
    def lost(self) -> bool:
        """
        Whether the connection is gone.
        """
        return self._lost is not None

    def attach(self, receiver: UpstreamReceiver) -> None:
        """
        Hand all octets to somebody from now on, L{rest} first.  The first call begins to read; a later one changes the receiver,
        or takes its C{upstream_received} anew, and leaves reading as it is.

        What is kept is handed on from within this call; should the connection be lost already, that is told later.
        """
        first, self._attached = not self._attached, True
        kept, self._kept = self._kept, b""
        if self._lost is None:
            self._receiver = receiver
            self.dataReceived = receiver.upstream_received  # type: ignore[method-assign, assignment]
            if first:
                self.transport.resumeProducing()
        elif first:
            self._clock.callLater(0, receiver.upstream_lost, self._lost)
        if kept:
            receiver.upstream_received(kept)

    def abort(self) -> None:
        """
        Break off now.
        """
        if self._lost is None:
            self.transport.abortConnection()
