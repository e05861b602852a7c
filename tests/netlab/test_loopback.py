"""
L{LoopbackLab}: the same interface with relays, for those who are not root.
"""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import threading

from twisted.trial.unittest import SynchronousTestCase

from tests.netlab import LabError, LoopbackLab, Network, Shape

_TIMEOUT = 10.0
_QUIET = 0.3


class LoopbackTests(SynchronousTestCase):
    """
    L{LoopbackLab}.
    """

    def setUp(self) -> None:
        self.lab = LoopbackLab()
        self.addCleanup(self.lab.close)
        self.wlan, self.xg = self.lab.networks.values()
        with self.lab.inside(self.lab.server):
            self.listener = self.keep(socket.create_server((self.lab.server_address, 0)))
        self.port = self.listener.getsockname()[1]
        self.lab.publish(self.port)

    def keep(self, one: socket.socket) -> socket.socket:
        """
        Bound in time, closed at the end.
        """
        one.settimeout(_TIMEOUT)
        self.addCleanup(one.close)
        return one

    def connect(self, network: Network) -> tuple[socket.socket, socket.socket]:
        """
        The handset's end first.
        """
        with self.lab.inside(self.lab.handset):
            handset = self.keep(
                socket.create_connection(
                    (network.reach, self.port), _TIMEOUT, source_address=(network.handset_address, 0)
                )
            )
        return handset, self.keep(self.listener.accept()[0])

    def receive(self, one: socket.socket, count: int) -> int:
        """
        That many octets, or an error.
        """
        received = 0
        while received < count:
            data = one.recv(count - received)
            self.assertNotEqual(data, b"")
            received += len(data)
        return received

    def test_both_networks(self) -> None:
        """
        The server sees the address of the network that was used, and each network counts its own.
        """
        for used, unused in ((self.wlan, self.xg), (self.xg, self.wlan)):
            unused_before = unused.counters()
            handset, server = self.connect(used)
            self.assertEqual(server.getpeername()[0], used.handset_address)
            handset.sendall(b"x" * 1000)
            self.receive(server, 1000)
            server.sendall(b"y" * 2000)
            self.receive(handset, 2000)
            seen = used.counters()
            self.assertEqual((seen.to_server.octets, seen.to_handset.octets), (1000, 2000))
            self.assertEqual(unused.counters(), unused_before)

    def test_much(self) -> None:
        """
        More than any buffer holds, and the reader is late.
        """
        handset, server = self.connect(self.wlan)
        size = 8 * 1024 * 1024
        sender = threading.Thread(target=server.sendall, args=(bytes(size),))
        sender.start()
        self.assertEqual(self.receive(handset, size), size)
        sender.join(_TIMEOUT)

    def test_end(self) -> None:
        """
        An end of data goes through, one direction at a time.
        """
        handset, server = self.connect(self.xg)
        handset.sendall(b"question")
        handset.shutdown(socket.SHUT_WR)
        self.receive(server, 8)
        self.assertEqual(server.recv(1), b"")
        server.sendall(b"answer")
        server.close()
        self.receive(handset, 6)
        self.assertEqual(handset.recv(1), b"")

    def test_silence(self) -> None:
        """
        Nothing comes through and nothing is closed, the other network goes on, and afterwards nothing is missing.
        """
        handset, server = self.connect(self.wlan)
        self.wlan.silence()
        self.assertEqual((self.wlan.state, self.xg.state), ("silent", "up"))
        handset.sendall(b"up")
        server.sendall(b"down")
        self.assertEqual(select.select([handset, server, self.listener], [], [], _QUIET), ([], [], []))
        self.connect(self.xg)
        self.wlan.restore()
        self.receive(server, 2)
        self.receive(handset, 4)

    def test_nobody_listens(self) -> None:
        """
        A server that does not listen: the connection is closed.
        """
        self.listener.close()
        handset = self.keep(socket.create_connection((self.wlan.reach, self.port), _TIMEOUT))
        self.assertEqual(handset.recv(1), b"")

    def test_popen(self) -> None:
        """
        A process ends with the lab.
        """
        process = self.lab.popen(self.lab.server, [sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self.assertIsNone(process.poll())
        self.lab.close()
        self.assertIsNotNone(process.returncode)

    def test_closed(self) -> None:
        """
        Closing ends the connections and the relays, and is harmless when repeated.
        """
        handset, _ = self.connect(self.wlan)
        self.lab.close()
        self.lab.close()
        self.assertEqual(handset.recv(1), b"")
        self.assertEqual([one.name for one in threading.enumerate() if one.name.startswith("relay-")], [])
        self.assertIn("closed", str(self.assertRaises(LabError, self.lab.inside, self.lab.handset)))

    def test_refused(self) -> None:
        """
        What it cannot do is said in words.
        """
        for refused in (lambda: self.wlan.shape(Shape()), self.wlan.detach, self.wlan.attach):
            self.assertIn("as root", str(self.assertRaises(LabError, refused)))
        self.assertIn("another port", str(self.assertRaises(LabError, self.lab.publish, self.port)))
