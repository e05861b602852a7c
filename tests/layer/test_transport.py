"""
The transport that an inner protocol sees, against the contract that Twisted's own transports keep: in the clear and in the layer,
on a link and parked.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IPullProducer,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
    ITLSTransport,
    ITransport,
)
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides, implementer
from zope.interface.verify import verifyObject

from mem_continuity.core.policy import KIB, Policy
from mem_continuity.layer.transport import VirtualTransport
from tests.support.raw_client import RawClient
from tests.support.site import Site
from tests.support.wires import Wire

WINDOW = 16 * KIB


@implementer(IPushProducer)
class Push:
    """
    A push producer that notes what it is told.
    """

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


@implementer(IPullProducer)
class Pull:
    """
    A pull producer of pieces; it unregisters behind the last.
    """

    def __init__(self, transport: Any, pieces: list[bytes], by_itself: bool = True) -> None:
        self.transport = transport
        self.pieces = pieces
        self.by_itself = by_itself
        self.asked = 0
        self.stopped = 0

    def resumeProducing(self) -> None:
        self.asked += 1
        assert self.asked < 1000, "asked for ever"
        if self.by_itself:
            self.produce()

    def produce(self) -> None:
        if self.pieces:
            self.transport.write(self.pieces.pop(0))
        else:
            self.transport.unregisterProducer()

    def stopProducing(self) -> None:
        self.stopped += 1


class TransportCase(SynchronousTestCase):
    """
    A client that is logged in, in the clear or in the layer.
    """

    timeout = 60

    def begin(self, layer: bool) -> None:
        self.site = Site(Policy(window=WINDOW, grace=100.0))
        self.client = RawClient(self.site)
        self.client.connect()
        self.client.login()
        if layer:
            self.client.start()
        else:
            self.client.command(b"SELECT INBOX")  # so that the preamble is over
        self.layer = layer
        self.server = self.site.servers[0]
        self.transport: VirtualTransport = self.server.transport
        self.client.link.take()

    def heard(self) -> bytes:
        """
        What the client's side has got since the beginning.
        """
        if self.layer:
            self.client.pump()
            return self.client.stream
        self.site.settle()
        return self.client.link.peek()


class ContractTests(TransportCase):
    def test_interfaces(self) -> None:
        """
        It provides what a TCP transport does, and what the first link provided of TLS.
        """
        for layer in (False, True):
            self.begin(layer)
            for interface in (ITransport, ITCPTransport, IConsumer, IPushProducer):
                self.assertTrue(verifyObject(interface, self.transport))
            self.assertTrue(ISSLTransport.providedBy(self.transport))
        bare = Site(allow_insecure=True)
        bare.connect(secure=False)
        self.assertFalse(ISSLTransport.providedBy(bare.servers[0].transport))
        self.assertTrue(ITLSTransport.providedBy(bare.servers[0].transport))

    def test_addresses(self) -> None:
        """
        C{getPeer} is right in C{connectionMade}, follows the session to its new link, and stays the last one's while parked.
        """
        self.begin(True)
        self.assertEqual(self.transport.getPeer().host, "192.0.2.1")
        self.assertEqual(self.transport.getHost().port, 993)
        self.client.lose()
        self.assertEqual(self.transport.getPeer().host, "192.0.2.1")
        self.client.resume(host="203.0.113.1")
        self.assertEqual(self.transport.getPeer().host, "203.0.113.1")

    def test_certificate_and_handle(self) -> None:
        """
        They are the present link's; with no link there is none, and C{getattr} with a default does not fail.
        """
        self.begin(True)
        self._give(self.client.link, "first")
        self.assertEqual((self.transport.getPeerCertificate(), self.transport.getHandle()), ("first", "handle of first"))
        self.client.lose()
        self.assertRaises(AttributeError, self.transport.getPeerCertificate)
        self.assertIsNone(getattr(self.transport, "negotiatedProtocol", None))
        self.client.resume()
        self._give(self.client.link, "second")
        self.assertEqual(self.transport.getPeerCertificate(), "second")

    @staticmethod
    def _give(wire: Wire, certificate: str) -> None:
        transport: Any = wire.transport
        transport.getPeerCertificate = lambda: certificate
        transport.getHandle = lambda: f"handle of {certificate}"

    def test_socket_options_are_asked_again(self) -> None:
        """
        Keepalive and nodelay are remembered and asked of each new link; what was never asked is not.
        """
        self.begin(True)
        self.assertEqual(self.client.link.transport.keep_alive, [])
        self.transport.setTcpKeepAlive(True)
        self.transport.setTcpNoDelay(False)
        self.assertEqual(set(self.client.link.transport.keep_alive), {True})
        self.client.lose()
        self.transport.setTcpKeepAlive(False)  # while parked
        self.client.resume()
        self.assertEqual(set(self.client.link.transport.keep_alive), {False})
        self.assertFalse(self.client.link.transport.no_delay[-1])
        self.assertEqual((self.transport.getTcpKeepAlive(), self.transport.getTcpNoDelay()), (False, False))

    def test_attributes_on_the_instance(self) -> None:
        """
        Sites set attributes and replace methods on the transport of their protocol; both outlive the link.
        """
        self.begin(True)
        transport: Any = self.transport
        transport.site_attribute = "kept"
        written: list[bytes] = []
        real = transport.write

        def write(octets: bytes) -> None:
            written.append(octets)
            real(octets)

        transport.write = write
        self.client.lose()
        self.client.resume()
        self.assertIs(self.server.transport, transport)
        self.assertEqual(transport.site_attribute, "kept")
        self.client.call(b"NOOP")
        self.assertIn(b"NOOP", b"".join(written))

    def test_start_tls(self) -> None:
        """
        In the preamble it is the link's; inside the layer, which stands under TLS, it is refused in words.
        """
        self.begin(True)
        error = self.assertRaises(RuntimeError, self.transport.startTLS, object())
        self.assertIn("inside a continuity layer", str(error))
        site = Site(allow_insecure=True)
        wire = site.connect(secure=False)
        site.servers[0].transport.startTLS(object())
        self.assertTrue(ISSLTransport.providedBy(wire.transport))
        self.assertTrue(ISSLTransport.providedBy(site.servers[0].transport))

    def test_only_octets(self) -> None:
        """
        Text is refused; octets in any form are taken.
        """
        self.begin(True)
        self.assertRaises(TypeError, self.transport.write, "text")
        self.transport.write(bytearray(b"a"))  # type: ignore[arg-type]
        self.transport.write(memoryview(b"b"))  # type: ignore[arg-type]
        self.transport.writeSequence([b"c", b"d"])
        self.assertEqual(self.heard(), b"abcd")


class CloseTests(TransportCase):
    def test_writes_after_close(self) -> None:
        """
        What was written before C{loseConnection} arrives, what is written after it does not; C{connectionLost} comes once, in a
        later turn, with C{ConnectionDone}.
        """
        for layer in (False, True):
            self.begin(layer)
            before = self.heard()
            self.transport.write(b"before")
            self.transport.loseConnection()
            self.transport.write(b"after")
            self.transport.writeSequence([b"after"])
            self.assertTrue(self.transport.disconnecting)
            self.assertEqual(self.server.losses, [])
            self.transport.loseConnection()
            self.assertEqual(self.heard()[len(before) :], b"before")
            (reason,) = self.server.losses
            reason.trap(ConnectionDone)
            self.transport.abortConnection()
            self.transport.loseConnection()
            self.transport.write(b"late")
            self.site.settle()
            self.assertEqual(len(self.server.losses), 1)
            self.assertEqual(self.site.logouts, ["joe"])
            self.assertEqual(self.client.link.ended, "closed")

    def test_abort(self) -> None:
        """
        After C{abortConnection}, C{connectionLost} comes once, in a later turn, with C{ConnectionAborted}; no octets do.
        """
        for layer in (False, True):
            self.begin(layer)
            heard = len(self.server.heard)
            self.transport.abortConnection()
            self.transport.abortConnection()
            self.assertEqual(self.server.losses, [])
            if layer:
                self.client.write(b"x NOOP\r\n")
                self.client.send_frames()
            else:
                self.client.link.send(b"x NOOP\r\n")
            self.site.settle()
            self.assertEqual(len(self.server.heard), heard)
            (reason,) = self.server.losses
            reason.trap(ConnectionAborted)
            self.assertEqual(self.site.logouts, ["joe"])

    def test_close_while_parked(self) -> None:
        """
        C{loseConnection} while parked: the protocol is told in the next turn, and what it wrote still waits for the client.
        """
        self.begin(True)
        self.client.lose()
        self.transport.write(b"last words")
        self.transport.loseConnection()
        self.assertEqual(self.server.losses, [])
        self.site.settle()
        self.assertEqual(len(self.server.losses), 1)
        self.client.resume()
        self.assertEqual(self.client.stream, b"last words")
        self.assertEqual(len(self.site.factory.table), 0)
        self.assertEqual((len(self.server.losses), self.site.logouts), (1, ["joe"]))

    def test_abort_while_parked(self) -> None:
        """
        C{abortConnection} while parked: told in the next turn, and the session is over.
        """
        self.begin(True)
        self.client.lose()
        self.transport.abortConnection()
        self.assertEqual(self.server.losses, [])
        self.site.settle()
        (reason,) = self.server.losses
        reason.trap(ConnectionAborted)
        self.assertEqual((len(self.site.factory.table), self.site.logouts), (0, ["joe"]))
        self.assertEqual(list(self.site.clock.getDelayedCalls()), [])

    def test_protocol_that_raises(self) -> None:
        """
        A protocol that raises is closed, as a reactor would do, and never parked; its error is logged.
        """
        for layer in (False, True):
            self.begin(layer)

            def fail(data: bytes) -> None:
                raise ZeroDivisionError

            self.patch(self.server, "dataReceived", fail)
            if layer:
                self.client.write(b"x NOOP\r\n")
                self.client.send_frames()
            else:
                self.client.link.send(b"x NOOP\r\n")
            self.site.settle()
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            self.assertEqual((len(self.server.losses), self.site.logouts), (1, ["joe"]))
            self.assertEqual((len(self.site.factory.table), self.site.factory.table.parked), (0, 0))


class ProducerTests(TransportCase):
    def test_one_at_a_time(self) -> None:
        """
        A second producer is refused; one that comes when all is over is stopped.
        """
        self.begin(True)
        self.transport.registerProducer(Push(), True)
        self.assertRaises(RuntimeError, self.transport.registerProducer, Push(), True)
        self.transport.unregisterProducer()
        self.transport.unregisterProducer()
        self.transport.abortConnection()
        self.site.settle()
        late = Push()
        self.transport.registerProducer(late, True)
        self.assertEqual(late.told, ["stop"])

    def test_push_producer(self) -> None:
        """
        Paused once and resumed once by the link's congestion; registered while it is congested, paused at once.
        """
        for layer in (False, True):
            self.begin(layer)
            producer, later = Push(), Push()
            self.transport.registerProducer(producer, True)
            self.assertEqual(producer.told, [])
            self.client.link.congest()
            self.client.link.congest()
            self.assertEqual(producer.told, ["pause"])
            self.transport.unregisterProducer()
            self.transport.registerProducer(later, True)
            self.assertEqual(later.told, ["pause"])
            self.client.link.relieve()
            self.assertEqual((producer.told, later.told), (["pause"], ["pause", "resume"]))

    def test_unregistered_while_paused(self) -> None:
        """
        A producer that unregisters while paused hears nothing more; the close that waited for it is carried out.
        """
        for layer in (False, True):
            self.begin(layer)
            producer = Push()
            self.transport.registerProducer(producer, True)
            self.client.link.congest()
            self.transport.loseConnection()
            self.site.settle()
            self.assertEqual(self.server.losses, [])
            self.transport.write(b"still from the producer")
            self.transport.unregisterProducer()
            self.client.link.relieve()
            self.assertIn(b"still from the producer", self.heard())
            self.assertEqual(producer.told, ["pause"])
            self.assertEqual(len(self.server.losses), 1)

    def test_stopped_when_lost(self) -> None:
        """
        A producer that is registered when the session ends is stopped; a lost link alone does not stop it.
        """
        self.begin(True)
        producer, pull = Push(), Pull(self.transport, [], by_itself=False)
        self.transport.registerProducer(producer, True)
        self.client.lose()
        self.assertNotIn("stop", producer.told)
        self.site.clock.advance(101.0)
        self.assertEqual((producer.told[-1], len(self.server.losses)), ("stop", 1))
        self.begin(False)
        self.transport.registerProducer(pull, False)
        self.client.lose()
        self.assertEqual(pull.stopped, 1)

    def test_window_full_while_parked(self) -> None:
        """
        While parked a producer may go on until the window is full, and goes on when a new link has made room.
        """
        self.begin(True)
        producer = Push()
        self.transport.registerProducer(producer, True)
        self.client.lose()
        self.transport.write(b"x" * (WINDOW - 1))
        self.assertEqual(producer.told, [])
        self.transport.write(b"x")
        self.assertEqual(producer.told, ["pause"])
        self.client.resume()
        self.assertEqual(producer.told, ["pause", "resume"])
        self.assertEqual(self.heard(), b"x" * WINDOW)

    def test_pull_producer(self) -> None:
        """
        Asked as long as there is room, parked by not being asked, asked again on the new link.
        """
        for layer in (False, True):
            self.begin(layer)
            before = self.heard()
            producer = Pull(self.transport, [b"%d" % number * 1000 for number in range(8)])
            self.client.link.congest()
            self.transport.registerProducer(producer, False)
            self.assertEqual(producer.asked, 0)
            self.client.link.relieve()
            self.assertEqual(self.heard()[len(before) :], b"".join(b"%d" % number * 1000 for number in range(8)))
            self.assertEqual(producer.asked, 9)
        self.begin(True)
        producer = Pull(self.transport, [b"y" * 6 * KIB for _ in range(10)])
        self.client.link.congest()
        self.transport.registerProducer(producer, False)
        self.client.lose()
        self.assertLess(producer.asked, 5)  # it fills the window, and not more
        self.assertGreater(producer.asked, 1)
        self.client.resume()
        self.assertEqual(self.heard(), b"y" * 60 * KIB)

    def test_pull_producer_that_takes_its_time(self) -> None:
        """
        A pull producer that has nothing at hand when it is asked is not asked again before it has written something.
        """
        for layer in (False, True):
            self.begin(layer)
            before = self.heard()
            producer = Pull(self.transport, [b"1", b"2", b"3"], by_itself=False)
            self.transport.registerProducer(producer, False)
            self.assertEqual(producer.asked, 1)
            self.client.link.congest()
            self.client.link.relieve()
            self.assertEqual(producer.asked, 1)
            for asked in (2, 3, 4):
                producer.produce()
                self.site.settle()
                self.assertEqual(producer.asked, asked)
            producer.produce()
            self.assertIsNone(self.transport.producer)
            self.assertEqual(self.heard()[len(before) :], b"123")


class ReadingTests(TransportCase):
    def test_paused_protocol(self) -> None:
        """
        A protocol that pauses its transport gets nothing until it resumes it, not from within the call, and then all of it, also
        when the link was exchanged meanwhile.
        """
        for layer in (False, True):
            self.begin(layer)
            seen = len(self.server.heard)
            self.transport.pauseProducing()
            if layer:
                self.client.write(b"1 NOOP\r\n")
                self.client.pump()
                self.client.lose()
                self.client.resume()
                self.client.write(b"2 NOOP\r\n")
                self.client.pump()
            else:
                self.client.link.send(b"1 NOOP\r\n2 NOOP\r\n")
                self.site.settle()
            self.assertEqual(len(self.server.heard), seen)
            self.transport.resumeProducing()
            self.assertEqual(len(self.server.heard), seen)
            self.site.settle()
            self.assertEqual(self.server.heard[seen:], b"1 NOOP\r\n2 NOOP\r\n")

    def test_stop_producing(self) -> None:
        """
        C{stopProducing} closes.
        """
        self.begin(True)
        self.transport.stopProducing()
        self.site.settle()
        self.assertEqual(len(self.server.losses), 1)


class StrangeLinks(SynchronousTestCase):
    def test_transport_without_tcp(self) -> None:
        """
        On a link that has no TCP options (a Unix socket, a pipe) they are remembered and nothing else.
        """

        class Bare:
            def getPeer(self) -> str:
                return "peer"

            def getHost(self) -> str:
                return "host"

        link: Any = Bare()
        directlyProvides(link, ITransport)

        class Carrier:
            def link_transport(self) -> Any:
                return link

        carrier: Any = Carrier()
        transport = VirtualTransport(carrier, None)  # type: ignore[arg-type]
        transport.setTcpKeepAlive(True)
        transport.setTcpNoDelay(True)
        self.assertEqual((transport.getTcpKeepAlive(), transport.getTcpNoDelay()), (True, True))
        self.assertEqual((transport.getPeer(), transport.getHost()), ("peer", "host"))
        self.assertRaises(AttributeError, getattr, transport, "_private")
        self.assertRaises(AttributeError, getattr, transport, "negotiatedProtocol")
