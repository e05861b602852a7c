"""
Whether a client is read: not while the upstream has enough, nor while the client is ahead of the dialogue before login.

Invariants: the client is read when neither of the two stops it, and only then; the end of an upstream connection is not the end
of its client's, for that is for the connection's user to say.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
class Brake:
    """
    The client as the producer of what an upstream is given.  Made by a
    L{GatewayEnd<mem_continuity.gateway.end.GatewayEnd>}, for all its upstream connections one after the other.
    """

    __slots__ = ("_ahead", "_client", "_full")

    def __init__(self, client: Any) -> None:
        """
        @param client: its transport.
        """
        self._client = client
        self._full = False
        self._ahead = False

    def pauseProducing(self) -> None:
        """
        The upstream has enough.
        """
        self._full = True
        self._client.pauseProducing()

    def resumeProducing(self) -> None:
        """
        The upstream takes octets again, or there is none any more.
        """
        self._full = False
        self._read()

    def stopProducing(self) -> None:
        """
        The upstream is gone, as its user is told otherwise.
        """

    def pace(self, ahead: bool) -> None:
        """
        @param ahead: what the client sent waits for somebody else, and is as much as may wait.
        """
        if ahead:
            self._ahead = True
            self._client.pauseProducing()
        elif self._ahead:
            self._ahead = False
            self._read()

    def _read(self) -> None:
        if not (self._full or self._ahead):
            self._client.resumeProducing()
