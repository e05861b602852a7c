"""
L{Lab} itself: entering its machines, one reactor on both, and what is left when it ends, however it ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.protocol import Factory, Protocol, ServerFactory, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.netlab import Lab, LabError, Shape, available
from tests.netlab.fixtures import CHECKOUT, TIMEOUT, LabTestCase, children_of, eventually, is_alive, namespaces_of


class InsideTests(LabTestCase):
    """
    L{Lab.inside}.
    """

    @staticmethod
    def here() -> str:
        """
        The namespace of this thread.
        """
        return os.readlink("/proc/thread-self/ns/net")

    def test_comes_back(self) -> None:
        """
        The thread comes back, from a nested block and after an exception.
        """
        home = self.here()
        with self.lab.inside(self.lab.handset):
            handset = self.here()
            with self.lab.inside(self.lab.server):
                server = self.here()
            self.assertEqual(self.here(), handset)
        self.assertEqual(len({home, handset, server}), 3)

        def fail() -> None:
            with self.lab.inside(self.lab.server):
                raise KeyError

        self.assertRaises(KeyError, fail)
        self.assertEqual(self.here(), home)

    def test_other_threads(self) -> None:
        """
        Other threads stay where they are.
        """
        seen = []
        enter, entered = threading.Event(), threading.Event()

        def other() -> None:
            entered.wait(TIMEOUT)
            seen.append(self.here())
            enter.set()

        home = self.here()
        thread = threading.Thread(target=other)
        thread.start()
        with self.lab.inside(self.lab.handset):
            entered.set()
            self.assertTrue(enter.wait(TIMEOUT))
        thread.join(TIMEOUT)
        self.assertEqual(seen, [home])

    def test_unknown(self) -> None:
        """
        There is no other place.
        """
        self.assertIn("lab.handset", str(self.assertRaises(LabError, self.lab.inside, "moon")))


class ReactorTests(TestCase):
    """
    One reactor on both machines.
    """

    timeout = 30

    async def test_one_reactor(self) -> None:
        """
        A port on the server, a client on the handset over each network, in one process.
        """
        tcp = IReactorTCP(reactor)
        peers: list[str] = []
        ended: list[Deferred[None]] = []
        lab = Lab(emulated=True, wlan=Shape(delay_ms=5))
        self.addCleanup(lab.close)

        class Echo(Protocol):
            def connectionMade(self) -> None:
                ended.append(Deferred())
                peers.append(self.transport.getPeer().host)  # type: ignore[union-attr]

            def dataReceived(self, data: bytes) -> None:
                self.transport.write(data.upper())  # type: ignore[union-attr]

            def connectionLost(self, reason: Failure = connectionDone) -> None:
                ended[-1].callback(None)

        class Asker(Protocol):
            def __init__(self) -> None:
                self.answer: Deferred[bytes] = Deferred()
                self.lost: Deferred[None] = Deferred()

            def connectionMade(self) -> None:
                self.transport.write(b"hello")  # type: ignore[union-attr]

            def dataReceived(self, data: bytes) -> None:
                self.answer.callback(data)
                self.transport.loseConnection()  # type: ignore[union-attr]

            def connectionLost(self, reason: Failure = connectionDone) -> None:
                self.lost.callback(None)

        factory = ServerFactory()
        factory.protocol = Echo
        with lab.inside(lab.server):
            port = tcp.listenTCP(0, factory, interface=lab.server_address)
        self.addCleanup(port.stopListening)
        address = port.getHost()
        assert isinstance(address, IPv4Address)
        for network in lab.networks.values():
            endpoint = TCP4ClientEndpoint(tcp, network.reach, address.port, bindAddress=(network.handset_address, 0))
            with lab.inside(lab.handset):
                connecting = endpoint.connect(Factory.forProtocol(Asker))
            asker = await connecting
            assert isinstance(asker, Asker)
            self.assertEqual(await asker.answer, b"HELLO")
            await asker.lost
            await ended[-1]
        self.assertEqual(peers, [network.handset_address for network in lab.networks.values()])


class CleaningUpTests(SynchronousTestCase):
    """
    However a process ends, its lab does not stay.
    """

    _SCRIPT = """
