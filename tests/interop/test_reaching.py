"""
Dovecot, reached as an upstream in every way there is: what it hears of the client, and what its greeting becomes.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from mem_continuity.core.policy import Policy
from mem_continuity.gateway.connecting import connect_upstream
from mem_continuity.gateway.link import UpstreamLink
from mem_continuity.gateway.source import Source
from mem_continuity.gateway.upstream import parse_upstream
from tests.gateway.connecting_case import Receiver
from tests.interop.dovecot import USERS, Dovecot, Login
from tests.support.tls_case import TLSTestCase
from tests.support.waiting import until

SOURCE = Source("192.0.2.7", 40007, "198.51.100.2", 993, True, b"label-of-ours")


class ReachingTests(TLSTestCase):
    """
    One Dovecot per test, which trusts us.
    """

    timeout = 60

    def setUp(self) -> Any:
        self.dovecot = Dovecot(trusted=True)
        self.addCleanup(deferToThread, self.dovecot.close)
        return deferToThread(self.dovecot.start)

    async def connect(self, description: str, want: bool = False) -> UpstreamLink:
        text = description.replace("CA", str(self.dovecot.authority))
        return await connect_upstream(reactor, parse_upstream(text), Policy(), SOURCE, want)

    async def log_in(self, link: UpstreamLink) -> None:
        """
        Log in and out.
        """
        receiver = Receiver()
        link.attach(receiver)
        link.transport.write(b'a1 LOGIN alice "%s"\r\n' % USERS["alice"].encode())
        await until(lambda: b"\r\na1 OK " in b"\r\n" + receiver.octets, "a login")
        link.transport.write(b"a2 LOGOUT\r\n")
        await until(lambda: receiver.lost, "the end")

    async def logged(self, before: int) -> Login:
        """
        What Dovecot's log says of the client that has logged in since.
        """
        await until(lambda: len(self.dovecot.logins()) > before, "the login in the log")
        return self.dovecot.logins()[-1]

    async def test_ways(self) -> None:
        """
        By TLS, STARTTLS, TCP and a Unix socket.
        """
        dovecot = self.dovecot
        key = x509.load_pem_x509_certificate(dovecot.authority.read_bytes()).public_key()
        pin = sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
        for description in (
            f"tls:{dovecot.host}:{dovecot.imaps_port}:authority=CA",
            f"tls:localhost:{dovecot.imaps_port}:authority=CA:pin={pin}",
            f"starttls:localhost:{dovecot.imap_port}:authority=CA",
            f"tcp:localhost:{dovecot.imap_port}",
            f"unix:{dovecot.socket_path}",
        ):
            link = await self.connect(description, want=True)
            self.assertTrue({b"IMAP4REV1", b"AUTH=PLAIN"} <= link.capabilities, description)
            self.assertEqual(b"[CAPABILITY" in link.greeting, not description.startswith("starttls"))
            await self.log_in(link)
        self.assertNotIn(SOURCE.host, dovecot.log())

    async def test_told(self) -> None:
        """
        By ID or a PROXY header Dovecot knows whose connection it is; by ID it takes our label for its own logs.  (Behind a
        header it trusts the ID only if it trusts the client that the header names.)
        """
        dovecot = self.dovecot
        for description in (
            f"tls:localhost:{dovecot.imaps_port}:authority=CA:id=yes",
            f"starttls:localhost:{dovecot.imap_port}:authority=CA:id=yes",
            f"tls:localhost:{dovecot.haproxy_tls_port}:authority=CA:proxy=yes",
            f"starttls:localhost:{dovecot.haproxy_port}:authority=CA:proxy=yes",
            f"tcp:localhost:{dovecot.haproxy_port}:proxy=yes",
        ):
            before = len(dovecot.logins())
            await self.log_in(await self.connect(description))
            login = await self.logged(before)
            self.assertEqual((login.rip, login.rport), (SOURCE.host, SOURCE.port), description)
            self.assertIn("lip=198.51.100.2 lport=993", login.line.replace(",", ""))
            self.assertEqual("session=<label-of-ours>" in login.line, "id=yes" in description, login.line)
