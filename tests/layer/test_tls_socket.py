"""
TLS on the descriptor: L{mem_continuity.layer.tls_socket}, beside Twisted's own TLS where the same is to be seen of both.
"""

from __future__ import annotations

import gc
import os
import socket
import weakref
from typing import Any

from OpenSSL import SSL
from OpenSSL.SSL import Connection
from twisted.internet import reactor as _reactor
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, TimeoutError
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    INegotiated,
    IPushProducer,
    ISSLTransport,
    ISystemHandle,
    ITCPTransport,
)
from twisted.internet.task import Clock, deferLater
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mem_continuity.core.policy import Policy
from mem_continuity.layer.sockets import exported_binding, hasten_death, hurry, is_secure, limit_unsent
from mem_continuity.layer.tls_contexts import server_context
from mem_continuity.layer.tls_endpoints import TLSServerEndpoint
from mem_continuity.layer.tls_socket import TLSSocket, handshakes
from tests.support import tls_courses
from tests.support.certificates import certificate_pem
from tests.support.tls_case import TLSTestCase
from tests.support.tls_courses import MUCH
from tests.support.tls_talk import LOOPBACK, Ends, Kept
from tests.support.waiting import until

reactor: Any = _reactor


class StockTests(tls_courses.Courses):
    """
    Twisted's own.
    """

    own = False


class OwnTests(tls_courses.Courses):
    """
    Ours.
    """

    own = True


class Counting(Kept):
    """
    Counts how often it is given something.
    """

    deliveries = 0

    def dataReceived(self, data: bytes) -> None:
        self.deliveries += 1
        super().dataReceived(data)


class Asking(Kept):
    """
    Keeps whether a handshake was to come when it was connected.
    """

    def connectionMade(self) -> None:
        super().connectionMade()
        self.before = handshakes(self.wire)


