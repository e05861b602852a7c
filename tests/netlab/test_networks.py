"""
The networks of L{tests.netlab.Lab}: real sockets over both kinds.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
import subprocess
import time
from typing import ClassVar

from tests.netlab import Lab, LabError, Shape
from tests.netlab.fixtures import QUIET, TIMEOUT, LabTestCase, children_of, eventually, namespaces_of


class PlainTests(LabTestCase):
    """
    What holds for both kinds; here for the plain one.
    """

    def test_source_address_chooses(self) -> None:
        """
        One server address, and the source address says by which network it is reached, there and back.
        """
        listener = self.listen()
        for used, unused in ((self.wlan, self.xg), (self.xg, self.wlan)):
            before, unused_before = used.counters(), unused.counters()
            handset, server = self.connect(listener, used.handset_address)
            self.assertEqual(server.getpeername()[0], used.handset_address)
            handset.sendall(b"x" * 1000)
            self.receive(server, 1000)
            server.sendall(b"y" * 2000)
            self.receive(handset, 2000)
            after = used.counters()
            self.assertGreater(after.to_server.octets - before.to_server.octets, 1000)
            self.assertGreater(after.to_handset.octets - before.to_handset.octets, 2000)
            self.assertEqual(unused.counters(), unused_before)

    def test_own_addresses(self) -> None:
        """
        The server is also reached by its address on each network.
        """
        for network in self.lab.networks.values():
            listener = self.listen(network.server_address)
            _, server = self.connect(listener)
            self.assertEqual(server.getpeername()[0], network.handset_address)

    def test_counters_are_exact(self) -> None:
        """
        A datagram of 100 octets is one packet of 128.
        """
        handset, server = self.datagrams(self.xg.handset_address)
        before = self.xg.counters()
        handset.send(bytes(100))
        _, address = server.recvfrom(200)
        server.sendto(bytes(50), address)
        handset.recv(200)
        after = self.xg.counters()
        for there, seen, octets in (
            (before.to_server, after.to_server, 128),
            (before.to_handset, after.to_handset, 78),
        ):
            self.assertEqual((seen.packets - there.packets, seen.octets - there.octets), (1, octets))

    def test_silence(self) -> None:
        """
        A silent network carries nothing and tells nobody; the other one goes on; afterwards nothing is missing.
        """
        listener = self.listen()
        handset, server = self.connect(listener, self.wlan.handset_address)
        self.wlan.silence()
        self.assertEqual((self.wlan.state, self.xg.state), ("silent", "up"))
        self.assert_carrier()
        handset.sendall(b"up" * 500)
        server.sendall(b"down" * 500)
        with self.lab.inside(self.lab.handset):
            attempt = self.keep(socket.socket())
            attempt.setblocking(False)
            attempt.bind((self.wlan.handset_address, 0))
            self.assertEqual(attempt.connect_ex(listener.getsockname()), errno.EINPROGRESS)
        # Neither data nor FIN nor RST at the old ends; neither an answer nor an error for the new one.
        self.assertEqual(select.select([handset, server, listener], [attempt], [], QUIET), ([], [], []))
        for one in (handset, server, attempt):
            self.assertEqual(one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0)
        other_handset, other_server = self.connect(listener, self.xg.handset_address)
        other_handset.sendall(b"still here")
        self.receive(other_server, 10)
        self.assertGreater(self.wlan.counters().to_server.silenced, 0)
        self.wlan.restore()
        self.assertEqual(self.wlan.state, "up")
        self.assertEqual(self.receive(server, 1000), b"up" * 500)
        self.assertEqual(self.receive(handset, 2000), b"down" * 500)
        # The attempt is a retransmitted SYN away.
        self.assertEqual(select.select([], [attempt], [], TIMEOUT), ([], [attempt], []))
        self.assertEqual(attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0)

    def assert_carrier(self) -> None:
        """
        Both ends see a link that works, and never have to ask for the neighbour's hardware address.
        """
        for place in (self.lab.handset, self.lab.server):
            with self.lab.popen(place, ["ip", "-j", "link"], stdout=subprocess.PIPE) as shown:
                links = {link["ifname"]: link for link in json.loads(shown.communicate(timeout=TIMEOUT)[0])}
            self.assertIn("LOWER_UP", links[self.wlan.interface]["flags"])
            with self.lab.popen(place, ["ip", "-j", "neighbour"], stdout=subprocess.PIPE) as shown:
                neighbours = json.loads(shown.communicate(timeout=TIMEOUT)[0])
            states = [neighbour["state"] for neighbour in neighbours]
            self.assertEqual(states, [] if self.emulated else [["PERMANENT"], ["PERMANENT"]])

    def test_close_in_silence(self) -> None:
        """
        The FIN of a handset that closes unheard arrives after the silence only.
        """
        handset, server = self.connect(self.listen(), self.xg.handset_address)
        self.xg.silence()
        handset.close()
        self.assertEqual(select.select([server], [], [], QUIET), ([], [], []))
        self.xg.restore()
        self.assertEqual(server.recv(1), b"")

    def test_detach(self) -> None:
        """
        A handset that has left a network knows it: no address, no detour; unbound sockets take the other one.  It comes
        back with the address it had.
        """
        listener = self.listen()
        old, server = self.connect(listener, self.wlan.handset_address)
        self.wlan.detach()
        self.assertEqual(self.connect(listener)[1].getpeername()[0], self.xg.handset_address)
        with self.assertRaises(OSError) as refused:
            self.connect(listener, self.wlan.handset_address)
        self.assertEqual(refused.exception.errno, errno.EADDRNOTAVAIL)
        silent = self.xg.counters()
        with contextlib.suppress(OSError):
            old.sendall(b"still under way")
        self.assertEqual(select.select([server], [], [], QUIET), ([], [], []))
        self.assertEqual(self.xg.counters().to_server, silent.to_server, "it must not take the other network")
        self.wlan.attach()
        self.assertEqual(self.connect(listener)[1].getpeername()[0], self.wlan.handset_address)
        self.assertEqual(self.receive(server, 15), b"still under way")

    def test_popen(self) -> None:
        """
        A process runs where it should, and ends with the lab.
        """
        with self.lab.popen(self.lab.handset, ["ip", "-j", "-4", "address"], stdout=subprocess.PIPE) as shown:
            output = shown.communicate(timeout=TIMEOUT)[0]
        addresses = [one["local"] for link in json.loads(output) for one in link["addr_info"]]
        self.assertEqual(addresses, ["127.0.0.1", self.wlan.handset_address, self.xg.handset_address])
        sleeper = self.lab.popen(self.lab.server, ["sleep", "60"], stdout=subprocess.PIPE)
        self.assertIsNone(sleeper.poll())
        self.lab.close()
        self.assertEqual(sleeper.returncode, -15)

    def test_closed(self) -> None:
        """
        A closed lab leaves no namespace, says so when it is used, and closing it again is harmless.
        """
        places = self.lab.handset, self.lab.server
        self.lab.close()
        self.lab.close()
        self.assertEqual(namespaces_of(os.getpid()), [])
        for place in places:
            self.assertIn("closed", str(self.assertRaises(LabError, self.lab.inside, place)))
            self.assertIn("closed", str(self.assertRaises(LabError, self.lab.popen, place, ["true"])))
        self.assertRaises(LabError, self.wlan.silence)

    def test_mtu(self) -> None:
        """
        The MTU is that of both ends.
        """
        self.lab.close()
        with Lab(emulated=self.emulated, mtu=9000) as lab:
            for place in (lab.handset, lab.server):
                with lab.popen(place, ["ip", "-j", "link"], stdout=subprocess.PIPE) as shown:
                    links = json.loads(shown.communicate(timeout=TIMEOUT)[0])
                self.assertEqual({link["mtu"] for link in links if link["ifname"] in lab.networks}, {9000})


class EmulatedTests(PlainTests):
    """
    The same, emulated, and what only these networks can do.
    """

    emulated: ClassVar[bool] = True

    def round_trip(self, handset: socket.socket, server: socket.socket) -> float:
        """
        In milliseconds.
        """
        begun = time.monotonic()
        handset.send(b"?")
        _, address = server.recvfrom(10)
        server.sendto(b"!", address)
        handset.recv(10)
        return (time.monotonic() - begun) * 1000

    def test_delay(self) -> None:
        """
        Each direction has its own delay, each network its own, and it can be changed at any time.
        """
        pair = self.datagrams(self.wlan.handset_address)
        self.wlan.shape(Shape(delay_ms=40))
        self.assertGreaterEqual(self.round_trip(*pair), 80)
        self.wlan.shape(Shape(delay_ms=5), "to_handset")
        self.assertGreaterEqual(self.round_trip(*pair), 45)
        self.wlan.shape(Shape(delay_ms=60_000))
        handset, server = pair
        handset.send(b"?")
        self.assertEqual(select.select([server], [], [], QUIET), ([], [], []))
        self.assertLess(self.round_trip(*self.datagrams(self.xg.handset_address)), 10_000)
        self.wlan.shape(Shape())
        self.assertEqual(server.recv(10), b"?")

    def test_rate(self) -> None:
        """
        So many octets take at least so long.
        """
        self.wlan.shape(Shape(rate=1e6))
        handset, server = self.connect(self.listen(), self.wlan.handset_address)
        begun = time.monotonic()
        server.sendall(bytes(25_000))
        self.receive(handset, 25_000)
        self.assertGreaterEqual(time.monotonic() - begun, 0.2)

    def test_loss_in_one_direction(self) -> None:
        """
        Certain loss in one direction: the other one works, and the losses are counted.
        """
        self.wlan.shape(Shape(loss=1), "to_handset")
        handset, server = self.datagrams(self.wlan.handset_address)
        handset.send(b"?")
        _, address = server.recvfrom(10)
        server.sendto(b"!", address)
        self.assertEqual(select.select([handset], [], [], QUIET), ([], [], []))
        self.assertEqual(self.wlan.counters().to_handset.lost, 1)

    def test_loss_repeats(self) -> None:
        """
        The same seed loses the same packets.
        """
        handset, server = self.datagrams(self.xg.handset_address)
        fates = []
        for _ in range(2):
            self.xg.shape(Shape(loss=0.3, seed=7), "to_server")
            for number in range(100):
                handset.send(bytes([number]))
            self.xg.shape(Shape(), "to_server")
            handset.send(b"\xff")
            survivors = b""
            while not survivors.endswith(b"\xff"):
                survivors += server.recv(1)
            fates.append(survivors)
        self.assertEqual(fates[0], fates[1])
        self.assertTrue(50 < len(fates[0]) < 95, len(fates[0]))

    def test_overflow(self) -> None:
        """
        A full queue drops at the tail, and it is counted.
        """
        self.wlan.shape(Shape(rate=1e5, queue=3500), "to_server")
        handset, _server = self.datagrams(self.wlan.handset_address)
        # So that all ten are there before the first has had its turn, whatever else this machine does.
        for pid in self.emulators():
            os.kill(pid, signal.SIGSTOP)
        for _ in range(10):
            handset.send(bytes(972))
        for pid in self.emulators():
            os.kill(pid, signal.SIGCONT)
        eventually(lambda: self.wlan.counters().to_server.packets == 3, "three packets get through")
        self.assertEqual(self.wlan.counters().to_server.overflowed, 7)

    def test_emulator_has_died(self) -> None:
        """
        A lab whose emulator is gone says so, and is closed all the same.
        """
        for pid in self.emulators():
            os.kill(pid, 9)
        eventually(lambda: not self.emulators(), "the emulators end")
        self.assertIn("emulator of wlan", str(self.assertRaises(LabError, self.wlan.counters)))
        self.lab.close()
        self.assertEqual(namespaces_of(os.getpid()), [])

    def test_emulators_end(self) -> None:
        """
        No emulator outlives its lab.
        """
        self.assertEqual(len(self.emulators()), 2)
        self.lab.close()
        self.assertEqual(self.emulators(), [])

    def emulators(self) -> list[int]:
        """
        The emulator processes that are children of this one and alive.
        """
        return children_of(os.getpid(), "tests.netlab.emulator")
