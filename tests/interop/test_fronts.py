"""
What a client of the gateway meets, end to end: each way to log in and each way to an upstream, and behind each of them the layer.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.handshake import Resumed
from tests.interop import sasl
from tests.interop.client import Client
from tests.interop.dovecot import Dovecot, make_token
from tests.interop.gateway import GatewayProcess, upstream_of
from tests.interop.grounds import PASSWORD, GroundCase, OnCyrus, OnDovecot, about, until
from tests.interop.plain_client import HOME, TRAIN, tagged
from tests.interop.servers import HOST, Rig

Answers = list[Callable[[bytes], bytes]]


def mechanisms(user: str) -> dict[str, tuple[bytes | None, Answers]]:
    """
    How to log in with each one: the initial response, and what is answered to challenges.
    """
    said: dict[str, tuple[bytes | None, Answers]] = {
        "PLAIN": (None, [sasl.always(sasl.plain(user, PASSWORD))]),
        "LOGIN": (None, sasl.login(user, PASSWORD)),
        "CRAM-MD5": (None, sasl.cram_md5(user, PASSWORD)),
        "DIGEST-MD5": (None, [*sasl.digest_md5(user, PASSWORD), sasl.always(b"")]),
        "XOAUTH2": (sasl.xoauth2(user, make_token(user)), []),
        "OAUTHBEARER": (sasl.bearer(user, make_token(user)), []),
    }
    for name, algorithm in (("SCRAM-SHA-1", "sha1"), ("SCRAM-SHA-256", "sha256")):
        scram = sasl.Scram(user, PASSWORD, algorithm)
        said[name] = None, [sasl.always(scram.first), scram.proof, sasl.always(b"")]
    return said


class Logins(GroundCase):
    """
    For either server.
    """

    with_tokens = frozenset({"XOAUTH2", "OAUTHBEARER"})

    def offered(self) -> list[str]:
        """
        The mechanisms of the server.
        """
        client = self.new_client()
        client.connect()
        words = client.command(b"CAPABILITY").split()
        client.command(b"LOGOUT")
        return [word.removeprefix(b"AUTH=").decode() for word in words if word.startswith(b"AUTH=")]

    def test_each_mechanism(self) -> None:
        """
        AUTHENTICATE with each mechanism that the server offers; then START and RESUME.  The record is found by a LOGIN
        afterwards, except where a token decides who somebody is.
        """
        offered = self.offered()
        self.assertLessEqual({"PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5"}, set(offered))
        for name in offered:
            with about(name):
                client = self.new_client(client_id=b"UUID " + name.encode())
                client.connect(HOME)
                client.name_itself()
                self.assert_ok(client.authenticate(name, *mechanisms(self.user)[name]))
                client.start()
                self.assert_ok(client.call(b"SELECT INBOX"))
                client.lose("reset")
                self.assertIsInstance(client.resume(TRAIN), Resumed)
                self.assert_ok(client.call(b"NOOP"))
                client.connect(TRAIN)
                self.assert_ok(client.login())
                self.assertIn(b" GONE]" if name in self.with_tokens else b" GRAFTED INBOX ", client.graft())

    def test_login_with_literals(self) -> None:
        """
        User and password as literals, synchronizing and not, pipelined or not; a wrong password first.
        """
        user, password = self.user.encode(), PASSWORD.encode()
        for number, sign in enumerate((b"", b"+")):
            client = self.new_client(client_id=b"UUID %d" % number)
            client.connect(HOME)
            client.name_itself()
            said = client.command(b'LOGIN "%b" "wrong"' % user)
            self.assertRegex(self.last_line(said), rb"\ANO ")
            if sign:
                said = client.command(b"LOGIN {%d+}\r\n%b {%d+}\r\n%b" % (len(user), user, len(password), password))
            else:
                said = client.command(b"LOGIN {%d}" % len(user), user + b" {%d}" % len(password), password)
            self.assert_ok(said)
            client.start()
            self.assert_ok(client.call(b"SELECT INBOX"))
            client.lose("fin")
            self.assertIsInstance(client.resume(TRAIN), Resumed)
            self.assert_ok(client.call(b"LOGOUT"))

    def test_unmodified_client(self) -> None:
        """
        One that names nothing and knows nothing of us, with commands pipelined behind its login, and literals.
        """
        client = self.new_client(client_id=None)
        client.connect(HOME)
        token = base64.b64encode(sasl.plain(self.user, PASSWORD))
        mail = b"Subject: unmodified\r\n\r\n{3}\r\n"
        client.wire.send(b"a1 AUTHENTICATE PLAIN\r\n%b\r\na2 SELECT INBOX\r\n" % token)
        client.wire.send(b"a3 APPEND INBOX {%d+}\r\n%b\r\na4 NOOP\r\na5 LOGOUT\r\n" % (len(mail), mail))
        said = client.wire.read_to_end()
        found = [tagged(b"a%d" % number, said) for number in range(1, 6)]
        self.assertEqual([one and one[0][3:5] for one in found], [b"OK"] * 5, said)
        self.assertEqual(self.stored(), [mail])


class LoginsOnDovecot(Logins, OnDovecot):
    pass


class LoginsOnCyrus(Logins, OnCyrus):
    pass


del Logins


class RoutedGateway(GatewayProcess):
    """
    One with C{--routes}.
    """

    def __init__(self, routes: str, *options: str) -> None:
        super().__init__("", *options)
        self._file = Path(self.folder, "routes.toml")
        self._file.write_text(routes, "utf-8")

    def command(self) -> list[str]:
        words = super().command()
        place = words.index("--upstream")
        return [*words[:place], "--routes", str(self._file), *words[place + 2 :]]


class Reaching(SynchronousTestCase):
    """
    Upstreams of all kinds.
    """

    def run_rig(self, rig: Any) -> Any:
        self.addCleanup(rig.close)
        assert isinstance(rig, Rig)
        return rig.start()

    def there_and_back(self, gateway: GatewayProcess, user: str, password: str, source: str = HOME) -> None:
        """
        Log in, START, lose the link, RESUME, LOGOUT.
        """
        client = Client(gateway.port, gateway.authority, user, password)
        self.addCleanup(client.close)
        client.begin(source, b"SELECT INBOX")
        client.lose("reset")
        self.assertIsInstance(client.resume(TRAIN), Resumed)
        self.assertIn(b" OK ", client.call(b"LOGOUT"))

    def test_each_kind_of_upstream(self) -> None:
        """
        By TLS, STARTTLS, TCP and a Unix socket; the server learns the client's address by a PROXY header or by ID where it is
        told to.  Each as one of many upstreams, and two of them as the only one.
        """
        users = [f"user{number}" for number in range(8)]
        dovecot = self.run_rig(Dovecot(users=dict.fromkeys(users, PASSWORD), trusted=True, login_processes=4))
        trust = f":authority={dovecot.authority}"
        upstreams = {
            f"tls:localhost:{dovecot.imaps_port}{trust}": HOST,
            f"tcp:127.0.0.1:{dovecot.imap_port}": HOST,
            f"unix:{dovecot.socket_path}": "",
            f"starttls:localhost:{dovecot.imap_port}{trust}": HOST,
            f"tls:localhost:{dovecot.haproxy_tls_port}{trust}:proxy=yes": HOME,
            f"tcp:127.0.0.1:{dovecot.haproxy_port}:proxy=yes": HOME,
            f"starttls:localhost:{dovecot.imap_port}{trust}:id=yes": HOME,
            f"tls:localhost:{dovecot.imaps_port}{trust}:id=yes": HOME,
        }
        named = list(zip(users, upstreams.items(), strict=True))
        routes = "[upstreams]\n" + "".join(f'{user} = "{text}"\n' for user, (text, _) in named)
        routes += "[users]\n" + "".join(f'{user} = "{user}"\n' for user in users)
        many = self.run_rig(RoutedGateway(routes))
        for user, (upstream, address) in named:
            gateways = [many]
            if "unix" in upstream or upstream.endswith(f"{trust}:proxy=yes"):
                gateways.append(self.run_rig(GatewayProcess(upstream)))
            for count, gateway in enumerate(gateways, 1):
                with about(upstream):
                    self.there_and_back(gateway, user, PASSWORD)
                    logins = self._logins(dovecot, user, count)
                    self.assertEqual(re.findall(r" rip=([^,]*),", logins[-1]), [address] if address else [])

    def _logins(self, dovecot: Dovecot, user: str, count: int) -> list[str]:
        """
        Wait for so many lines in the log.
        """
        found: list[str] = []

        def are_there() -> bool:
            found[:] = [line for line in dovecot.log().splitlines() if f"Info: Login: user=<{user}>" in line]
            return len(found) == count

        until(are_there, f"{count} logins of {user} in the log")
        return found

    def test_upstream_is_down(self) -> None:
        """
        BYE in words, and the reason in the log; once it is up, clients are served.
        """
        dovecot = Dovecot()
        self.addCleanup(dovecot.close)
        gateway = self.run_rig(GatewayProcess(upstream_of(dovecot.imaps_port, dovecot.authority)))
        for _ in range(2):
            client = Client(gateway.port, gateway.authority, "alice", dovecot.users["alice"])
            self.addCleanup(client.close)
            client.connect(greet=False)
            self.assertRegex(client.wire.read_to_end(), rb"\A\* BYE \[UNAVAILABLE\] [^\r\n]+\r\n\Z")
        gateway.wait_for_log(f"Upstream tls:localhost:{dovecot.imaps_port}")
        self.assertNotIn("Traceback", gateway.log())
        dovecot.start()
        self.there_and_back(gateway, "alice", dovecot.users["alice"])

    def test_starttls_in_front(self) -> None:
        """
        No password without TLS, nothing from before it is believed; with it, the layer as ever, and RESUME behind STARTTLS.
        """
        dovecot = self.run_rig(Dovecot())
        upstream = upstream_of(dovecot.imaps_port, dovecot.authority)
        gateway = self.run_rig(GatewayProcess(upstream, listen=("tls", "tcp")))
        client = Client(gateway.ports[1], None, "alice", dovecot.users["alice"])
        self.addCleanup(client.close)
        client.connect(HOME)
        words = client.command(b"CAPABILITY").split()
        self.assertLessEqual({b"STARTTLS", b"LOGINDISABLED"}, set(words))
        self.assertFalse({b"XCONTINUITY", b"CLIENTID"} & set(words))
        self.assertIn(b" NO [PRIVACYREQUIRED]", client.command(b"LOGIN alice wonderland"))
        self._start_tls(client, gateway, behind=b"x1 CAPABILITY\r\n")
        words = client.command(b"CAPABILITY").split()
        self.assertFalse({b"STARTTLS", b"LOGINDISABLED", b"x1"} & set(words))
        self.assertLessEqual({b"XCONTINUITY", b"CLIENTID"}, set(words))
        self.assertIn(b" OK ", client.login())
        client.start()
        self.assertIn(b" OK ", client.call(b"SELECT INBOX"))
        client.lose("reset")
        client.connect(TRAIN)
        self._start_tls(client, gateway)
        self.assertIsInstance(client.resume(wire=client.wire), Resumed)
        self.assertIn(b" OK ", client.call(b"LOGOUT"))

    def _start_tls(self, client: Client, gateway: GatewayProcess, behind: bytes = b"") -> None:
        client.wire.send(b"s1 STARTTLS\r\n" + behind)
        self.assertRegex(client.read_line(), rb"\As1 OK ")
        client.wire.start_tls(gateway.authority)

    def test_routes(self) -> None:
        """
        Two servers, by user and by domain; who belongs nowhere is told what a wrong password is told.
        """
        first = self.run_rig(Dovecot(users={"ann@one.example": "secret one", "bob@two.example": "secret bob"}))
        second = self.run_rig(Dovecot(users={"ann@two.example": "secret two"}))
        gateway = self.run_rig(
            RoutedGateway(
                f'[upstreams]\nfirst = "{upstream_of(first.imaps_port, first.authority)}"\n'
                f'second = "{upstream_of(second.imaps_port, second.authority)}"\n'
                '[users]\n"bob@two.example" = "first"\n'
                '[domains]\n"one.example" = "first"\n"two.example" = "second"\n'
            )
        )
        for server in (first, second):
            for user, password in server.users.items():
                self.there_and_back(gateway, user, password)
        self.assertEqual([one.user for one in first.logins(at_least=len(first.users))], list(first.users))
        self.assertEqual([one.user for one in second.logins(at_least=len(second.users))], list(second.users))
        said = []
        for user in ("ann@three.example", "ann@one.example"):
            client = Client(gateway.port, gateway.authority, user, "wrong")
            self.addCleanup(client.close)
            client.connect()
            said.append(client.login().partition(b" ")[2].split(b"]")[0])
        self.assertEqual(said[0], said[1])
        self.assertTrue(said[0].startswith(b"NO [AUTHENTICATIONFAILED"), said)
