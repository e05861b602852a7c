"""
A link to an upstream, in the hands of its user.
"""

from __future__ import annotations

import gc
import socket
import struct
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from mem_continuity.core.policy import Policy
from tests.gateway.connecting_case import ConnectingCase, Receiver, is_read
from tests.gateway.scripted import HELLO, ScriptedServer
from tests.support.waiting import until


class LinkTests(ConnectingCase):
    """
    A link that is ready, in the hands of its user.
    """

    async def both(self, check: Callable[[], Coroutine[Any, Any, None]]) -> None:
        for self.description in ("tcp:127.0.0.1:PORT", "tls:localhost:PORT:authority=CA"):
            self.server = ScriptedServer(HELLO + b"rest")
            await check()

    async def test_relay(self) -> None:
        """
        What came behind comes first; then octets go both ways; the end is told once.
        """

        async def check() -> None:
            link, receiver = await self.connect(self.description), Receiver()
            server = self.server.connections[0]
            link.attach(receiver)
            self.assertTrue(b"rest".startswith(receiver.octets))
            server.transport.write(b"more")
            await until(lambda: receiver.octets == b"restmore", "octets of the upstream")
            link.transport.write(b"a1 NOOP\r\n")
            await until(lambda: server.heard == [b"a1 NOOP\r\n"], "octets of the client")
            server.transport.loseConnection()
            await until(lambda: receiver.lost, "the end")
            self.assertTrue(link.lost)
            self.assertEqual(len(receiver.lost), 1)

        await self.both(check)

    async def test_straight(self) -> None:
        """
        Twisted calls the receiver itself.
        """
        link, receiver = await self.connect("tcp:127.0.0.1:PORT"), Receiver()
        link.attach(receiver)
        self.assertEqual(link.dataReceived, receiver.upstream_received)

    async def test_not_read(self) -> None:
        """
        Before it is attached a link is not read; a client that reads nothing stops the upstream.
        """

        async def check() -> None:
            link, receiver = await self.connect(self.description), Receiver()
            server = self.server.connections[0]
            server.transport.write(b"x" * 100_000)
            await until(lambda: server.transport.connected, "the server runs")
            self.assertFalse(is_read(link))
            self.assertLessEqual(len(link.rest), 66_000)
            link.attach(receiver)
            await until(lambda: receiver.octets == b"rest" + b"x" * 100_000, "all of it")
            link.transport.pauseProducing()
            second = Receiver()
            link.attach(second)
            self.assertFalse(is_read(link))
            link.transport.resumeProducing()
            server.transport.write(b"y")
            await until(lambda: second.octets == b"y", "the other receiver")
            self.assertEqual(len(receiver.octets), 100_004)

        await self.both(check)

    async def test_paused_at_once(self) -> None:
        """
        A receiver that pauses while it is given the rest stays paused.
        """
        self.server.greeting += b"rest"
        link = await self.connect("tcp:127.0.0.1:PORT")

        class Pausing(Receiver):
            def upstream_received(self, octets: bytes) -> None:
                super().upstream_received(octets)
                link.transport.pauseProducing()

        receiver = Pausing()
        link.attach(receiver)
        self.assertEqual(receiver.octets, b"rest")
        self.assertFalse(is_read(link))

    async def test_too_much(self) -> None:
        """
        What is kept for a receiver is bounded, should reading be resumed before there is one.
        """
        link = await self.connect("tcp:127.0.0.1:PORT", policy=Policy(preamble_buffer=1000))
        link.transport.resumeProducing()
        self.server.connections[0].transport.write(b"x" * 1001)
        await until(lambda: link.lost, "the end of the link")
        self.assertEqual(link.rest, b"")

    async def test_lost_before(self) -> None:
        """
        A link that is lost before anybody is attached tells so, but not from within the call.
        """
        self.server.greeting += b"rest"
        link, receiver = await self.connect("tcp:127.0.0.1:PORT"), Receiver()
        link.abort()
        await until(lambda: link.lost, "the end of the link")
        link.attach(receiver)
        self.assertEqual((receiver.octets, receiver.lost), (b"rest", []))
        await until(lambda: receiver.lost, "the end is told")
        link.attach(receiver)
        link.abort()
        await deferLater(IReactorTime(reactor), 0.01)
        self.assertEqual(len(receiver.lost), 1)

    async def test_reset(self) -> None:
        """
        A connection that is broken off is told as well.
        """
        link, receiver = await self.connect("tcp:127.0.0.1:PORT"), Receiver()
        link.attach(receiver)
        sock = self.server.connections[0].transport.socket
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.server.connections[0].transport.abortConnection()
        await until(lambda: receiver.lost, "the end")

    async def test_lets_go(self) -> None:
        """
        A link that is over holds on to nobody.
        """
        link, receivers = await self.connect("tcp:127.0.0.1:PORT"), [Receiver()]
        link.attach(receivers[0])
        link.abort()
        await until(lambda: receivers[0].lost, "the end")
        watched = weakref.ref(receivers[0])
        gc.disable()
        try:
            receivers.clear()
            self.assertIsNone(watched())
        finally:
            gc.enable()
