"""
A server that says and does what the test tells it, octet by octet, and nothing by itself; and programs in front of the agent.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from mem_continuity.agent.account import Account
from mem_continuity.client.paths import Path
from mem_continuity.core.policy import AgentPolicy
from tests.agent.ground import Program

GREETING = b"* OK [CAPABILITY IMAP4rev1] ready\r\n"


class _Wire(StringTransport):
    """
    The agent's end of a connection to the puppet.

    @ivar keep_alive: the kernel is asked to look whether the other end lives.
    """

    def __init__(self, clock: Clock, protocol: Any, host: IAddress) -> None:
        super().__init__(hostAddress=host, peerAddress=IPv4Address("TCP", "192.0.2.1", 993))
        self._clock = clock
        self._protocol = protocol
        self.over = False
        self.keep_alive = False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.keep_alive = enabled

    def loseConnection(self) -> None:
        self.disconnecting = True
        self._clock.callLater(0, self.end, ConnectionDone())

    def abortConnection(self) -> None:
        self.disconnecting = True
        self._clock.callLater(0, self.end, ConnectionAborted())

    def end(self, why: BaseException) -> None:
        if not self.over:
            self.over = True
            self._protocol.connectionLost(Failure(why))


@implementer(IStreamClientEndpoint)
class Puppet:
    """
    @ivar wires: of all connections.
    @ivar host: the agent's address on the next one.
    """

    def __init__(self, clock: Clock) -> None:
        self.wires: list[_Wire] = []
        self.host = "10.0.0.5"
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @see: L{IStreamClientEndpoint.connect}
        """
        protocol: Any = protocolFactory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 993))
        wire = _Wire(self._clock, protocol, IPv4Address("TCP", self.host, 40000))
        self.wires.append(wire)
        protocol.makeConnection(wire)
        return succeed(protocol)

    def say(self, octets: bytes) -> None:
        """
        On the last connection.
        """
        self.wires[-1]._protocol.dataReceived(octets)

    @property
    def heard(self) -> bytes:
        said: bytes = self.wires[-1].value()
        return said

    def close(self) -> None:
        """
        In good order.
        """
        self.wires[-1].end(ConnectionDone())


class PuppetGround:
    """
    As L{Ground<tests.agent.ground.Ground>}, with a puppet in place of the site.
    """

    def __init__(self, path: str = "wlan", **limits: Any) -> None:
        self.clock: Any = Clock()
        self.clock.advance(1000.0)
        self.site = self  # what a program and its transport look for there
        self.puppet = Puppet(self.clock)
        self.path = Path(path, self.puppet)
        default = Path("default", self.puppet)
        self.account = Account("test", "tls:x:993", self.clock, default, AgentPolicy(**limits), verbose=True)
        self.account.endpoint.paths = [self.path]

    def settle(self) -> None:
        for _ in range(10):
            self.clock.advance(0)

    def pass_time(self, seconds: float, step: float = 0.5) -> None:
        """
        Time passes.
        """
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
        self.settle()

    def program(self) -> Program:
        """
        A mail program connects.
        """
        ground: Any = self
        return Program(ground)
