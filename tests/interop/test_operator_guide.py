"""
C{docs/operator.md} says what is so: each example is run, with a real server, and so are the units for systemd.
"""

from __future__ import annotations

import ast
import imaplib
import os
import re
import subprocess
from base64 import b64encode
from dataclasses import replace
from errno import EACCES, EADDRINUSE

from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.handshake import Binding, Resumed
from mem_continuity.core.policy import Policy
from mem_continuity.tap import Options
from tests.interop.client import Client
from tests.interop.dovecot import Dovecot, make_token
from tests.interop.gateway import ROOT, upstream_of
from tests.interop.guide import (
    GUIDE,
    LOCAL,
    Guide,
    GuideCase,
    GuideCyrus,
    GuideGateway,
    GuideHAProxy,
    domain_here,
    unit_options,
)
from tests.interop.plain_client import HOME, TRAIN
from tests.interop.servers import HOST, RealServer, free_ports
from tests.interop.tls_wire import Lost

INNER = "10.0.0.2"
"""Where the gateway listens behind a balancer."""


def said_in(source: str) -> str:
    """
    All texts that a program has.
    """
    constants = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    texts = [one for one in constants if isinstance(one, str)]
    return "\n".join(texts + [one.decode("latin-1") for one in constants if isinstance(one, bytes)])


