"""
What the parts of the layer need of each other and of both ends: a carrier of an inner protocol's octets, a link below a conduit,
an owner above it.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import ITransport
from twisted.python.failure import Failure


class Carrier(Protocol):
    """
    What carries the octets of an inner protocol for the time being.
    """

    def carry_write(self, octets: bytes) -> None:
        """
        Octets of the inner protocol, in their order.
        """

    def carry_close(self) -> None:
        """
        The inner protocol wants the connection closed, once what it wrote is out; no producer is left.
        """

    def carry_abort(self) -> None:
        """
        The inner protocol wants the connection gone.
        """

    def carry_pause(self) -> None:
        """
        The inner protocol wants no more octets for now.
        """

    def carry_resume(self) -> None:
        """
        The inner protocol takes octets again.
        """

    def link_transport(self) -> ITransport | None:
        """
        The real transport of the present link; None while there is none.
        """


class Link(Protocol):
    """
    What a conduit needs of a link.
    """

    @property
    def transport(self) -> ITransport: ...

    @property
    def congested(self) -> bool:
        """
        Whether its transport has asked for a pause.
        """

    def fence(self) -> None:
        """
        Read nothing more and deliver nothing more.
        """

    def drop(self, reason: str) -> None:
        """
        Break off: the peer broke the rules, or gives no sign of life.  The session stays.
        """

    def abort(self) -> None:
        """
        Break off: nobody needs it any more.
        """

    def finish(self) -> None:
        """
        Close once everything is out.
        """

    def stand_by(self) -> None:
        """
        Read nothing until L{read_on}: a former link has to bring what stands before it.
        """

    def read_on(self) -> None:
        """
        The former link has brought everything.
        """

    def left(self) -> None:
        """
        This was the former link, and the peer's MOVED has come: nothing more comes, and nothing more is sent.
        """


class Owner(Protocol):
    """
    Who is told what becomes of the session: the server's table, or the roaming client.
    """

    def session_parked(self) -> None:
        """
        The link is gone; the session waits.
        """

    def session_moved(self) -> None:
        """
        The peer says that another link has the session now.
        """

    def session_grace_over(self) -> None:
        """
        Nobody came back in time; the session has not been ended yet.
        """

    def session_ended(self) -> None:
        """
        The session is over, its counts are final.
        """

    def session_retained(self, change: int) -> None:
        """
        While parked: the octets kept for the peer have become so many more.
        """

    def failure_of(self, reason: bytes) -> Failure:
        """
        What the inner protocol is told when the session is over for this reason word.
        """

    @property
    def waits_for_delivery(self) -> bool:
        """
        Whether an inner protocol that closes is told C{connectionLost} only when the peer has everything (or cannot be
        reached in time), rather than at once.
        """
