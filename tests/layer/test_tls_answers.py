"""
When TLS on the descriptor writes: at once, unless more of the same is likely to follow.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater

from mem_continuity.layer import tls_output
from tests.support.tls_case import TLSTestCase
from tests.support.tls_talk import Ends

reactor: Any = _reactor


class AnswerTests(TLSTestCase):
    """
    A relay writes what it is told by somebody else, in a turn of its own.
    """

    timeout = 20.0

    def setUp(self) -> None:
        self.ends = Ends(self, reactor, own_server=True)

    async def test_what_follows_a_question_does_not_wait(self) -> None:
        """
        However fast questions and answers follow each other.
        """
        self.patch(tls_output, "_SAME_TURN", 3600.0)
        server, client = await self.ends.pair()
        for number in range(1, 4):
            client.wire.write(b"?")
            await server.hears(number)
            await deferLater(reactor, 0)
            server.wire.write(b"!")
            self.assertNotIn(server.wire, reactor.getWriters())
            await client.hears(number)

    async def test_what_follows_an_answer_waits_for_the_rest_of_the_turn(self) -> None:
        """
        So that many small pieces become few records.
        """
        self.patch(tls_output, "_SAME_TURN", 3600.0)
        server, client = await self.ends.pair()
        await deferLater(reactor, 0)  # out of the hands of the handshake
        server.wire.write(b"1")
        self.assertNotIn(server.wire, reactor.getWriters())
        server.wire.write(b"2")
        self.assertIn(server.wire, reactor.getWriters())
        self.assertEqual(await client.hears(2), b"12")

    async def test_small_and_big_in_order(self) -> None:
        """
        To a peer that does not read for a while.
        """
        server, client = await self.ends.pair()
        client.wire.pauseProducing()
        sent = b""
        for number in range(400):
            octets = bytes([number % 251]) * (10 if number % 2 else 30_000)
            server.wire.write(octets)
            sent += octets
            client.wire.write(b"?")  # each small one is an answer
            if number % 7 == 0:
                await deferLater(reactor, 0)
        client.wire.resumeProducing()
        self.assertEqual(await client.hears(len(sent)), sent)


class LostTests(TLSTestCase):
    """
    A peer that is gone while little is written.
    """

    timeout = 20.0

    def setUp(self) -> None:
        self.ends = Ends(self, reactor, own_server=True)

    async def test_it_is_told_once_and_not_from_within(self) -> None:
        server, client = await self.ends.pair()
        client.wire.abortConnection()
        await client.lost
        for _ in range(3):
            server.wire.write(b"x")
            assert not server.reasons
        await server.lost
        assert len(server.reasons) == 1
