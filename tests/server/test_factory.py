"""
The drop-in itself: what it passes on to the wrapped factory, what it refuses, and how it ends.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import ServerFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mem_continuity.core.policy import Policy, PolicyError
from mem_continuity.core.states import PeerEnded
from mem_continuity.server import continuous
from tests.support.comebacks import framed, logged_in, plain
from tests.support.site import Site


class Counting(ServerFactory):
    """
    Notes its starts and stops.
    """

    colour = "green"

    def __init__(self) -> None:
        self.told: list[str] = []

    def doStart(self) -> None:
        self.told.append("start")

    def doStop(self) -> None:
        self.told.append("stop")


class WrappingTests(SynchronousTestCase):
    """
    L{continuous}.
    """

    def test_passed_on(self) -> None:
        """
        Starts, stops and everything that sites ask of their factory; what it does not have either is an AttributeError.
        """
        inner = Counting()
        factory = continuous(inner)
        self.assertTrue(verifyObject(IProtocolFactory, factory))
        factory.doStart()
        factory.doStop()
        self.assertEqual(inner.told, ["start", "stop"])
        self.assertEqual(factory.colour, "green")
        self.assertIs(factory.wrapped, inner)
        with self.assertRaises(AttributeError):
            _ = factory.no_such_thing
        self.assertEqual(factory.logPrefix(), "Counting (continuity)")

    def test_refused(self) -> None:
        """
        What cannot work is refused before anything listens, in words that say what would.
        """
        for node in (b"", b"a.b", b"a b", b"a\r\n", b"x" * 33):
            error = self.assertRaises(ValueError, continuous, Counting(), node=node)
            self.assertIn("1 to 32 letters", str(error))
        error = self.assertRaises(PolicyError, Policy, window=0)
        self.assertIn("window", str(error))

    def test_node(self) -> None:
        """
        Session IDs carry it.
        """
        site = Site(node=b"node-7")
        client = framed(site)
        self.assertTrue(client.session.terms.session_id.startswith(b"node-7."))
        site.factory.shutdown()


class ShutdownTests(SynchronousTestCase):
    """
    C{shutdown}; the service around it is tested where it is.
    """

    def test_everybody(self) -> None:
        """
        Each is told in its own way, logged out once, and the Deferred fires when all links are closed.
        """
        site = Site()
        fresh = site.connect()
        clients = {
            "in": logged_in(site),
            "plain": plain(site),
            "framed": framed(site),
            "parked": plain(site, client_id=b"UUID parked"),
            "parked framed": framed(site, client_id=b"UUID parked"),
        }
        for name in ("parked", "parked framed"):
            clients[name].lose()
        before = {name: len(client.link.heard) for name, client in clients.items()}
        first, second = site.factory.shutdown(), site.factory.shutdown()
        self.assertEqual((first.called, second.called), (False, False))
        clients["framed"].pump()
        site.settle()
        self.assertIsNone(self.successResultOf(first))
        self.assertIsNone(self.successResultOf(second))
        self.assertIsNone(self.successResultOf(site.factory.shutdown()))
        for name in ("in", "plain"):
            self.assertEqual(clients[name].link.heard[before[name] :], b"* BYE server shutting down\r\n")
        self.assertTrue(clients["framed"].stream.endswith(b"* BYE server shutting down\r\n"))
        self.assertIn(PeerEnded(b"SHUTDOWN"), clients["framed"].events)
        for name in ("parked", "parked framed"):
            self.assertEqual(len(clients[name].link.heard), before[name])
        self.assertTrue(fresh.ended)
        self.assertEqual(sorted(site.logouts), ["joe"] * 5)
        self.assertEqual({len(server.losses) for server in site.servers}, {1})
        self.assertEqual(len(site.factory.table), 0)
        self.assertEqual([call for call in site.clock.getDelayedCalls() if call.active()], [])

    def test_not_in_the_middle_of_something(self) -> None:
        """
        Nothing is invented inside a literal or a response: no BYE there.
        """
        site = Site()
        client = plain(site)
        client.link.send(b"p1 APPEND INBOX () {10}\r\n")
        site.settle()
        client.link.take()
        site.factory.shutdown()
        site.settle()
        self.assertEqual((client.link.take(), client.link.ended, site.logouts), (b"", "closed", ["joe"]))

    def test_newcomers(self) -> None:
        """
        Who connects afterwards is closed without a word.
        """
        site = Site()
        site.factory.shutdown()
        aborted: list[int] = []
        protocol: Any = site.factory.buildProtocol(None)
        if protocol is not None:

            class Transport:
                def abortConnection(self) -> None:
                    aborted.append(1)

            protocol.makeConnection(Transport())
            self.assertEqual(aborted, [1])
        self.assertEqual(site.servers, [])
