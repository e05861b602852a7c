"""
L{mem_continuity.client.watch} in a whole client on a clock, where TCP tells what it knows and where it does not.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mem_continuity.client import Roamer
from mem_continuity.client.roamer import Phase
from mem_continuity.core.frames import FrameType, encode
from tests.client.handset import Handset

_PING = encode(FrameType.PING, bytes(8))[:4]
_DOUBT = "no sign of life"


class Kernel:
    """
    Stands where a link's socket does, and tells of a TCP connection what a test says.

    @ivar heard_at: when the peer's TCP was heard last, if that was after what was read last.
    @ivar hears: it is heard all the time.
    """

    family, type = socket.AF_INET, socket.SOCK_STREAM

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self.heard_at: float = clock.seconds()
        self.hears = False
        self.unacknowledged = 0
        self.timeouts = 0
        self.round_trip = 0.02
        self.variation = 0.001

    def setsockopt(self, *_: Any) -> None:
        """
        Whatever.
        """

    def getsockopt(self, level: int, option: int, room: int) -> bytes:
        """
        C{TCP_INFO}, as far as every kernel tells it.
        """
        made = bytearray(104)
        ago = 0 if self.hears else max(0, round((self._clock.seconds() - self.heard_at) * 1000))
        made[2] = self.timeouts
        struct.pack_into("=I", made, 24, self.unacknowledged)
        struct.pack_into("=II", made, 52, ago, ago)
        struct.pack_into("=II", made, 68, round(self.round_trip * 1e6), round(self.variation * 1e6))
        return bytes(made)


@implementer(IStreamClientEndpoint)
class Late:
    """
    An endpoint that connects when it is told to.
    """

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint
        self._waiting: list[tuple[Deferred[IProtocol], IProtocolFactory]] = []

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        waiting: Deferred[IProtocol] = Deferred()
        self._waiting.append((waiting, protocolFactory))
        return waiting

    @property
    def tried(self) -> int:
        """
        How often it was, and has not come about.
        """
        return len(self._waiting)

    def let(self) -> None:
        """
        The last one comes about.
        """
        waiting, factory = self._waiting.pop()
        self._endpoint.connect(factory).chainDeferred(waiting)


class WatchTestCase(SynchronousTestCase):
    """
    A client on the first of its two networks, idle for a while.
    """

    told_by_tcp = True

    def setUp(self) -> None:
        self.start()

    def start(self, **policy: Any) -> None:
        """
        Anew.
        """
        self.handset = Handset(**policy)
        self.clock = self.handset.site.clock
        self.roamer: Roamer = self.handset.begin()
        wire: Any = self.handset.wire("wlan")
        self.written: list[bytes] = []
        write = wire.client.write

        def listen(octets: bytes) -> None:
            self.written.append(octets)
            write(octets)

        wire.client.write = listen
        self.kernel = Kernel(self.clock)
        if self.told_by_tcp:
            wire.client.socket = self.kernel
        gate: Any = self.handset.gates["xg"]
        gate._endpoint = self.late = Late(gate._endpoint)
        self.handset.sleep(5.0)

    @property
    def doubts(self) -> int:
        """
        How many there were.
        """
        return sum(word == "doubt" and _DOUBT in text for word, text in self.handset.told)

    @property
    def pings(self) -> int:
        """
        How many were asked on the first link.
        """
        return sum(octets.count(_PING) for octets in self.written)

    def silence(self) -> None:
        """
        The network is silent from now on.
        """
        self.handset.wire("wlan").silence()
        self.kernel.hears, self.kernel.heard_at = False, self.clock.seconds()

    def say(self, octets: bytes | None = None) -> None:
        """
        The mail program writes: a NOOP, or what is named here.
        """
        if octets is None:
            self.handset.client.noop().addErrback(lambda _: None)
        else:
            self.handset.client.transport.write(octets)  # type: ignore[union-attr]
        self.handset.site.settle()

    def until_doubt(self, most: float = 10.0) -> float:
        """
        Seconds.
        """
        begun: float = self.clock.seconds()
        while not self.doubts:
            self.assertLess(self.clock.seconds() - begun, most, "no doubt")
            self.handset.sleep(0.01, 0.01)
        took: float = self.clock.seconds() - begun
        return took


class ToldByTCPTests(WatchTestCase):
    """
    On Linux.
    """

    def test_the_first_command_after_a_long_time(self) -> None:
        self.silence()
        self.handset.sleep(60.0, 0.5)
        self.kernel.unacknowledged = 1
        before = self.pings
        self.say()
        took = self.until_doubt()
        self.assertTrue(0.45 <= took <= 0.51, took)
        self.assertEqual((self.pings, self.late.tried, self.roamer.phase), (before, 1, Phase.LIVE), "the command is the question")

    def test_a_silence_in_the_middle_of_a_transfer(self) -> None:
        """
        Octets come, and then none; everything of ours is acknowledged, so a PING asks.
        """
        self.say()
        self.silence()
        before = self.pings
        self.handset.sleep(0.25, 0.01)
        self.assertEqual(self.pings, before + 1)
        self.kernel.unacknowledged = 1  # the PING
        took = self.until_doubt()
        self.assertTrue(0.2 <= took <= 0.26, took)

    def test_a_program_that_goes_on_writing(self) -> None:
        """
        It is the first unanswered octets that count.
        """
        self.silence()
        self.kernel.unacknowledged = 1
        begun = self.clock.seconds()
        while not self.doubts:
            self.assertLess(self.clock.seconds() - begun, 0.6)
            self.say(b"x")
            self.handset.sleep(0.05, 0.01)

    def test_a_long_round_trip(self) -> None:
        self.kernel.round_trip = 0.3
        self.silence()
        self.handset.sleep(60.0, 0.5)
        self.kernel.unacknowledged = 1
        self.say()
        took = self.until_doubt()
        self.assertTrue(0.8 <= took <= 0.91, took)

    def test_a_round_trip_that_varied(self) -> None:
        """
        It makes patient, but not where octets came without a pause, and end in the middle of a response.
        """
        for pieces, least, most in (
            ((b"* 1 FETCH (BODY[] {1000}\r\n", b"one"), 0.45, 0.51),
            ((b"* 1 EXISTS\r\n", b"* 2 EXISTS\r\n"), 1.25, 1.35),
        ):
            with self.subTest(pieces=pieces):
                self.start()
                self.kernel.round_trip, self.kernel.variation = 0.1, 0.2
                (served,) = self.handset.site.factory.table.all()
                assert served.conduit is not None
                for piece in pieces:
                    self.handset.sleep(0.05, 0.01)
                    served.conduit.carry_write(piece)
                    self.handset.site.settle()
                self.kernel.unacknowledged = 1
                self.silence()
                took = self.until_doubt()
                self.assertTrue(least <= took <= most, took)

    def test_no_doubt_as_long_as_acknowledgements_come(self) -> None:
        """
        A slow upload: our own octets stand in a long queue, and nothing comes but what TCP sees.
        """
        self.handset.wire("wlan").silence()
        self.kernel.hears, self.kernel.unacknowledged = True, 700
        self.kernel.round_trip = 5.0
        before = self.pings
        self.say(bytes(100_000))
        self.handset.sleep(60.0)
        self.assertEqual((self.doubts, self.pings, self.roamer.phase), (0, before, Phase.LIVE))
        self.kernel.round_trip = 0.02
        self.kernel.hears, self.kernel.heard_at = False, self.clock.seconds()
        took = self.until_doubt()
        self.assertTrue(0.4 <= took <= 0.71, took)

    def test_what_gives_no_sign_at_all_is_given_up(self) -> None:
        self.silence()
        self.kernel.unacknowledged = 1
        self.say()
        self.handset.sleep(2.9)
        self.assertEqual((self.doubts, self.roamer.phase), (1, Phase.LIVE))
        self.handset.sleep(0.2)
        self.assertEqual((self.doubts, self.roamer.away), (1, True))

    def test_a_doubt_that_was_none_moves_nothing(self) -> None:
        self.silence()
        self.kernel.unacknowledged = 1
        self.say()
        self.until_doubt()
        self.handset.sleep(0.3)
        self.kernel.hears, self.kernel.unacknowledged = True, 0
        self.late.let()
        self.handset.sleep(1.0)
        self.assertEqual((self.roamer.path, self.roamer.handovers), ("wlan", 0))

    def test_a_doubt_that_is_right_moves(self) -> None:
        self.silence()
        self.kernel.unacknowledged = 1
        self.say()
        self.until_doubt()
        self.late.let()
        self.handset.sleep(0.1)
        self.assertEqual((self.roamer.path, self.roamer.handovers), ("xg", 1))
        self.assertNotIn("away", [word for word, _ in self.handset.told])

    def test_a_silence_that_was_none_is_remembered(self) -> None:
        for _ in range(2):
            self.say(b"x")
            self.kernel.hears, self.kernel.heard_at, self.kernel.unacknowledged = False, self.clock.seconds(), 1
            self.handset.sleep(0.8)
            self.assertEqual(self.doubts, 1)
            self.kernel.hears, self.kernel.unacknowledged = True, 0
            if self.late.tried:
                self.late.let()
            self.handset.sleep(2.0)
        self.assertEqual(self.roamer.path, "wlan")

    def test_what_we_say_does_not_arrive(self) -> None:
        """
        The way there is dead, the way back is not.
        """
        self.kernel.hears, self.kernel.unacknowledged = True, 1
        self.say()
        self.handset.sleep(5.0)
        self.assertEqual(self.doubts, 0)
        self.kernel.timeouts = 3
        self.handset.sleep(0.5)
        self.assertEqual((self.doubts, self.late.tried), (1, 1))
        self.late.let()
        self.handset.sleep(0.1)
        self.assertEqual(self.roamer.path, "xg")

    def test_only_tcp_answers(self) -> None:
        """
        A relay on the way acknowledges for a server that is out of reach: an answer to a PING is waited for, but not for ever.
        """
        self.handset.wire("wlan").silence()
        self.say()
        self.kernel.heard_at = self.clock.seconds() + 0.2  # the PING's own acknowledgement is the last one
        self.handset.sleep(2.5)
        self.assertEqual(self.doubts, 0)
        self.handset.sleep(1.5)
        self.assertEqual(self.doubts, 1)


class NotToldTests(WatchTestCase):
    """
    Where the system does not tell.
    """

    told_by_tcp = False

    def test_the_first_command_after_a_long_time(self) -> None:
        self.silence()
        self.handset.sleep(60.0, 0.5)
        self.say()
        took = self.until_doubt()
        self.assertTrue(0.45 <= took <= 0.51, took)

    def test_a_silence_in_the_middle_of_a_transfer(self) -> None:
        self.say()
        self.silence()
        took = self.until_doubt()
        self.assertTrue(0.45 <= took <= 0.51, took)

    def test_behind_our_own_octets_acknowledgements_take_their_time(self) -> None:
        self.silence()
        self.say(bytes(100_000))
        took = self.until_doubt()
        self.assertTrue(1.4 <= took <= 1.55, took)

    def test_a_hint_asks_at_once_and_once(self) -> None:
        self.silence()
        before = self.pings
        for _ in range(3):
            self.roamer.network_changed()
            self.handset.sleep(0.1)
        self.assertEqual(self.pings, before + 1)
        took = self.until_doubt()
        self.assertTrue(0.15 <= took <= 0.21, took)

    def test_a_late_timer_judges_nothing(self) -> None:
        """
        The process did not run; the answer has been there for long.
        """
        self.say()
        self.silence()
        before = self.pings
        self.handset.sleep(0.25, 0.01)
        self.assertEqual(self.pings, before + 1)
        session = self.roamer.conduit.session  # type: ignore[union-attr]
        # Read after the timers of this turn, as reactors do.
        self.clock.callLater(4.95, session.receive, encode(FrameType.PONG, bytes(8)), self.clock.seconds() + 5.0)
        self.clock.advance(5.0)
        self.handset.site.settle()
        self.handset.sleep(1.0)
        self.assertEqual((self.doubts, self.roamer.handovers, self.roamer.phase), (0, 0, Phase.LIVE))


class AskingTests(WatchTestCase):
    """
    How often.
    """

    def test_once_after_a_whole_answer(self) -> None:
        before = self.pings
        self.say()
        self.handset.sleep(100.0, 0.5)
        self.assertEqual(self.pings, before + 1)

    def test_while_an_answer_is_owed_pauses_double(self) -> None:
        before = self.pings
        self.say(b"x1 NO")  # the server waits for more, as it would for a slow disk
        found = []
        for seconds in (0.5, 1.0, 10.0, 100.0, 1000.0):
            self.handset.sleep(seconds, min(0.5, seconds / 10))
            found.append(self.pings - before)
        self.assertEqual(found[0], 1)
        self.assertTrue(2 <= found[1] <= 3, found)
        self.assertTrue(4 <= found[2] <= 6, found)
        self.assertTrue(7 <= found[3] <= 10, found)
        self.assertTrue(10 <= found[4] <= 15, found)

    def test_the_link_dies_while_an_answer_is_owed(self) -> None:
        self.say(b"x1 NO")
        self.handset.sleep(10.0)
        self.silence()
        self.until_doubt(most=12.0)
