"""
Scenario 38: whatever a client sends, in the preamble or in the layer, ends in a clear error at the most; what the server holds
for it stays bounded, and others are served as before.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mem_continuity.core.frames import FrameType, encode, encode_ack
from mem_continuity.core.policy import KIB, MIB, Policy
from mem_continuity.server.link import Mode
from tests.support.raw_client import RawClient
from tests.support.site import Site
from tests.support.wires import Wire

POLICY = Policy(window=64 * KIB, preamble_line=4 * KIB, preamble_literal=4 * KIB, preamble_buffer=16 * KIB)
PIECE = 8 * KIB
MOST = POLICY.preamble_line + POLICY.preamble_literal + POLICY.preamble_buffer + POLICY.window + 2 * PIECE

_TOKENS = [
    b"a", b" ", b"\r\n", b"\n", b"\0", b"{5}", b"{5+}\r\nhello", b"{99999999999}\r\n", b"{4294967296+}\r\n",
    b"\xff\xfe", b'"', b"(",
    b"a1 LOGIN joe secret\r\n", b"a2 XCONTINUITY RESUME ", b"a3 XCONTINUITY START GRACE -1\r\n", b"a4 XCONTINUITY GRAFT x y\r\n",
    b"a5 CLIENTID UUID abc\r\n", b"XCONTINUITY", b"n0.aaaaaaaaaaaaaaaa 1 0 0 AAAA {0+}\r\n\r\n", b"a6 NOOP\r\n",
    b"a7 AUTHENTICATE PLAIN\r\n", b"*\r\n", b"a8 XCONTINUITY RESUME n0.aaaaaaaa 99999999999999999999999 -1 0x1 !! {2+}\r\nab\r\n",
]  # fmt: skip
_TEXT = st.lists(st.one_of(st.sampled_from(_TOKENS), st.binary(max_size=40)), max_size=30).map(b"".join)

_FRAMES = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.builds(lambda octets: encode(FrameType.DATA, octets), st.binary(min_size=1, max_size=200)),
        st.builds(encode_ack, st.one_of(st.integers(0, 200), st.integers(0, 2**64 - 1))),
        st.builds(lambda kind, size: bytes((kind,)) + size.to_bytes(3, "big"), st.integers(0, 255), st.integers(0, 2**24 - 1)),
        st.builds(lambda octets: encode(FrameType.PING, octets), st.binary(min_size=8, max_size=8)),
        st.sampled_from([encode(FrameType.MOVED), encode(FrameType.END, b"x"), encode(FrameType.END, b"")]),
    ),
    max_size=20,
).map(b"".join)


def held(wire: Wire) -> int:
    """
    All octets that the server holds for one link and its session.
    """
    link = wire.link
    total = link.preamble.buffered
    if link.preamble._collected is not None:
        total += sum(map(len, link.preamble._collected.pieces)) + len(link.preamble._collected._literal)
    if link.conduit is not None:
        session = link.conduit.session
        total += sum(map(len, session.receiver._waiting))
        if session._reader is not None:
            total += len(session._reader._partial)
    return total


@implementer(ILogObserver)
class Log:
    """
    What was logged, as text.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, event: LogEvent) -> None:
        self.texts.append(formatEvent(event))


