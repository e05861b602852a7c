"""
Scenarios 13 to 18: offsets and what is kept for them.
"""

from __future__ import annotations

import zlib
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.frames import Frame, FrameReader, FrameType, encode_ack
from mem_continuity.core.handshake import Refusal, Refused, Resumed
from mem_continuity.core.policy import KIB, MIB, Policy
from mem_continuity.core.session import Session
from tests.core.support import move_up
from tests.support.raw_client import RawClient
from tests.support.site import Server, Site


def server_session(site: Site) -> Session:
    """
    The server's side of the only session.
    """
    (served,) = site.factory.table.all()
    assert served.conduit is not None
    return served.conduit.session


class OffsetScenarios(SynchronousTestCase):
    timeout = 60

    def setUp(self) -> None:
        self.site = Site(Policy(window=64 * KIB, grace=1000.0))
        self.client = RawClient(self.site).begin()
        self.client.call(b"SELECT INBOX")

    def _too_large(self) -> Refused | Resumed:
        sent = server_session(self.site).sender.highest
        return self.client.resume(received=sent + 1, literal=0)

    def test_scenario_13_received_more_than_was_sent(self) -> None:
        """
        A C{received} larger than was ever sent is refused; the session stays parked and its timer runs on unchanged: it still can
        be resumed, and it still ends when it would have ended.
        """
        self.client.lose()
        self.site.clock.advance(600.0)
        deadline = server_session(self.site).deadline()
        counts = (server_session(self.site).receiver.received, server_session(self.site).sender.retained)
        self.assertEqual(self._too_large(), Refused(Refusal.BEHIND, counts[0]))
        self.assertEqual(self.site.factory.table.parked, 1)
        self.assertEqual(server_session(self.site).deadline(), deadline)
        self.assertEqual((server_session(self.site).receiver.received, server_session(self.site).sender.retained), counts)
        self.assertIsInstance(self.client.resume(), Resumed)
        self.assertIn(b" OK ", self.client.call(b"NOOP"))

        self.client.lose()
        self.site.clock.advance(600.0)
        self._too_large()
        self.site.clock.advance(399.0)
        self.assertEqual(self.site.factory.table.parked, 1)
        self.site.clock.advance(2.0)
        self.assertEqual((self.site.factory.table.parked, self.site.logouts), (0, ["joe"]))

    def test_scenario_14_received_less_than_was_released(self) -> None:
        """
        A C{received} smaller than what was released is answered BEHIND with the server's count, and the link is good for LOGIN.
        """
        self.site.clock.advance(2.0)
        self.client.call(b"NOOP")
        self.client.pump()
        self.client.session.frames(self.client.now)
        released = server_session(self.site).sender.acknowledged
        self.assertGreater(released, 0)
        self.client.lose()
        count = server_session(self.site).receiver.received
        wire = self.site.connect("203.0.113.1", greet=False)
        self.assertEqual(self.client.resume(wire, received=released - 1, literal=0), Refused(Refusal.BEHIND, count))
        self.assertEqual(self.site.factory.table.parked, 1)
        self.assertIn(b" OK LOGIN", self.client.login(wire))
        self.assertIn(b"[READ-WRITE]", self.client.command(b"SELECT INBOX", wire))
        self.assertEqual(wire.ended, "")

    def test_scenario_15_offsets_across_powers_of_two(self) -> None:
        """
        Offsets run across 2^32 and 2^53 in both directions, with a cut right there: exact.
        """
        self.site.mailbox().deliver(bytes(range(256)) * 8)
        for border in (2**32, 2**53):
            client, server = self.client.session, server_session(self.site)
            self.client.pump()
            move_up(client, server, border - 1000)
            before = len(self.client.stream)
            self.client.write(b"f FETCH 1 (RFC822)\r\n" + b"x" * 990 + b" NOOP\r\n")
            self.client.send_frames()
            self.site.settle()
            client.receive(self.client.link.take()[:1500], self.client.now)
            while octets := client.next_delivery(self.client.now):
                self.client.stream += octets
            self.client.lose()
            answer = self.client.resume()
            assert isinstance(answer, Resumed)
            self.assertGreater(answer.received, border)
            self.client.pump()
            expected = b"* 1 FETCH (RFC822 {2048}\r\n%b)\r\nf OK FETCH completed\r\n%b OK NOOP No operation performed\r\n"
            self.assertEqual(self.client.stream[before:], expected % (bytes(range(256)) * 8, b"x" * 990))
            self.assertEqual(server.sender.end, border - 1000 + len(self.client.stream) - before)

    def test_scenario_16_acknowledgements_late_twice_out_of_order(self) -> None:
        """
        Acknowledgements that come late, twice and out of order release memory once and never take it back.
        """
        self.site.mailbox().deliver(b"m" * 30000)
        self.client.write(b"f FETCH 1 (RFC822)\r\n")
        self.client.send_frames()
        self.site.settle()
        sender = server_session(self.site).sender
        end = sender.end
        self.assertGreater(sender.retained, 30000)
        held = []
        for offset in (end - 20000, end - 25000, end - 20000, 0, end - 10000, end - 30000, end, end - 1, end, 0):
            self.client.link.send(encode_ack(offset))
            held.append(sender.retained)
        self.assertEqual(held, [20000, 20000, 20000, 20000, 10000, 10000, 0, 0, 0, 0])
        self.assertEqual((len(sender._flight), len(sender._queue)), (0, 0))
        self.assertEqual(self.client.link.ended, "")
        # one that acknowledges what was never sent breaks the rules: the link goes, the session waits
        self.client.link.send(encode_ack(end + 1))
        self.assertEqual(self.client.link.ended, "aborted")
        self.assertEqual((self.site.factory.table.parked, sender.retained, sender.end), (1, 0, end))
        self.client.read_frames()
        self.client.lose()
        self.assertIsInstance(self.client.resume(), Resumed)
        self.assertIn(b" OK ", self.client.call(b"NOOP"))