class TLSSocketTests(TLSTestCase):
    """
    What only ours has, or what could be different.
    """

    timeout = 60

    def setUp(self) -> None:
        self.ends = Ends(self, reactor, own_server=True)

    async def listen_by_clock(self, make: Any = Kept) -> Clock:
        clock = Clock()
        context = server_context(certificate_pem())
        await self.ends.listen(make, endpoint=TLSServerEndpoint(reactor, 0, context, LOOPBACK, clock=clock))
        return clock

    async def test_its_interfaces(self) -> None:
        server, _ = await self.ends.pair()
        assert isinstance(server.wire, TLSSocket)
        for one in (INegotiated, ISSLTransport, ITCPTransport, ISystemHandle, IConsumer, IPushProducer):
            verifyObject(one, server.wire)
        assert isinstance(server.wire.getHandle(), Connection)
        assert server.wire.getPeerCertificate() is None
        assert server.wire.negotiatedProtocol is None

    async def test_both_ends_export_the_same_binding(self) -> None:
        server, client = await self.ends.pair()
        assert is_secure(server.wire)
        assert len(exported_binding(server.wire)) == 32
        assert exported_binding(server.wire) == exported_binding(client.wire)

    async def test_the_options_of_its_socket(self) -> None:
        server, _ = await self.ends.pair()
        sock = server.wire.socket
        limit_unsent(server.wire, 77_777)
        assert sock.getsockopt(socket.IPPROTO_TCP, 25) == 77_777
        server.wire.setTcpNoDelay(False)
        assert not server.wire.getTcpNoDelay()
        hurry(server.wire)
        assert server.wire.getTcpNoDelay()
        assert not server.wire.getTcpKeepAlive()
        hasten_death(server.wire, 7, 3, 4, 5.0)
        assert server.wire.getTcpKeepAlive()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 5000

    async def test_addresses_are_known_after_the_loss(self) -> None:
        server, client = await self.ends.pair()
        peer, host = server.wire.getPeer(), server.wire.getHost()
        assert peer == client.wire.getHost()
        assert host == client.wire.getPeer()
        client.wire.loseConnection()
        await server.lost
        wire = server.wire
        assert (wire.getPeer(), wire.getHost()) == (peer, host)
        assert wire.getHandle() is None
        assert not exported_binding(wire)
        wire.write(b"nobody")
        wire.loseConnection()
        wire.abortConnection()
        wire.pauseProducing()
        wire.resumeProducing()
        wire.setTcpNoDelay(True)
        assert not wire.getTcpNoDelay()
        await deferLater(reactor, 0)
        assert len(server.reasons) == 1

    async def test_whether_a_handshake_is_to_come(self) -> None:
        for own in (True, False):
            ends = Ends(self, reactor, own_server=own)
            server, _ = await ends.pair(Asking)
            assert server.before is True
        plain = Ends(self, reactor, own_server=True)
        await plain.listen_plain(Asking)
        await plain.connect_plain()
        await until(lambda: plain.served, "is accepted")
        await plain.served[0].made
        assert plain.served[0].before is False

    async def test_breaking_off_is_told_as_such(self) -> None:
        server, client = await self.ends.pair()
        server.wire.abortConnection()
        server.wire.abortConnection()
        await server.lost
        await client.lost
        assert server.reasons[0].check(ConnectionAborted)

    async def test_a_handshake_has_its_time(self) -> None:
        clock = await self.listen_by_clock()
        client = await self.ends.connect_plain()
        client.wire.write(b"\x16\x03")
        await until(lambda: self.ends.served, "is accepted")
        server = self.ends.served[0]
        clock.advance(Policy().handshake_time - 0.1)
        await deferLater(reactor, 0.02)
        assert not server.reasons
        clock.advance(0.2)
        await server.lost
        await client.lost
        assert server.reasons[0].check(TimeoutError), server.reasons
        assert not clock.getDelayedCalls()

    async def test_a_complete_handshake_has_no_deadline(self) -> None:
        clock = await self.listen_by_clock()
        await self.ends.connect()
        server = self.ends.served[0]
        await server.shaken
        assert not clock.getDelayedCalls()

    async def test_an_answer_to_a_close_has_its_time(self) -> None:
        clock = await self.listen_by_clock()
        client = await self.ends.connect()
        server = self.ends.served[0]
        await server.shaken
        client.wire.transport.pauseProducing()
        server.wire.loseConnection()
        await until(clock.getDelayedCalls, "the close is said")
        clock.advance(Policy().close_time + 0.1)
        await server.lost
        assert server.reasons[0].check(ConnectionLost), server.reasons
        assert not clock.getDelayedCalls()

    async def test_closed_while_paused(self) -> None:
        # The peer's answer stands behind octets that nobody reads any more.
        server, client = await self.ends.pair()
        server.wire.pauseProducing()
        client.wire.write(MUCH)
        await deferLater(reactor, 0.05)
        server.wire.loseConnection()
        await server.lost
        await client.lost
        assert not server.heard
        assert server.reasons[0].check(ConnectionDone)

    async def test_a_pause_does_not_stop_the_handshake(self) -> None:
        class Pausing(Kept):
            def connectionMade(self) -> None:
                super().connectionMade()
                self.wire.pauseProducing()

        server, client = await self.ends.pair(Pausing)
        client.wire.write(b"hello")
        await deferLater(reactor, 0.05)
        assert not server.heard
        server.wire.resumeProducing()
        assert await server.hears(5) == b"hello"

    async def test_the_writing_half_is_closed(self) -> None:
        @implementer(IHalfCloseableProtocol)
        class Half(Kept):
            def writeConnectionLost(self) -> None:
                self.events.append("half")

            def readConnectionLost(self) -> None:
                raise AssertionError("TLS has no such end")

        server, client = await self.ends.pair(Half)
        server.wire.write(MUCH)
        server.wire.loseWriteConnection()
        server.wire.write(b", and this, which was said behind it but goes out too")
        await server.lost
        await client.lost
        assert client.heard == MUCH + b", and this, which was said behind it but goes out too"
        assert server.events == ["made", "handshake", "half", "lost"]
        assert server.reasons[0].check(ConnectionDone)

    async def test_answers_are_joined(self) -> None:
        class Chatty(Kept):
            def dataReceived(self, data: bytes) -> None:
                for _ in range(200):
                    self.wire.write(b"0123456789")

        _, client = await self.ends.pair(Chatty, Counting)
        client.wire.write(b"?")
        await client.hears(2000)
        assert client.deliveries == 1, client.deliveries

    async def test_what_is_written_in_a_row_is_joined(self) -> None:
        server, client = await self.ends.pair(Kept, Counting)
        for _ in range(200):
            server.wire.write(b"0123456789")
        server.wire.writeSequence([b"0123", b"456789"])
        await client.hears(2010)
        assert client.deliveries <= 2, client.deliveries

    async def test_only_octets_are_written(self) -> None:
        server, _ = await self.ends.pair()
        for wrong in ("text", bytearray(b"octets"), None):
            self.assertRaises(TypeError, server.wire.write, wrong)

    async def test_written_to_a_peer_that_is_gone(self) -> None:
        server, client = await self.ends.pair()
        server.wire.pauseProducing()
        client.wire.abortConnection()
        await client.lost
        for _ in range(3):
            server.wire.write(MUCH)
            assert not server.reasons, "from within write"
        await server.lost
        assert len(server.reasons) == 1
        assert server.reasons[0].check(ConnectionLost), server.reasons

    async def test_a_failed_write_leaves_nothing_to_others(self) -> None:
        server, client = await self.ends.pair()
        other = await self.ends.connect()
        server.wire.pauseProducing()
        client.wire.abortConnection()
        await client.lost
        await deferLater(reactor, 0.02)
        server.wire.write(b"refused")
        library: Any = vars(SSL)["_lib"]
        assert library.ERR_peek_error() == 0
        await server.lost
        assert server.reasons[0].check(ConnectionLost), server.reasons
        other.wire.write(b"hello")
        assert await self.ends.served[1].hears(5) == b"hello"

    async def test_it_goes_without_the_garbage_collector(self) -> None:
        server, client = await self.ends.pair()
        transport = weakref.ref(server.wire)
        client.wire.loseConnection()
        await server.lost
        await deferLater(reactor, 0)
        gc.disable()
        try:
            server.transport = None
            assert transport() is None
        finally:
            gc.enable()

    async def test_a_producer_is_not_asked_from_within_write(self) -> None:
        @implementer(IPushProducer)
        class Eager:
            def __init__(self, wire: Any) -> None:
                self.wire = wire
                self.within = False
                self.resumed = 0

            def write(self, octets: bytes) -> None:
                self.within = True
                self.wire.write(octets)
                self.within = False

            def pauseProducing(self) -> None:
                pass

            def resumeProducing(self) -> None:
                assert not self.within
                self.resumed += 1
                if self.resumed < 3:
                    self.write(MUCH)

            def stopProducing(self) -> None:
                pass

        server, client = await self.ends.pair()
        eager = Eager(server.wire)
        server.wire.registerProducer(eager, True)
        eager.write(MUCH)
        await client.hears(3 * len(MUCH))
        await until(lambda: eager.resumed == 3, "is resumed at the end")
        server.wire.unregisterProducer()

    async def test_no_descriptor_is_left_behind(self) -> None:
        await self.ends.listen()

        def count() -> int:
            return len(os.listdir("/proc/self/fd"))

        async def course(number: int) -> None:
            kind = number % 4
            client = await (self.ends.connect_plain() if kind == 3 else self.ends.connect())
            if kind == 0:
                client.wire.loseConnection()
            elif kind == 1:
                client.wire.abortConnection()
            elif kind == 2:
                client.wire.transport.loseConnection()
            else:
                client.wire.write(b"not TLS at all")
            await client.lost

        await course(0)
        await self.ends.served[0].lost
        before = count()
        for number in range(200):
            await course(number)
        await until(lambda: all(one.reasons for one in self.ends.served), "all are lost")
        assert len(self.ends.served) == 201
        assert count() == before