class ExampleTests(GuideCase):
    """
    One test for each example.
    """

    def test_first_run(self) -> None:
        """
        With nothing but C{--upstream} the gateway makes a certificate of its own.
        """
        server = self.dovecot()
        options = self.guide.command("first-run", {"tls:imap.example.org": upstream_of(server.imaps_port, server.authority)})
        (port,) = free_ports(1)
        options += ["--listen", f"tls:{port}:interface={HOST}"]  # the usual port may be taken here
        gateway = self.gateway(options, port, GuideGateway(port, with_certificate=False))
        made = gateway.folder / "state" / "mem-continuity" / "certificate.pem"
        self.assertIn("~/.local/state/mem-continuity", self.guide.text)
        text = made.read_text("ascii")
        gateway.authority.write_text(text[text.index("-----BEGIN CERTIFICATE-----") :], "ascii")
        self.resumes(self.client(gateway, server).logged_in())

    def test_dovecot(self) -> None:
        """
        Dovecot believes the client's address, for a login as for a failure, and lets a parked session sleep.
        """
        inner, tls, plain = free_ports(3)
        lines = self.guide.example("dovecot", "dovecot.conf", {"10143": str(inner), "30s": "1s"})
        server = self.dovecot(lines, inner)
        options = self.guide.command(
            "dovecot",
            {
                LOCAL: f"tcp:{HOST}:{inner}:id=yes",
                "--listen tls:993": f"--listen tls:{tls}:interface={HOST}",
                "--listen tcp:143": f"--listen tcp:{plain}:interface={HOST}",
            },
        )
        gateway = self.gateway(options, tls)
        client = self.client(gateway, server).logged_in(HOME)
        (login,) = server.logins("alice", at_least=1)
        self.assertEqual(login.rip, HOME)
        self.assertIn("secured", login.line)

        client.start()
        client.call(b"SELECT INBOX")
        client.write(b"idle IDLE\r\n")
        client.wait_for_text(b"+ idling")
        client.lose()
        server.wait_for_sessions(0, "alice")  # its process is gone, its connection is not
        self.assertIsInstance(client.resume(TRAIN), Resumed)
        client.write(b"DONE\r\n")
        self.assertIn(b"idle OK", client.finish(b"idle"))

        self.starts_tls(plain, gateway)
        wrong = Client(gateway.port, gateway.authority, "alice", "wrong")
        self.addCleanup(wrong.close)
        wrong.connect(TRAIN)
        self.assertIn(b" NO ", wrong.login())
        wrong.lose()
        server.wait_for_log(f"user=<alice>, rip={TRAIN}")
        self.assertRegex(server.log(), rf"auth failed.*rip={TRAIN}")

    def test_dovecot_proxy(self) -> None:
        """
        The other way to tell Dovecot the address.
        """
        inner, tls = free_ports(2)
        self.assertIn("`--upstream tcp:127.0.0.1:10144:proxy=yes`", self.guide.text)
        server = self.dovecot(self.guide.example("dovecot-proxy", "dovecot.conf", {"10144": str(inner)}))
        options = self.guide.command(
            "dovecot",
            {
                LOCAL: f"tcp:{HOST}:{inner}:proxy=yes",
                "--listen tls:993": f"--listen tls:{tls}:interface={HOST}",
                "--listen tcp:143": "",
            },
        )
        gateway = self.gateway(options, tls)
        self.client(gateway, server).logged_in(HOME)
        (login,) = server.logins("alice", at_least=1)
        self.assertEqual(login.rip, HOME)

    def cyrus(self) -> GuideCyrus:
        server = GuideCyrus()
        self.addCleanup(server.close)
        names = {
            "/etc/cyrus/mail.internal.example.pem": str(server.certificate),
            "/etc/cyrus/mail.internal.example.key": str(server.certificate),
        }
        server.lines = self.guide.example("cyrus", "imapd.conf", names)
        server.start()
        return server

    def inner_of(self, server: RealServer) -> dict[str, str]:
        """
        What stands for the inner server of an example.
        """
        return {
            "mail.internal.example:993": f"localhost:{server.imaps_port}",
            "/etc/mem-continuity/internal-ca.pem": str(server.authority),
        }

    def test_cyrus(self) -> None:
        """
        Cyrus by TLS, which takes no password without.
        """
        server = self.cyrus()
        (port,) = free_ports(1)
        options = self.guide.command(
            "cyrus", {**self.inner_of(server), "--listen tls:993": f"--listen tls:{port}:interface={HOST}"}
        )
        gateway = self.gateway(options, port)
        client = self.client(gateway, server).logged_in()
        server.wait_for_sessions(1, "alice")
        self.resumes(client)
        with imaplib.IMAP4(HOST, server.imap_port, timeout=10) as plain:
            self.assertIn("LOGINDISABLED", plain.capabilities)

    def test_provider(self) -> None:
        """
        A session of OAuth is resumed and leaves nothing to graft.  The pin is what the guide's command says; no other will do.
        """
        server = self.dovecot()
        (port,) = free_ports(1)
        upstream = upstream_of(server.imaps_port, server.authority)
        pipeline = self.guide.example("provider", "pin", {"imap.example.org:993": f"localhost:{server.imaps_port}"})
        pin = subprocess.run(["sh", "-c", pipeline], capture_output=True, text=True, timeout=20, check=True).stdout.split()[0]
        table = {"tls:imap.example.org": f"{upstream}:pin={pin}", "tls:993": f"tls:{port}:interface={HOST}"}
        gateway = self.gateway(self.guide.command("provider", table), port)

        client = self.client(gateway, server)
        client.connect()
        client.name_itself()
        token = f"user=alice\x01auth=Bearer {make_token('alice')}\x01\x01"
        self.assertIn(b" OK ", client.command(b"AUTHENTICATE XOAUTH2 " + b64encode(token.encode())))
        self.resumes(client)
        self.assertIn(b"NO [XCONTINUITY GONE]", self.client(gateway, server).logged_in().graft())
        gateway.stop()

        gateway.options = [one.replace(pin, "00" * 32) for one in gateway.options]
        gateway.start()
        client = self.client(gateway, server)
        client.connect(greet=False)
        self.assertEqual(client.read_line(), b"* BYE [UNAVAILABLE] the mail server's certificate is not to be trusted\r\n")
        gateway.wait_for_log("its public key is none of those that pin= names")

    def test_routes(self) -> None:
        """
        Each user gets to the right server.
        """
        inner, port = free_ports(2)
        first = self.dovecot(self.guide.example("dovecot", "dovecot.conf", {"10143": str(inner)}), inner)
        second = self.cyrus()
        routes = first.folder / "routes.toml"
        table = {"127.0.0.1:10143": f"{HOST}:{inner}", **self.inner_of(second)}
        routes.write_text(self.guide.example("routes", "routes.toml", table), "utf-8")
        options = self.guide.command(
            "routes", {"/etc/mem-continuity/routes.toml": str(routes), "tls:993": f"tls:{port}:interface={HOST}"}
        )
        gateway = self.gateway(options, port)
        self.resumes(self.client(gateway, first, "alice").logged_in(HOME))
        self.resumes(self.client(gateway, second, "bob").logged_in(HOME))
        self.assertEqual([(one.user, one.rip) for one in first.logins(at_least=1)], [("alice", HOME)])
        second.wait_for_sessions(1, "bob")
        self.assertEqual(len(second.sessions()), 1)

    def balanced(self, name: str) -> tuple[Dovecot, GuideGateway, GuideHAProxy, int]:
        """
        An example with a balancer, running, and the balancer's port without TLS.
        """
        inner, tls, plain, outer, outer_plain = free_ports(5)
        server = self.dovecot(self.guide.example("dovecot", "dovecot.conf", {"10143": str(inner)}), inner)
        gateway, balancer = GuideGateway(tls), GuideHAProxy(outer)
        self.addCleanup(balancer.close)
        table = {LOCAL: f"tcp:{HOST}:{inner}:id=yes", "tls:10993": f"tls:{tls}", INNER: HOST}
        config = {":993": f"{HOST}:{outer}"}
        if name == "balancer":
            table["tcp:11143"] = f"tcp:{plain}"
            config |= {f"{INNER}:10993": f"{HOST}:{tls}", ":143": f"{HOST}:{outer_plain}", f"{INNER}:11143": f"{HOST}:{plain}"}
        elif name == "balancer-clear":
            table["haproxy:tcp:10143"] = f"haproxy:tcp:{tls}"
            del table["tls:10993"]
            config |= {f"{INNER}:10143": f"{HOST}:{tls}", "/etc/haproxy/imap.example.org.pem": str(balancer.certificate)}
        else:
            config |= {
                f"{INNER}:10993": f"{HOST}:{tls}",
                "/etc/haproxy/imap.example.org.pem": str(balancer.certificate),
                "/etc/haproxy/internal-ca.pem": str(gateway.authority),
                "gateway.internal.example": "localhost",
            }
        self.gateway(self.guide.command(name, table), tls, gateway)
        balancer.config = self.guide.example(name, "haproxy.cfg", config)
        balancer.start()
        return server, gateway, balancer, outer_plain

    def test_balancer(self) -> None:
        """
        TLS passes through: the client's address gets to Dovecot, and RESUME is bound to the client's TLS.
        """
        server, gateway, balancer, plain = self.balanced("balancer")
        balancer.authority.write_bytes(gateway.authority.read_bytes())  # it is the gateway's certificate that clients see
        client = self.client(balancer, server).logged_in(HOME)
        self.assertEqual([one.rip for one in server.logins("alice", at_least=1)], [HOME])
        self.resumes(client)
        self.assertIs(client.session.terms.binding, Binding.TLS_EXPORTER)
        self.starts_tls(plain, gateway)
        with self.assertRaises(Lost):
            Client(gateway.port, gateway.authority, "alice", "").connect()
        gateway.wait_for_log("A connection to a port behind a balancer is closed: ")

    def test_balancer_that_ends_tls(self) -> None:
        """
        Nothing is bound, and so START and RESUME work.
        """
        self.ends_tls("balancer-tls")

    def test_balancer_in_the_clear(self) -> None:
        """
        The same without TLS between the two.
        """
        self.ends_tls("balancer-clear")

    def ends_tls(self, name: str) -> None:
        """
        A client comes by a balancer that ends TLS.
        """
        server, _, balancer, _ = self.balanced(name)
        client = self.client(balancer, server).logged_in(HOME)
        self.assertEqual([one.rip for one in server.logins("alice", at_least=1)], [HOME])
        client.start()
        client.session.terms = replace(client.session.terms, binding=Binding.NONE)  # as a client behind such a balancer has to
        client.call(b"SELECT INBOX")
        client.lose()
        self.assertIsInstance(client.resume(TRAIN), Resumed)
        self.assertIn(b" OK ", client.call(b"CHECK"))


