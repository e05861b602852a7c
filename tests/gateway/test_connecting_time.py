"""
Reaching an upstream that does not answer at all, by a clock of the test's own.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mem_continuity.core.policy import Policy
from mem_continuity.gateway.connecting import connect_upstream
from mem_continuity.gateway.errors import Trouble, UpstreamError
from mem_continuity.gateway.link import UpstreamLink
from mem_continuity.gateway.upstream import parse_upstream


@implementer(IHostnameResolver)
class Resolver:
    """
    Finds nothing, at once or never.
    """

    def __init__(self, ends: bool) -> None:
        self._ends = ends

    def resolveHostName(self, resolutionReceiver: Any, hostName: str, *args: Any, **kwargs: Any) -> Any:
        resolutionReceiver.resolutionBegan(None)
        if self._ends:
            resolutionReceiver.resolutionComplete()


class BlackHoleTests(SynchronousTestCase):
    """
    TCP never comes about.
    """

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()

    def connect(self, text: str) -> Deferred[UpstreamLink]:
        return connect_upstream(self.reactor, parse_upstream(text), Policy(upstream_connect=7.0))

    def test_late(self) -> None:
        for text, made in (
            ("tcp:192.0.2.1:insecure=yes", self.reactor.tcpClients),
            ("starttls:[2001:db8::1]", self.reactor.tcpClients),
            ("unix:/nowhere", self.reactor.unixClients),
        ):
            connecting = self.connect(text)
            self.reactor.advance(6.9)
            self.assertNoResult(connecting)
            self.reactor.advance(0.1)
            error = self.failureResultOf(connecting, UpstreamError).value
            self.assertEqual((error.kind, str(error)), (Trouble.SLOW, Trouble.SLOW.value))
            self.assertTrue(error.detail.startswith(str(parse_upstream(text))))
            self.assertEqual(len(made), 1)
            self.assertTrue(self.reactor.connectors[-1].stoppedConnecting)
            self.assertEqual(self.reactor.getDelayedCalls(), [])
            made.clear()

    def test_where(self) -> None:
        """
        Addresses are not looked up; the system's own time limit is no longer than ours.
        """
        self.connect("tls:192.0.2.1").addErrback(lambda _: None)
        self.connect("starttls:[2001:db8::1]:1143").addErrback(lambda _: None)
        self.assertEqual([client[:2] for client in self.reactor.tcpClients], [("192.0.2.1", 993), ("2001:db8::1", 1143)])
        self.assertEqual([client[3] for client in self.reactor.tcpClients], [7.0, 7.0])

    def test_names(self) -> None:
        """
        A name that has no address leads nowhere at once; a look-up without an end is given up in time.
        """
        self.reactor.installNameResolver(Resolver(True))
        error = self.failureResultOf(self.connect("tls:no-such-host.invalid"), UpstreamError).value
        self.assertEqual((error.kind, str(error)), (Trouble.UNREACHABLE, Trouble.UNREACHABLE.value))
        self.reactor.installNameResolver(Resolver(False))
        connecting = self.connect("tls:no-such-host.invalid")
        self.reactor.advance(7.0)
        self.assertEqual(self.failureResultOf(connecting, UpstreamError).value.kind, Trouble.SLOW)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_timed_out(self) -> None:
        """
        The system gives up first.
        """
        connecting = self.connect("tls:192.0.2.1")
        factory = self.reactor.tcpClients[0][2]
        factory.clientConnectionFailed(self.reactor.connectors[0], Failure(ConnectTimeout()))
        self.assertEqual(self.failureResultOf(connecting, UpstreamError).value.kind, Trouble.SLOW)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_cancel(self) -> None:
        connecting = self.connect("tls:192.0.2.1")
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        self.assertTrue(self.reactor.connectors[0].stoppedConnecting)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
