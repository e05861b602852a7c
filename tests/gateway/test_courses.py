"""
The gateway through whole courses, with something happening at every point: either side stops and goes on, links change, all ends.
"""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.policy import Policy
from mem_continuity.directory.record import ClientID
from tests.gateway.test_trouble import Router
from tests.support.comebacks import CLIENT_ID, HOME, TRAIN, plain
from tests.support.gateway_ground import GatewayGround
from tests.support.raw_client import RawClient

KIB = 1024
ROUTER = Router()


class Talker(Protocol):
    """
    An upstream that takes any login, says what the test wants, and keeps what it hears.
    """

    transport: Any

    def __init__(self, site: Any) -> None:
        self.heard = b""
        self.behind = b""
        self._login = b""

    def connectionMade(self) -> None:
        self.transport.write(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")

    def dataReceived(self, data: bytes) -> None:
        if self._login.endswith(b"\r\n"):
            self.heard += data
            return
        line, end, rest = (self._login + data).partition(b"\r\n")
        self._login, self.heard = line + end, rest
        if end:
            self.transport.write(line.split()[0] + b" OK in\r\n" + self.behind)


class TalkerGround(GatewayGround):
    """
    A ground with a L{Talker} for the upstream.
    """

    protocol_class = Talker


class HandOverTests(SynchronousTestCase):
    """
    Octets both ways while who carries them changes, and while either side stops and goes on reading: none is lost, doubled or put
    elsewhere, and none waits for ever.
    """

    def course(self, seed: int) -> None:
        rng = random.Random(seed)
        policy = Policy(window=rng.choice([4 * KIB, 64 * KIB, KIB * KIB]), preamble_buffer=rng.choice([200, 64 * KIB]))
        site = TalkerGround(policy)
        client = RawClient(site)
        wire = client.connect()
        talker, far = site.servers[-1], site.strands[-1].far
        lines = iter(range(1_000_000))

        def say() -> bytes:
            return b"".join(b"* %d %b\r\n" % (next(lines), b"y" * rng.choice([0, 3000, 70_000])) for _ in range(rng.randrange(4)))

        talker.behind = told = say()
        sent = b""
        client.command(b"CLIENTID UUID x")
        framed = rng.random() < 0.7
        far.reading = framed or rng.random() < 0.7
        if not framed:
            sent = b"f FOO\r\n" + b"z" * rng.choice([0, 5, 5000, 90_000])
        wire.take()
        wire.send(b"l1 LOGIN joe secret\r\n" + sent)
        site.settle()
        if framed:
            far.write(extra := say())
            told += extra
            far.reading = rng.random() < 0.7
            client.start()
        for _ in range(rng.randrange(5, 40)):
            step = rng.randrange(8)
            wire = client.link
            if step == 0 and talker.heard:
                far.write(extra := say())
                told += extra
            elif step == 1:
                sent += (octets := bytes([97 + rng.randrange(26)]) * rng.choice([1, 5000, 150_000]))
                (client.write if framed else wire.send)(octets)
            elif step == 2 and not wire.stuck:
                wire.congest()
            elif step == 3 and wire.stuck:
                wire.relieve()
            elif step == 4:
                far.reading = False
            elif step == 5:
                far.resumeProducing()
            elif step == 6:
                (client.pump if framed and rng.random() < 0.7 else site.settle)()
            elif step == 7 and framed and rng.random() < 0.5:
                client.lose(rng.choice(["fin", "reset", "silence"]))
                client.resume()
        for _ in range(5):
            if client.link.stuck:
                client.link.relieve()
            far.resumeProducing()
            site.settle()
            if framed:
                client.pump()
        plain = site.wires[0].heard.partition(b" OK in\r\n")[2]
        self.assertEqual(plain.partition(b"t2 OK ")[0] + client.stream, told, f"course {seed}")
        self.assertEqual(talker.heard, sent, f"course {seed}")

    def test_courses(self) -> None:
        for seed in range(250):
            self.course(seed)


class AbortTests(SynchronousTestCase):
    """
    One side or both go, or fall silent, at any point of a dialogue: nothing is left behind.
    """

    SCRIPT = (
        b"c1 CLIENTID " + CLIENT_ID + b"\r\n",
        b"l0 LOGIN joe wrong\r\n",
        b"l1 LOGIN joe se",
        b"cret\r\n",
        b"g1 XCONTINUITY GRAFT\r\n",
        b"i1 IDLE\r\n",
        b"DONE\r\n",
        b"x LOGOUT\r\n",
    )
    TURNS = 6

    def happen(self, what: str, site: GatewayGround, wire: Any) -> None:
        if what in ("fin", "reset", "congest"):
            getattr(wire, what)()
        elif what == "shutdown":
            site.factory.shutdown()
        else:
            for strand in site.open_strands:
                if what == "upstream":
                    strand.end(ConnectionDone())
                else:
                    strand.near.reading = strand.far.reading = False

    def left(self, what: str, point: int, site: GatewayGround) -> dict[str, int]:
        """
        Play, and see the grace period out.
        """
        plain(site, HOME).lose()
        wire = site.connect(TRAIN, greet=False)
        for at in range(len(self.SCRIPT) * self.TURNS):
            if at == point:
                self.happen(what, site, wire)
            if at % self.TURNS:
                site.turn()
            else:
                wire.send(self.SCRIPT[at // self.TURNS])
        site.settle()
        if wire.stuck:
            wire.relieve()
        wire.fin()
        for seconds in (0, 1, 1, 1, 1, 1, 200, 200):
            site.clock.advance(seconds)
            site.settle()
        table, slots = site.factory.table, site.gateway_site.slots
        authority = site.gateway_site.upstream or ROUTER.upstreams[0]
        return {
            "upstream connections": len(site.open_strands),
            "slots": slots.held + slots.pairs + slots.waiting,
            "sessions": len(table),
            "records": len(table.records(b"joe", ClientID(*CLIENT_ID.split()), authority)),
            "links": len(site.factory._links) + len(site.factory._crowd),
            "timers": len(site.clock.getDelayedCalls()),
        }

    def test_nothing_is_left(self) -> None:
        for what in ("fin", "reset", "congest", "shutdown", "upstream", "silence"):
            for point in range(len(self.SCRIPT) * self.TURNS):
                for site in (GatewayGround(Policy(grace=5)), GatewayGround(Policy(grace=5), router=ROUTER)):
                    left = self.left(what, point, site)
                    self.assertEqual(set(left.values()), {0}, f"{what} at {point}: {left}")
