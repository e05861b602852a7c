"""
Addresses of a name that are remembered.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHostnameResolver, IResolutionReceiver
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mem_continuity.agent.accounts import parse_server
from mem_continuity.agent.dialing import Dialer
from mem_continuity.agent.names import RememberedNames
from mem_continuity.core.policy import AgentPolicy


def address(last: int) -> IPv4Address:
    return IPv4Address("TCP", f"192.0.2.{last}", 993)


@implementer(IHostnameResolver)
class Below(Clock):
    """
    A reactor's clock and resolver.

    @ivar asked: those that wait for an answer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.nameResolver = self
        self.asked: list[IResolutionReceiver] = []

    def resolveHostName(self, receiver: IResolutionReceiver, *_: Any) -> Any:
        receiver.resolutionBegan(self)  # type: ignore[arg-type]
        self.asked.append(receiver)
        return self

    def answer(self, *addresses: IAddress, to: int = 0) -> None:
        receiver = self.asked.pop(to)
        for one in addresses:
            receiver.addressResolved(one)
        receiver.resolutionComplete()


class Asking:
    """
    @ivar found: the addresses, when there is an answer.
    """

    def __init__(self) -> None:
        self.found: list[IAddress] | None = None
        self._found: list[IAddress] = []
        self.resolution: Any = None

    def resolutionBegan(self, resolution: Any) -> None:
        self.resolution = resolution

    def addressResolved(self, found: IAddress) -> None:
        self._found.append(found)

    def resolutionComplete(self) -> None:
        assert self.found is None
        self.found = self._found


class RememberedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.below = Below()
        policy = AgentPolicy(name_fresh=100.0, name_patience=0.25, name_lookups=2)
        self.names = RememberedNames(self.below, policy)

    def ask(self, name: str = "imap.example.org") -> Asking:
        asking: Any = Asking()
        self.names.resolveHostName(asking, name, 993)
        self.assertEqual(asking.resolution.name, name)
        return asking  # type: ignore[no-any-return]

    def test_interface(self) -> None:
        verifyObject(IHostnameResolver, self.names)

    def test_first(self) -> None:
        """
        Nothing is known: whoever asks waits, for as long as it takes.
        """
        first = self.ask()
        self.below.advance(60.0)
        self.assertIsNone(first.found)
        self.below.answer(address(1), address(2))
        self.assertEqual(first.found, [address(1), address(2)])
        self.assertEqual(self.below.getDelayedCalls(), [])

    def test_not_found(self) -> None:
        """
        That is not remembered.
        """
        first = self.ask()
        self.below.answer()
        self.assertEqual(first.found, [])
        second = self.ask()
        self.assertIsNone(second.found)
        self.below.answer(address(1))
        self.assertEqual(second.found, [address(1)])

    def test_fresh(self) -> None:
        """
        Used at once; the look-up that goes with it is for the next one.
        """
        self.ask()
        self.below.answer(address(1))
        second = self.ask()
        self.assertEqual((second.found, len(self.below.asked)), ([address(1)], 1))
        self.below.answer(address(2))
        self.assertEqual(self.ask().found, [address(2)])

    def test_old(self) -> None:
        """
        A quick answer is waited for, a slow one is not; the late answer is remembered all the same.
        """
        self.ask()
        self.below.answer(address(1))
        self.below.advance(101.0)
        quick = self.ask()
        self.assertIsNone(quick.found)
        self.below.answer(address(2))
        self.assertEqual(quick.found, [address(2)])
        self.below.advance(101.0)
        slow = self.ask()
        self.below.advance(0.3)
        self.assertEqual(slow.found, [address(2)])
        self.below.answer(address(3))
        self.assertEqual(self.ask().found, [address(3)])

    def test_old_and_not_found(self) -> None:
        """
        A name server that knows nothing, as behind a portal, does not make us forget.
        """
        self.ask()
        self.below.answer(address(1))
        self.below.advance(101.0)
        second = self.ask()
        self.below.answer()
        self.assertEqual(second.found, [address(1)])

    def test_look_ups_that_hang(self) -> None:
        """
        There are two at most, and any of them answers all.
        """
        asking = [self.ask() for _ in range(5)]
        self.assertEqual(len(self.below.asked), 2)
        self.below.answer(address(1), to=1)
        self.assertEqual([one.found for one in asking], [[address(1)]] * 5)
        self.below.answer()
        self.assertEqual(self.ask().found, [address(1)])

    def test_cancelled(self) -> None:
        first = self.ask()
        first.resolution.cancel()
        self.below.answer(address(1))
        self.assertIsNone(first.found)

    def test_names_are_apart(self) -> None:
        self.ask()
        self.below.answer(address(1))
        self.assertIsNone(self.ask("other.example.org").found)


class _End(Protocol):
    def __init__(self, ends: list[_End]) -> None:
        self.lost: Deferred[None] = Deferred()
        self._ends = ends

    def connectionMade(self) -> None:
        self._ends.append(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class DialerTests(TestCase):
    timeout = 30

    async def test_no_name_server_any_more(self) -> None:
        """
        The second connection goes where the first one went.
        """
        running: Any = reactor
        ends: list[_End] = []
        port = running.listenTCP(0, Factory.forProtocol(lambda: _End(ends)), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        here = IPv4Address("TCP", "127.0.0.1", port.getHost().port)
        below = Below()
        self.addCleanup(running.installNameResolver, running.installNameResolver(below))
        path = Dialer(running, parse_server(f"tcp:imap.example.org:{here.port}:insecure=yes"), AgentPolicy()).path()
        factory = Factory.forProtocol(lambda: _End(ends))
        connecting = path.endpoint.connect(factory)
        below.answer(here)
        for connection in (connecting, path.endpoint.connect(factory)):
            made: Any = await connection
            self.assertEqual(made.transport.getPeer(), here)
            made.transport.loseConnection()
            await made.lost
        for end in ends:
            await end.lost
        self.assertEqual(len(below.asked), 1)
