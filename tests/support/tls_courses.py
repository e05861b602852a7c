"""
The courses that a TLS connection of a server can take, whatever its transport: a test module runs them with each.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from OpenSSL.SSL import Error as TLSError
from twisted.internet import reactor as _reactor
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.internet.task import deferLater
from zope.interface import implementer

from tests.support.tls_case import TLSTestCase
from tests.support.tls_talk import Ends, Kept
from tests.support.waiting import until

reactor: Any = _reactor
MIB = 1024 * 1024
MUCH = bytes(range(256)) * (5 * MIB // 256)


@implementer(IPushProducer)
class Echo(Kept):
    """
    Gives back what it hears, as fast as it is taken.
    """

    def connectionMade(self) -> None:
        super().connectionMade()
        self.wire.registerProducer(self, True)
        self.pauses = 0

    def dataReceived(self, data: bytes) -> None:
        self.wire.write(data)

    def pauseProducing(self) -> None:
        self.pauses += 1
        self.wire.pauseProducing()

    def resumeProducing(self) -> None:
        self.wire.resumeProducing()

    def stopProducing(self) -> None:
        self.events.append("stopped")


@implementer(IPullProducer)
class Pulled:
    """
    Writes one piece whenever it is asked, then closes.
    """

    def __init__(self, wire: Any, piece: bytes, count: int) -> None:
        self.wire = wire
        self.piece = piece
        self.left = count

    def resumeProducing(self) -> None:
        if self.left:
            self.left -= 1
            self.wire.write(self.piece)
        else:
            self.wire.unregisterProducer()

    def stopProducing(self) -> None:
        self.left = 0


@implementer(IPushProducer)
class Told:
    """
    Keeps what a consumer tells it.
    """

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class Courses(TLSTestCase):
    """
    What has to be so of any TLS transport of a server.  The client is Twisted's.
    """

    own: bool
    timeout = 60

    def setUp(self) -> None:
        self.ends = Ends(self, reactor, own_server=self.own)

    def check_lost(self, end: Kept, kind: type[BaseException]) -> None:
        assert len(end.reasons) == 1, end.reasons
        assert end.reasons[0].check(kind), end.reasons[0]

    async def test_the_client_closes(self) -> None:
        server, client = await self.ends.pair()
        client.wire.loseConnection()
        await server.lost
        await client.lost
        self.check_lost(server, ConnectionDone)
        self.check_lost(client, ConnectionDone)

    async def test_the_server_closes(self) -> None:
        server, client = await self.ends.pair()
        server.wire.write(b"bye")
        server.wire.loseConnection()
        assert not server.reasons, "from within loseConnection"
        await server.lost
        await client.lost
        assert client.heard == b"bye"
        self.check_lost(server, ConnectionDone)
        self.check_lost(client, ConnectionDone)

    async def test_the_client_ends_without_a_close(self) -> None:
        server, client = await self.ends.pair()
        client.wire.write(b"last")
        await server.hears(4)
        client.wire.transport.loseConnection()  # of the TCP connection below
        await server.lost
        self.check_lost(server, ConnectionLost)

    async def test_the_client_does_not_answer_a_close(self) -> None:
        server, client = await self.ends.pair()
        client.wire.transport.pauseProducing()
        server.wire.loseConnection()
        await deferLater(reactor, 0.05)
        assert not server.reasons
        client.wire.transport.loseConnection()
        await server.lost
        self.check_lost(server, ConnectionLost)

    async def test_the_connection_is_reset(self) -> None:
        server, client = await self.ends.pair()
        client.wire.abortConnection()
        await server.lost
        self.check_lost(server, ConnectionLost)

    async def test_the_server_breaks_off(self) -> None:
        server, client = await self.ends.pair()
        server.wire.write(MUCH)
        server.wire.abortConnection()
        server.wire.write(b"more")
        assert not server.reasons, "from within abortConnection"
        await server.lost
        await client.lost
        self.check_lost(server, ConnectionLost)
        self.check_lost(client, ConnectionLost)
        assert len(client.heard) < len(MUCH)

    async def test_a_client_that_does_not_speak_tls(self) -> None:
        await self.ends.listen()
        client = await self.ends.connect_plain()
        client.wire.write(b"a1 LOGIN joe secret\r\n" * 100)
        await client.lost
        server = self.ends.served[-1]
        await server.lost
        self.check_lost(server, TLSError)
        assert server.events == ["made", "lost"]
        self.check_lost(client, ConnectionDone)

    async def test_the_handshake_is_cut(self) -> None:
        await self.ends.listen()
        client = await self.ends.connect_plain()
        client.wire.write(b"\x16\x03\x01\x02\x00")
        client.wire.loseConnection()
        await client.lost
        server = self.ends.served[-1]
        await server.lost
        self.check_lost(server, ConnectionLost)

    async def test_the_client_does_not_trust_the_server(self) -> None:
        await self.ends.listen()
        client = await self.ends.connect(trusting=False)
        await client.lost
        server = self.ends.served[-1]
        await server.lost
        self.check_lost(server, TLSError)
        assert "data" not in server.events

    async def test_broken_off_in_the_handshake(self) -> None:
        class Aborting(Kept):
            def connectionMade(self) -> None:
                super().connectionMade()
                self.wire.abortConnection()
                assert not self.reasons

        await self.ends.listen(Aborting)
        client = await self.ends.connect_plain()
        await client.lost
        self.check_lost(client, ConnectionLost)
        server = self.ends.served[-1]
        await server.lost
        self.check_lost(server, ConnectionLost)
        assert server.events == ["made", "lost"]

    async def test_closed_in_the_handshake_with_nothing_to_say(self) -> None:
        class Closing(Kept):
            def connectionMade(self) -> None:
                super().connectionMade()
                self.wire.loseConnection()

        await self.ends.listen(Closing)
        client = await self.ends.connect_plain()
        await client.lost
        server = self.ends.served[-1]
        await server.lost
        self.check_lost(server, ConnectionLost)

    async def test_a_greeting_waits_for_the_handshake(self) -> None:
        class Greeting(Kept):
            def connectionMade(self) -> None:
                super().connectionMade()
                self.wire.write(b"* OK ")
                self.wire.write(b"welcome")
                self.wire.loseConnection()

            def handshakeCompleted(self) -> None:
                super().handshakeCompleted()
                self.wire.write(b"not any more")

        await self.ends.listen(Greeting)
        client = await self.ends.connect()
        await client.lost
        assert client.heard == b"* OK welcome"
        server = self.ends.served[-1]
        await server.lost
        self.check_lost(server, ConnectionDone)
        assert server.events == ["made", "handshake", "lost"]

    async def test_twenty_megabytes_there_and_back(self) -> None:
        server, client = await self.ends.pair(Echo)
        sent = MUCH * 4
        client.wire.write(sent)
        heard = await client.hears(len(sent))
        assert sha256(heard).digest() == sha256(sent).digest()
        client.wire.loseConnection()
        await server.lost

    async def test_closed_with_much_to_write(self) -> None:
        server, client = await self.ends.pair()
        server.wire.write(MUCH)
        server.wire.loseConnection()
        server.wire.write(b"not any more")
        await client.lost
        await server.lost
        assert client.heard == MUCH
        self.check_lost(server, ConnectionDone)

    async def test_a_client_that_closes_first_and_reads_on(self) -> None:
        server, client = await self.ends.pair()
        client.wire.pauseProducing()
        server.wire.write(MUCH)
        await deferLater(reactor, 0.05)
        client.wire.loseConnection()
        client.wire.resumeProducing()
        await server.lost
        await client.lost
        assert client.heard == MUCH
        self.check_lost(server, ConnectionDone)

    async def test_pausing_loses_nothing(self) -> None:
        server, client = await self.ends.pair()
        client.wire.write(MUCH)
        while len(server.heard) < len(MUCH):
            server.wire.pauseProducing()
            await deferLater(reactor, 0.01)
            stood = len(server.heard)
            await deferLater(reactor, 0.01)
            assert len(server.heard) == stood
            server.wire.resumeProducing()
            await until(lambda stood=stood: len(server.heard) > stood, "goes on")  # type: ignore[misc]
        assert server.heard == MUCH

    async def test_a_producer_is_paused_and_resumed(self) -> None:
        server, client = await self.ends.pair()
        producer = Told()
        server.wire.registerProducer(producer, True)
        client.wire.pauseProducing()
        server.wire.write(MUCH * 2)
        await until(lambda: producer.told, "is paused")
        assert producer.told == ["pause"]
        client.wire.resumeProducing()
        await until(lambda: len(producer.told) > 1, "is resumed")
        assert producer.told == ["pause", "resume"]
        server.wire.loseConnection()
        server.wire.write(b"from the producer")
        await deferLater(reactor, 0.05)
        assert not server.reasons, "there is a producer still"
        server.wire.unregisterProducer()
        await server.lost
        await client.lost
        assert client.heard == MUCH * 2 + b"from the producer"
        assert producer.told == ["pause", "resume"]

    async def test_a_producer_is_told_of_the_loss(self) -> None:
        server, client = await self.ends.pair()
        producer = Told()
        server.wire.registerProducer(producer, True)
        client.wire.abortConnection()
        await server.lost
        assert producer.told == ["stop"]
        late = Told()
        server.wire.registerProducer(late, True)
        assert late.told == ["stop"]

    async def test_a_producer_is_pulled(self) -> None:
        server, client = await self.ends.pair()
        pulled = Pulled(server.wire, b"x" * 50_000, 40)
        server.wire.registerProducer(pulled, False)
        server.wire.loseConnection()
        await client.lost
        await server.lost
        assert len(client.heard) == 2_000_000
        self.check_lost(server, ConnectionDone)

    async def test_only_one_producer(self) -> None:
        server, _ = await self.ends.pair()
        server.wire.registerProducer(Told(), True)
        try:
            server.wire.registerProducer(Told(), True)
        except RuntimeError:
            return
        raise AssertionError("two producers were taken")

    async def test_an_error_of_the_protocol_ends_its_connection(self) -> None:
        class Failing(Kept):
            def dataReceived(self, data: bytes) -> None:
                raise KeyError("of the protocol")

        server, client = await self.ends.pair(Failing)
        client.wire.write(b"x")
        await server.lost
        self.check_lost(server, ConnectionLost)
        assert len(self.flushLoggedErrors(KeyError)) == 1