import sys, time
from tests.netlab import Lab
lab = Lab(emulated=True)
lab.popen(lab.server, ["sleep", "60"])
print("ready", flush=True)
sys.stdin.readline()
"""

    def begin(self) -> subprocess.Popen[str]:
        """
        A process with a lab.
        """
        process = subprocess.Popen(
            [sys.executable, "-c", self._SCRIPT],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.__exit__, None, None, None)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        self.assertEqual(process.stdout.readline(), "ready\n")
        self.emulators = children_of(process.pid, "tests.netlab.emulator")
        self.sleepers = children_of(process.pid, "sleep")
        self.assertEqual((len(namespaces_of(process.pid)), len(self.emulators), len(self.sleepers)), (2, 2, 1))
        return process

    def assert_clean(self, process: subprocess.Popen[str]) -> None:
        """
        Neither namespaces nor processes are left.
        """
        self.assertEqual(namespaces_of(process.pid), [])
        for pid in (*self.emulators, *self.sleepers):
            eventually(lambda pid=pid: not is_alive(pid), f"process {pid} ends")  # type: ignore[misc]

    def test_at_exit(self) -> None:
        """
        A script that just ends.
        """
        process = self.begin()
        process.communicate("\n", timeout=TIMEOUT)
        self.assertEqual(process.returncode, 0)
        self.assert_clean(process)

    def test_terminated(self) -> None:
        """
        SIGTERM.
        """
        process = self.begin()
        process.terminate()
        self.assertEqual(process.wait(TIMEOUT), 143)
        self.assert_clean(process)

    def test_killed(self) -> None:
        """
        SIGKILL: the emulators end by themselves, and the next lab removes the rest.
        """
        process = self.begin()
        process.kill()
        process.wait(TIMEOUT)
        self.assertEqual(len(namespaces_of(process.pid)), 2)
        with Lab() as lab:
            self.assert_clean(process)
            self.assertEqual(len(namespaces_of(os.getpid())), 3)
            self.assertTrue(lab.handset.startswith(f"mc-{os.getpid()}-"))

    def test_exception(self) -> None:
        """
        An exception in the block.
        """

        def fail() -> None:
            with Lab(emulated=True):
                raise KeyError

        self.assertRaises(KeyError, fail)
        self.assertEqual(namespaces_of(os.getpid()), [])

    def test_forked(self) -> None:
        """
        A forked child does not take its parent's lab with it.
        """
        with Lab() as lab:
            pid = os.fork()
            if not pid:
                lab.close()
                os._exit(0)
            os.waitpid(pid, 0)
            self.assertEqual(len(namespaces_of(os.getpid())), 3)


class RefusedTests(SynchronousTestCase):
    """
    What cannot be had is said in words.
    """

    def test_available(self) -> None:
        """
        These tests need it.
        """
        self.assertIsNone(available())

    def test_arguments(self) -> None:
        """
        A plain network has no shape, and an MTU has bounds.
        """
        self.assertIn("emulated=True", str(self.assertRaises(LabError, Lab, wlan=Shape(delay_ms=1))))
        self.assertIn("576", str(self.assertRaises(LabError, Lab, mtu=10)))
        with Lab() as lab:
            self.assertIn("emulated=True", str(self.assertRaises(LabError, lab.networks["xg"].shape, Shape())))

    def test_sysctl(self) -> None:
        """
        A kernel variable is set where it was asked for; an unknown one is an error.
        """
        with Lab() as lab:
            lab.sysctl(lab.server, "net.ipv4.tcp_fastopen", "3")
            with lab.inside(lab.server):
                self.assertEqual(Path("/proc/sys/net/ipv4/tcp_fastopen").read_text(), "3\n")
            self.assertIn("no.such", str(self.assertRaises(LabError, lab.sysctl, lab.server, "no.such", "1")))

    def test_not_root(self) -> None:
        """
        Without root the reason is given, and nothing is left behind.
        """
        script = """
import os
from tests.netlab import Lab, LabError, available
os.setuid(65534)
print(available())
try:
    Lab()
except LabError as error:
    print(error)
"""
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, timeout=TIMEOUT
        )
        reasons = done.stdout.splitlines()
        self.assertEqual(len(reasons), 2, done.stderr)
        for reason in reasons:
            self.assertIn("need root", reason)