class MalformedScenarios(SynchronousTestCase):
    timeout = 60

    def setUp(self) -> None:
        self.log = Log()
        globalLogPublisher.addObserver(self.log)
        self.addCleanup(globalLogPublisher.removeObserver, self.log)

    def _feed(self, site: Site, wire: Wire, octets: bytes) -> int:
        """
        Send octets in pieces, as a kernel gives them, and say how much was held for them at the most.
        """
        most = 0
        for place in range(0, len(octets), PIECE):
            wire.send(octets[place : place + PIECE])
            site.settle()
            most = max(most, held(wire))
            if wire.ended:
                break
        return most

    def _others_are_served(self, site: Site) -> None:
        other = RawClient(site, user=b"ann", password=b"hidden", client_id=b"UUID other").begin("192.0.2.77")
        self.assertIn(b"[READ-WRITE]", other.call(b"SELECT INBOX"))
        other.lose()
        other.resume()
        self.assertIn(b" OK ", other.call(b"NOOP"))

    def _said_why(self, *words: str) -> None:
        self.assertTrue(any(all(word in text for word in words) for text in self.log.texts), self.log.texts[-5:])

    @given(_TEXT)
    def test_scenario_38_random_octets_in_the_preamble(self, octets: bytes) -> None:
        """
        Random words, octets, literals and halves of commands in the preamble.
        """
        site = Site(POLICY)
        wire = site.connect()
        self.assertLessEqual(self._feed(site, wire, octets), MOST)
        # C{IMAP4Server} itself logs a traceback for a command that is not US-ASCII, with or without us
        ours = [error for error in self.flushLoggedErrors(Exception) if "/mem_continuity/" in error.frames[-1][1]]
        self.assertEqual(ours, [])
        self._others_are_served(site)

    @given(_FRAMES)
    def test_scenario_38_random_frames(self, octets: bytes) -> None:
        """
        Random, truncated and oversized frames in the layer: the link may go, the session stays for its client unless that said
        END.
        """
        site = Site(POLICY)
        client = RawClient(site).begin()
        session_id = client.session.terms.session_id
        self.assertLessEqual(self._feed(site, client.link, octets), MOST)
        served = site.factory.table.served(session_id)
        if client.link.ended == "aborted":
            assert served is not None
            self.assertTrue(served.parked)
            self._said_why("its link is dropped")
        self.assertEqual(self.flushLoggedErrors(), [])
        self._others_are_served(site)

    def test_scenario_38_each_kind_of_broken_frame(self) -> None:
        """
        An unknown type, lengths of 2^24-1, an empty DATA, an ACK of seven octets or beyond what was sent, data beyond the window:
        each drops the link with a log line that says what was wrong, the session is parked, and its client comes back.
        """
        flood = b"".join(encode(FrameType.DATA, b"x" * 16 * KIB) for _ in range(6))
        faults: list[tuple[bytes, str]] = [
            (b"\x09\x00\x00\x00", "unknown frame type 9"),
            (b"\xff\xff\xff\xff", "unknown frame type 255"),
            (b"\x00\xff\xff\xff", f"a DATA frame of {2**24 - 1} octets"),
            (b"\x00\x00\x00\x00", "a DATA frame of 0 octets"),
            (b"\x01\xff\xff\xff", f"a ACK frame of {2**24 - 1} octets"),
            (b"\x01\x00\x00\x07" + b"1234567", "a ACK frame of 7 octets"),
            (b"\x04\x00\x01\x00", "a END frame of 256 octets"),
            (encode_ack(2**63), "of which 0 were sent"),
            (flood, "data beyond the window"),
        ]
        for octets, text in faults:
            site = Site(POLICY)
            client = RawClient(site).begin()
            wire = client.link
            site.servers[0].transport.pauseProducing()  # so that nothing of a flood is handed on and acknowledged
            self.assertLessEqual(self._feed(site, wire, octets), MOST)
            self.assertEqual((wire.ended, site.factory.table.parked), ("aborted", 1), text)
            self._said_why("its link is dropped", text)
            if octets is not flood:  # of which its client knows nothing
                client.session.detach(client.now)
                client.resume(number=10)
                self.assertEqual(site.factory.table.counts["handovers"], 1)
            self._others_are_served(site)

    def test_scenario_38_endless_lines(self) -> None:
        """
        Ten megabytes without a line end, as a command, as a tag, as one of our commands, as a literal that never ends: refused
        within one line's bound, in words.
        """
        ours = (b"a XCONTINUITY RESUME ", b"a CLIENTID UUID ", b"a CLIENTID UUID {10000000+}\r\n")
        for beginning in (b"", b"a ", b"a LOGIN ", *ours):
            site = Site(POLICY)
            wire = site.connect()
            wire.take()
            self.assertLessEqual(self._feed(site, wire, beginning + b"x" * 10 * MIB), MOST)
            self.assertRegex(wire.take(), rb"\A(\* |a )(BAD|BYE) [^\r]{5,}\r\n", beginning)
            self.assertEqual(wire.ended, "closed", beginning)
            self._others_are_served(site)

    def test_scenario_38_pipelined_commands(self) -> None:
        """
        100,000 pipelined commands of any kind: all are answered, in their order, while little is held.
        """
        kinds: list[Callable[[int], bytes]] = [
            lambda number: b"c%d NOOP\r\n" % number,
            lambda number: b"c%d CLIENTID UUID x\r\n" % number,
            lambda number: b"c%d XCONTINUITY NONSENSE\r\n" % number,
            lambda number: b"c%d XCONTINUITY GRAFT\r\n" % number,
        ]
        site = Site(POLICY)
        wire = site.connect()
        wire.take()
        octets = b"".join(kinds[number % len(kinds)](number) for number in range(100_000))
        chunks: list[bytes] = []
        self.patch(wire, "server_wrote", chunks.append)
        self.assertLessEqual(self._feed(site, wire, octets), MOST)
        tags = [line.split(b" ", 1)[0] for line in b"".join(chunks).splitlines()]
        self.assertEqual(tags, [b"c%d" % number for number in range(100_000)])
        self.assertEqual(wire.ended, "")
        self._others_are_served(site)

    def test_scenario_38_pipelined_by_one_who_does_not_read(self) -> None:
        """
        The same from a client that does not read the answers: the server stops answering and reading, and goes on when it reads.
        """
        site = Site(POLICY)
        wire = site.connect()
        octets = b"".join(b"c%d NOOP\r\n" % number for number in range(20_000))
        wire.congest()
        before = len(wire.heard)
        self.assertLessEqual(self._feed(site, wire, octets), MOST)
        self.assertLess(len(wire.heard) - before, KIB)
        self.assertFalse(wire.transport.reading)
        self._others_are_served(site)
        wire.relieve()
        site.settle()
        self.assertEqual(wire.heard.count(b" OK NOOP"), 20_000)
        self.assertIs(wire.link.mode, Mode.PREAMBLE)

    def test_scenario_38_truncated_resume(self) -> None:
        """
        A RESUME that stops anywhere: the link is closed when its time is over, nothing has changed for the session.
        """
        site = Site(POLICY)
        client = RawClient(site).begin()
        client.lose()
        octets = client.octets(client.attempt().request)
        wires = []
        for place in range(len(octets) - 1):
            wire = site.connect("192.0.2.5", greet=False)
            wire.send(octets[:place])
            wires.append(wire)
        site.settle()
        site.clock.advance(POLICY.preamble_time + 1)
        self.assertEqual({wire.ended for wire in wires}, {"closed"})
        self.assertEqual(site.factory.table.counts["handovers"], 0)
        client.resume()
        self.assertIn(b" OK ", client.call(b"NOOP"))
