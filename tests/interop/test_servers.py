"""
The rigs themselves: each starts, serves, takes logins with and without TLS, and leaves no process behind.
"""

from __future__ import annotations

import imaplib
import ssl
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.cyrus import Cyrus
from tests.interop.dovecot import MASTER, Dovecot, DovecotProxy, make_token
from tests.interop.peers import HAProxy, NginxMailProxy
from tests.interop.servers import RealServer, Rig, RigFailed, alive

SECONDS = 10


def trusting(authority: Path) -> ssl.SSLContext:
    """
    A client's context that trusts one authority, and checks names.
    """
    return ssl.create_default_context(cafile=str(authority))


class Constant:
    """
    Answers each challenge with the same.
    """

    def __init__(self, answer: str) -> None:
        self._answer = answer.encode("ascii")

    def __call__(self, challenge: bytes) -> bytes:
        return self._answer


class RigTests(SynchronousTestCase):
    """
    What all have in common.
    """

    timeout = 60

    def running(self, rig: Rig) -> None:
        """
        Start it; look at the end whether all its processes are gone.
        """
        self.addCleanup(rig.close)
        rig.start()
        pids: list[int] = []
        self.addCleanup(lambda: self.assertEqual(alive(pids), []))
        self.addCleanup(rig.stop)
        self.addCleanup(lambda: pids.extend(rig.pids()))

    def log_in(self, host: str, port: int, user: str, password: str) -> imaplib.IMAP4:
        client = imaplib.IMAP4(host, port, timeout=SECONDS)
        self.addCleanup(client.shutdown)
        kind, _ = client.login(user, f'"{password}"' if " " in password else password)
        self.assertEqual(kind, "OK")
        return client

    def both_ways(self, port: int, tls_port: int, authority: Path, users: dict[str, str]) -> None:
        """
        STARTTLS at one port, TLS at the other.
        """
        with imaplib.IMAP4("localhost", port, timeout=SECONDS) as client:
            client.starttls(trusting(authority))
            self.assertEqual(client.login("alice", users["alice"])[0], "OK")
            self.assertEqual(client.select()[0], "OK")
        with imaplib.IMAP4_SSL("localhost", tls_port, ssl_context=trusting(authority), timeout=SECONDS) as client:
            self.assertEqual(client.login("alice", users["alice"])[0], "OK")
            self.assertEqual(client.select()[0], "OK")

    def refuses(self, server: RealServer) -> None:
        """
        A wrong password.
        """
        with imaplib.IMAP4(server.host, server.imap_port, timeout=SECONDS) as client:
            self.assertRaises(imaplib.IMAP4.error, client.login, "alice", "wrong")

    def end_session(self, server: RealServer) -> None:
        """
        One of two sessions is killed; the other one lives.
        """
        first = self.log_in(server.host, server.imap_port, "alice", server.users["alice"])
        second = self.log_in(server.host, server.imap_port, "alice", server.users["alice"])
        server.wait_for_sessions(2, "alice")
        self.assertEqual(server.sessions("bob"), [])
        self.assertRaises(LookupError, server.kill_session, "bob")
        self.assertIn(server.sessions("alice")[-1], server.pids())
        server.kill_session("alice")
        self.assertRaises((imaplib.IMAP4.abort, OSError), second.noop)
        self.assertEqual(first.noop()[0], "OK")


