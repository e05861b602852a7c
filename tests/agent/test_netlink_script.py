"""
Tests of L{mem_continuity.agent.netlink_socket} with a kernel that says what it is told to: for what the real one does too seldom.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mem_continuity.agent.netlink_socket import NetlinkSource
from mem_continuity.core.policy import AgentPolicy
from tests.agent.netlink_octets import DEL_ADDRESS, DEL_LINK, MULTI, address, link, message, route

POLICY = AgentPolicy()
LINKS, ADDRESSES, ROUTES = 18, 22, 26
PORT = 4711


class Kernel:
    """
    The other end of a netlink socket, and the socket itself.

    @ivar asked: the kinds of requests.
    """

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.sequence = 0
        self.queue: list[Any] = []
        self.closed = False

    def getsockname(self) -> tuple[int, int]:
        return PORT, 0

    def fileno(self) -> int:
        return 99

    def close(self) -> None:
        self.closed = True

    def send(self, octets: bytes) -> None:
        _, kind, _, self.sequence, _ = struct.unpack_from("=IHHII", octets)
        self.asked.append(kind)

    def recvmsg(self, size: int) -> tuple[bytes, list[Any], int, tuple[int, int]]:
        if not self.queue:
            raise BlockingIOError(errno.EAGAIN, "nothing there")
        said = self.queue.pop(0)
        if isinstance(said, OSError):
            raise said
        octets, flags, sender = said
        return octets, [], flags, (sender, 0)


class ScriptedSource(NetlinkSource):
    """
    Takes its socket from the test.
    """

    kernel: Kernel

    def _bound(self) -> Any:
        self.kernel = Kernel()
        return self.kernel


class ScriptReactor(Clock):
    """
    Has no descriptors to watch, but takes them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()

    def addReader(self, reader: Any) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.discard(reader)


