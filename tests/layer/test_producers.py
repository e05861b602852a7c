"""
Producers on the transport that an inner protocol sees, push and pull, in the clear and in the layer, on a link and parked.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPullProducer, IPushProducer
from zope.interface import implementer

from mem_continuity.core.policy import KIB
from tests.layer.transport_case import WINDOW, TransportCase


@implementer(IPushProducer)
class Push:
    """
    A push producer that notes what it is told.
    """

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


@implementer(IPullProducer)
class Pull:
    """
    A pull producer of pieces; it unregisters behind the last.
    """

    def __init__(self, transport: Any, pieces: list[bytes], by_itself: bool = True) -> None:
        self.transport = transport
        self.pieces = pieces
        self.by_itself = by_itself
        self.asked = 0
        self.stopped = 0

    def resumeProducing(self) -> None:
        self.asked += 1
        assert self.asked < 1000, "asked for ever"
        if self.by_itself:
            self.produce()

    def produce(self) -> None:
        if self.pieces:
            self.transport.write(self.pieces.pop(0))
        else:
            self.transport.unregisterProducer()

    def stopProducing(self) -> None:
        self.stopped += 1


class ProducerTests(TransportCase):
    def test_one_at_a_time(self) -> None:
        """
        A second producer is refused; one that comes when all is over is stopped.
        """
        self.begin(True)
        self.transport.registerProducer(Push(), True)
        self.assertRaises(RuntimeError, self.transport.registerProducer, Push(), True)
        self.transport.unregisterProducer()
        self.transport.unregisterProducer()
        self.transport.abortConnection()
        self.site.settle()
        late = Push()
        self.transport.registerProducer(late, True)
        self.assertEqual(late.told, ["stop"])

    def test_push_producer(self) -> None:
        """
        Paused once and resumed once by the link's congestion; registered while it is congested, paused at once.
        """
        for layer in (False, True):
            self.begin(layer)
            producer, later = Push(), Push()
            self.transport.registerProducer(producer, True)
            self.assertEqual(producer.told, [])
            self.client.link.congest()
            self.client.link.congest()
            self.assertEqual(producer.told, ["pause"])
            self.transport.unregisterProducer()
            self.transport.registerProducer(later, True)
            self.assertEqual(later.told, ["pause"])
            self.client.link.relieve()
            self.assertEqual((producer.told, later.told), (["pause"], ["pause", "resume"]))

    def test_unregistered_while_paused(self) -> None:
        """
        A producer that unregisters while paused hears nothing more; the close that waited for it is carried out.
        """
        for layer in (False, True):
            self.begin(layer)
            producer = Push()
            self.transport.registerProducer(producer, True)
            self.client.link.congest()
            self.transport.loseConnection()
            self.site.settle()
            self.assertEqual(self.server.losses, [])
            self.transport.write(b"still from the producer")
            self.transport.unregisterProducer()
            self.client.link.relieve()
            self.assertIn(b"still from the producer", self.heard())
            self.assertEqual(producer.told, ["pause"])
            self.assertEqual(len(self.server.losses), 1)

    def test_stopped_when_lost(self) -> None:
        """
        A producer that is registered when the session ends is stopped; a lost link alone does not stop it.
        """
        self.begin(True)
        producer, pull = Push(), Pull(self.transport, [], by_itself=False)
        self.transport.registerProducer(producer, True)
        self.client.lose()
        self.assertNotIn("stop", producer.told)
        self.site.clock.advance(101.0)
        self.assertEqual((producer.told[-1], len(self.server.losses)), ("stop", 1))
        self.begin(False)
        self.transport.registerProducer(pull, False)
        self.client.lose()
        self.assertEqual(pull.stopped, 1)

    def test_window_full_while_parked(self) -> None:
        """
        While parked a producer may go on until the window is full, and goes on when a new link has made room.
        """
        self.begin(True)
        producer = Push()
        self.transport.registerProducer(producer, True)
        self.client.lose()
        self.transport.write(b"x" * (WINDOW - 1))
        self.assertEqual(producer.told, [])
        self.transport.write(b"x")
        self.assertEqual(producer.told, ["pause"])
        self.client.resume()
        self.assertEqual(producer.told, ["pause", "resume"])
        self.assertEqual(self.heard(), b"x" * WINDOW)

    def test_pull_producer(self) -> None:
        """
        Asked as long as there is room, parked by not being asked, asked again on the new link.
        """
        for layer in (False, True):
            self.begin(layer)
            before = self.heard()
            producer = Pull(self.transport, [b"%d" % number * 1000 for number in range(8)])
            self.client.link.congest()
            self.transport.registerProducer(producer, False)
            self.assertEqual(producer.asked, 0)
            self.client.link.relieve()
            self.assertEqual(self.heard()[len(before) :], b"".join(b"%d" % number * 1000 for number in range(8)))
            self.assertEqual(producer.asked, 9)
        self.begin(True)
        producer = Pull(self.transport, [b"y" * 6 * KIB for _ in range(10)])
        self.client.link.congest()
        self.transport.registerProducer(producer, False)
        self.client.lose()
        self.assertLess(producer.asked, 5)  # it fills the window, and not more
        self.assertGreater(producer.asked, 1)
        self.client.resume()
        self.assertEqual(self.heard(), b"y" * 60 * KIB)

    def test_pull_producer_that_takes_its_time(self) -> None:
        """
        A pull producer that has nothing at hand when it is asked is not asked again before it has written something.
        """
        for layer in (False, True):
            self.begin(layer)
            before = self.heard()
            producer = Pull(self.transport, [b"1", b"2", b"3"], by_itself=False)
            self.transport.registerProducer(producer, False)
            self.assertEqual(producer.asked, 1)
            self.client.link.congest()
            self.client.link.relieve()
            self.assertEqual(producer.asked, 1)
            for asked in (2, 3, 4):
                producer.produce()
                self.site.settle()
                self.assertEqual(producer.asked, asked)
            producer.produce()
            self.assertIsNone(self.transport.producer)
            self.assertEqual(self.heard()[len(before) :], b"123")
