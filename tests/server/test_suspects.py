"""
Scenario 29 on real sockets: a client that is seen at another address makes its siblings' connections short of patience.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mem_continuity.core.policy import Policy
from mem_continuity.server import continuous
from mem_continuity.server.link import ServerLink
from tests.support.site import Site

OPTIONS = {
    "SO_KEEPALIVE": (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    "TCP_KEEPIDLE": (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
    "TCP_KEEPINTVL": (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    "TCP_KEEPCNT": (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    "TCP_USER_TIMEOUT": (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
}


class Talker(Protocol):
    """
    Sends lines and waits for what comes.
    """

    def __init__(self) -> None:
        self.heard = b""
        self.lost: Deferred[None] = Deferred()
        self._waiting: tuple[bytes, Deferred[None]] | None = None

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if self._waiting is not None and self._waiting[0] in self.heard:
            (_, answer), self._waiting = self._waiting, None
            answer.callback(None)

    def until(self, octets: bytes) -> Deferred[None]:
        """
        Fires when these have come.
        """
        answer: Deferred[None] = Deferred()
        self._waiting = octets, answer
        self.dataReceived(b"")
        return answer

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class SuspectTests(TestCase):
    """
    Two loopback addresses stand for two networks.
    """

    timeout = 30

    @inlineCallbacks
    def setUp(self) -> Any:  # type: ignore[override]
        self.site = Site()  # for its protocols and its realm
        policy = Policy(suspect_idle=7, suspect_interval=3, suspect_probes=4, suspect_timeout=2.5)
        self.factory = continuous(self.site, policy=policy, allow_insecure=True)
        self.links: list[ServerLink] = []
        build = self.factory.buildProtocol

        def noted(address: Any) -> Any:
            self.links.append(build(address))  # type: ignore[arg-type]
            return self.links[-1]

        self.factory.buildProtocol = noted  # type: ignore[method-assign,assignment]
        port = yield TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self.factory)
        self.port = port.getHost().port
        self.talkers: list[Talker] = []
        self.addCleanup(port.stopListening)
        self.addCleanup(self.factory.shutdown)

    @inlineCallbacks
    def tearDown(self) -> Any:  # type: ignore[override]
        for talker in self.talkers:
            assert talker.transport is not None
            talker.transport.loseConnection()
            yield talker.lost

    @inlineCallbacks
    def login(self, host: str, client_id: bytes = b"x") -> Any:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port, bindAddress=(host, 0))
        talker = yield connectProtocol(endpoint, Talker())
        self.talkers.append(talker)
        talker.transport.write(b"c1 CLIENTID UUID " + client_id + b"\r\nl1 LOGIN joe secret\r\n")
        yield talker.until(b"l1 OK ")
        return self.links[-1]

    @staticmethod
    def options(link: ServerLink) -> dict[str, int]:
        sock: socket.socket = link.transport.socket  # type: ignore[attr-defined]
        return {name: sock.getsockopt(*option) for name, option in OPTIONS.items()}

    @inlineCallbacks
    def test_scenario_29_socket_options(self) -> Any:
        """
        Siblings at another address get short keepalives and a short TCP_USER_TIMEOUT; those at the same address, other clients'
        and the newcomer itself keep what they have.
        """
        sibling = yield self.login("127.0.0.1")
        stranger = yield self.login("127.0.0.1", b"other")
        untouched = self.options(sibling)
        self.assertEqual(untouched["SO_KEEPALIVE"], 0)
        again = yield self.login("127.0.0.1")
        self.assertEqual(self.options(sibling), untouched)
        newcomer = yield self.login("127.0.0.2")
        suspected = {"SO_KEEPALIVE": 1, "TCP_KEEPIDLE": 7, "TCP_KEEPINTVL": 3, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 2500}
        self.assertEqual([self.options(link) for link in (sibling, again)], [suspected, suspected])
        self.assertEqual([self.options(link) for link in (stranger, newcomer)], [untouched, untouched])
        self.assertEqual(self.factory.table.counts["suspected"], 2)
        self.talkers[0].transport.write(b"n1 NOOP\r\n")  # type: ignore[union-attr]
        yield self.talkers[0].until(b"n1 OK ")
