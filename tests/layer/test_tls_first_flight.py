"""
The beginning of a client's TLS: nobody is told of anything from within the call that begins it.
"""

from __future__ import annotations

import socket
from typing import Any

from OpenSSL import SSL
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.layer.tls_contexts import client_context
from mem_continuity.layer.tls_socket import TLSSocket


class _Reactor(Clock):
    """
    @ivar writers: who waits to write.
    """

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []
        self.writers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def addWriter(self, writer: Any) -> None:
        self.writers.append(writer)

    def removeReader(self, reader: Any) -> None:
        self.readers = [one for one in self.readers if one is not reader]

    def removeWriter(self, writer: Any) -> None:
        self.writers = [one for one in self.writers if one is not writer]


class FirstFlightTests(SynchronousTestCase):
    def test_is_sent_by_the_reactor(self) -> None:
        """
        A peer on a busy host can answer between two instructions, and its first octets would be delivered before whoever connects
        has got the protocol.
        """
        near, far = socket.socketpair()
        self.addCleanup(far.close)
        far.setblocking(False)
        reactor = _Reactor()
        context: SSL.Context = client_context()
        made = TLSSocket(reactor, near, context, Protocol(), server=False, handshake_time=5.0, close_time=5.0)
        self.addCleanup(near.close)
        made.start()
        self.assertRaises(BlockingIOError, far.recv, 1)
        self.assertEqual((reactor.readers, reactor.writers), ([made], [made]))
        self.assertIsNone(made.doWrite())
        self.assertTrue(far.recv(4096).startswith(b"\x16\x03"))
        self.assertEqual(reactor.writers, [])
