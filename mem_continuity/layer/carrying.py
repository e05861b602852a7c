"""
The inner protocol's side of a conduit: what it writes goes into its session, and how it ends.

Invariants: an inner protocol is never called from within its own call, but for C{pauseProducing} and C{resumeProducing}, as with
every transport; what it writes is counted, whether or not there is a link.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure

from mem_continuity.core.session import Session
from mem_continuity.core.states import State
from mem_continuity.layer.roles import Link, Owner
from mem_continuity.layer.transport import VirtualTransport

_ENOUGH = 16 * 1024
"""
Octets: what the inner protocol writes while it is handed octets is sent together at the end, or when it is so much.  One TLS
record; not a limit, nothing is refused by it.
"""


class Carrying:
    """
    The part of L{Conduit<mem_continuity.layer.conduit.Conduit>} that is a L{Carrier<mem_continuity.layer.roles.Carrier>}.

    @ivar session: what the octets are counted by.
    @ivar link: the present link, or None while the session is parked.
    """

    _log = Logger()

    def __init__(self, session: Session, inner: VirtualTransport, clock: IReactorTime, owner: Owner) -> None:
        self.session = session
        self.link: Link | None = None
        self._inner = inner
        self._clock = clock
        self._owner = owner
        self._delivering = False
        self._overrunning = False
        self._last: ITransport | None = None

    # What the conduit does

    def deliver(self) -> None:
        """
        Hand on what arrived, as far as the inner protocol takes it.
        """
        raise NotImplementedError

    def flush(self) -> None:
        """
        Give the link what there is to send.
        """
        raise NotImplementedError

    def end(self, reason: bytes) -> None:
        """
        The session is over by this side's decision.
        """
        raise NotImplementedError

    def _flow(self) -> None:
        raise NotImplementedError

    def _over(self, failure: Failure | None = None) -> None:
        raise NotImplementedError

    @property
    def _name(self) -> str:
        return self.session.terms.session_id.decode("ascii")

    # Carrier

    def carry_write(self, octets: bytes) -> None:
        """
        @see: L{Carrier<mem_continuity.layer.roles.Carrier.carry_write>}
        """
        session, link = self.session, self.link
        before = 0 if link is not None else session.sender.retained
        session.write(octets)
        if session.overrun and not self._overrunning:
            self._overrunning = True
            self._clock.callLater(0, self._overrun)  # not now: the inner protocol is in the middle of something
        if link is None:
            self._owner.session_retained(session.sender.retained - before)
            self._flow()
        elif not self._delivering or session.sender.queued >= _ENOUGH:
            self.flush()

    def _overrun(self) -> None:
        self._overrunning = False
        if self.session.overrun:
            self._log.warn(
                "Session {session}: {octets} octets wait unsent, more than the policy's overrun; the session ends",
                session=self._name,
                octets=self.session.sender.retained,
            )
            self.end(b"OVERRUN")

    def carry_close(self) -> None:
        """
        @see: L{Carrier<mem_continuity.layer.roles.Carrier.carry_close>}
        """
        self.session.close(b"CLOSED", self._clock.seconds())
        self._clock.callLater(0, self._closed)  # a transport never calls connectionLost from within loseConnection

    def _closed(self) -> None:
        self.flush()
        if not self._owner.waits_for_delivery:
            self._inner.lose(self._owner.failure_of(b"CLOSED"))
        if self.session.delivered and self.link is None:
            self._over()  # nobody is waited for

    def carry_abort(self) -> None:
        """
        @see: L{Carrier<mem_continuity.layer.roles.Carrier.carry_abort>}
        """
        self._clock.callLater(0, self.end, b"ABORTED")

    def carry_pause(self) -> None:
        """
        Nothing to do: the window bounds what arrives meanwhile, and the link must be read for the sake of acknowledgements.
        """

    def carry_resume(self) -> None:
        """
        @see: L{Carrier<mem_continuity.layer.roles.Carrier.carry_resume>}
        """
        self._clock.callLater(0, self._resume_delivery)

    def _resume_delivery(self) -> None:
        if self.session.state is not State.ENDED:
            self.deliver()
            self.flush()

    def link_transport(self) -> ITransport | None:
        """
        @see: L{Carrier<mem_continuity.layer.roles.Carrier.link_transport>}
        """
        return self._last
