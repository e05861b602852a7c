"""
L{mem_continuity.layer.sockets.vitals}: what the kernel tells of a connection.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.layer.sockets import Vitals, parse_tcp_info, vitals


def tcp_info(length: int = 256, **fields: int) -> bytes:
    """
    As Linux writes it; fields by their names there, without C{tcpi_}.
    """
    made = bytearray(256)
    places = {
        "retransmits": (2, "=B"),
        "probes": (3, "=B"),
        "backoff": (4, "=B"),
        "unacked": (24, "=I"),
        "last_data_sent": (44, "=I"),
        "last_data_recv": (52, "=I"),
        "last_ack_recv": (56, "=I"),
        "rtt": (68, "=I"),
        "rttvar": (72, "=I"),
        "total_retrans": (100, "=I"),
        "notsent_bytes": (144, "=I"),
        "min_rtt": (148, "=I"),
        "data_segs_in": (152, "=I"),
        "data_segs_out": (156, "=I"),
        "rcv_ooopack": (224, "=I"),
    }
    for name, value in fields.items():
        place, kind = places[name]
        struct.pack_into(kind, made, place, value)
    return bytes(made[:length])


class Standing(StringTransport):
    """
    A transport with a socket.
    """

    def __init__(self, sock: Any) -> None:
        super().__init__()
        self.socket = sock


class ParseTests(SynchronousTestCase):
    """
    The structure, by its length.
    """

    FULL = tcp_info(
        retransmits=2,
        probes=1,
        unacked=7,
        last_data_recv=1500,
        last_ack_recv=250,
        rtt=60_000,
        rttvar=5_000,
        total_retrans=13,
        notsent_bytes=4096,
        min_rtt=40_000,
        data_segs_in=2000,
        data_segs_out=1000,
        rcv_ooopack=4,
    )

    def test_all_of_it(self) -> None:
        expected = Vitals(
            heard_ago=0.25,
            unacknowledged=7,
            unsent=4096,
            round_trip=0.06,
            least_round_trip=0.04,
            variation=0.005,
            timeouts=2,
            disorder=0.01,
        )
        self.assertEqual(parse_tcp_info(self.FULL), expected)

    def test_an_older_kernel(self) -> None:
        found = parse_tcp_info(self.FULL[:104])
        assert found is not None
        self.assertEqual((found.unacknowledged, found.unsent, found.least_round_trip), (7, 0, 0.06))

    def test_too_little(self) -> None:
        self.assertIsNone(parse_tcp_info(self.FULL[:103]))
        self.assertIsNone(parse_tcp_info(b""))

    def test_no_least_round_trip_yet(self) -> None:
        for unknown in (0, 0xFFFFFFFF):
            found = parse_tcp_info(tcp_info(rtt=7000, min_rtt=unknown))
            assert found is not None
            self.assertEqual(found.least_round_trip, 0.007)

    def test_what_comes_out_of_its_order(self) -> None:
        """
        Shows loss, but not how much: one loss puts many out of their order.
        """
        for count, disorder in ((0, 0.0), (2, 0.002), (50, 0.01), (500, 0.01)):
            found = parse_tcp_info(tcp_info(data_segs_in=1000, rcv_ooopack=count))
            assert found is not None
            self.assertEqual(found.disorder, disorder)

    def test_a_silence_does_not_make_a_link_a_lossy_one(self) -> None:
        found = parse_tcp_info(tcp_info(data_segs_out=10, total_retrans=3, retransmits=2))
        assert found is not None
        self.assertEqual((found.disorder, found.timeouts), (0.0, 2))

    def test_probes_of_a_closed_window(self) -> None:
        found = parse_tcp_info(tcp_info(probes=4))
        assert found is not None
        self.assertEqual(found.timeouts, 4)

    @given(st.binary(max_size=300))
    def test_any_octets(self, octets: bytes) -> None:
        found = parse_tcp_info(octets)
        self.assertEqual(found is None, len(octets) < 104)
        if found is not None:
            self.assertTrue(found.heard_ago >= 0 and found.round_trip >= 0 and found.disorder >= 0)


class SocketTests(SynchronousTestCase):
    """
    Real ones.
    """

    timeout = 20

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """
        Connected over loopback.
        """
        with socket.create_server(("127.0.0.1", 0)) as listening:
            one = socket.create_connection(listening.getsockname())
            other, _ = listening.accept()
        self.addCleanup(one.close)
        self.addCleanup(other.close)
        return one, other

    def test_a_live_connection(self) -> None:
        one, other = self.pair()
        one.sendall(b"said")
        self.assertEqual(other.recv(4), b"said")
        other.sendall(b"answered")
        self.assertEqual(one.recv(8), b"answered")
        found = vitals(Standing(one))
        assert found is not None
        self.assertEqual((found.unacknowledged, found.unsent, found.timeouts), (0, 0, 0))
        self.assertTrue(0 < found.round_trip < 5 and 0 < found.least_round_trip <= 5)
        self.assertLess(found.heard_ago, 5)

    def test_a_peer_that_takes_nothing(self) -> None:
        one, _ = self.pair()
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(10_000):
                one.send(bytes(65536))
        found = vitals(Standing(one))
        assert found is not None
        self.assertGreater(found.unsent, 0)

    def test_nobody_to_ask(self) -> None:
        one = self.pair()[0]
        one.close()
        local, end = socket.socketpair()
        self.addCleanup(local.close)
        self.addCleanup(end.close)
        for transport in (Standing(one), Standing(local), Standing(None), StringTransport()):
            self.assertIsNone(vitals(transport))
