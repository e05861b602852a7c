"""
STARTTLS on the descriptor: L{mem_continuity.layer.tls_starting}.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from service_identity import VerificationError
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionClosed, ConnectionDone, ConnectionLost
from twisted.internet.task import deferLater

from mem_continuity.core.policy import Policy
from mem_continuity.layer.sockets import exported_binding
from mem_continuity.layer.tls_contexts import client_context, server_context
from mem_continuity.layer.tls_endpoints import named
from mem_continuity.layer.tls_socket import TLSSocket
from mem_continuity.layer.tls_starting import NotPlain, start_tls
from tests.support.certificates import certificate_pem
from tests.support.certificates import client_context as stock_client_context
from tests.support.certificates import server_context as stock_server_context
from tests.support.tls_case import TLSTestCase
from tests.support.tls_courses import MUCH
from tests.support.tls_talk import Ends, Kept
from tests.support.waiting import until

reactor: Any = _reactor


class Server(Kept):
    """
    Begins TLS when it is asked to.
    """

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if self.heard == b"STARTTLS":
            self.heard.clear()
            self.begin()

    def begin(self) -> None:
        self.wire.write(b"OK")
        self.wire.startTLS(stock_server_context())


class OwnServer(Server):
    """
    The same on the descriptor, with much to say before.
    """

    before = b""

    def begin(self) -> None:
        self.wire.write(self.before + b"OK")
        context = server_context(certificate_pem())
        self.begun = start_tls(reactor, self.wire, context, self, server=True, policy=Policy())


class StartingTests(TLSTestCase):
    """
    L{start_tls}, in each role against Twisted's own.
    """

    timeout = 60

    def setUp(self) -> None:
        self.ends = Ends(self, reactor, own_server=True)

    async def plain(self, make: Any) -> Any:
        await self.ends.listen_plain(make)
        client = await self.ends.connect_plain()
        client.wire.write(b"STARTTLS")
        await client.hears(2)
        return client

    def begin(self, client: Any, name: str = "localhost") -> Any:
        server_name, verify = named(name)
        return start_tls(
            reactor,
            client.wire,
            client_context(certificate_pem()),
            client,
            server=False,
            policy=Policy(),
            server_name=server_name,
            verify=verify,
        )

    async def test_a_client_begins(self) -> None:
        client = await self.plain(Server)
        client.heard.clear()
        transport = await self.begin(client)
        server = self.ends.served[0]
        assert client.wire is transport
        assert isinstance(transport, TLSSocket)
        assert client.events == ["made", "data", "handshake"]
        assert exported_binding(transport) == exported_binding(server.wire) != b""
        assert transport.socket is not None
        assert not any(transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)), "closing would reset"
        client.wire.write(MUCH)
        assert await server.hears(len(MUCH)) == MUCH
        client.wire.loseConnection()
        await server.lost
        await client.lost
        assert client.reasons[0].check(ConnectionDone)
        assert len(client.reasons) == 1

    async def test_a_server_begins_when_all_was_said(self) -> None:
        OwnServer.before = MUCH
        self.addCleanup(setattr, OwnServer, "before", b"")
        client = await self.plain(OwnServer)
        assert await client.hears(len(MUCH) + 2) == MUCH + b"OK"
        client.heard.clear()
        client.wire.startTLS(stock_client_context())
        client.wire.write(b"hello")
        server = self.ends.served[0]
        assert await server.hears(5) == b"hello"
        assert server.events == ["made", "data", "handshake", "data"]
        server.wire.write(MUCH)
        server.wire.loseConnection()
        await client.lost
        assert client.heard == MUCH
        await server.lost
        assert len(server.reasons) == 1

    async def test_another_name(self) -> None:
        client = await self.plain(Server)
        try:
            await self.begin(client, "other.example.org")
        except VerificationError:
            assert len(client.reasons) == 1
            assert "handshake" not in client.events
            await self.ends.served[0].lost
            return
        raise AssertionError("it goes on")

    async def test_the_server_goes(self) -> None:
        class Going(Server):
            def begin(self) -> None:
                self.wire.write(b"OK")
                self.wire.loseConnection()

        client = await self.plain(Going)
        try:
            await self.begin(client)
        except (ConnectionLost, ConnectionClosed):
            assert len(client.reasons) == 1
            return
        raise AssertionError("it goes on")

    async def test_cancelled(self) -> None:
        for turns in (0, 1, 2, 3):
            client = await self.plain(Server)
            beginning = self.begin(client)
            for _ in range(turns):
                await deferLater(reactor, 0)
            beginning.cancel()
            try:
                await beginning
            except (CancelledError, ConnectionClosed):
                pass
            else:
                raise AssertionError("it goes on")
            await until(lambda client=client: client.reasons, "is told")  # type: ignore[misc]
            await self.ends.served[-1].lost
            assert len(client.reasons) == 1, turns

    async def test_what_is_not_plain(self) -> None:
        server, client = await self.ends.pair()
        for wire in (server.wire, client.wire, object()):
            self.assertRaises(
                NotPlain,
                start_tls,
                reactor,
                wire,
                client_context(),
                client,
                server=False,
                policy=Policy(),
            )

    async def test_no_descriptor_is_left_behind(self) -> None:
        await self.ends.listen_plain(OwnServer)

        async def course() -> None:
            client = await self.ends.connect_plain()
            client.wire.write(b"STARTTLS")
            await client.hears(2)
            transport = await self.begin(client)
            transport.loseConnection()
            await client.lost
            await self.ends.served[-1].lost

        await course()
        await deferLater(reactor, 0.05)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            await course()
        await deferLater(reactor, 0.02)
        assert len(os.listdir("/proc/self/fd")) == before
