"""
Where a session can stand, what can happen to it, and what comes out of it.

L{TRANSITIONS} is the whole of the state machine.  An input that is not in the table is a bug of the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto


class State(Enum):
    """
    Where a session stands.
    """

    LIVE = auto()
    """A link carries it."""
    PARKED = auto()
    """Its link is gone, its grace period runs."""
    DRAINING = auto()
    """Its inner end has closed, a link carries its last octets."""
    WAITING = auto()
    """Its inner end has closed, its last octets wait for a link."""
    ENDED = auto()
    """It is over; nothing brings it back."""


class Input(Enum):
    """
    What can happen to a session.
    """

    ATTACH = auto()
    DETACH = auto()
    INNER_CLOSED = auto()
    OVER = auto()


TRANSITIONS: Mapping[tuple[State, Input], State] = {
    (State.PARKED, Input.ATTACH): State.LIVE,
    (State.WAITING, Input.ATTACH): State.DRAINING,
    (State.LIVE, Input.DETACH): State.PARKED,
    (State.DRAINING, Input.DETACH): State.WAITING,
    (State.LIVE, Input.INNER_CLOSED): State.DRAINING,
    (State.PARKED, Input.INNER_CLOSED): State.WAITING,
    (State.LIVE, Input.OVER): State.ENDED,
    (State.PARKED, Input.OVER): State.ENDED,
    (State.DRAINING, Input.OVER): State.ENDED,
    (State.WAITING, Input.OVER): State.ENDED,
}


@dataclass(frozen=True, slots=True)
class PeerEnded:
    """
    The peer said END: what it sent before has been handed over by L{Session.next_delivery}, or still waits there.
    """

    reason: bytes


@dataclass(frozen=True, slots=True)
class Moved:
    """
    Another link has this session now; the present one is done.
    """


@dataclass(frozen=True, slots=True)
class Delivered:
    """
    The inner end had closed and the peer has everything: the session is over on both sides.
    """


@dataclass(frozen=True, slots=True)
class Answered:
    """
    While a PING waited something came in: the link is alive.
    """


@dataclass(frozen=True, slots=True)
class ProbeFailed:
    """
    Nothing came in for too long after a PING: the link is dead.
    """


@dataclass(frozen=True, slots=True)
class GraceOver:
    """
    Nobody came back in time.
    """


Event = PeerEnded | Moved | Delivered | Answered | ProbeFailed | GraceOver
