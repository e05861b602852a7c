"""
How a link behaves and what it has carried: the plain values that the lab and its emulator process exchange.

Invariants: a L{Shape} is checked when it is made; all counts are of IP packets and their octets, headers included, as
the far end's interface takes them in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tests.netlab.errors import LabError

Direction = Literal["to_server", "to_handset"]
State = Literal["up", "silent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """
    One direction of an emulated link.

    @ivar delay_ms: one-way delay in milliseconds; the round trip is the sum of both directions.
    @ivar rate: bits per second, of whole IP packets; 0 means as fast as the machine can.
    @ivar queue: octets that may wait for their turn at C{rate}; what does not fit is dropped at the tail.
    @ivar loss: the probability that a packet is lost, 0 to 1; 1 makes a link that is dead in one direction only.
    @ivar seed: the start of the random numbers; the same seed loses the same packets.
    """

    delay_ms: float = 0.0
    rate: float = 0.0
    queue: int = 262144
    loss: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        if not self.delay_ms >= 0 or not self.rate >= 0 or not self.queue >= 1:
            raise LabError(f"{self}: delay_ms and rate must be 0 or more, queue 1 or more")
        if not 0 <= self.loss <= 1:
            raise LabError(f"{self}: loss must be between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """
    What one direction has carried since the lab began.

    @ivar packets: IP packets handed to the far end.
    @ivar octets: their octets, IP headers included.
    @ivar lost: packets dropped by chance (L{Shape.loss}).
    @ivar overflowed: packets dropped because the queue was full.
    @ivar silenced: packets dropped because the link was silent, those in flight when it fell silent included.
    """

    packets: int = 0
    octets: int = 0
    lost: int = 0
    overflowed: int = 0
    silenced: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """
    Both directions of a network.
    """

    to_server: Traffic
    to_handset: Traffic
