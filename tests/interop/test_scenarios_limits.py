"""
Scenarios 37 and 38 end to end: limits, and garbage at the listening port.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

from mem_continuity.core.frames import FrameType, encode, encode_ack
from mem_continuity.core.handshake import Refusal, Refused, Resumed
from mem_continuity.core.policy import KIB, MIB
from tests.interop.client import Client
from tests.interop.grounds import GroundCase, OnCyrus, OnDovecot, make_mail, resident, until
from tests.interop.plain_client import HOME, TRAIN
from tests.interop.servers import HOST
from tests.interop.tls_wire import Lost, Wire

_NO_PEER = "127.0.0.9"


class Limits(GroundCase):
    """
    For either server.
    """

    options = ("--parked-per-user", "3", "--retained", "700000", "--window", "262144")

    def _only_first_is_over(self, clients: list[Client], limit: str) -> None:
        """
        The oldest has been evicted, its upstream connection closed; the others can be resumed; the log has the limit's name.
        """
        self.gateway.wait_for_log(f"Limit {limit}: the longest-parked")
        self.server.wait_for_sessions(len(clients) - 1, self.user)
        first = clients[0]
        answer = first.resume(TRAIN)
        assert isinstance(answer, Refused)
        self.assertEqual(answer.refusal, Refusal.ENDED)
        self.assertEqual(answer.number, first.session.sender.end)
        for client in clients[1:]:
            self.assertIsInstance(client.resume(TRAIN), Resumed)

    def test_scenario_37_one_user_parks_many(self) -> None:
        """
        One more than may be parked: the oldest goes.
        """
        clients = [self.new_client().begin(HOME, b"SELECT INBOX") for _ in range(4)]
        for client in clients:
            self.assertNotIn("Limit parked_per_user", self.gateway.log())
            client.lose("fin")
        self._only_first_is_over(clients, "parked_per_user")
        for client in clients[1:]:
            self.assertRegex(client.call(b"NOOP"), rb" OK ")
            self.assertRegex(client.call(b"LOGOUT"), rb" OK ")

    def test_scenario_37_one_user_retains_much(self) -> None:
        """
        Three parked sessions hold a window full each: more than may be held, so the oldest goes.
        """
        mail = make_mail(Random(37), MIB)
        self.deliver(mail)
        clients = []
        for _ in range(3):
            client = self.new_client().begin(HOME, b"SELECT INBOX")
            begin = len(client.stream)
            client.write(b"f1 FETCH 1 BODY.PEEK[]\r\n")
            client.wait_for(lambda client=client, begin=begin: len(client.stream) > begin)  # type: ignore[misc]
            client.lose("fin")
            clients.append(client)
        self._only_first_is_over(clients, "retained")
        for client in clients[1:]:
            client.wait_for(lambda client=client: b"\nf1 OK" in client.stream[-200:])  # type: ignore[misc]
            self.assertIn(mail, bytes(client.stream))
            client.call(b"LOGOUT")


class Malformed(GroundCase):
    """
    For either server.
    """

    def setUp(self) -> None:
        super().setUp()
        self.other = self.new_client(client_id=b"UUID other").begin(HOME, b"SELECT INBOX")
        self.before = resident(self.gateway.pid)
        self.addCleanup(self._others_are_served)

    def _others_are_served(self) -> None:
        """
        The client that was there before, and one that comes.
        """
        self.assert_ok(self.other.call(b"NOOP"))
        self.assert_ok(self.other.call(b"LOGOUT"))
        client = self.new_client(client_id=b"UUID next").begin(HOME, b"SELECT INBOX")
        client.lose("fin")
        self.assertIsInstance(client.resume(TRAIN), Resumed)
        self.assert_ok(client.call(b"LOGOUT"))
        self.assertLess(resident(self.gateway.pid) - self.before, 6 * MIB)

    def _new_wire(self) -> Wire:
        client = self.new_client()
        client.connect(_NO_PEER)
        return client.wire

    def _feed(self, wire: Wire, octets: bytes) -> bytes:
        """
        Send octets, or as many as are taken; and then the end.

        @return: what was answered.
        """
        try:
            for place in range(0, len(octets), 64 * KIB):
                wire.send(octets[place : place + 64 * KIB])
            wire.shut()
        except Lost:
            wire.ended = False  # what was said before can be read
        return wire.read_to_end()

    def test_scenario_38_random_octets(self) -> None:
        """
        Random octets and halves of commands, in the clear and where TLS should be.
        """
        chance = Random(38)
        words = [b"a1 LOGIN ", b"{5}\r\n", b"{4294967296+}\r\n", b"\0", b"\xff\xfe", b'"', b"\r\n", b"\n"]
        words += [b"a2 XCONTINUITY RESUME ", b"a3 XCONTINUITY START GRACE -1\r\n", b"a4 XCONTINUITY GRAFT x y\r\n"]
        words += [b"a5 CLIENTID UUID abc\r\n", b"a6 AUTHENTICATE PLAIN\r\n"]
        for _ in range(12):
            octets = b"".join(chance.choice([*words, chance.randbytes(chance.randrange(40))]) for _ in range(30))
            said = self._feed(self._new_wire(), octets)
            self.assertNotIn(b" OK Logged in", said)
        for octets in (chance.randbytes(5000), b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\xff\xff" + chance.randbytes(70000)):
            with Wire(HOST, self.gateway.port, None, _NO_PEER) as wire:
                self.assertNotIn(b"OK", self._feed(wire, octets))

    def test_scenario_38_endless_lines(self) -> None:
        """
        Ten megabytes without a line end, as a command, as one of ours, as a literal: refused in words within one line's bound.
        """
        beginnings = (b"", b"a LOGIN ", b"a XCONTINUITY RESUME ", b"a CLIENTID UUID {10000000+}\r\n", b"a LOGIN {10000000+}\r\n")
        for beginning in beginnings:
            said = self._feed(self._new_wire(), beginning + b"x" * (10 * MIB))
            self.assertRegex(said, rb"\A(\* |a )(BAD|BYE|NO) [^\r]{5,}\r\n", beginning)

    def test_scenario_38_each_kind_of_broken_frame(self) -> None:
        """
        Each drops the link with a line in the log that says what was wrong; its client comes back.
        """
        client = self.new_client().begin(HOME, b"SELECT INBOX")
        for octets, text in self._faults():
            client.settle(0.0)
            client.wire.send(octets)
            client.wire.read_to_end()
            client.session.detach(client.now)
            self.gateway.wait_for_log(text)
            self.assertIsInstance(client.resume(TRAIN), Resumed)
            self.assert_ok(client.call(b"NOOP"))
        self.assertRegex(client.call(b"LOGOUT"), rb" OK ")

    @staticmethod
    def _faults() -> Iterator[tuple[bytes, str]]:
        yield b"\x09\x00\x00\x00", "unknown frame type 9"
        yield b"\xff\xff\xff\xff", "unknown frame type 255"
        yield b"\x00\xff\xff\xff", f"a DATA frame of {2**24 - 1} octets"
        yield b"\x00\x00\x00\x00", "a DATA frame of 0 octets"
        yield b"\x01\x00\x00\x07" + b"1234567", "a ACK frame of 7 octets"
        yield b"\x04\x00\x01\x00", "a END frame of 256 octets"
        yield encode_ack(2**63), f"{2**63}"

    def test_scenario_38_truncated_frames(self) -> None:
        """
        A link that ends within a frame: what was whole counts, the rest comes again.
        """
        client = self.new_client().begin(HOME, b"SELECT INBOX")
        frame = encode(FrameType.PING, b"12345678")
        for place in range(1, len(frame)):
            client.settle(0.0)
            client.wire.send(frame[:place])
            client.lose("fin")
            self.assertIsInstance(client.resume(TRAIN), Resumed)
        self.assert_ok(client.call(b"LOGOUT"))

    def test_scenario_38_pipelined_commands(self) -> None:
        """
        10,000 pipelined commands, of ours and of the server's, by one who does not read before all are sent.
        """
        kinds = [b"c%d CLIENTID UUID x\r\n", b"c%d XCONTINUITY NONSENSE\r\n", b"c%d XCONTINUITY GRAFT\r\n"] * 3
        kinds.append(b"c%d NOOP\r\n")
        wire = self._new_wire()
        octets = b"".join(kinds[number % 10] % number for number in range(10_000))
        for place in range(0, len(octets), 64 * KIB):
            wire.send(octets[place : place + 64 * KIB])
        wire.send(b"end LOGOUT\r\n")
        said = wire.read_to_end()
        tags = re.findall(rb"(?m)^(c\d+) ", said)
        self.assertEqual(tags, [b"c%d" % number for number in range(10_000)])
        until(lambda: not wire.stands, "the end of the link")


class LimitsOnDovecot(Limits, OnDovecot):
    pass


class LimitsOnCyrus(Limits, OnCyrus):
    pass


class MalformedOnDovecot(Malformed, OnDovecot):
    pass


class MalformedOnCyrus(Malformed, OnCyrus):
    pass


del Limits, Malformed
