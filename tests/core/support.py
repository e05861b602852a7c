"""
What several of these test modules need: terms, offsets that start high, a deep copy of a state for comparison.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from random import Random
from typing import Any

from mem_continuity.core.frames import Frame, FrameReader, FrameType, data_header
from mem_continuity.core.handshake import Binding, Terms
from mem_continuity.core.policy import KIB, MIB, Policy, RoamingPolicy
from mem_continuity.core.session import Session
from mem_continuity.core.stream import Receiver, Sender

SESSION_ID = b"node1.abcdefghijklmnop"
KEY = bytes(range(32))
NOW = 1000.0
WINDOW = 64 * KIB
EXPORTED = b"what the TLS exporter gave"
BASES = (0, 2**32 - 7, 2**53 - 7)
"""Where offsets start: the beginning, and just before narrow integers and floats give in (scenario 15)."""

_LENGTH = 2 * 1024 * 1024
PATTERNS = {"client": Random("client").randbytes(_LENGTH), "server": Random("server").randbytes(_LENGTH)}
"""What the inner ends write: an octet that is lost, doubled or misplaced shows."""


def terms(window: int = 4096, grace: int = 1500, binding: Binding = Binding.TLS_EXPORTER, key: bytes = KEY) -> Terms:
    """
    What START might have given.
    """
    return Terms(SESSION_ID, key, grace, window, binding)


def sender_at(base: int, window: int) -> Sender:
    """
    A sender of which C{base} octets are long acknowledged.
    """
    sender = Sender(window)
    sender.acknowledged = sender.sent = sender.highest = sender.end = base
    return sender


def receiver_at(base: int, window: int) -> Receiver:
    """
    A receiver that has had C{base} octets and has said so.
    """
    receiver = Receiver(window)
    receiver.received = receiver.arrived = receiver.acknowledged = receiver._base = base
    return receiver


def move_up(client: Session, server: Session, base: int) -> None:
    """
    Let both new sides of a session begin at C{base} in both directions.
    """
    for session in (client, server):
        window = session.terms.window
        session.sender = sender_at(base, window)
        session.receiver = receiver_at(base, window)


def snapshot(thing: Any) -> Any:
    """
    Everything that an object holds, all the way down, as plain values that can be compared.
    """
    if thing is None or isinstance(thing, (bool, int, float, str, bytes, Enum)):
        return thing
    if isinstance(thing, memoryview):
        return bytes(thing)
    if isinstance(thing, (list, tuple, deque)):
        return [snapshot(one) for one in thing]
    names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    names += list(getattr(thing, "__dict__", ()))
    return {name: snapshot(getattr(thing, name)) for name in names}


def held(sender: Sender) -> bytes:
    """
    The octets that a sender keeps, in their order.
    """
    return b"".join([*map(bytes, sender._flight), *map(bytes, sender._queue)])

def session(window: int = WINDOW, live: bool = True, policy: Policy | RoamingPolicy | None = None) -> Session:
    """
    A new session, on a link if not told otherwise.
    """
    made = Session(terms(window), policy or Policy(window=window), NOW)
    if live:
        made.attach(NOW)
    return made


def data(octets: bytes) -> bytes:
    """
    A DATA frame.
    """
    return data_header(len(octets)) + octets


def said(octets: bytes) -> list[Frame]:
    """
    What a flight of frames says.
    """
    return FrameReader(MIB).feed(octets)


def kinds(octets: bytes) -> list[FrameType]:
    """
    The types of the frames in a flight.
    """
    return [frame.type for frame in said(octets)]
