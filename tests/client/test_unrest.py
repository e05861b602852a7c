"""
A mail program at work on a handset whose networks come, go, slow down, fall silent and break, while its owner moves: whatever
happens, and in whatever order, each command is answered once, each message is stored once, and nothing is left in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from random import Random

from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.client.roamer import Phase
from mem_continuity.core.policy import MIB, Policy
from tests import LONG
from tests.client.handset import Handset
from tests.support.memory_endpoint import JoinedWire


class Walk:
    """
    One course of events.
    """

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        server = Policy(window=random.choice([16 * 1024, MIB]))
        self.handset = Handset(prepare=random.random() < 0.3, server=server, give_up=1e6)
        self.roamer = self.handset.begin()
        self.handset.now(self.handset.client.select(b"INBOX"))
        self.asked: list[int] = []
        self.answered: list[int] = []
        self.failed: list[Failure] = []
        self.messages: list[bytes] = []

    @property
    def wires(self) -> list[JoinedWire]:
        return [wire for gate in self.handset.gates.values() for wire in gate.wires if not wire.lost]

    def noop(self) -> None:
        number = len(self.asked)
        self.asked.append(number)
        self.handset.client.noop().addCallbacks(lambda _: self.answered.append(number), self.failed.append)

    def append(self) -> None:
        number = len(self.asked)
        self.asked.append(number)
        message = b"Subject: %d\r\n\r\n" % number + b"x" * self.random.choice([10, 3000, 40000])
        self.messages.append(message)
        appending = self.handset.client.append(b"INBOX", BytesIO(message))
        appending.addCallbacks(lambda _: self.answered.append(number), self.failed.append)

    def switch(self) -> None:
        self.roamer.switch(self.random.choice(["wlan", "xg", None])).addErrback(lambda _: None)

    def slow(self) -> None:
        for wire in self.wires:
            if self.random.random() < 0.5:
                wire.slow = self.random.choice([0.0, 0.0, 0.05, 0.3, 1.0])

    def trouble(self) -> None:
        if self.wires:
            wire = self.random.choice(self.wires)
            self.random.choice([wire.cut, wire.client_lost, wire.reset, wire.silence, wire.congest])()

    def cut_soon(self) -> None:
        if self.wires:
            wire, direction = self.random.choice(self.wires), self.random.choice([0, 1])
            wire.cut_after = direction, wire.carried[direction] + self.random.choice([0, 1, 5, 30, 200, 5000])

    def relieve(self) -> None:
        for wire in self.wires:
            wire.relieve()

    def shut(self) -> None:
        gate = self.random.choice(list(self.handset.gates.values()))
        gate.mode = self.random.choice(["open", "open", "open", "shut", "black"])

    def wait(self) -> None:
        self.handset.sleep(self.random.choice([0.05, 0.1, 0.3, 0.6, 2.0]))

    def run(self, steps: int) -> None:
        ways: dict[Callable[[], object], int] = {
            self.switch: 10,
            self.noop: 8,
            self.append: 4,
            self.slow: 4,
            self.trouble: 5,
            self.cut_soon: 2,
            self.relieve: 2,
            self.shut: 2,
            self.roamer.network_changed: 3,
            self.roamer.link_is_dead: 1,
            self.handset.site.settle: 6,
            self.wait: 10,
            lambda: self.handset.site.clock.advance(self.random.choice([0, 0.01, 0.2])): 6,
        }
        for way in self.random.choices(list(ways), list(ways.values()), k=steps):
            way()

    def calm_down(self) -> None:
        """
        All is well from now on, and there is time.
        """
        for gate in self.handset.gates.values():
            gate.mode = "open"
        for wire in self.wires:
            wire.slow, wire.cut_after = 0.0, None
        self.relieve()
        self.handset.sleep(60.0, 0.25)

    def end(self) -> None:
        """
        The protocol ends, in one way or another.
        """
        client = self.handset.client
        assert client.transport is not None
        ways: list[Callable[[], object]] = [
            lambda: client.logout().addErrback(lambda _: None),
            client.transport.loseConnection,
            client.transport.abortConnection,  # type: ignore[attr-defined]
        ]
        self.random.choice(ways)()
        self.handset.sleep(70.0, 0.5)


class UnrestTests(SynchronousTestCase):
    """
    Many walks.
    """

    timeout = 600

    def test_nothing_is_lost_or_done_twice_or_left(self) -> None:
        for seed in range(3000 if LONG else 40):
            with self.subTest(seed=seed), capturedLogs() as logs:
                walk = Walk(seed)
                walk.run(60)
                walk.calm_down()
                self.assertEqual((walk.handset.client.losses, walk.failed), ([], []))
                self.assertEqual(walk.answered, walk.asked)
                self.assertEqual(walk.handset.site.mailbox().stored, walk.messages)
                self.assertIs(walk.roamer.phase, Phase.LIVE)
                self.assertEqual(len(walk.handset.site.factory.table), 1)
                walk.end()
                self.assertIs(walk.roamer.phase, Phase.ENDED)
                self.assertEqual(len(walk.handset.client.losses), 1)
                self.assertTrue(all(wire.dead or wire.client is None or wire.client.disconnected for wire in walk.wires))
                self.assertEqual([event["log_failure"].getTraceback() for event in logs if "log_failure" in event], [])
