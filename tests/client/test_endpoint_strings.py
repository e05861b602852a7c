"""
C{continuity:} and C{device:} descriptions of clients, by way of Twisted's plugin system.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ServerEndpoint, clientFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mem_continuity import DeviceEndpoint, RoamingEndpoint, RoamingPolicy
from mem_continuity.client import endpoint_strings
from mem_continuity.client.endpoint_strings import client_endpoint


def parse(description: str) -> Any:
    return clientFromString(MemoryReactorClock(), description)


class RecordingEndpoint(DeviceEndpoint):
    """
    Remembers what it was made with.
    """

    def __init__(self, reactor: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(reactor, *args, **kwargs)
        self.made_with = args, kwargs


def device(host: str, port: int, interface: str, source: str | None = None, timeout: float = 30.0) -> Any:
    """
    What a L{RecordingEndpoint} remembers.
    """
    return (host, port), {"device": interface, "source": source, "timeout": timeout}


def below(endpoint: Any) -> Any:
    """
    What a TLS wrapper wraps.
    """
    return endpoint._wrappedEndpoint


class ContinuityTests(SynchronousTestCase):
    """
    C{continuity:}.
    """

    def setUp(self) -> None:
        self.patch(endpoint_strings, "DeviceEndpoint", RecordingEndpoint)

    def test_plain(self) -> None:
        """
        Without options it is one way, by the description as it is.
        """
        endpoint = parse("continuity:tls:imap.example.org:993")
        self.assertIsInstance(endpoint, RoamingEndpoint)
        self.assertEqual([path.name for path in endpoint.paths], ["default"])
        host = below(endpoint.paths[0].endpoint)
        self.assertIsInstance(host, HostnameEndpoint)
        self.assertEqual((host._hostText, host._port), ("imap.example.org", 993))
        self.assertEqual((endpoint.client_id, endpoint.prepare, endpoint.policy), (None, False, RoamingPolicy()))

    def test_via(self) -> None:
        """
        Interfaces and addresses, in the order of preference.
        """
        endpoint = parse(
            "continuity:tls:imap.example.org:993:timeout=5:continuityVia=wlan0,192.0.2.5,2001\\:db8\\:\\:5"
        )
        self.assertEqual([path.name for path in endpoint.paths], ["wlan0", "192.0.2.5", "2001:db8::5"])
        wlan, first, second = (below(path.endpoint) for path in endpoint.paths)
        self.assertEqual(wlan.made_with, device("imap.example.org", 993, "wlan0", timeout=5.0))
        self.assertEqual((first._bindAddress, first._timeout), (("192.0.2.5", 0), 5))
        self.assertEqual(second._bindAddress, ("2001:db8::5", 0))

    def test_named_parts(self) -> None:
        """
        Host and port may be given by name.
        """
        endpoint = parse("continuity:tls:host=imap.example.org:port=993:continuityVia=wlan0")
        self.assertEqual(below(endpoint.paths[0].endpoint).made_with, device("imap.example.org", 993, "wlan0"))

    def test_host_with_colons(self) -> None:
        """
        An IPv6 address survives the nesting of descriptions.
        """
        endpoint = parse("continuity:tcp:2001\\:db8\\:\\:1:143:continuityVia=wlan0")
        self.assertEqual(endpoint.paths[0].endpoint.made_with, device("2001:db8::1", 143, "wlan0"))

    def test_options(self) -> None:
        endpoint = parse(
            "continuity:tls:imap.example.org:993:continuityClientID=UUID/a/b:continuityPrepare=yes"
            ":continuityGiveUp=3600:continuityResumeLiteral=0"
        )
        self.assertEqual(endpoint.client_id, (b"UUID", b"a/b"))
        self.assertTrue(endpoint.prepare)
        self.assertEqual(endpoint.policy, RoamingPolicy(give_up=3600.0, resume_literal=0))

    def test_wrong(self) -> None:
        """
        What is wrong is said in one line that names it.
        """
        host = "tls:imap.example.org:993"
        for description, text in (
            ("continuity:", "is followed by the description of an endpoint"),
            (f"continuity:{host}:continuityVia=", "continuityVia is a list"),
            (f"continuity:{host}:continuityVia=wlan0,,wwan0", "continuityVia is a list"),
            (f"continuity:{host}:continuityVia=wlan0,wlan0", "names a way twice"),
            (f"continuity:{host}:continuityVia=an_interface_like_no_other", "the name of a network interface"),
            (f"continuity:{host}:continuityVia=wlan0:bindAddress=192.0.2.5", "both say which way to go"),
            (f"continuity:{host}:continuityVia=wlan0:endpoint=tcp\\:h\\:1", "both say which way to go"),
            ("continuity:unix:/socket:continuityVia=192.0.2.5", "goes with tls:, tcp: or ssl:, not with unix:"),
            ("continuity:ssl:h:993:continuityVia=wlan0", "goes with tls: or tcp:, not with ssl:"),
            ("continuity:tls:h:continuityVia=wlan0", "tls: has no port"),
            (f"continuity:{host}:continuityClientID=UUID", "continuityClientID is TYPE/VALUE"),
            (f"continuity:{host}:continuityClientID=/x", "continuityClientID is TYPE/VALUE"),
            (f"continuity:{host}:continuityPrepare=perhaps", "continuityPrepare is yes or no"),
            (f"continuity:{host}:continuityGiveUp=never", "continuityGiveUp is 'never', but it must be a number of seconds"),
            (f"continuity:{host}:continuityGiveUp=0", "continuityGiveUp is 0.0, but it must be a number of seconds"),
            (f"continuity:{host}:continuityGiveUp=inf", "continuityGiveUp is inf, but"),
            (f"continuity:{host}:continuityGrace=60", "there is no option continuityGrace"),
            ("continuity:nonsense:1", "Unknown endpoint type"),
        ):
            error = self.assertRaises(ValueError, parse, description)
            self.assertIn(text, str(error))
            self.assertNotIn("\n", str(error))

    def test_control_octets_in_a_client_id(self) -> None:
        """
        Nothing that could end the line of CLIENTID gets into it.
        """
        for value in ("UUID/a\r\nb", "UUID/\x00", "UUID/ü"):
            self.assertRaises(
                ValueError, client_endpoint, MemoryReactorClock(), ("tcp", "h", "1"), {"continuityClientID": value}
            )


class DeviceTests(SynchronousTestCase):
    """
    C{device:}.
    """

    def setUp(self) -> None:
        self.patch(endpoint_strings, "DeviceEndpoint", RecordingEndpoint)

    def test_parts(self) -> None:
        endpoint = parse("device:wlan0:imap.example.org:143:timeout=2.5:bindAddress=192.0.2.5")
        self.assertEqual(endpoint.made_with, device("imap.example.org", 143, "wlan0", "192.0.2.5", 2.5))

    def test_wrong(self) -> None:
        for description, text in (
            ("device:", "write device:INTERFACE:HOST:PORT"),
            ("device:wlan0:h", "write device:INTERFACE:HOST:PORT"),
            ("device:wlan0:2001:db8:1:143", "a colon within an address is written \\:"),
            ("device:wlan0:h:143:speed=1", "write device:INTERFACE:HOST:PORT"),
            ("device:wlan0:h:imap", "the port is a number"),
            ("device:wlan0:h:70000", "from 1 to 65535"),
            ("device:wlan0:h:1.5", "a whole number"),
            ("device:wlan0:h:143:timeout=soon", "timeout is a number"),
            ("device:wlan0:h:143:timeout=0", "above 0"),
            ("device:wlan0:h:143:timeout=inf", "timeout is a number"),
            ("device:wlan0:h:143:bindAddress=host", "an IPv4 or IPv6 address"),
            ("device:a/b:h:143", "the name of a network interface"),
        ):
            error = self.assertRaises(ValueError, parse, description)
            self.assertIn(text, str(error))


class Telling(Protocol):
    """
    Tells when it is over.
    """

    def __init__(self) -> None:
        self.lost: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class KernelTests(TestCase):
    """
    The real thing, on loopback.
    """

    timeout = 20

    async def test_interface_is_bound(self) -> None:
        """
        A connection by an interface really asks the kernel for it.
        """
        servers: list[Telling] = []

        def build() -> Telling:
            servers.append(Telling())
            return servers[-1]

        listening: Any = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port = await listening.listen(Factory.forProtocol(build))
        endpoint = clientFromString(reactor, f"device:lo:127.0.0.1:{port.getHost().port}")
        client: Any = await endpoint.connect(Factory.forProtocol(Telling))
        bound = client.transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
        client.transport.loseConnection()
        await client.lost
        await servers[0].lost
        await port.stopListening()
        self.assertEqual(bound.rstrip(b"\0"), b"lo")
