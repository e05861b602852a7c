"""
Connections and waits in packets that are made here.
"""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.roaming.flows import Flow, Flows

FIN, SYN, RST, ACK = 1, 2, 4, 16
PROGRAM, SERVER = (bytes([127, 0, 0, 1]), 50000), (bytes([127, 0, 0, 1]), 143)


class Wire:
    """
    Two ends of one connection that begin with a sequence number each.
    """

    def __init__(self, start: int = 0) -> None:
        self.flows = Flows([143])
        self.start = start

    def send(self, now: float, to_server: bool, sequence: int, flags: int, payload: bytes = b"") -> None:
        """
        @param sequence: relative to the SYN.
        """
        (source, sport), (destination, dport) = (PROGRAM, SERVER) if to_server else (SERVER, PROGRAM)
        sequence = (self.start + sequence) % (1 << 32)
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40 + len(payload), 0, 0, 64, 6, 0, source, destination)
        tcp = struct.pack("!HHIIBBHHH", sport, dport, sequence, 0, 0x50, flags, 0, 0, 0)
        self.flows.packet((ip + tcp + payload)[:60], now)

    def open(self) -> Flow:
        """
        At 0 and 0.1 seconds.
        """
        self.send(0.0, True, 0, SYN)
        self.send(0.1, False, 0, SYN | ACK)
        (flow,) = self.flows.all
        return flow


class FlowsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.wire = Wire()
        self.flow = self.wire.open()

    def longest(self, now: float = 100.0) -> float:
        return round(self.wire.flows.longest(now), 6)

    def test_an_answer(self) -> None:
        """
        From the program's last octets to the server's next ones; acknowledgements are none.
        """
        self.wire.send(1.0, True, 1, ACK, b"a NOOP\r\n")
        self.wire.send(2.0, False, 1, ACK)
        self.assertEqual(self.longest(4.0), 3.0, "it lasts")
        self.wire.send(5.0, False, 1, ACK, b"a OK\r\n")
        self.assertEqual(self.longest(), 4.0)
        self.assertEqual((self.flow.client.octets, self.flow.server.octets), (8, 6))

    def test_a_thinking_program(self) -> None:
        """
        What ends with octets of the program is no wait.
        """
        self.wire.send(50.0, True, 1, ACK, b"a NOOP\r\n")
        self.wire.send(50.5, False, 1, ACK, b"a OK\r\n")
        self.assertEqual(self.longest(), 0.5)

    def test_in_the_middle(self) -> None:
        """
        A stall within what the server says counts.
        """
        self.wire.send(1.0, True, 1, ACK, b"a NOOP\r\n")
        self.wire.send(1.5, False, 1, ACK, b"* 1 ")
        self.wire.send(8.5, False, 5, ACK, b"EXISTS\r\n")
        self.assertEqual(self.longest(), 7.0)

    def test_sent_again(self) -> None:
        """
        It is not new, and does not end or begin a wait.
        """
        self.wire.send(1.0, True, 1, ACK, b"a NOOP\r\n")
        self.wire.send(2.0, True, 1, ACK, b"a NOOP\r\n")
        self.wire.send(2.5, False, 0, SYN | ACK)
        self.wire.send(5.0, False, 1, ACK, b"a OK\r\n")
        self.assertEqual(self.longest(), 4.0)
        self.assertEqual(self.flow.client.octets, 8)

    @given(st.integers(0, (1 << 32) - 1))
    def test_any_sequence_number(self, start: int) -> None:
        """
        They begin anywhere and come round.
        """
        wire = Wire(start)
        flow = wire.open()
        wire.send(1.0, True, 1, ACK, b"a" * 1000)
        wire.send(2.0, False, 1, ACK, b"b" * 500)
        wire.send(3.0, False, 301, ACK, b"b" * 500)
        self.assertEqual((flow.client.octets, flow.server.octets), (1000, 800))

    def test_idle(self) -> None:
        """
        It is told from outside; a wait that touches it is left out.
        """
        self.wire.send(1.0, True, 1, ACK, b"a IDLE\r\n")
        self.wire.flows.idle(True, 1.5)
        self.assertEqual(self.longest(30.0), 0.1)
        self.wire.send(40.0, False, 1, ACK, b"* 2 EXISTS\r\n")
        self.wire.flows.idle(False, 41.0)
        self.wire.send(42.0, True, 9, ACK, b"DONE\r\n")
        self.wire.send(44.0, False, 13, ACK, b"a OK\r\n")
        self.assertEqual(self.longest(), 2.0)

    def test_an_end(self) -> None:
        """
        After a LOGOUT, whoever closes first.
        """
        self.wire.send(1.0, True, 1, ACK, b"a LOGOUT\r\n")
        self.wire.send(1.1, True, 11, ACK | FIN)
        self.assertTrue(self.flow.ending)
        self.wire.send(1.2, False, 1, ACK, b"* BYE\r\n")
        self.wire.send(1.3, False, 8, ACK | FIN)
        self.assertEqual((self.flow.lost, self.flow.ending), (False, False))

    def test_given_up(self) -> None:
        """
        The program closes, and nothing comes from the server: it waited in vain from the server's last octets on.
        """
        self.wire.send(1.0, True, 1, ACK, b"a FETCH\r\n")
        self.wire.send(2.0, False, 1, ACK, b"* 1 FETCH")
        self.wire.send(62.0, True, 10, ACK | FIN)
        self.assertTrue(self.flow.lost)
        self.assertEqual(self.longest(), 60.0)

    def test_gone(self) -> None:
        """
        A program that ended without a network: nobody has seen that it closed.
        """
        self.wire.send(2.0, False, 1, ACK, b"* 1 FETCH")
        self.wire.flows.abandon(70.0)
        self.assertTrue(self.flow.lost)
        self.assertEqual(self.longest(), 68.0)
        self.wire.flows.abandon(80.0)
        self.assertEqual(self.longest(), 68.0)

    def test_reset(self) -> None:
        self.wire.send(1.0, True, 1, ACK, b"a FETCH\r\n")
        self.wire.send(9.0, False, 1, RST)
        self.assertTrue(self.flow.lost)
        self.assertEqual(self.longest(), 8.9)

    def test_ended_by_the_server(self) -> None:
        """
        Without a LOGOUT it is lost, unless nobody can read whether there was one.
        """
        self.wire.send(1.0, True, 1, ACK, b"a FETCH\r\n")
        self.wire.send(2.0, False, 1, ACK | FIN, b"* BYE\r\n")
        self.assertTrue(self.flow.lost)
        secret = Wire()
        flow = secret.open()
        secret.send(1.0, True, 1, ACK, b"\x16\x03\x01")
        secret.send(2.0, False, 1, ACK | FIN)
        self.assertFalse(flow.lost)

    def test_never_opened(self) -> None:
        """
        A SYN without an answer is a wait, and one connection, however often it is sent.
        """
        wire = Wire()
        wire.send(1.0, True, 0, SYN)
        wire.send(2.0, True, 0, SYN)
        self.assertEqual((wire.flows.longest(8.0), len(wire.flows.all)), (7.0, 1))

    def test_the_same_port_again(self) -> None:
        self.wire.send(1.0, True, 1, ACK | FIN)
        self.wire.send(2.0, False, 1, ACK | FIN)
        self.wire.send(3.0, True, 7000, SYN)
        self.assertEqual(len(self.wire.flows.all), 2)

    def test_others(self) -> None:
        """
        Other ports, other protocols, and what is cut short.
        """
        flows = Flows([993])
        flows.packet(b"\x60" + bytes(60), 1.0)
        flows.packet(b"\x45" + bytes(10), 1.0)
        other = Wire()
        other.flows = flows
        other.send(0.0, True, 0, SYN)
        self.assertEqual((flows.all, flows.longest(9.0)), ([], 0.0))
