"""
The emulator: one direction on its own, with time handed in, and the process's loop between pairs of datagram sockets.
"""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.netlab.emulator import Emulator, Lane
from tests.netlab.errors import LabError
from tests.netlab.shape import Shape, Traffic

_TIMEOUT = 5.0
_EPSILON = 1e-6

_packets = st.lists(st.tuples(st.floats(0, 0.05), st.integers(20, 1500)), max_size=60)


class LaneTests(SynchronousTestCase):
    """
    L{Lane}.
    """

    def test_delay(self) -> None:
        """
        A packet comes out when its delay is over, and not before.
        """
        lane = Lane(Shape(delay_ms=30), "")
        self.assertIsNone(lane.due())
        lane.offer(b"one", 10.0)
        self.assertEqual(lane.due(), 10.03)
        self.assertEqual(lane.collect(10.029), [])
        self.assertEqual(lane.collect(10.03), [b"one"])
        self.assertIsNone(lane.due())
        self.assertEqual(lane.traffic(), Traffic(packets=1, octets=3))

    def test_rate(self) -> None:
        """
        The second of two packets waits until the first is sent.
        """
        lane = Lane(Shape(rate=8000), "")
        lane.offer(bytes(100), 1.0)
        lane.offer(bytes(100), 1.0)
        self.assertEqual(lane.collect(1.09), [])
        self.assertEqual(len(lane.collect(1.1 + _EPSILON)), 1)
        self.assertEqual(len(lane.collect(1.2 + _EPSILON)), 1)

    def test_queue(self) -> None:
        """
        What does not fit into the queue is dropped at the tail; a link that is free takes any packet.
        """
        lane = Lane(Shape(rate=8000, queue=250), "")
        for number in range(4):
            lane.offer(bytes([number]) * 100, 1.0)
        self.assertEqual([packet[0] for packet in lane.collect(9.0)], [0, 1])
        lane.offer(bytes(1500), 9.0)
        self.assertEqual(lane.traffic().overflowed, 2)
        self.assertEqual(len(lane.collect(11.0)), 1)

    def test_changed_delay(self) -> None:
        """
        A new delay holds for what is under way, too.
        """
        lane = Lane(Shape(delay_ms=5000), "")
        lane.offer(b"one", 1.0)
        lane.shape(Shape(delay_ms=10))
        self.assertEqual(lane.due(), 1.01)

    def test_lifted_rate(self) -> None:
        """
        When the rate is lifted, nothing overtakes what was queued under it.
        """
        lane = Lane(Shape(rate=8000), "")
        lane.offer(bytes(1000), 1.0)
        lane.shape(Shape())
        lane.offer(b"late", 1.5)
        self.assertEqual(lane.collect(1.9), [])
        self.assertEqual(lane.collect(2.1), [bytes(1000), b"late"])

    def test_silence(self) -> None:
        """
        Silence takes what is under way and what comes; afterwards the link is free at once.
        """
        lane = Lane(Shape(delay_ms=10, rate=8000), "")
        lane.offer(bytes(1000), 1.0)
        lane.silence(True)
        lane.offer(b"unheard", 1.1)
        self.assertIsNone(lane.due())
        lane.silence(False)
        lane.offer(bytes(10), 1.2)
        self.assertEqual(lane.collect(1.22 + _EPSILON), [bytes(10)])
        self.assertEqual(lane.traffic(), Traffic(packets=1, octets=10, silenced=2))

    @given(st.integers(0, 1000))
    def test_loss_repeats(self, seed: int) -> None:
        """
        One seed, one fate; and the two directions differ.
        """

        def survivors(salt: str) -> list[bytes]:
            lane = Lane(Shape(loss=0.5, seed=seed), salt)
            for number in range(200):
                lane.offer(bytes([number]), 0.0)
            return lane.collect(1.0)

        self.assertEqual(survivors("a"), survivors("a"))
        self.assertNotEqual(survivors("a"), survivors("b"))
        self.assertTrue(40 < len(survivors("a")) < 160)

    @given(
        _packets,
        st.floats(0, 100),
        st.sampled_from([0.0, 1e5, 1e6, 1e8]),
        st.integers(100, 20000),
        st.sampled_from([0.0, 0.2, 1.0]),
    )
    def test_invariants(
        self, offered: list[tuple[float, int]], delay_ms: float, rate: float, queue: int, loss: float
    ) -> None:
        """
        Order is kept, nothing is early, the rate is never exceeded, and each packet is accounted for.
        """
        lane = Lane(Shape(delay_ms=delay_ms, rate=rate, queue=queue, loss=loss), "")
        now = 0.0
        came_in: list[tuple[float, int]] = []
        came_out: list[tuple[float, int]] = []

        def collect(until: float) -> None:
            while (due := lane.due()) is not None and due <= until:
                came_out.extend((due, int.from_bytes(packet[:4], "big")) for packet in lane.collect(due))

        for number, (pause, size) in enumerate(offered):
            now += pause
            collect(now)
            came_in.append((now, size))
            lane.offer(number.to_bytes(4, "big") + bytes(size - 4), now)
        collect(1e9)
        self.assertEqual([number for _, number in came_out], sorted(number for _, number in came_out))
        free_at = 0.0
        for at, number in came_out:
            offered_at, size = came_in[number]
            free_at = max(free_at, offered_at) + (size * 8 / rate if rate else 0)
            self.assertGreaterEqual(at + _EPSILON, free_at + delay_ms / 1000)
        seen = lane.traffic()
        self.assertEqual(seen.packets, len(came_out))
        self.assertEqual(seen.octets, sum(came_in[number][1] for _, number in came_out))
        self.assertEqual(seen.packets + seen.lost + seen.overflowed, len(offered))


