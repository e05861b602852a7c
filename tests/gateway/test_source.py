"""
What an upstream is told of a client.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.testing import StringTransport
from twisted.protocols.haproxy._v2parser import V2Parser
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.gateway.source import Source, identity, proxy_header
from mem_continuity.imap.lexer import parse_command

FOUR = st.ip_addresses(v=4).map(str)
SIX = st.ip_addresses(v=6).filter(lambda one: getattr(one, "ipv4_mapped", None) is None).map(str)
PORTS = st.integers(0, 65535)


class ProxyTests(SynchronousTestCase):
    """
    L{proxy_header}, as Twisted's parser reads it.
    """

    def read(self, source: Source | None, behind: bytes = b"* OK") -> tuple[Any, Any]:
        """
        @return: source and destination.
        """
        info, rest = V2Parser().feed(proxy_header(source) + behind)
        assert info is not None
        self.assertEqual(rest, behind)
        return info.source, info.destination

    @given(FOUR, PORTS, FOUR, PORTS, st.booleans())
    def test_four(self, host: str, port: int, local: str, local_port: int, secure: bool) -> None:
        peer, here = self.read(Source(host, port, local, local_port, secure))
        self.assertEqual((peer, here), (IPv4Address("TCP", host, port), IPv4Address("TCP", local, local_port)))

    @given(SIX, PORTS, SIX, PORTS, st.booleans())
    def test_six(self, host: str, port: int, local: str, local_port: int, secure: bool) -> None:
        peer, here = self.read(Source(host, port, local, local_port, secure))
        self.assertEqual((ip_address(peer.host), peer.port), (ip_address(host), port))
        self.assertEqual((ip_address(here.host), here.port), (ip_address(local), local_port))

    def test_octets(self) -> None:
        """
        As the specification has it, to the octet; TLS is told behind the addresses.
        """
        start = b"\r\n\r\n\x00\r\nQUIT\n"
        four = bytes([192, 0, 2, 1, 198, 51, 100, 2, 0x9C, 0x40, 0x03, 0xE1])
        source = Source("192.0.2.1", 40000, "198.51.100.2", 993)
        self.assertEqual(proxy_header(source), start + b"\x21\x11\x00\x0c" + four)
        secure = Source("192.0.2.1", 40000, "198.51.100.2", 993, secure=True)
        self.assertEqual(proxy_header(secure), start + b"\x21\x11\x00\x14" + four + b"\x20\x00\x05\x01\x00\x00\x00\x01")

    def test_mapped(self) -> None:
        """
        An IPv4 client of a socket for both is an IPv4 client; one half of each kind goes as IPv6.
        """
        self.assertEqual(
            self.read(Source("::ffff:192.0.2.1", 1, "::ffff:198.51.100.2", 2)),
            (IPv4Address("TCP", "192.0.2.1", 1), IPv4Address("TCP", "198.51.100.2", 2)),
        )
        header = proxy_header(Source("192.0.2.1", 1, "fe80::1%eth0", 2))
        self.assertEqual(header[13], 0x21)
        self.assertIn(bytes(10) + b"\xff\xff\xc0\x00\x02\x01\xfe\x80", header)

    def test_local(self) -> None:
        """
        Without a client, or with one that has no address, the connection is our own.
        """
        for source in (None, Source("", 0, "", 0), Source("192.0.2.1", 1, "", 0)):
            self.assertEqual(proxy_header(source)[12:], b"\x20\x00\x00\x00")
            self.assertEqual(self.read(source), (None, None))


class IdentityTests(SynchronousTestCase):
    """
    L{identity}.
    """

    def test_fields(self) -> None:
        command = identity(b"i1", Source("192.0.2.1", 40000, "2001:db8::1", 993, True, b"s7"))
        self.assertEqual(
            command,
            b'i1 ID ("x-originating-ip" "192.0.2.1" "x-originating-port" "40000" "x-connected-ip" "2001:db8::1" '
            b'"x-connected-port" "993" "x-proxy-ttl" "5" "x-client-transport" "TLS" "x-session-id" "s7")\r\n',
        )

    def test_less(self) -> None:
        """
        What is not known is left out.
        """
        command = identity(b"i1", Source("::ffff:192.0.2.1", 1, "", 0))
        self.assertEqual(
            command,
            b'i1 ID ("x-originating-ip" "192.0.2.1" "x-originating-port" "1" "x-proxy-ttl" "5" '
            b'"x-client-transport" "insecure")\r\n',
        )
        self.assertEqual(identity(b"i1", None), b"")
        self.assertEqual(identity(b"i1", Source("", 0, "", 0)), b"")

    def test_bounds(self) -> None:
        """
        A label of any length and content is one quoted string of at most 64 octets, and the command one line.
        """
        command = identity(b"i1", Source("192.0.2.1", 1, "", 0, label=b'"\\' * 100))
        self.assertEqual(command.count(b"\r\n"), 1)
        parsed = parse_command(command[:-2])
        assert parsed is not None
        self.assertTrue(parsed.rest.endswith(b' "' + b'\\"\\\\' * 32 + b'")'))


class SourceTests(SynchronousTestCase):
    """
    L{Source.of}.
    """

    def test_transport(self) -> None:
        transport = StringTransport(IPv4Address("TCP", "198.51.100.2", 993), IPv4Address("TCP", "192.0.2.1", 40000))
        self.assertEqual(Source.of(transport, True, b"s"), Source("192.0.2.1", 40000, "198.51.100.2", 993, True, b"s"))
        transport = StringTransport(UNIXAddress(b"/a"), UNIXAddress(None))
        self.assertEqual(Source.of(transport, False), Source("", 0, "", 0))