class UnitTests(GuideCase):
    """
    The units for systemd.
    """

    FOLDER = GUIDE.parent / "systemd"

    def test_guide_shows_them(self) -> None:
        for name in ("mem-continuity.service", "mem-continuity.socket"):
            self.assertEqual(self.guide.file(f"systemd/{name}"), (self.FOLDER / name).read_text("utf-8"))

    def test_they_agree(self) -> None:
        """
        The sockets that are opened are those that are listened on, the certificate is the one that is handed in, and there are
        descriptors enough.
        """
        service = unit_options(self.FOLDER / "mem-continuity.service")
        sockets = unit_options(self.FOLDER / "mem-continuity.socket")
        values = {name: value for _, name, value in service}
        options = Options()
        options.parseOptions(self.exec_start({}))
        ports = [value for _, name, value in sockets if name == "ListenStream"]
        self.assertEqual(ports, ["993", "143"])
        self.assertEqual(options["listen"], ["tls:systemd=0", "systemd:domain=INET6:index=1"])
        name, _, _ = values["LoadCredential"].partition(":")
        self.assertEqual(options["certificate"], f"%d/{name}")
        self.assertEqual(options["data"], f"%S/{values['StateDirectory']}")
        policy = Policy()
        wanted = 2 * policy.upstream_connections + 2 * policy.upstream_spare + 1000
        self.assertGreaterEqual(int(values["LimitNOFILE"]), wanted)
        self.assertIn(f"by default {wanted:,}", self.guide.text)

    def exec_start(self, table: dict[str, str]) -> list[str]:
        """
        The options of the service, with what systemd puts in.
        """
        (words,) = [value for _, name, value in unit_options(self.FOLDER / "mem-continuity.service") if name == "ExecStart"]
        found = words.split()
        self.assertEqual(found[:4], ["/opt/mem-continuity/bin/twistd", "--nodaemon", "--pidfile=", "mem-continuity"])
        for name, value in table.items():
            found = [one.replace(name, value) for one in found]
        return found[4:]

    def test_socket_activation(self) -> None:
        """
        The command line of the unit, with sockets that listen already: a client that connects at once waits and is served, by
        TLS as by STARTTLS.
        """
        server = self.dovecot("login_trusted_networks = 127.0.0.1\n")
        tls, plain = free_ports(2)
        gateway = GuideGateway(tls)
        domain = domain_here()
        gateway.activated(domain, tls, plain)
        folder = str(gateway.folder)
        table = {"${UPSTREAM}": f"tcp:{HOST}:{server.imap_port}:id=yes", "%d": folder, "%S": folder, "INET6": domain}
        gateway.certificate.rename(gateway.folder / "certificate.pem")
        self.gateway(self.exec_start(table), tls, gateway)
        self.resumes(self.client(gateway, server).logged_in(HOME))
        self.assertTrue(server.logins("alice", at_least=1)[0].rip.endswith(HOME))
        self.starts_tls(plain, gateway)


