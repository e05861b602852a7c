"""
Descriptions of upstreams: what they mean, and what is said of those that mean nothing.
"""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.endpoints import _parse

from mem_continuity.gateway.upstream import Upstream, parse_upstream
from mem_continuity.layer.descriptions import join_description, split_description
from tests.support.certificates import certificate_pem
from tests.support.tls_case import TLSTestCase

PIN = bytes(range(32))
PARTS = st.text(alphabet=st.sampled_from(":=\\[]a é"), max_size=8)
NAMES = st.text(alphabet=st.sampled_from(":=\\]a "), min_size=1, max_size=8)


class SplitTests(TLSTestCase):
    """
    L{split_description}.
    """

    @given(st.lists(PARTS.filter(lambda part: not part.startswith("[")), min_size=1, max_size=4))
    def test_as_twisted(self, args: list[str]) -> None:
        """
        What Twisted's own parser finds in a description is found here.
        """
        self.assertEqual(split_description(join_description(args, {})), [(None, part) for part in args])
        self.assertEqual(_parse(join_description(args, {}))[0], args)

    @given(st.dictionaries(NAMES, PARTS, max_size=3))
    def test_names(self, kwargs: dict[str, str]) -> None:
        found = split_description(join_description(["x"], kwargs))
        self.assertEqual(dict(found[1:]), kwargs)

    def test_brackets(self) -> None:
        """
        What stands in brackets from a part's beginning on is taken as it is; elsewhere brackets are nothing special.
        """
        self.assertEqual(split_description("tls:[fe80::1%eth0]:993"), [(None, "tls"), (None, "[fe80::1%eth0]"), (None, "993")])
        self.assertEqual(split_description("a[b:c]"), [(None, "a[b"), (None, "c]")])
        self.assertEqual(split_description("tls:[::1:993"), [(None, "tls"), (None, "[::1:993")])

    def test_equals_in_a_value(self) -> None:
        self.assertEqual(split_description("x:pin=a=="), [(None, "x"), ("pin", "a==")])

    def test_last_backslash(self) -> None:
        self.assertEqual(split_description("unix:/a\\"), [(None, "unix"), (None, "/a\\")])


