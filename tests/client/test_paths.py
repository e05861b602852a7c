"""
Ways to a server: races between them on a clock, and sockets that are bound as asked on real loopback.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor as running_reactor
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectBindError, ConnectingCancelledError, ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mem_continuity.client import DeviceEndpoint, Path
from mem_continuity.client.paths import AnyPath

reactor: Any = running_reactor


class Endpoint:
    """
    Connects when the test says so.
    """

    def __init__(self) -> None:
        self.attempts: list[Deferred[Any]] = []
        self.cancelled = 0

    def connect(self, factory: Any) -> Deferred[Any]:
        attempt: Deferred[Any] = Deferred(self._cancel)
        self.attempts.append(attempt)
        return attempt

    def _cancel(self, _: object) -> None:
        self.cancelled += 1


class RaceTests(SynchronousTestCase):
    """
    L{AnyPath}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.ends = [Endpoint(), Endpoint(), Endpoint()]
        self.any: Any = AnyPath([Path(str(number), end) for number, end in enumerate(self.ends)], self.clock, 0.25)  # type: ignore[arg-type]
        self.done: Deferred[Any] = self.any.connect(Factory.forProtocol(Protocol))

    def tried(self) -> list[int]:
        return [len(end.attempts) for end in self.ends]

    def test_each_has_a_head_start(self) -> None:
        self.assertEqual(self.tried(), [1, 0, 0])
        self.clock.advance(0.25)
        self.assertEqual(self.tried(), [1, 1, 0])
        self.clock.advance(0.25)
        self.assertEqual(self.tried(), [1, 1, 1])
        winner = Protocol()
        self.ends[1].attempts[0].callback(winner)
        self.assertIs(self.successResultOf(self.done), winner)
        self.assertEqual([end.cancelled for end in self.ends], [1, 0, 1])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_failure_ends_a_head_start(self) -> None:
        self.ends[0].attempts[0].errback(Failure(ConnectionRefusedError()))
        self.assertEqual(self.tried(), [1, 1, 0])

    def test_all_fail(self) -> None:
        for end in self.ends:
            end.attempts[0].errback(Failure(ConnectionRefusedError()))
        self.failureResultOf(self.done, ConnectionRefusedError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_retry_takes_what_has_failed(self) -> None:
        self.ends[0].attempts[0].errback(Failure(ConnectionRefusedError()))
        self.any.retry()
        self.clock.advance(0.25)
        self.clock.advance(0.25)
        self.assertEqual(self.tried(), [2, 1, 1])

    def test_cancelled(self) -> None:
        self.clock.advance(0.25)
        self.done.cancel()
        self.failureResultOf(self.done, CancelledError)
        self.assertEqual([end.cancelled for end in self.ends], [1, 1, 0])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.any.retry()
        self.assertEqual(self.tried(), [1, 1, 0])

    def test_no_path(self) -> None:
        done = AnyPath([], self.clock, 0.25).connect(Factory.forProtocol(Protocol))
        self.assertIn("no path", self.failureResultOf(done).getErrorMessage())

    def test_a_connection_that_comes_at_once(self) -> None:
        class Quick(Endpoint):
            def connect(self, factory: Any) -> Deferred[Any]:
                return succeed(protocol)

        protocol = Protocol()
        done = AnyPath([Path("quick", Quick()), Path("slow", self.ends[0])], self.clock, 0.25)  # type: ignore[arg-type]
        self.assertIs(self.successResultOf(done.connect(Factory.forProtocol(Protocol))), protocol)
        self.assertEqual(self.tried(), [1, 0, 0])


class DeviceEndpointTests(TestCase):
    """
    Real sockets on loopback.
    """

    timeout = 10

    async def test_from_a_source_address(self) -> None:
        class Closing(Protocol):
            """Closes at once."""

            def connectionMade(self) -> None:
                self.transport.loseConnection()  # type: ignore[union-attr]

        port = reactor.listenTCP(0, Factory.forProtocol(Closing), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        lost: Deferred[None] = Deferred()

        class Client(Protocol):
            """Tells when it is over."""

            def connectionLost(self, reason: Any = None) -> None:
                lost.callback(None)

        endpoint = DeviceEndpoint(reactor, "127.0.0.1", port.getHost().port, source="127.0.0.9", device="lo", fast_open=True)
        protocol: Any = await endpoint.connect(Factory.forProtocol(Client))
        self.assertEqual(protocol.transport.getHost().host, "127.0.0.9")
        await lost

    async def test_by_name(self) -> None:
        made: Deferred[Any] = Deferred()

        class Server(Protocol):
            """Tells that it is there, and closes."""

            def connectionMade(self) -> None:
                self.transport.loseConnection()  # type: ignore[union-attr]
                made.callback(None)

        port = reactor.listenTCP(0, Factory.forProtocol(Server), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        protocol: Any = await DeviceEndpoint(reactor, "localhost", port.getHost().port).connect(Factory.forProtocol(Protocol))
        await made
        protocol.transport.abortConnection()

    async def test_refused(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            number = taken.getsockname()[1]
        with self.assertRaises(ConnectionRefusedError):
            await DeviceEndpoint(reactor, "127.0.0.1", number).connect(Factory.forProtocol(Protocol))

    async def test_an_address_or_an_interface_that_is_not_there(self) -> None:
        for endpoint in (
            DeviceEndpoint(reactor, "127.0.0.1", 9, source="192.0.2.77"),
            DeviceEndpoint(reactor, "127.0.0.1", 9, device="nothing0"),
        ):
            with self.assertRaises(ConnectBindError):
                await endpoint.connect(Factory.forProtocol(Protocol))

    async def test_cancelled(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            connecting = DeviceEndpoint(reactor, *server.getsockname()).connect(Factory.forProtocol(Protocol))
            connecting.cancel()
            with self.assertRaises(ConnectingCancelledError):
                await connecting
