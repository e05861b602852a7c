"""
Counts the frames that arrive, so that what is sent twice shows.

Invariant: it reads along with a frame reader of its own for each link and changes nothing.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from mem_continuity.core.frames import HEADER_LENGTH, FrameReader, FrameType
from mem_continuity.core.handshake import Resumed, ResumeRequest
from mem_continuity.core.session import Session
from mem_continuity.layer.conduit import Conduit
from mem_continuity.server import commands


class Tap:
    """
    All conduits of this process.
    """

    def __init__(self) -> None:
        self._octets = self._payload = 0
        self._readers: WeakKeyDictionary[Any, FrameReader] = WeakKeyDictionary()
        self._conduits: dict[int, tuple[Conduit, int]] = {}
        self._installed = False

    def install(self) -> None:
        """
        From now on.  There is no way back: the process is a bench's.
        """
        if self._installed:
            return
        self._installed = True
        original = Conduit.link_received

        def link_received(conduit: Conduit, link: Any, octets: bytes) -> None:
            if link is conduit.link:
                self._count(conduit, link, octets)
            original(conduit, link, octets)

        patched: Any = Conduit
        patched.link_received = link_received
        names: Any = commands
        grant = names.grant

        def granted(session: Session, request: ResumeRequest, *more: Any) -> Resumed:
            self._payload += len(request.literal)
            resumed: Resumed = grant(session, request, *more)
            return resumed

        names.grant = granted

    def _count(self, conduit: Conduit, link: Any, octets: bytes) -> None:
        self._conduits.setdefault(id(conduit), (conduit, conduit.session.receiver.arrived))
        reader = self._readers.get(link)
        if reader is None:
            reader = self._readers[link] = FrameReader(2**24)
        self._octets += len(octets)
        for frame in reader.feed(octets):
            if frame.type is FrameType.DATA:
                self._payload += len(frame.payload)

    def counts(self) -> dict[str, int]:
        """
        C{octets} of frames with headers, C{payload} of DATA frames and of literals that came with a RESUME, C{stream}: how far
        the streams have come.  More payload than stream was delivered twice.
        """
        stream = sum(one.session.receiver.arrived - begun for one, begun in self._conduits.values())
        return {"octets": self._octets, "payload": self._payload, "stream": stream, "header": HEADER_LENGTH}