class ParseTests(TLSTestCase):
    """
    L{parse_upstream}.
    """

    def setUp(self) -> None:
        self.authority = self.mktemp()
        Path(self.authority).write_bytes(certificate_pem())

    def wrong(self, text: str, *said: str) -> None:
        error = self.assertRaises(ValueError, parse_upstream, text)
        message = str(error)
        self.assertNotIn("\n", message)
        for part in (repr(text), *said):
            self.assertIn(part, message)

    def test_ports(self) -> None:
        for text, kind, port in (
            ("tls:imap.example.org", "tls", 993),
            ("TLS:imap.example.org:1993", "tls", 1993),
            ("starttls:imap.example.org", "starttls", 143),
            ("tcp:127.0.0.1", "tcp", 143),
        ):
            upstream = parse_upstream(text)
            self.assertEqual((upstream.kind, upstream.port), (kind, port))

    def test_defaults(self) -> None:
        """
        The certificate is verified for the host, by what the platform trusts; nothing is told of the client.
        """
        upstream = parse_upstream("tls:imap.example.org")
        self.assertEqual(upstream, Upstream("tls", "imap.example.org", 993, name="imap.example.org"))
        self.assertEqual(str(upstream), "tls:imap.example.org:993")
        self.assertTrue(upstream.secured)
        self.assertIs(upstream.creator, upstream.creator)

    def test_addresses(self) -> None:
        for text in ("tls:[2001:db8::1]:1993", "tls:2001\\:db8\\:\\:1:1993"):
            upstream = parse_upstream(text)
            self.assertEqual((upstream.host, upstream.name, upstream.port), ("2001:db8::1", "2001:db8::1", 1993))
            self.assertEqual(upstream.label, "tls:[2001:db8::1]:1993")
        self.assertEqual(parse_upstream("tls:[fe80::1%eth0]").name, "fe80::1")
        self.assertEqual(parse_upstream("starttls:192.0.2.1:name=imap.example.org").name, "imap.example.org")

    def test_unix(self) -> None:
        upstream = parse_upstream("unix:/run/a\\:b\\=c:proxy=yes")
        self.assertEqual((upstream.path, upstream.proxy, upstream.tell), ("/run/a:b=c", True, False))
        self.assertEqual(upstream.label, "unix:/run/a:b=c")
        self.wrong("unix:", "unix:PATH")
        self.wrong("unix:/a:b", "unix:PATH")
        self.wrong("unix:/a\0", "unix:PATH")

    def test_told(self) -> None:
        upstream = parse_upstream("tcp:localhost:proxy=YES:id=yes")
        self.assertEqual((upstream.proxy, upstream.tell), (True, True))
        self.wrong("tcp:localhost:proxy=on", "proxy is yes or no, not 'on'")

    def test_clear(self) -> None:
        """
        Passwords go in the clear only to this machine, or where the operator says so.
        """
        for host in ("localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "[::1]"):
            self.assertFalse(parse_upstream(f"tcp:{host}").secured)
        for host in ("imap.example.org", "10.0.0.1", "[2001:db8::1]", "localhost.example.org", "0.0.0.0"):
            self.wrong(f"tcp:{host}", "insecure=yes", "tls:")
            self.assertEqual(parse_upstream(f"tcp:{host}:insecure=yes").kind, "tcp")

    def test_authority(self) -> None:
        upstream = parse_upstream(f"tls:localhost:authority={self.authority}")
        self.assertEqual(upstream.authority, certificate_pem())
        self.assertNotIn("PRIVATE", repr(upstream))
        self.wrong("tls:localhost:authority=/nowhere/ca.pem", "cannot be read", "No such file")
        self.wrong(f"tls:localhost:authority={Path(self.authority).parent}", "cannot be read")
        self.wrong("tls:localhost:authority=a\0b", "no name of a file")
        for content in (b"", b"-----BEGIN CERTIFICATE-----\nxyz\n-----END CERTIFICATE-----\n", b"\xff\x00"):
            Path(self.authority).write_bytes(content)
            self.wrong(f"tls:localhost:authority={self.authority}", "no certificate")

    def test_pins(self) -> None:
        other = bytes(32)
        plain, padded = b64encode(PIN).decode().rstrip("="), b64encode(PIN).decode()
        repeated = f"{PIN.hex().upper()}:pin={plain}:pin={other.hex()}"
        for text in (f"{PIN.hex()},{other.hex()}", repeated, f"{padded}:pin={other.hex()}"):
            pins = parse_upstream(f"tls:localhost:pin={text}").pins
            self.assertEqual(set(pins), {PIN, other})
        for bad in ("abc", PIN.hex()[:-2], plain + "!", "é" * 32, padded + padded):
            self.wrong(f"tls:localhost:pin={bad}", "SHA-256")

    def test_pin_only(self) -> None:
        upstream = parse_upstream(f"starttls:localhost:pin={PIN.hex()}:verify=pin")
        self.assertTrue(upstream.pin_only)
        self.assertFalse(parse_upstream(f"tls:localhost:pin={PIN.hex()}:verify=full").pin_only)
        self.wrong("tls:localhost:verify=pin", "needs a pin")
        self.wrong("tls:localhost:verify=no", "full or pin")
        self.wrong(f"tls:localhost:verify=pin:pin={PIN.hex()}:authority={self.authority}", "leave authority= or verify=pin out")

    def test_options(self) -> None:
        """
        An option that is not known, not for this kind, empty or there twice.
        """
        self.wrong("tls:localhost:pins=x", "has no option 'pins'", "authority, id, name, pin, proxy, verify")
        self.wrong("tls:localhost:insecure=yes", "has no option 'insecure'")
        self.wrong(f"tcp:localhost:authority={self.authority}", "has no option 'authority'")
        self.wrong("unix:/a:name=b", "has no option 'name'", "id, proxy")
        self.wrong("tls:localhost:name=", "name= has no value")
        self.wrong("tls:localhost:name=a:name=b", "name= stands there twice")

    def test_places(self) -> None:
        """
        Hosts and ports that are none.
        """
        for text in ("", "imap.example.org", "imaps://imap.example.org", "http:x", "993"):
            self.wrong(text, "tls:HOST[:PORT]")
        for port in ("0", "65536", "-1", "x", "", "9" * 5000, "٣"):
            self.wrong(f"tls:localhost:{port}", "whole number from 1 to 65535")
        for host in ("", "a b", "a/b", "joe@x", "a" * 254, "[]", "[localhost]", ".x", "x\ny"):
            self.wrong(f"tls:{host}", "host")
        self.wrong("tls:2001:db8::1", "brackets")
        self.wrong("tls:[2001:db8::g]", "no IPv6 address")
        self.wrong("tls:localhost:name=a..b", "no name of a host")
        self.wrong(f"tls:localhost:name=a..b:verify=pin:pin={PIN.hex()}", "no name of a host")
        self.wrong("tls:localhost:name=a b", "name is")
