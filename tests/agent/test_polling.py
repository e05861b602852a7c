"""
Tests of L{mem_continuity.agent.polling}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.agent.devices import Device, literal_addresses
from mem_continuity.agent.polling import PollingSource, source_address
from mem_continuity.core.policy import AgentPolicy

POLICY = AgentPolicy()


class PollingTests(SynchronousTestCase):
    """
    A source with a host whose addresses are set by hand.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.answers: dict[str, str] = {}
        self.asked: list[str] = []
        self.changes = 0
        self.source = self.new_source()

    def new_source(self, *targets: str) -> PollingSource:
        return PollingSource(self.clock, literal_addresses(targets), POLICY, self.probe)

    def probe(self, target: str) -> str | None:
        self.asked.append(target)
        return self.answers.get(target)

    def changed(self) -> None:
        self.changes += 1

    def addresses(self) -> tuple[str, ...] | None:
        devices = list(self.source.devices())
        if not devices:
            return None
        (device,) = devices
        self.assertEqual(device, Device(0, "default", True, False, device.addresses, (0, 0)))
        return device.addresses

    def test_course(self) -> None:
        """
        Told at first, and then of changes only.
        """
        self.source.start(self.changed)
        self.assertEqual((self.addresses(), self.changes, self.source.looked), (None, 1, True))
        self.answers["192.0.2.1"] = "10.0.0.5"
        self.clock.advance(POLICY.network_poll)
        self.assertEqual((self.addresses(), self.changes), (("10.0.0.5",), 2))
        self.answers["2001:db8::1"] = "2001:db8::5"
        self.clock.advance(POLICY.network_poll)
        self.assertEqual((self.addresses(), self.changes), (("10.0.0.5", "2001:db8::5"), 3))
        self.clock.pump([POLICY.network_poll] * 5)
        self.assertEqual(self.changes, 3)
        self.answers.clear()
        self.clock.advance(POLICY.network_poll)
        self.assertEqual((self.addresses(), self.changes), (None, 4))

    def test_targets(self) -> None:
        """
        The server's addresses, where they are known; several with one answer are one.
        """
        self.source = self.new_source("192.0.2.9", "192.0.2.10", "imap.example.org", "fe80::1%eth0")
        self.answers.update({"192.0.2.9": "10.0.0.5", "192.0.2.10": "10.0.0.5"})
        self.source.start(self.changed)
        self.assertEqual(self.asked, ["192.0.2.9", "192.0.2.10", "fe80::1"])
        self.assertEqual(self.addresses(), ("10.0.0.5",))

    def test_look(self) -> None:
        """
        Now, and then again after the whole pause.
        """
        self.source.start(self.changed)
        self.clock.advance(POLICY.network_poll / 2)
        self.asked.clear()
        self.source.look()
        self.assertEqual(len(self.asked), 2)
        self.clock.advance(POLICY.network_poll / 2)
        self.assertEqual(len(self.asked), 2)
        self.clock.advance(POLICY.network_poll / 2)
        self.assertEqual(len(self.asked), 4)

    def test_stop(self) -> None:
        self.source.start(self.changed)
        self.source.stop()
        self.asked.clear()
        self.source.look()
        self.assertEqual((self.clock.getDelayedCalls(), self.asked, self.source.looked), ([], [], False))

    def test_real(self) -> None:
        """
        This host reaches itself from itself, and from nowhere what is no address of its families.
        """
        self.assertEqual(source_address("127.0.0.1"), "127.0.0.1")
        self.assertIsNone(source_address("127.0.0.1:1"))
