"""
A PROXY header in front of a TLS handshake: L{mem_continuity.layer.proxy_header}, L{mem_continuity.layer.tls_port}.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.policy import Policy
from mem_continuity.layer.proxy_header import HeaderReader, NotProxied
from mem_continuity.layer.tls_contexts import server_context
from mem_continuity.layer.tls_endpoints import TLSServerEndpoint
from tests.support.certificates import certificate_pem, client_context
from tests.support.tls_case import TLSTestCase
from tests.support.tls_talk import LOOPBACK, Ends, Kept
from tests.support.waiting import until

reactor: Any = _reactor
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
CLIENT, SERVER = IPv4Address("TCP", "203.0.113.1", 40000), IPv4Address("TCP", "198.51.100.1", 993)
CLIENT6, SERVER6 = IPv6Address("TCP", "2001:db8:0:0:0:0:0:1", 40000), IPv6Address("TCP", "2001:db8:0:0:0:0:0:2", 993)


def v2(command: int, family: int, rest: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", 0x20 | command, family, len(rest)) + rest


def packed(family: int, one: Any, other: Any) -> bytes:
    hosts = socket.inet_pton(family, one.host) + socket.inet_pton(family, other.host)
    return hosts + struct.pack("!HH", one.port, other.port)


V1 = b"PROXY TCP4 203.0.113.1 198.51.100.1 40000 993\r\n"
V2 = v2(1, 0x11, packed(socket.AF_INET, CLIENT, SERVER))
TOLD: list[tuple[bytes, Any, Any]] = [
    (V1, CLIENT, SERVER),
    (b"PROXY TCP6 2001:db8:0:0:0:0:0:1 2001:db8:0:0:0:0:0:2 40000 993\r\n", CLIENT6, SERVER6),
    (V2, CLIENT, SERVER),
    (v2(1, 0x21, packed(socket.AF_INET6, CLIENT6, SERVER6)), CLIENT6, SERVER6),
    (v2(1, 0x11, packed(socket.AF_INET, CLIENT, SERVER) + b"\x04\x00\x05filler"[:8] + b"\r\nPROXY"), CLIENT, SERVER),
    (v2(1, 0x31, b"/a".ljust(108, b"\0") + b"/b".ljust(108, b"\0")), UNIXAddress(b"/a"), UNIXAddress(b"/b")),
    (b"PROXY UNKNOWN\r\n", None, None),
    (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None, None),
    (v2(0, 0x00, b""), None, None),
    (v2(0, 0x11, packed(socket.AF_INET, CLIENT, SERVER)), None, None),
    (v2(1, 0x00, b"whatever"), None, None),
]
WRONG = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03AAAAAAAAAAAAAAA",
    b"* OK no balancer\r\n",
    b"PROXYTCP4 203.0.113.1 198.51.100.1 40000 993\r\n",
    b"PROXY TCP4 203.0.113.1 198.51.100.1 40000\r\n",
    b"PROXY TCP4 203.0.113.1 somewhere 40000 993\r\n",
    b"PROXY TCP4 203.0.113.1 198.51.100.1 many 993\r\n",
    b"PROXY TCP4 203.0.113.1 198.51.100.1 40000 65536\r\n",
    b"PROXY UDP4 203.0.113.1 198.51.100.1 40000 993\r\n",
    b"PROXY " + b"x" * 200 + b"\r\n",
    SIGNATURE + b"\x11\x11\x00\x00",
    v2(7, 0x11, packed(socket.AF_INET, CLIENT, SERVER)),
    v2(1, 0x11, b"short"),
    v2(1, 0x12, packed(socket.AF_INET, CLIENT, SERVER)),
    v2(1, 0x7F, packed(socket.AF_INET, CLIENT, SERVER)),
]
BEHIND = b"\x16\x03\x01\r\nPROXY behind it"


class ReaderTests(SynchronousTestCase):
    """
    L{HeaderReader}.
    """

    def setUp(self) -> None:
        self.near, self.far = socket.socketpair()
        self.far.setblocking(False)
        self.addCleanup(self.near.close)
        self.addCleanup(self.far.close)

    def check(self, pieces: list[bytes], source: Any, destination: Any) -> None:
        reader = HeaderReader()
        for piece in pieces[:-1]:
            self.near.sendall(piece)
            self.assertFalse(reader.read(self.far))
            with self.assertRaises(BlockingIOError):
                self.far.recv(1)  # nothing is left that could wake us again
        self.near.sendall(pieces[-1])
        self.assertTrue(reader.read(self.far))
        self.assertEqual((reader.source, reader.destination), (source, destination))

    def test_what_it_tells(self) -> None:
        for header, source, destination in TOLD:
            self.check([header], source, destination)

    def test_nothing_behind_it_is_read(self) -> None:
        for header, source, destination in TOLD:
            self.check([header + BEHIND], source, destination)
            self.assertEqual(self.far.recv(1000), BEHIND)

    def test_octet_by_octet(self) -> None:
        for header, source, destination in TOLD:
            self.check([header[at : at + 1] for at in range(len(header))], source, destination)

    @given(st.sampled_from(TOLD), st.lists(st.integers(1, 300)))
    def test_in_any_pieces(self, told: tuple[bytes, Any, Any], cuts: list[int]) -> None:
        header, source, destination = told
        edges = [0, *sorted({cut for cut in cuts if cut < len(header)}), len(header)]
        pieces = [header[one:other] for one, other in pairwise(edges)]
        pieces[-1] += BEHIND
        self.check(pieces, source, destination)
        self.assertEqual(self.far.recv(1000), BEHIND)

    def test_what_is_none(self) -> None:
        for octets in WRONG:
            near, far = socket.socketpair()
            far.setblocking(False)
            near.sendall(octets)
            with self.assertRaises(NotProxied, msg=repr(octets)):
                HeaderReader().read(far)
            near.close()
            far.close()

    def test_an_end_within_it(self) -> None:
        self.near.sendall(V1[:20])
        self.near.close()
        with self.assertRaises(NotProxied):
            HeaderReader().read(self.far)

    @given(st.binary(max_size=300))
    def test_whatever_comes(self, octets: bytes) -> None:
        for start in (b"", SIGNATURE, b"PROXY ", b"PROXY TCP4 "):
            near, far = socket.socketpair()
            far.setblocking(False)
            near.sendall(start + octets)
            near.close()
            with contextlib.suppress(NotProxied, OSError):
                HeaderReader().read(far)
            far.close()


class Balancer(Protocol):
    """
    Says a header, then is whatever it was wrapped around.
    """

    def __init__(self, header: bytes, inner: Any, octetwise: bool) -> None:
        self.header = header
        self.inner = inner
        self.octetwise = octetwise

    def connectionMade(self) -> None:
        wire: Any = self.transport
        if self.octetwise:
            wire.setTcpNoDelay(True)
            self._next(0)
            return
        wire.write(self.header)
        self._go()

    def _next(self, at: int) -> None:
        wire: Any = self.transport
        if at == len(self.header):
            self._go()
            return
        wire.write(self.header[at : at + 1])
        reactor.callLater(0.001, self._next, at + 1)

    def _go(self) -> None:
        wire: Any = self.transport
        wire.protocol = self.inner  # what the endpoint put there is in the way
        self.inner.makeConnection(wire)


class ProxiedTests(TLSTestCase):
    """
    C{TLSServerEndpoint(…, proxied=True)}.
    """

    timeout = 60

    def setUp(self) -> None:
        self.ends = Ends(self, reactor, own_server=True)

    async def listen(self, clock: Clock | None = None) -> None:
        context = server_context(certificate_pem())
        await self.ends.listen(endpoint=TLSServerEndpoint(reactor, 0, context, LOOPBACK, proxied=True, clock=clock))

    async def connect(self, header: bytes, octetwise: bool = False) -> tuple[Any, Any]:
        """
        @return: the client and the server's protocol.
        """
        client: Any = Kept()
        context: Any = client_context()
        inner: Any = TLSMemoryBIOFactory(context, True, Factory.forProtocol(lambda: client)).buildProtocol(None)
        plain: Any = HostnameEndpoint(reactor, LOOPBACK, self.ends.port)
        await plain.connect(Factory.forProtocol(lambda: Balancer(header, inner, octetwise)))
        self.ends.clients.append(client)
        await client.shaken
        return client, self.ends.served[-1]

    async def test_the_addresses_are_what_it_tells(self) -> None:
        await self.listen()
        for header, source, destination in TOLD:
            client, server = await self.connect(header)
            await server.shaken
            assert server.wire.getPeer() == (source or client.wire.getHost()), header
            assert server.wire.getHost() == (destination or client.wire.getPeer()), header
            client.wire.write(b"hello")
            assert await server.hears(5) == b"hello"

    async def test_the_factory_sees_the_client(self) -> None:
        seen: list[Any] = []

        class Seeing(Factory):
            def buildProtocol(self, addr: Any) -> Any:
                seen.append(addr)
                return None

        context = server_context(certificate_pem())
        port: Any = await TLSServerEndpoint(reactor, 0, context, LOOPBACK, proxied=True).listen(Seeing())
        self.ends.port = port.getHost().port
        client = await self.ends.connect_plain()
        client.wire.write(V1)
        await client.lost
        assert seen == [CLIENT]
        await port.stopListening()

    async def test_octet_by_octet_without_turning_in_circles(self) -> None:
        await self.listen()
        before = time.process_time()
        client, server = await self.connect(V1, octetwise=True)
        await server.shaken
        assert server.wire.getPeer() == CLIENT
        client = await self.ends.connect_plain()
        client.wire.write(V2[:20])
        turns = time.process_time()
        await deferLater(reactor, 0.5)
        assert time.process_time() - turns < 0.2, "busy while it waits"
        assert turns - before < 5
        client.wire.loseConnection()
        await client.lost

    async def test_anything_else_is_closed(self) -> None:
        await self.listen()
        for octets in WRONG:
            client = await self.ends.connect_plain()
            client.wire.write(octets)
            await client.lost
        assert not self.ends.served

    async def test_gone_behind_the_header(self) -> None:
        """
        A balancer that only asks whether somebody listens breaks off behind it, and then nobody can be asked who it was.
        """
        await self.listen()
        with socket.create_connection((LOOPBACK, self.ends.port)) as balancer:
            balancer.sendall(v2(0, 0x00, b""))
            balancer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await until(lambda: self.ends.served, "the header is read")
        await self.ends.served[0].lost

    async def test_it_has_its_time(self) -> None:
        clock = Clock()
        await self.listen(clock)
        client = await self.ends.connect_plain()
        client.wire.write(V1[:-1])
        await until(clock.getDelayedCalls, "is accepted")
        clock.advance(Policy().handshake_time + 0.1)
        await client.lost
        assert not self.ends.served

    async def test_both_together_have_their_time(self) -> None:
        clock = Clock()
        await self.listen(clock)
        client = await self.ends.connect_plain()
        await until(clock.getDelayedCalls, "is accepted")
        clock.advance(Policy().handshake_time - 1)
        client.wire.write(V1)
        await until(lambda: self.ends.served, "the header is read")
        clock.advance(1.1)
        await self.ends.served[0].lost
        await client.lost
        assert not clock.getDelayedCalls()

    async def test_no_descriptor_is_left_behind(self) -> None:
        await self.listen()

        async def course(octets: bytes) -> None:
            client = await self.ends.connect_plain()
            client.wire.write(octets)
            client.wire.loseConnection()
            await client.lost

        await course(b"")
        await deferLater(reactor, 0.05)
        before = len(os.listdir("/proc/self/fd"))
        for octets in (V1[:9], b"", V2[:13], WRONG[0]):
            await course(octets)
        await until(lambda: len(os.listdir("/proc/self/fd")) == before, "all are closed")
