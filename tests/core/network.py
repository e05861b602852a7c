"""
What stands between two sides: links, and how far each side is with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from mem_continuity.core.frames import encode_ack
from mem_continuity.core.resumption import Attempt
from mem_continuity.core.session import Session
from mem_continuity.core.states import Event

FRAMING_FAULTS = (
    b"\x09\x00\x00\x01x",  # no such type
    b"\x00\xff\xff\xff",  # DATA of 2^24-1 octets
    b"\x00\x00\x00\x00",  # DATA of none
    b"\x01\x00\x00\x07abcdefg",  # ACK of seven octets
    encode_ack(2**64 - 1),  # ACK of what was never sent
)


class Phase(Enum):
    """
    How far one side is with one link.
    """

    ASKING = auto()
    FRAMES = auto()
    LEFT = auto()


@dataclass(eq=False)
class Link:
    """
    One connection: octets on their way to either side, and what each side makes of it.
    """

    exported: bytes
    phases: dict[str, Phase]
    pipes: dict[str, bytearray] = field(default_factory=lambda: {"client": bytearray(), "server": bytearray()})
    heads: dict[str, bytearray] = field(default_factory=lambda: {"client": bytearray(), "server": bytearray()})
    attempt: Attempt | None = None
    asked: bytes = b""
    planned: bool = False
    garbled: bool = False
    dead: bool = False

    def put(self, to: str, octets: bytes) -> None:
        if not self.dead:
            self.pipes[to] += octets
            self.garbled |= octets in FRAMING_FAULTS

    def die(self) -> None:
        """
        What was on its way is lost; nobody is told.
        """
        self.dead = True
        for pipe in self.pipes.values():
            pipe.clear()


@dataclass(eq=False)
class Side:
    """
    One side with its inner end.

    @ivar former: in a planned move, the link before, which is still read.
    @ivar ahead: what has come by the present link meanwhile.
    """

    name: str
    session: Session
    link: Link | None
    former: Link | None = None
    ahead: bytes = b""
    wrote: int = 0
    got: int = 0
    events: list[Event] = field(default_factory=list)
