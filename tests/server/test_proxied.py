"""
Twisted's PROXY protocol wrapper outside of us: the client's address is what the header says, from the first moment on.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.test.iosim import FakeTransport
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.policy import Policy
from mem_continuity.server.link import ServerLink
from tests.support.comebacks import TRAIN
from tests.support.raw_client import RawClient
from tests.support.site import Server, Site

BALANCER = IPv4Address("TCP", "10.0.0.1", 55555)
V1 = b"PROXY TCP4 203.0.113.1 198.51.100.1 40000 993\r\n"
V2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + struct.pack(
    "!4s4sHH", socket.inet_aton(TRAIN), socket.inet_aton("198.51.100.1"), 40000, 993
)


class Looking(Server):
    """
    Keys on the address, in C{connectionMade}.
    """

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.seen: Any = self.transport.getPeer()
        super().connectionMade()


class ProxiedTests(SynchronousTestCase):
    """
    L{when_peer_known<mem_continuity.server.proxied.when_peer_known>}.
    """

    def setUp(self) -> None:
        self.site = Site(Policy(resume_failures=2), allow_insecure=True)
        self.site.protocol_class = Looking
        self.addCleanup(self.site.factory.shutdown)
        self.wrapping = HAProxyWrappingFactory(self.site.factory)

    def connect(self) -> tuple[Any, FakeTransport]:
        """
        The balancer connects.

        @return: the outer protocol and its transport.
        """
        outer: Any = self.wrapping.buildProtocol(BALANCER)
        transport = FakeTransport(outer, True, None, BALANCER)
        outer.makeConnection(transport)
        self.site.settle()
        return outer, transport

    @staticmethod
    def heard(transport: FakeTransport) -> bytes:
        return b"".join(transport.stream)

    def test_bound_behind_the_header(self) -> None:
        """
        However the header arrives, the site's protocol is made for the client's address, and then greets at once.
        """
        for header in (V1, V2):
            for cut in range(16, len(header)):
                outer, transport = self.connect()
                for piece in (header[:cut], header[cut:]):
                    made = len(self.site.servers)
                    self.assertEqual(self.heard(transport), b"")
                    outer.dataReceived(piece)
                    self.site.settle()
                self.assertEqual(len(self.site.servers), made + 1)
                self.assertEqual(self.site.servers[-1].seen.host, TRAIN)
                self.assertTrue(self.heard(transport).startswith(b"* OK "))

    def test_commands_in_the_same_segment(self) -> None:
        """
        What follows the header is not lost, and sees the right address.
        """
        for header in (V1, V2):
            outer, transport = self.connect()
            outer.dataReceived(header + b"c1 CLIENTID UUID x\r\nl1 LOGIN joe secret\r\nn1 NOOP\r\n")
            self.site.settle()
            said = self.heard(transport)
            places = [said.index(part) for part in (b"* OK ", b"c1 OK ", b"l1 OK ", b"n1 OK ")]
            self.assertEqual(places, sorted(places))
            self.assertEqual(self.site.servers[-1].seen.host, TRAIN)
            link: ServerLink = outer.wrappedProtocol
            self.assertEqual(link.peer_host, TRAIN)
            assert link.served is not None
            self.assertEqual(link.served.peer_host, TRAIN)

    def test_resume_in_the_same_segment(self) -> None:
        """
        A RESUME behind the header makes no protocol; failures are counted for the client, not for the balancer.
        """
        client = RawClient(self.site)
        client.connect(secure=False)
        client.login()
        client.start()
        client.lose()
        for key in (bytes(32), bytes(32), bytes(32)):
            attempt = client.attempt(key=key)
            outer, transport = self.connect()
            outer.dataReceived(V1 + RawClient.octets(attempt.request))
            self.site.settle()
        self.assertIn(b"r1 NO [XCONTINUITY RETRY 60]", self.heard(transport))
        self.assertTrue(self.site.factory.table.failures.too_many(TRAIN))
        self.assertFalse(self.site.factory.table.failures.too_many(BALANCER.host))
        made = len(self.site.servers)
        attempt = client.attempt()
        outer, transport = self.connect()
        outer.dataReceived(V1.replace(TRAIN.encode(), b"203.0.113.9") + RawClient.octets(attempt.request))
        self.site.settle()
        said = self.heard(transport)
        self.assertTrue(said.startswith(b"r1 OK [XCONTINUITY "), said)
        self.assertEqual(len(self.site.servers), made)

    def test_no_header(self) -> None:
        """
        Without one, or with a wrong one, nothing is bound and the connection is closed.
        """
        for octets in (b"a1 LOGIN joe secret\r\n", b"PROXY TCP9 x y z\r\n", b"PROXY \r\n\r\n"):
            outer, transport = self.connect()
            outer.dataReceived(octets)
            self.site.settle()
            self.assertTrue(transport.disconnecting)
            self.assertEqual((self.site.servers, self.heard(transport)), ([], b""))
            outer.connectionLost(None)
        self.assertEqual(self.site.clock.getDelayedCalls(), [])
