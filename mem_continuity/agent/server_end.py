"""
The server's side of a mail program's connection: what is connected through an account's roaming endpoint.

Invariant: nothing is decided here; whatever happens is told to the L{ProgramEnd<mem_continuity.agent.end.ProgramEnd>}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from mem_continuity.agent.end import ProgramEnd


class ServerEnds(Factory):
    """
    Makes the one L{ServerEnd} of a program's connection.
    """

    noisy = False

    def __init__(self, end: ProgramEnd) -> None:
        self._end = end

    def buildProtocol(self, addr: IAddress | None) -> ServerEnd:
        """
        @see: L{IProtocolFactory<twisted.internet.interfaces.IProtocolFactory>}
        """
        return ServerEnd(self._end)


class ServerEnd(Protocol):
    """
    What is connected through the L{RoamingEndpoint<mem_continuity.client.roaming.RoamingEndpoint>} of an account.
    """

    transport: Any

    def __init__(self, end: ProgramEnd) -> None:
        self._end = end

    def connectionMade(self) -> None:
        """
        The first link stands.
        """
        self._end.server_ready(self)

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the server.
        """
        self._end.server_received(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The session is over, or never was.
        """
        self._end.server_lost(reason)
