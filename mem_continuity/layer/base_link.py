"""
What the links of both sides have in common: one connection, from its beginning to its end.

Invariants: the link is the only producer that is ever registered with its transport; an end that was asked for comes, by itself
or by the deadline; after it nothing is read or written.  What a link's octets mean is for the two sides to say.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from mem_continuity.layer.sockets import is_secure, limit_unsent


@implementer(IPushProducer)
class BaseLink(Protocol):
    """
    A protocol that stands directly on a connection.  A subclass says in L{fence} and L{_flow} what is special.
    """

    transport: ITransport

    def __init__(self, clock: IReactorTime, unsent: int, close_within: float) -> None:
        """
        @param unsent: octets that the kernel may hold unsent.
        @param close_within: seconds after which an orderly close is broken off.
        """
        self._clock = clock
        self._unsent = unsent
        self._close_within = close_within
        self._full = False
        self._pumping = False
        self._closing = False
        self._finishing = False
        self._standing_by = False
        self._lost = False
        self._deadline: IDelayedCall | None = None

    @property
    def _wire(self) -> Any:
        # ITransport does not tell of producers, pausing and aborting; every transport that a link is given has them.
        return self.transport

    def connectionMade(self) -> None:
        """
        The connection stands, though TLS may not yet.
        """
        limit_unsent(self.transport, self._unsent)
        self._wire.registerProducer(self, True)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The link is gone.
        """
        self._lost = True
        self._stop_deadline()
        self.fence()

    @property
    def secure(self) -> bool:
        """
        Whether this link is under TLS.
        """
        return is_secure(self.transport)

    # Ends

    def fence(self) -> None:
        """
        Nothing that still arrives on this link counts.
        """

    def finish(self) -> None:
        """
        Close, once everything is out; break off when that takes too long.
        """
        self._closing = True
        if not self._pumping:
            self._close()

    def stand_by(self) -> None:
        """
        @see: L{Link<mem_continuity.layer.roles.Link.stand_by>}
        """
        self._standing_by = True
        if not self._lost:
            self._wire.pauseProducing()

    def read_on(self) -> None:
        """
        @see: L{Link<mem_continuity.layer.roles.Link.read_on>}
        """
        standing_by, self._standing_by = self._standing_by, False
        if standing_by and not self._lost:
            self._wire.resumeProducing()

    def _close(self) -> None:
        if self._lost or self._finishing:
            return
        self._finishing = True
        self._stop_deadline()
        self.fence()
        self.read_on()  # the answer to a close_notify has to be read
        self._wire.unregisterProducer()
        self.transport.loseConnection()
        if not self._lost:
            self._deadline = self._clock.callLater(self._close_within, self.abort)

    def abort(self) -> None:
        """
        Break off now.
        """
        self.fence()
        self._stop_deadline()
        if not self._lost:
            self._wire.abortConnection()

    def _stop_deadline(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()

    # IPushProducer, towards our own transport

    @property
    def congested(self) -> bool:
        """
        Whether nothing is to be written now: the transport has enough.
        """
        return self._full

    def pauseProducing(self) -> None:
        """
        The transport has enough.
        """
        self._full = True
        self._flow()

    def resumeProducing(self) -> None:
        """
        The transport takes octets again.
        """
        self._full = False
        self._flow()

    def stopProducing(self) -> None:
        """
        The transport is dying; C{connectionLost} follows.
        """

    def _flow(self) -> None:
        """
        L{congested} may have changed.
        """

    # Carrier of the inner transport, as long as no session is: what does not depend on the side

    def carry_close(self) -> None:
        """
        @see: L{Carrier<mem_continuity.layer.roles.Carrier.carry_close>}
        """
        self.finish()

    def carry_abort(self) -> None:
        """
        @see: L{Carrier<mem_continuity.layer.roles.Carrier.carry_abort>}
        """
        self.abort()

    def carry_pause(self) -> None:
        """
        @see: L{Carrier<mem_continuity.layer.roles.Carrier.carry_pause>}
        """
        if not self._lost:
            self._wire.pauseProducing()

    def carry_resume(self) -> None:
        """
        @see: L{Carrier<mem_continuity.layer.roles.Carrier.carry_resume>}
        """
        if not self._lost and not self._standing_by:
            self._wire.resumeProducing()

    def link_transport(self) -> ITransport | None:
        """
        @see: L{Carrier<mem_continuity.layer.roles.Carrier.link_transport>}
        """
        return self.transport