class TextTests(SynchronousTestCase):
    """
    What else the guide says.
    """

    def setUp(self) -> None:
        self.guide = Guide()

    def test_command_lines(self) -> None:
        """
        Every command line is understood.
        """
        commands = self.guide.commands()
        self.assertGreater(len(commands), 5)
        for words in commands:
            Options().parseOptions(words)

    def test_limits(self) -> None:
        """
        The table of limits has the defaults of the policy.
        """
        rows = re.findall(r"^\| (`--[^|]*) \| ([0-9, ]+) \|", self.guide.text, re.MULTILINE)
        self.assertGreater(len(rows), 8)
        for names, values in rows:
            for name, value in zip(re.findall(r"`--([a-z-]+)`", names), values.split(", "), strict=True):
                self.assertEqual(getattr(Policy(), name.replace("-", "_")), float(value), name)

    def test_messages(self) -> None:
        """
        The messages that the guide explains are in the code: what stands between two dots of omission, letter for letter.
        """
        known = "\n".join(said_in(path.read_text("utf-8")) for path in (ROOT / "mem_continuity").rglob("*.py"))
        known += "\n".join([os.strerror(EADDRINUSE), os.strerror(EACCES), str(ConnectionRefusedError())])
        begin = self.guide.text.index("When a limit is hit")
        rows = re.findall(r"^\| (`.*?) \|", self.guide.text[begin:], re.MULTILINE)
        self.assertGreater(len(rows), 30)
        parts = [part.strip(" '") for row in rows for message in re.findall("`([^`]*)`", row) for part in message.split("…")]
        self.assertEqual([part for part in parts if part not in known], [])