class ShapeTests(SynchronousTestCase):
    """
    L{Shape}.
    """

    def test_refused(self) -> None:
        """
        Values that cannot work are refused in words.
        """
        for refused in (
            lambda: Shape(delay_ms=-1),
            lambda: Shape(delay_ms=float("nan")),
            lambda: Shape(rate=-1),
            lambda: Shape(queue=0),
            lambda: Shape(loss=1.1),
            lambda: Shape(loss=-0.1),
        ):
            self.assertIn("must be", str(self.assertRaises(LabError, refused)))


class EmulatorTests(SynchronousTestCase):
    """
    L{Emulator}, with datagram sockets for TUN devices.
    """

    def setUp(self) -> None:
        self.handset, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.server, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.control, theirs = socket.socketpair()
        self.answers = self.control.makefile("rb")
        for one in (self.handset, self.server, self.control, near, far, theirs):
            self.addCleanup(one.close)
        for one in (self.handset, self.server, self.control):
            one.settimeout(_TIMEOUT)
        self.emulator = threading.Thread(target=Emulator(near.fileno(), far.fileno(), theirs).run, daemon=True)
        self.emulator.start()
        self.addCleanup(self.end)

    def end(self) -> None:
        """
        The closed channel ends it.
        """
        self.answers.close()
        self.control.close()
        self.emulator.join(_TIMEOUT)
        self.assertFalse(self.emulator.is_alive())

    def ask(self, request: object) -> dict[str, Any]:
        """
        One command, one answer.
        """
        self.control.sendall(json.dumps(request).encode() + b"\n")
        answer: dict[str, Any] = json.loads(self.answers.readline())
        return answer

    def test_forwards(self) -> None:
        """
        Both directions, and they are counted.
        """
        self.handset.send(b"there")
        self.assertEqual(self.server.recv(100), b"there")
        self.server.send(b"and back")
        self.assertEqual(self.handset.recv(100), b"and back")
        counters = self.ask({"do": "counters"})
        octets = [Traffic(**counters[one]).octets for one in ("to_server", "to_handset")]
        self.assertEqual(octets, [5, 8])

    def test_pipelined(self) -> None:
        """
        Commands may come in one piece, or in several.
        """
        command = json.dumps({"do": "counters"}).encode() + b"\n"
        self.control.sendall(command + command[:5])
        first = self.answers.readline()
        self.control.sendall(command[5:])
        self.assertEqual(self.answers.readline(), first)

    def test_nonsense(self) -> None:
        """
        What it does not understand is answered with an error, and the next command is served.
        """
        bad_shape = {"do": "shape", "direction": "to_server", "shape": {"loss": 2}}
        requests: tuple[object, ...] = ({"do": "dance"}, {}, [], "x", bad_shape)
        for nonsense in requests:
            self.assertIn("does not understand", str(self.ask(nonsense)["error"]))
        self.assertNotIn("error", self.ask({"do": "state", "state": "silent"}))

    def test_far_end_refuses(self) -> None:
        """
        A far end that takes no packet costs that packet, not the emulator.
        """
        self.server.close()
        self.handset.send(b"lost")
        self.assertNotIn("error", self.ask({"do": "counters"}))
