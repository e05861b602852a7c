"""
What all links of one wrapped factory share.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IAddress, IProtocol, IReactorTime

from mem_continuity.core.handshake import new_session_id
from mem_continuity.core.policy import Policy
from mem_continuity.interfaces import IVeto
from mem_continuity.server.table import Table

if TYPE_CHECKING:
    from mem_continuity.server.link import ServerLink
    from mem_continuity.server.served import Served


@dataclass(frozen=True)
class Hub:
    """
    Made once by the wrapping factory.

    @ivar build: makes the inner protocol for a peer's address, or None to refuse it.
    @ivar serve: makes the session of an inner protocol that was bound to a link.
    @ivar allow_insecure: START without TLS, for loopback.
    @ivar binding: whether a RESUME is bound to its TLS connection.
    @ivar node: the name in front of this node's session IDs.
    """

    policy: Policy
    clock: IReactorTime
    table: Table
    build: Callable[[IAddress], IProtocol | None]
    serve: Callable[[Hub, ServerLink, IProtocol], Served]
    veto: IVeto | None = None
    allow_insecure: bool = False
    binding: bool = True
    node: bytes = b"n0"

    def new_session_id(self) -> bytes:
        """
        A handle for a new record or session.
        """
        return new_session_id(self.node)

    @staticmethod
    def wall_clock() -> float:
        """
        Seconds since the epoch, for records only; nothing is timed by it.
        """
        return time.time()