class ScriptTests(SynchronousTestCase):
    """
    A source that has asked for its first look.
    """

    def setUp(self) -> None:
        self.reactor = ScriptReactor()
        self.changes = 0
        self.source = ScriptedSource(self.reactor, (), POLICY)
        self.source.start(self.changed)

    def changed(self) -> None:
        self.changes += 1

    def say(self, *octets: bytes, flags: int = 0, sender: int = 0) -> None:
        """
        Messages that nobody has asked for.
        """
        self.source.kernel.queue.append((b"".join(octets), flags, sender))
        self.source.doRead()

    def answer(self, *octets: bytes, flags: int = 0, sequence: int | None = None, error: int = 0) -> None:
        """
        The whole of a part of a look.
        """
        kernel = self.source.kernel
        octets = (*octets, message(3, struct.pack("=i", -error)))
        sequence = kernel.sequence if sequence is None else sequence
        ours = [
            struct.pack("=IHHII", *struct.unpack_from("=IH", one), MULTI | flags, sequence, PORT) + one[16:] for one in octets
        ]
        self.say(*ours)

    def finish(self, flags: int = 0) -> None:
        """
        Answer what is left of a look, after its links.
        """
        self.answer(address(3, "192.0.2.3"), flags=flags)
        self.answer(route(3))
        self.answer()

    def look(self, flags: int = 0) -> None:
        self.answer(link(3))
        self.finish(flags)

    def names(self) -> list[str]:
        return [one.name for one in self.source.devices()]

    def assert_looks_again(self) -> None:
        """
        After a moment, and once.
        """
        self.source.kernel.asked.clear()
        self.reactor.advance(POLICY.network_settle)
        self.assertEqual(self.source.kernel.asked, [LINKS])
        self.look()
        self.assert_rests()

    def assert_rests(self) -> None:
        self.source.kernel.asked.clear()
        self.reactor.advance(60)
        self.assertEqual(self.source.kernel.asked, [])

    def test_course(self) -> None:
        """
        Part after part; what is found is given out when all of it has been said.
        """
        verifyObject(IReadDescriptor, self.source)
        self.answer(link(3))
        self.assertEqual((self.names(), self.source.looked), ([], False))
        self.finish()
        self.assertEqual(self.source.kernel.asked, [LINKS, ADDRESSES, ROUTES, ROUTES])
        (device,) = self.source.devices()
        self.assertEqual((device.addresses, device.leading, self.source.looked), (("192.0.2.3",), (0, 0), True))
        self.assert_rests()

    def test_change_during_look(self) -> None:
        """
        It counts, though its part has been told already; and it is seen at once.
        """
        self.look()
        self.source.look()
        self.answer(link(3), link(4, "eth0"))
        self.say(link(3, kind=DEL_LINK), link(5, "wwan0"))
        self.assertEqual(self.names(), ["wwan0"])
        self.finish()
        self.assertEqual(self.names(), ["eth0", "wwan0"])

    def test_silent_loss(self) -> None:
        """
        With an address routes may have gone.
        """
        self.look()
        self.say(address(3, "192.0.2.3", kind=DEL_ADDRESS))
        self.assert_looks_again()

    def test_gain(self) -> None:
        """
        What comes takes nothing with it.
        """
        self.look()
        self.say(link(4, "eth0"), address(4, "192.0.2.4"), route(4, metric=7))
        self.assert_rests()

    def test_interrupted(self) -> None:
        """
        A look in whose middle something has changed is given out, and another follows.
        """
        self.look(0x10)
        self.assertEqual(self.names(), ["wlan0"])
        self.assert_looks_again()

    def test_asked_during_look(self) -> None:
        self.source.look()
        self.source.look()
        self.look()
        self.assert_looks_again()

    def test_truncated(self) -> None:
        """
        A message that is too long to be read.
        """
        self.look()
        self.say(link(4)[:30], flags=socket.MSG_TRUNC)
        self.assert_looks_again()

    def test_overrun(self) -> None:
        """
        The kernel says it as an error; a look that was begun before everything was read does not do.
        """
        self.look()
        kernel = self.source.kernel
        kernel.queue += [OSError(errno.ENOBUFS, "overrun"), *[(b"", 0, 0)] * (POLICY.network_reads - 1)]
        self.source.doRead()
        self.reactor.advance(POLICY.network_settle)
        self.source.doRead()
        self.look()
        self.assert_looks_again()
        self.say(message(4, b""))
        self.assert_looks_again()

    def test_not_the_kernel(self) -> None:
        self.look()
        before = self.changes
        self.say(link(3, kind=DEL_LINK), sender=815)
        self.assertEqual((self.names(), self.changes), (["wlan0"], before))

    def test_old_answer(self) -> None:
        """
        The end of another dump is not that of this one, and what it says does not count.
        """
        self.answer(link(9, "old"), sequence=self.source.kernel.sequence + 5)
        self.assertEqual(self.source.kernel.asked, [LINKS])
        self.look()
        self.assertEqual(self.names(), ["wlan0"])
        self.answer(link(9, "late"))
        self.assertEqual(self.names(), ["wlan0"])

    def test_without_version_6(self) -> None:
        """
        A kernel without it refuses to tell of its routes.
        """
        self.answer(link(3))
        self.answer()
        self.answer()
        self.answer(error=errno.EOPNOTSUPP)
        self.assertTrue(self.source.looked)

    def test_refused(self) -> None:
        """
        Any other part that is refused: it is tried again later, on another socket.
        """
        first = self.source.kernel
        self.answer(error=errno.EBUSY)
        self.assertEqual(first.asked, [LINKS])
        self.reactor.advance(POLICY.network_look)
        self.assertIsNot(self.source.kernel, first)
        self.assertTrue(first.closed)
        self.look()
        self.assertEqual(self.names(), ["wlan0"])
        self.source.stop()
        self.assertEqual((self.reactor.getDelayedCalls(), self.reactor.readers), ([], set()))
