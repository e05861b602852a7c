"""
The transport that an inner protocol sees, against the contract that Twisted's own transports keep: in the clear and in the layer,
on a link and parked.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IConsumer, IPushProducer, ISSLTransport, ITCPTransport, ITLSTransport, ITransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides
from zope.interface.verify import verifyObject

from mem_continuity.layer.transport import VirtualTransport
from tests.layer.transport_case import TransportCase
from tests.support.site import Site
from tests.support.wires import Wire


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
        They are the present link's; with no link the certificate is the last one's and there is no handle, and C{getattr} with a
        default does not fail.
        """
        self.begin(True)
        self._give(self.client.link, "first")
        self.assertEqual((self.transport.getPeerCertificate(), self.transport.getHandle()), ("first", "handle of first"))
        self.client.lose()
        self.assertEqual(self.transport.getPeerCertificate(), "first")
        self.assertRaises(AttributeError, self.transport.getHandle)
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
        After C{abortConnection}, C{connectionLost} comes once, in a later turn, with C{ConnectionAborted}; octets do not.
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