class DovecotTests(RigTests):
    """
    L{Dovecot} and L{DovecotProxy}.
    """

    def test_serves(self) -> None:
        server = Dovecot()
        self.running(server)
        self.both_ways(server.imap_port, server.imaps_port, server.authority, server.users)
        self.refuses(server)
        self.end_session(server)

    def test_maildir(self) -> None:
        server = Dovecot(mail_format="maildir")
        self.running(server)
        client = self.log_in(server.host, server.imap_port, "alice", server.users["alice"])
        self.assertEqual(client.append("INBOX", "", "", b"Subject: one\r\n\r\n")[0], "OK")
        self.assertEqual(len(list(server.mail.glob("alice/*/*:2,")) + list(server.mail.glob("alice/new/*"))), 1)

    def test_mechanisms(self) -> None:
        """
        Those that C{imaplib} has no own method for; with a master user and a bearer token.
        """
        server = Dovecot()
        self.running(server)
        for mechanism, answer in [
            ("PLAIN", f"alice\0{MASTER[0]}\0{MASTER[1]}"),
            ("XOAUTH2", f"user=bob\1auth=Bearer {make_token('bob')}\1\1"),
        ]:
            with imaplib.IMAP4(server.host, server.imap_port, timeout=SECONDS) as client:
                kind, _ = client.authenticate(mechanism, Constant(answer))
                self.assertEqual(kind, "OK", mechanism)
        self.assertEqual([one.user for one in server.logins(at_least=2)], ["alice", "bob"])

    def test_addresses(self) -> None:
        """
        A PROXY header is believed at its port, and C{ID} when the server trusts.
        """
        server = Dovecot(trusted=True)
        self.running(server)
        with server.connect(server.haproxy_port) as connection:
            connection.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.8 4711 143\r\n1 LOGIN alice wonderland\r\n")
            server.wait_for_log("user=<alice>")
        with server.connect() as connection:
            connection.sendall(b'1 ID ("x-originating-ip" "192.0.2.9")\r\n2 LOGIN bob "bob\'s \\"secret\\""\r\n')
            server.wait_for_log("user=<bob>")
        found = [(one.user, one.rip) for one in server.logins(at_least=2)]
        self.assertEqual(found, [("alice", "192.0.2.7"), ("bob", "192.0.2.9")])

    def test_limited(self) -> None:
        server = Dovecot(per_user=1)
        self.running(server)
        self.log_in(server.host, server.imap_port, "alice", server.users["alice"])
        with self.assertRaisesRegex(imaplib.IMAP4.error, "(?i)maximum number of connections"):
            self.log_in(server.host, server.imap_port, "alice", server.users["alice"])

    def test_paused(self) -> None:
        server = Dovecot()
        self.running(server)
        client = self.log_in(server.host, server.imap_port, "alice", server.users["alice"])
        client.sock.settimeout(0.3)
        server.pause()
        self.assertRaises(OSError, client.noop)
        server.cont()
        client.sock.settimeout(SECONDS)
        self.assertIn(b" OK ", client.sock.recv(1000))

    def test_which_session(self) -> None:
        """
        A process is found by the port of its client.
        """
        server = Dovecot()
        self.running(server)
        clients = [self.log_in(server.host, server.imap_port, "alice", server.users["alice"]) for _ in range(2)]
        server.wait_for_sessions(2)
        found = [server.session_of(one.sock.getsockname()[1]) for one in clients]
        self.assertEqual(found, server.sessions())
        self.assertRaises(LookupError, server.session_of, 1)

    def test_does_not_start(self) -> None:
        server = Dovecot(extra="no_such_setting = 1\n")
        self.addCleanup(server.close)
        with self.assertRaisesRegex(RigFailed, "no_such_setting"):
            server.start()

    def test_proxy(self) -> None:
        server = Dovecot()
        self.running(server)
        for tls in (True, False):
            proxy = DovecotProxy(server, tls=tls)
            self.running(proxy)
            self.both_ways(proxy.imap_port, proxy.imaps_port, proxy.authority, server.users)


class CyrusTests(RigTests):
    """
    L{Cyrus}.
    """

    def test_serves(self) -> None:
        server = Cyrus()
        self.running(server)
        self.both_ways(server.imap_port, server.imaps_port, server.authority, server.users)
        self.refuses(server)
        self.end_session(server)


class PeerTests(RigTests):
    """
    L{NginxMailProxy} and L{HAProxy}.
    """

    def test_nginx(self) -> None:
        server = Dovecot()
        self.running(server)
        proxy = NginxMailProxy(server)
        self.running(proxy)
        self.both_ways(proxy.imap_port, proxy.imaps_port, proxy.authority, server.users)
        self.assertGreaterEqual(len(proxy.pids()), 2)

    def test_haproxy(self) -> None:
        server = Dovecot()
        self.running(server)
        proxy = HAProxy(server, port=server.haproxy_port, send_proxy=True)
        self.running(proxy)
        with imaplib.IMAP4_SSL(
            "localhost", proxy.imaps_port, ssl_context=trusting(proxy.authority), timeout=SECONDS
        ) as client:
            self.assertEqual(client.login("alice", server.users["alice"])[0], "OK")
            self.assertEqual(client.sock.getsockname()[1], server.logins(at_least=1)[-1].rport)
