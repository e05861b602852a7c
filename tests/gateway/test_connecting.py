"""
Reaching an upstream, over real sockets.
"""

from __future__ import annotations

import socket

from twisted.internet import reactor
from twisted.internet.defer import CancelledError

from mem_continuity.core.policy import Policy
from mem_continuity.gateway.connecting import connect_upstream
from mem_continuity.gateway.errors import Trouble, UpstreamError
from mem_continuity.gateway.source import identity
from mem_continuity.gateway.upstream import parse_upstream
from tests.gateway.connecting_case import SOURCE, ConnectingCase, read_header
from tests.gateway.scripted import HELLO, ScriptedServer
from tests.support.waiting import until


class PlainTests(ConnectingCase):
    """
    Without TLS.
    """

    async def test_ready(self) -> None:
        self.server.greeting += b"* 1 EXISTS\r\n"
        link = await self.connect("tcp:127.0.0.1:PORT")
        self.assertEqual((link.greeting, link.capabilities), (HELLO, frozenset({b"IMAP4REV1", b"ID", b"STARTTLS"})))
        self.assertEqual(link.rest, b"* 1 EXISTS\r\n")
        self.assertEqual(self.heard, [b""])
        sock = link.transport.socket
        self.assertTrue(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        self.assertTrue(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    async def test_by_name(self) -> None:
        link = await self.connect("tcp:localhost:PORT")
        self.assertEqual(link.greeting, HELLO)

    async def test_unix(self) -> None:
        path = self.mktemp()[-90:]
        self.server.listen_unix(path, self.addCleanup)
        link = await self.connect(f"unix:{path}:proxy=yes")
        self.assertEqual(link.greeting, HELLO)
        await until(lambda: self.heard[0], "the header")
        peer, rest = read_header(self.heard[0])
        self.assertEqual((peer.host, rest), ("192.0.2.1", b""))

    async def test_proxy_and_id(self) -> None:
        """
        The header comes before everything, ID behind the greeting; neither is answered to the client.
        """
        self.server.answers = {b"ID": b'* ID ("name" "x")\r\nTAG OK done\r\n'}
        self.server.greeting = b""
        port = self.server.listen(self.addCleanup)
        upstream = parse_upstream(f"tcp:127.0.0.1:{port}:proxy=yes:id=yes")
        connecting = connect_upstream(reactor, upstream, self.policy, SOURCE)
        await until(lambda: self.server.connections and self.heard[0], "the header")
        header = self.heard[0]
        peer, rest = read_header(header)
        self.assertEqual((peer.host, peer.port, rest), ("192.0.2.1", 40000, b""))
        self.server.connections[0].transport.write(HELLO)
        link = await connecting
        self.addCleanup(self.close, link)
        self.assertEqual(self.heard, [header + identity(b"g2", SOURCE)])
        self.assertEqual((link.greeting, link.rest), (HELLO, b""))

    async def test_nobody(self) -> None:
        """
        On nobody's behalf there is nobody to tell of.
        """
        link = await self.connect("tcp:127.0.0.1:PORT:proxy=yes:id=yes", source=None)
        await until(lambda: self.heard[0], "the header")
        self.assertEqual(self.heard[0][12:], b"\x20\0\0\0")
        self.assertEqual(link.greeting, HELLO)

    async def test_capability(self) -> None:
        self.server.greeting = b"* OK Hello\r\n"
        self.server.answers = {b"CAPABILITY": b"* CAPABILITY IMAP4rev1 X\r\nTAG OK done\r\n"}
        link = await self.connect("tcp:127.0.0.1:PORT", want=True)
        self.assertEqual(link.capabilities, frozenset({b"IMAP4REV1", b"X"}))
        self.assertEqual((link.greeting, link.rest), (b"* OK Hello\r\n", b""))


class PlainFailureTests(ConnectingCase):
    """
    What can go wrong below TLS and after it.
    """

    async def test_refused(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            for host in ("127.0.0.1", "localhost"):
                error = await self.fails(f"tcp:{host}:{taken.getsockname()[1]}", Trouble.UNREACHABLE)
                self.assertIn("refused", error.detail)

    async def test_no_such_socket(self) -> None:
        await self.fails("unix:/nowhere/imap", Trouble.UNREACHABLE)

    async def test_silent(self) -> None:
        """
        A server that does not greet, does not finish its line, or does not answer, is given up in time.
        """
        for greeting in (b"", b"* OK [CAPA", HELLO):
            self.server = ScriptedServer(greeting)
            policy = Policy(upstream_greeting=0.2)
            error = await self.fails("tcp:127.0.0.1:PORT:id=yes", Trouble.SLOW, policy=policy)
            self.assertIn("0.2 seconds", error.detail)

    async def test_greetings(self) -> None:
        for greeting, kind in (
            (b"* PREAUTH hello\r\n", Trouble.UNFIT),
            (b"* OK " + b"x" * 501, Trouble.UNFIT),
            (b"SSH-2.0-x\r\n", Trouble.UNFIT),
            (b"* BYE [X] Full house\r\n", Trouble.REFUSED),
        ):
            self.server = ScriptedServer(greeting)
            error = await self.fails("tcp:127.0.0.1:PORT", kind)
        self.assertEqual(error.public, b"Full house")

    async def test_closed(self) -> None:
        """
        It closes before it is ready.
        """
        port = self.server.listen(self.addCleanup)
        self.server.greeting = b"* OK"
        connecting = connect_upstream(reactor, parse_upstream(f"tcp:127.0.0.1:{port}"), self.policy)
        await until(lambda: self.server.connections, "a connection")
        self.server.connections[0].transport.loseConnection()
        try:
            await connecting
        except UpstreamError as error:
            self.assertEqual(error.kind, Trouble.LOST)
        else:
            raise AssertionError("it was ready")

    async def test_cancel(self) -> None:
        """
        Cancelled while it waits for a greeting: the connection is closed.
        """
        self.server.greeting = b""
        port = self.server.listen(self.addCleanup)
        connecting = connect_upstream(reactor, parse_upstream(f"tcp:127.0.0.1:{port}"), self.policy)
        await until(lambda: self.server.connections, "a connection")
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        await until(lambda: self.server.connections[0].lost, "the connection is closed")
