"""
A mail program, the agent and a site in one thread, on a L{Clock}: the program's end is the test, octet by octet; the links to the
site are wires that the test cuts.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITLSTransport
from twisted.python.failure import Failure
from zope.interface import directlyProvides

from mem_continuity.agent.account import Account, AgentFactory
from mem_continuity.agent.end import ProgramEnd
from mem_continuity.client.paths import Path
from mem_continuity.core.policy import AgentPolicy, Policy
from tests.client.handset import Gate
from tests.support.site import Site

HERE = IPv4Address("TCP", "127.0.0.1", 50000)
LOGIN = b"a1 LOGIN joe secret\r\n"


class ProgramTransport:
    """
    The agent's end of a program's connection.

    @ivar heard: what the program was told and has not L{taken<take>}.
    @ivar reading: the agent takes what the program says.
    @ivar closed: the agent has closed it.
    """

    def __init__(self, ground: Ground, end: ProgramEnd, peer: Any) -> None:
        self.heard = b""
        self.reading = True
        self.closed = False
        self.producer: Any = None
        self._ground = ground
        self._end = end
        self._peer = peer
        self._lost = False
        directlyProvides(self, ITLSTransport)

    def write(self, octets: bytes) -> None:
        assert not self.closed
        self.heard += octets

    def getPeer(self) -> Any:
        return self._peer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self.producer is None and streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        assert enabled

    def setTcpNoDelay(self, enabled: bool) -> None:
        assert enabled

    def startTLS(self, context: Any, normal: bool = True) -> None:
        raise NotImplementedError

    def loseConnection(self) -> None:
        self.closed = True
        self._ground.site.clock.callLater(0, self.lose)

    abortConnection = loseConnection

    def lose(self) -> None:
        """
        The connection is gone.
        """
        if not self._lost:
            self._lost = self.closed = True
            producer, self.producer = self.producer, None
            if producer is not None:
                producer.stopProducing()  # as a real transport does
            self._end.connectionLost(Failure(ConnectionDone()))


class Program:
    """
    A mail program.
    """

    def __init__(self, ground: Ground, peer: Any = HERE) -> None:
        self._ground = ground
        self.end = AgentFactory(ground.account).buildProtocol(peer)
        self.transport = ProgramTransport(ground, self.end, peer)
        self.end.makeConnection(self.transport)
        ground.site.settle()

    @property
    def roamer(self) -> Any:
        return self.end.roamer

    def take(self) -> bytes:
        """
        What was heard since the last time.
        """
        self._ground.site.settle()
        heard, self.transport.heard = self.transport.heard, b""
        return heard

    def say(self, octets: bytes) -> bytes:
        """
        @return: what is heard to it at once.
        """
        self.end.dataReceived(octets)
        return self.take()

    def log_in(self) -> Program:
        """
        Hear the greeting, log in, select.
        """
        self.take()
        said = self.say(LOGIN)
        assert said.startswith(b"a1 OK"), said
        assert b"a2 OK" in self.say(b"a2 SELECT INBOX\r\n")
        return self


class Ground:
    """
    @ivar gates: the networks by name, each a way to the site that can be shut.
    @ivar watch: who tells the account of them.
    """

    def __init__(self, policy: Policy | None = None, names: tuple[str, ...] = ("wlan",), site: Any = None, **limits: Any) -> None:
        """
        @param policy: the site's.
        @param limits: of the agent.
        """
        self.site = Site(policy) if site is None else site
        self.gates = {name: Gate(self.site) for name in names}
        paths = [Path(name, gate) for name, gate in self.gates.items()]
        limits.setdefault("backoff_jitter", 0.0)
        client_id = limits.pop("client_id", None)
        policies = AgentPolicy(**limits)
        server = "tls:imap.example.org:993"
        self.account = Account("test", server, self.site.clock, paths[0], policies, client_id=client_id, verbose=True)
        self.account.endpoint.paths = paths

    def pass_time(self, seconds: float, step: float = 0.05) -> None:
        """
        Time passes.
        """
        for _ in range(round(seconds / step)):
            self.site.clock.advance(step)
            self.site.settle()

    def shut(self) -> None:
        """
        No network leads anywhere any more.
        """
        for gate in self.gates.values():
            gate.mode = "shut"
            for wire in gate.wires:
                wire.cut()
        self.site.settle()

    def open(self) -> None:
        """
        All do.
        """
        for gate in self.gates.values():
            gate.mode = "open"
