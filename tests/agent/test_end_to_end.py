"""
An unmodified mail program, the agent in its own process, a relay that cuts, the gateway, Dovecot.
"""

from __future__ import annotations

import imaplib
import ssl
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeVar

from twisted.internet import reactor
from twisted.internet.protocol import Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.agent.process import AgentProcess, server_of
from tests.interop.gateway import GatewayProcess, upstream_of
from tests.interop.grounds import OnDovecot, make_mail
from tests.support.cutting_relay import TO_CLIENT, TO_SERVER, CuttingRelay
from tests.support.waiting import until

_Result = TypeVar("_Result")
_SIZE = 5 * 1024 * 1024


class _Relay(CuttingRelay):
    """
    @ivar cuts: of the next connections: a direction and a number of octets each.
    """

    def __init__(self, target: int) -> None:
        self.cuts: list[tuple[int, int]] = []
        super().__init__(reactor, target)

    def buildProtocol(self, addr: Any) -> Protocol:
        made = super().buildProtocol(addr)
        if self.cuts:
            self.pairs[-1].count_from_now(self.cuts.pop(0))
        return made


class EndToEndTests(OnDovecot, TestCase):
    timeout = 120

    def setUp(self) -> None:
        super().setUp()
        self.relay = _Relay(self.gateway.port)
        self.addCleanup(self.relay.close)

    def begin(self, *options: str, listen: Sequence[str] = ("tcp",), port: int = 0, kind: str = "tls") -> AgentProcess:
        """
        Start an agent, by way of the relay unless a port is named.
        """
        agent = AgentProcess(
            "--server", server_of(port or self.relay.port, self.gateway.authority, kind), *options, listen=listen
        )
        self.addCleanup(agent.close)
        return agent.start()

    async def in_thread(self, act: Callable[..., _Result], *arguments: Any) -> _Result:
        """
        What a program does, while the relay has the reactor.
        """
        found: _Result = await deferToThread(act, *arguments)
        return found

    async def program(self, agent: AgentProcess, place: int = 0) -> imaplib.IMAP4:
        """
        A mail program that has logged in.
        """

        def log_in() -> imaplib.IMAP4:
            made = imaplib.IMAP4("127.0.0.1", agent.ports[place], timeout=30)
            self.addCleanup(made.sock.close)
            self.addCleanup(made.file.close)
            made.login(self.user, self.server.users[self.user])
            return made

        return await self.in_thread(log_in)

    async def test_fetch_across_cuts(self) -> None:
        """
        A FETCH of 5 MB whose link is cut three times is exact, and the program has seen one connection.
        """
        mail = make_mail(Random(1), _SIZE)
        self.deliver(mail)
        agent = self.begin()
        program = await self.program(agent)
        self.relay.pairs[-1].count_from_now((TO_CLIENT, 1_000_001))
        self.relay.cuts = [(TO_CLIENT, 1_500_000), (TO_CLIENT, 77_777)]
        await self.in_thread(program.select)
        found: Any = (await self.in_thread(program.fetch, "1", "(BODY.PEEK[])"))[1]
        self.assertEqual(found[0][1], mail)
        self.assertEqual(len(self.relay.pairs), 4)
        [account] = agent.status()["accounts"]
        [one] = account["connections"]
        self.assertEqual((one["phase"], one["handovers"], one["network"]), ("live", 3, "default"))
        self.assertEqual((await self.in_thread(program.logout))[0], "BYE")
        await until(lambda: not agent.status()["accounts"][0]["connections"], "the end of the session")
        self.assertNotIn(self.server.users[self.user], agent.log())
        self.assertNotIn("Traceback", agent.log())

    async def test_append_across_cuts(self) -> None:
        """
        An APPEND of 5 MB whose link is cut three times is stored once, as it was.
        """
        mail = make_mail(Random(2), _SIZE)
        agent = self.begin()
        program = await self.program(agent)
        self.relay.pairs[-1].count_from_now((TO_SERVER, 1_000_001))
        self.relay.cuts = [(TO_SERVER, 1_500_000), (TO_SERVER, 77_777)]
        said, _ = await self.in_thread(program.append, "INBOX", None, None, mail)
        self.assertEqual(said, "OK")
        self.assertEqual(len(self.relay.pairs), 4)
        self.assertEqual(self.stored(), [mail])

    async def test_compressed_and_pipelined(self) -> None:
        """
        A program that sends its commands in one flight, literals among them, and has its octets compressed: exact across a cut.
        """
        mail = make_mail(Random(5), 400_000)
        agent = self.begin()
        program = await self.program(agent)

        def converse() -> bytes:
            program.send(b"c1 COMPRESS DEFLATE\r\n")
            said = b""
            while not said.startswith(b"c1 OK"):
                said = program.readline()
            packer, unpacker = zlib.compressobj(wbits=-15), zlib.decompressobj(wbits=-15)
            flight = b"c2 APPEND INBOX {%d+}\r\n%b\r\nc3 SELECT INBOX\r\n" % (len(mail), mail)
            flight += b"c4 FETCH 1 (BODY.PEEK[])\r\nc5 LOGOUT\r\n"
            program.sock.sendall(packer.compress(flight) + packer.flush(zlib.Z_SYNC_FLUSH))
            heard = b""
            while b"c5 OK" not in heard:
                octets = program.sock.recv(1 << 16)
                if not octets:
                    break
                heard += unpacker.decompress(octets)
            return heard

        self.relay.pairs[-1].count_from_now((TO_SERVER, 100_000))
        self.relay.cuts = [(TO_SERVER, 150_000), (TO_CLIENT, 150_000)]
        heard = await self.in_thread(converse)
        self.assertEqual(heard.count(mail), 1)
        self.assertEqual(len(self.relay.pairs), 4)
        for tag in (b"c2", b"c3", b"c4", b"c5"):
            self.assertIn(tag + b" OK", heard)
        self.assertEqual(self.stored(), [mail])

    async def test_starttls_to_the_server(self) -> None:
        """
        The link in front of a login, and each later one, is put under TLS by the agent itself.
        """
        upstream = upstream_of(self.server.imaps_port, self.server.authority)
        gateway = GatewayProcess(upstream, listen=("tcp",))
        self.addCleanup(gateway.close)
        relay = _Relay(gateway.start().port)
        self.addCleanup(relay.close)
        mail = make_mail(Random(4), 300_000)
        self.deliver(mail)
        agent = AgentProcess("--server", server_of(relay.port, gateway.authority, "starttls"))
        self.addCleanup(agent.close)
        program = await self.program(agent.start())
        relay.pairs[-1].count_from_now((TO_CLIENT, 100_000))
        await self.in_thread(program.select)
        found: Any = (await self.in_thread(program.fetch, "1", "(BODY.PEEK[])"))[1]
        self.assertEqual((found[0][1], len(relay.pairs)), (mail, 2))

    async def test_without_continuity(self) -> None:
        """
        In front of a server that has none it is a plain proxy, also by STARTTLS.
        """
        mail = make_mail(Random(3), 300_000)
        self.deliver(mail)
        for kind, port in (("tls", self.server.imaps_port), ("starttls", self.server.imap_port)):
            agent = AgentProcess("--server", server_of(port, self.server.authority, kind))
            self.addCleanup(agent.close)
            agent.start()
            program = await self.program(agent)
            await self.in_thread(program.select)
            found: Any = (await self.in_thread(program.fetch, "1", "(BODY.PEEK[])"))[1]
            self.assertEqual(found[0][1], mail)
            self.assertEqual(agent.status()["accounts"][0]["connections"][0]["phase"], "plain")
            self.assertEqual((await self.in_thread(program.logout))[0], "BYE")

    async def test_tls_towards_the_program(self) -> None:
        """
        A program that insists on TLS has it: from the beginning, and by STARTTLS.
        """
        agent = self.begin(listen=("tls", "tcp"))
        context = ssl.create_default_context(cafile=str(agent.authority))

        def from_the_beginning() -> str:
            with imaplib.IMAP4_SSL("localhost", agent.ports[0], ssl_context=context, timeout=30) as program:
                program.login(self.user, self.server.users[self.user])
                return program.select()[0]

        def by_starttls() -> str:
            with imaplib.IMAP4("localhost", agent.ports[1], timeout=30) as program:
                program.starttls(context)
                program.login(self.user, self.server.users[self.user])
                return program.select()[0]

        for act in (from_the_beginning, by_starttls):
            self.assertEqual(await self.in_thread(act), "OK")
        self.assertNotIn("Warning", agent.log())
