"""
What L{Hold<mem_continuity.gateway.hold.Hold>} writes, over a real socket: at once where it can, and always in order.
"""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mem_continuity.core.policy import Policy
from mem_continuity.gateway.hold import Hold
from mem_continuity.gateway.slots import Slots
from tests.support.waiting import until

reactor: Any = _reactor


class Wire(Protocol):
    """
    A connection to an upstream.
    """

    lost = False

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True


class HoldTests(TestCase):
    """
    An upstream that is a plain socket, and reads when it is told to.
    """

    timeout = 20.0

    async def connect(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", listener.getsockname()[1])
        wire: Any = await endpoint.connect(Factory.forProtocol(Wire))
        self.upstream, _ = listener.accept()
        self.addCleanup(self.upstream.close)
        self.upstream.settimeout(5.0)
        self.wire = wire
        self.addCleanup(self.end)
        self.hold = self.make_hold(secured=False)

    async def end(self) -> None:
        self.wire.transport.abortConnection()
        await until(lambda: self.wire.lost, "the end")

    def make_hold(self, secured: bool) -> Hold:
        link: Any = SimpleNamespace(transport=self.wire.transport, upstream=SimpleNamespace(secured=secured))
        slot = Slots(Policy()).take()
        assert slot is not None
        return Hold(link, slot, lambda octets: None, lambda: None, reactor, 1.0)

    def hear(self, count: int) -> bytes:
        """
        Without giving the reactor a turn.
        """
        heard = b""
        while len(heard) < count:
            heard += self.upstream.recv(count - len(heard))
        return heard

    async def test_commands_go_at_once(self) -> None:
        """
        The reactor is not waited for, nor left to watch a socket that has nothing to write.
        """
        await self.connect()
        for number in range(3):
            command = b"a%d NOOP\r\n" % number
            self.hold.write(command)
            self.assertEqual(self.hear(len(command)), command)
            self.assertNotIn(self.wire.transport, reactor.getWriters())

    async def test_order(self) -> None:
        """
        Whatever the upstream takes when: what is big goes by the reactor, and what is small never overtakes it.
        """
        await self.connect()
        sent = b""
        self.wire.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        self.upstream.setblocking(False)
        heard = bytearray()

        def read() -> None:
            try:
                heard.extend(self.upstream.recv(65536))
            except BlockingIOError:
                return

        for turn in range(60):
            for size in (10, 70_000, 20, 5000, 30):
                octets = bytes([turn, size % 251]) * (size // 2)
                self.hold.write(octets)
                sent += octets
            read()
            if turn % 3 == 0:
                await deferLater(reactor, 0)
        while len(heard) < len(sent):
            read()
            await deferLater(reactor, 0)
        self.assertEqual(bytes(heard), sent)
        self.hold.write(b"again at once")
        self.upstream.setblocking(True)
        self.assertEqual(self.hear(13), b"again at once")

    async def test_an_upstream_that_is_gone(self) -> None:
        """
        Nothing is raised, and the reactor tells of the loss.
        """
        await self.connect()
        self.hold.write(b"a1 NOOP\r\n")
        self.hear(9)
        self.wire.transport.pauseProducing()
        self.upstream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.upstream.close()
        self.hold.write(b"a2 NOOP\r\n")
        self.hold.write(b"a3 NOOP\r\n")
        await until(lambda: self.wire.lost, "the loss")
        self.hold.write(b"a4 NOOP\r\n")

    async def test_not_past_tls(self) -> None:
        """
        Under Twisted's TLS a transport writes other octets than it is given.
        """
        await self.connect()
        self.hold = self.make_hold(secured=True)
        self.assertEqual(self.hold.write, self.wire.transport.write)
