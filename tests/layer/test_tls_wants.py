"""
What OpenSSL may want before it does what it was asked for: L{mem_continuity.layer.tls_socket} waits for it without turning in
circles.
"""

from __future__ import annotations

from typing import Any

from OpenSSL.SSL import Connection, WantReadError, WantWriteError
from twisted.internet import reactor as _reactor
from twisted.internet.error import ConnectionDone
from twisted.internet.task import deferLater

from tests.support.tls_case import TLSTestCase
from tests.support.tls_courses import MUCH
from tests.support.tls_talk import Ends, Kept
from tests.support.waiting import until

reactor: Any = _reactor


class Moody:
    """
    An OpenSSL connection that wants something else first, as one may at a change of keys.
    """

    def __init__(self, connection: Connection, **moods: list[type[Exception]]) -> None:
        self._connection = connection
        self.moods = moods
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        if self.moods.get(name):
            self.calls += 1
            raise self.moods[name].pop()
        return getattr(self._connection, name)


class WantsTests(TLSTestCase):
    """
    One of each kind.
    """

    timeout = 60

    def setUp(self) -> None:
        self.ends = Ends(self, reactor, own_server=True)

    async def test_reading_that_has_to_write_first(self) -> None:
        server, client = await self.ends.pair()
        moody = server.wire._connection = Moody(server.wire._connection, recv=[WantWriteError] * 2)
        client.wire.write(b"hello")
        assert await server.hears(5) == b"hello"
        assert moody.calls == 2

    async def test_writing_that_has_to_read_first(self) -> None:
        server, client = await self.ends.pair()
        await deferLater(reactor, 0.02)  # out of handshakeCompleted, behind which it reads
        moody = server.wire._connection = Moody(server.wire._connection, send=[WantReadError] * 3)
        server.wire.write(MUCH)
        await deferLater(reactor, 0.05)
        assert moody.calls == 1, moody.calls
        for number in range(2, 4):
            client.wire.write(b"x")
            await server.hears(number - 1)
            await until(lambda number=number: moody.calls == number, "is tried again")  # type: ignore[misc]
        server.wire.loseConnection()
        client.wire.write(b"x")
        await client.lost
        assert client.heard == MUCH

    async def test_a_handshake_that_has_to_write_first(self) -> None:
        class Starting(Kept):
            def connectionMade(self) -> None:
                super().connectionMade()
                self.wire._connection = Moody(self.wire._connection, do_handshake=[WantWriteError] * 2)

        server, client = await self.ends.pair(Starting)
        client.wire.write(b"hello")
        assert await server.hears(5) == b"hello"
        assert server.wire._connection.calls == 2

    async def test_a_close_that_has_to_wait(self) -> None:
        server, client = await self.ends.pair()
        server.wire._connection = Moody(server.wire._connection, shutdown=[WantWriteError] * 2)
        server.wire.write(b"bye")
        server.wire.loseConnection()
        await client.lost
        await server.lost
        assert client.heard == b"bye"
        assert client.reasons[0].check(ConnectionDone)