class Compressing(Server):
    """
    A site's C{IMAP4Server} that has COMPRESS (RFC 4978), done as sites do it: between the protocol and its transport.
    """

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._inflate: Any = None

    def do_COMPRESS(self, tag: bytes, algorithm: bytes) -> None:
        self.sendPositiveResponse(tag, b"DEFLATE active")
        self._inflate = zlib.decompressobj(wbits=-15)
        transport: Any = self.transport
        deflate, write = zlib.compressobj(wbits=-15), transport.write

        def compressed(octets: bytes) -> None:
            write(deflate.compress(octets) + deflate.flush(zlib.Z_SYNC_FLUSH))

        transport.write = compressed
        transport.writeSequence = lambda pieces: compressed(b"".join(pieces))

    auth_COMPRESS = select_COMPRESS = (do_COMPRESS, Server.arg_atom)

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data if self._inflate is None else self._inflate.decompress(data))


class StreamScenarios(SynchronousTestCase):
    timeout = 60

    def test_scenario_17_compress_inside_the_layer(self) -> None:
        """
        COMPRESS negotiated inside the layer is a part of the stream: cut at every octet of a compressed exchange and resumed, it
        goes on exactly.
        """
        expected = b"* 1 FETCH (FLAGS () RFC822 {400}\r\n%b)\r\nf OK FETCH completed\r\n" % (b"compress" * 50)
        cut = 0
        while True:
            site = Site()
            site.protocol_class = Compressing
            site.mailbox().deliver(b"compress" * 50)
            client = RawClient(site).begin()
            client.call(b"SELECT INBOX")
            client.call(b"COMPRESS DEFLATE")
            before = len(client.stream)
            deflate = zlib.compressobj(wbits=-15)
            client.write(deflate.compress(b"f FETCH 1 (FLAGS RFC822)\r\n") + deflate.flush(zlib.Z_SYNC_FLUSH))
            sent = b""
            while octets := client.session.frames(client.now):
                sent += octets
            client.link.send(sent[:cut])
            site.settle()
            came = client.link.take()
            client.session.receive(came[: max(0, cut - len(sent))], client.now)
            while octets := client.session.next_delivery(client.now):
                client.stream += octets
            client.lose()
            self.assertIsInstance(client.resume(), Resumed)
            client.pump()
            self.assertEqual(zlib.decompressobj(wbits=-15).decompress(client.stream[before:]), expected)
            self.assertEqual(site.servers[0].losses, [])
            if came and cut > len(sent) + len(came):
                break
            cut += 1
        self.assertGreater(cut, 60)

    def test_scenario_17_starttls_before_the_layer(self) -> None:
        """
        What came in one segment with STARTTLS never runs, be it a command of the server or of the layer.
        """

        class WithTLS(Server):
            def __init__(self, site: Site) -> None:
                super().__init__(site)
                self.ctx = object()

        for injected in (b"b LOGIN joe secret\r\n", b"b XCONTINUITY START\r\n", b"b CLIENTID UUID injected\r\n", b"b NOO"):
            site = Site()
            site.protocol_class = WithTLS
            client = RawClient(site)
            wire = client.connect(secure=False)
            self.assertIn(b"STARTTLS", wire.take())
            wire.send(b"a STARTTLS\r\n" + injected)
            site.settle()
            self.assertRegex(wire.take(), rb"\Aa OK [^\r]*\r\n\Z")
            self.assertEqual(site.logins, [])
            self.assertIn(b" OK ", client.command(b"NOOP"))
            self.assertNotIn(b"b ", site.servers[0].heard.replace(b"a STARTTLS", b""))
            client.client_id = None
            client.login()
            client.start()
            self.assertIsNone(site.factory.table.all()[0].client_id)
            self.assertIn(b" OK ", client.call(b"NOOP"))

    def test_scenario_18_every_way_of_writing_is_counted(self) -> None:
        """
        The greeting comes before the layer and is not counted; after START each way of writing (response, continuation, FETCH
        through a producer, push, error, C{writeSequence}, from a timer, while parked, BYE) passes the one place that counts, and
        nothing but frames is on the wire.
        """
        site = Site(Policy(window=64 * KIB))
        site.mailbox().deliver(b"m" * 1000)
        client = RawClient(site).begin()
        first = client.link
        begun = first.taken
        session = server_session(site)
        self.assertEqual(session.sender.end, 0)

        def wrote() -> int:
            count = session.sender.end - counted[0]
            counted[0] = session.sender.end
            return count

        counted = [0]
        server = site.servers[0]
        ways = {}
        client.call(b"SELECT INBOX")
        ways["response"] = wrote()
        client.write(b"ap APPEND INBOX () {2}\r\n")
        client.pump()
        ways["continuation"] = wrote()
        client.write(b"ok\r\n")
        client.call(b"FETCH 1 (RFC822)")
        ways["producer"] = wrote()
        site.mailbox().deliver(b"push")
        ways["push"] = wrote()
        client.call(b"NOOP")
        wrote()
        client.write(b"zz NONSENSE\r\n")
        client.pump()
        ways["error"] = wrote()
        server.transport.writeSequence([b"* OK ", b"in pieces\r\n"])
        ways["writeSequence"] = wrote()
        site.clock.callLater(1.0, server.sendUntaggedResponse, b"OK by a timer")
        site.clock.advance(1.0)
        ways["timer"] = wrote()
        client.pump()
        client.lose()
        site.mailbox().deliver(b"parked")
        ways["parked"] = wrote()
        self.assertIsInstance(client.resume(), Resumed)
        second = client.link
        stopped: Deferred[None] = site.factory.shutdown()
        ways["bye"] = wrote()
        client.pump()
        self.successResultOf(stopped)
        self.assertEqual([name for name, count in ways.items() if not count], [])
        self.assertTrue(client.stream.endswith(b"* BYE server shutting down\r\n"), client.stream[-100:])
        self.assertEqual(len(client.stream), session.sender.end)
        frames: list[Frame] = FrameReader(MIB).feed(first.heard[begun:])
        self.assertEqual({frame.type for frame in frames} - {FrameType.DATA, FrameType.ACK}, set())
        answer_end = second.heard.index(b"\r\n") + 2
        frames += FrameReader(MIB).feed(second.heard[answer_end:])
        self.assertEqual(b"".join(one.payload for one in frames if one.type is FrameType.DATA), client.stream)
