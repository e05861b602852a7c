"""
Octets to frames and back.

A frame is a type (1 octet), a length (3 octets, network order) and a payload.  Invariants of the reader:

- The payload of a DATA frame is given out as it comes in, never collected: a chunk from the network costs one slice, and a
  link that dies inside a frame has delivered every octet that arrived.
- All other frames are short and are given out whole.  Their lengths are checked before anything is stored, so a reader
  never holds more than one small frame.
- After an error the reader takes nothing more: a stream that lost its framing cannot find it again.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

HEADER_LENGTH = 4
OFFSET_LENGTH = 8
MOST_OFFSET = 2**64 - 1
END_REASON_LIMIT = 64
"""An END frame's reason is a short word in US-ASCII (octets)."""


class FrameType(IntEnum):
    """
    The first octet of a frame.
    """

    DATA = 0
    ACK = 1
    PING = 2
    PONG = 3
    END = 4
    MOVED = 5


# By the octet, for looking up a member of an enumeration takes longer than all else that is done for a short frame.
_CONTROL = {
    int(FrameType.ACK): (FrameType.ACK, OFFSET_LENGTH, OFFSET_LENGTH),
    int(FrameType.PING): (FrameType.PING, OFFSET_LENGTH, OFFSET_LENGTH),
    int(FrameType.PONG): (FrameType.PONG, OFFSET_LENGTH, OFFSET_LENGTH),
    int(FrameType.END): (FrameType.END, 0, END_REASON_LIMIT),
    int(FrameType.MOVED): (FrameType.MOVED, 0, 0),
}


class FrameError(ValueError):
    """
    The peer sent what is not a frame; the text says what was wrong.  It ends the link, never the session.
    """


class Frame(NamedTuple):
    """
    A whole control frame, or the next piece of a DATA frame's payload.
    """

    type: FrameType
    payload: bytes

    @property
    def offset(self) -> int:
        """
        The payload of an ACK as a number of octets.
        """
        return int.from_bytes(self.payload, "big")


def data_header(length: int) -> bytes:
    """
    The header of a DATA frame with so many octets of payload.
    """
    return length.to_bytes(HEADER_LENGTH, "big")  # DATA is type 0, so its header is the bare length


def encode(kind: FrameType, payload: bytes = b"") -> bytes:
    """
    A whole frame as octets.
    """
    return bytes((kind,)) + len(payload).to_bytes(3, "big") + payload


def encode_ack(offset: int) -> bytes:
    """
    An ACK for everything before C{offset}.
    """
    return b"\x01\x00\x00\x08" + offset.to_bytes(OFFSET_LENGTH, "big")


class FrameReader:
    """
    Cuts what arrives on one link into frames.  One reader belongs to one link and is thrown away with it.
    """

    __slots__ = ("_broken", "_limit", "_partial", "_remaining")

    def __init__(self, limit: int) -> None:
        """
        @param limit: the longest payload taken, in octets.
        """
        self._limit = limit
        self._partial = b""
        self._remaining = 0
        self._broken = False

    def feed(self, octets: bytes) -> list[Frame]:
        """
        Take what arrived and give out the frames in it.

        @raise FrameError: unknown type or bad length.  The frames before it are lost to the caller, as is the link.
        """
        if self._broken:
            raise FrameError("octets after a framing error")
        position = 0
        total = len(octets)
        found: list[Frame] = []
        if self._partial:
            octets = self._partial + octets
            total = len(octets)
            self._partial = b""
        while position < total:
            if self._remaining:
                piece = octets[position : position + self._remaining]
                position += len(piece)
                self._remaining -= len(piece)
                found.append(Frame(FrameType.DATA, piece))
                continue
            if total - position < HEADER_LENGTH:
                break
            kind, length = self._header(octets, position)
            if kind is FrameType.DATA:
                self._remaining = length
                position += HEADER_LENGTH
                continue
            end = position + HEADER_LENGTH + length
            if end > total:
                break
            found.append(Frame(kind, octets[position + HEADER_LENGTH : end]))
            position = end
        self._partial = octets[position:] if position < total else b""
        return found

    def _header(self, octets: bytes, position: int) -> tuple[FrameType, int]:
        code = octets[position]
        length = int.from_bytes(octets[position + 1 : position + HEADER_LENGTH], "big")
        kind, least, most = _CONTROL.get(code, (FrameType.DATA, 1, self._limit))
        if kind is FrameType.DATA and code:
            self._broken = True
            raise FrameError(f"unknown frame type {code}")
        if not least <= length <= most:
            self._broken = True
            raise FrameError(f"a {kind.name} frame of {length} octets, where {least} to {most} are allowed")
        return kind, length
