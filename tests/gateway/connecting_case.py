"""
What tests of the way to an upstream have in common.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet import reactor
from twisted.protocols.haproxy._v2parser import V2Parser
from twisted.python.failure import Failure

from mem_continuity.core.policy import Policy
from mem_continuity.gateway.connecting import connect_upstream
from mem_continuity.gateway.errors import Trouble, UpstreamError
from mem_continuity.gateway.link import UpstreamLink
from mem_continuity.gateway.source import Source
from mem_continuity.gateway.upstream import parse_upstream
from tests.gateway.scripted import ScriptedServer
from tests.support.certificates import certificate_pem
from tests.support.tls_case import TLSTestCase
from tests.support.waiting import until

SOURCE = Source("192.0.2.1", 40000, "198.51.100.2", 993, label=b"s1")
BEGUN = b"TAG OK begin\r\n"


def pin() -> str:
    """
    The pin of the certificate that all servers here have.
    """
    key = x509.load_pem_x509_certificate(certificate_pem()).public_key()
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def read_header(octets: bytes) -> tuple[Any, bytes]:
    """
    What a PROXY header says as Twisted understands it.

    @return: the client's address, and what follows.
    """
    info, rest = V2Parser().feed(octets)
    assert info is not None and rest is not None
    return info.source, rest


def is_read(link: UpstreamLink) -> bool:
    """
    Whether a link's connection is read now.
    """
    any_reactor: Any = reactor
    return link.transport in any_reactor.getReaders()


class Receiver:
    """
    Keeps what it is given.
    """

    def __init__(self) -> None:
        self.octets = b""
        self.lost: list[Failure] = []

    def upstream_received(self, octets: bytes) -> None:
        self.octets += octets

    def upstream_lost(self, reason: Failure) -> None:
        self.lost.append(reason)


class ConnectingCase(TLSTestCase):
    """
    What the tests below have in common.
    """

    timeout = 30

    def setUp(self) -> None:
        self.server = ScriptedServer()
        self.policy = Policy(upstream_connect=5.0, upstream_greeting=5.0, preamble_line=500)
        self.authority = self.mktemp()
        Path(self.authority).write_bytes(certificate_pem())

    async def connect(
        self, description: str, source: Source | None = SOURCE, want: bool = False, policy: Policy | None = None
    ) -> UpstreamLink:
        """
        Connect to the description; C{PORT} in it is that of the server, C{CA} the file of its certificate.
        """
        text = description
        if "PORT" in text:
            text = text.replace("PORT", str(self.server.listen(self.addCleanup, text.startswith("tls:"))))
        upstream = parse_upstream(text.replace("CA", self.authority))
        link = await connect_upstream(reactor, upstream, policy or self.policy, source, want)
        self.addCleanup(self.close, link)
        return link

    async def close(self, link: UpstreamLink) -> None:
        link.abort()
        await until(lambda: link.lost, "the link is lost")

    async def fails(self, description: str, kind: Trouble, **how: Any) -> UpstreamError:
        """
        The description leads nowhere; the error is fit for a client, nothing is left of the attempt.
        """
        try:
            await self.connect(description, **how)
        except UpstreamError as error:
            self.assertEqual(error.kind, kind, error.detail)
            self.assertIn(description.split(":")[0] + ":", error.detail)
            for secret in ("127.0.0.1", "localhost", self.authority):
                self.assertNotIn(secret, error.text)
            await until(lambda: all(one.lost for one in self.server.connections), "the server has lost it")
            return error
        raise AssertionError("it could be reached")

    @property
    def heard(self) -> list[bytes]:
        return self.server.connections[0].heard
