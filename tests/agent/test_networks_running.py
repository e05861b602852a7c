"""
Tests of L{mem_continuity.agent.networks}: its beginning and end, its subscribers, what it does without a source, and a machine
that was asleep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twisted.internet.task import Clock

from mem_continuity.agent.networks import Change, Kind, Network, Networks, watch_networks
from mem_continuity.agent.polling import PollingSource
from tests.agent.watching import ETH, POLICY, SETTLE, WLAN, WWAN, FakeSource, NetworksCase


class WakingTests(NetworksCase):
    """
    After a sleep.
    """

    def setUp(self) -> None:
        self.begin()
        self.source.say(WLAN, ETH)
        self.told.clear()

    def test_timer(self) -> None:
        """
        Everything is looked at again.
        """
        self.slept = 3600
        self.reactor.advance(POLICY.sleep_look)
        self.assert_told("WOKE | eth0 wlan0")
        self.assertEqual(self.source.looks, 1)

    def test_sign(self) -> None:
        """
        A network that comes or goes first thing after a sleep tells of both, the sleep first.
        """
        self.slept = 3600
        self.source.say(ETH)
        self.assert_told("WOKE | eth0 wlan0", "LOST wlan0 192.0.2.3 | eth0")


class RunningTests(NetworksCase):
    """
    Beginning, ending, and those who listen.
    """

    def setUp(self) -> None:
        self.begin()

    def test_ready(self) -> None:
        ready = self.networks.ready()
        self.assertNoResult(ready)
        self.source.say(WLAN)
        self.successResultOf(ready)
        self.successResultOf(self.networks.ready())

    def test_ready_in_any_case(self) -> None:
        """
        Nobody waits for ever; what is found later is told as something new.
        """
        ready = self.networks.ready()
        self.reactor.advance(POLICY.network_look)
        self.successResultOf(ready)
        self.source.say(WLAN)
        self.reactor.advance(SETTLE)
        self.assert_told("APPEARED wlan0 192.0.2.3 | wlan0")

    def test_ready_cancelled(self) -> None:
        ready = self.networks.ready()
        ready.addErrback(lambda _: None)
        ready.cancel()
        self.source.say(WLAN)
        self.assertEqual(self.names(), "wlan0")

    def test_stop(self) -> None:
        """
        No timer is left, nothing is told, nobody waits; and it can begin again.
        """
        ready = self.networks.ready()
        self.networks.stop()
        self.successResultOf(ready)
        self.networks.start()
        self.source.say(WLAN)
        for metric in range(3):
            self.source.say(replace(ETH, leading=(0, metric)))
        self.assertNotEqual(self.reactor.getDelayedCalls(), [])
        self.told.clear()
        self.networks.stop()
        self.assertEqual((self.reactor.getDelayedCalls(), self.source.running, self.names()), ([], False, ""))
        self.assert_told()
        self.assertNoResult(self.networks.ready())
        self.networks.start()
        self.source.say(ETH)
        self.assert_told("APPEARED eth0 192.0.2.2 | eth0")

    def test_stop_when_told(self) -> None:
        """
        Whoever is told may end it, at any word.
        """
        self.source.say(WLAN, ETH)
        self.networks.subscribe(lambda _: self.networks.stop())
        later: list[Change] = []
        self.networks.subscribe(later.append)
        self.source.say(WWAN)
        self.assertEqual(later, [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.names(), "")

    def test_start_twice(self) -> None:
        self.networks.start()
        self.source.say(WLAN)
        self.networks.stop()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_unsubscribe(self) -> None:
        """
        Even while it is being told, and twice.
        """
        told: list[Change] = []
        unsubscribe: Callable[[], None] = lambda: None  # noqa: E731

        def once(change: Change) -> None:
            told.append(change)
            unsubscribe()
            unsubscribe()

        unsubscribe = self.networks.subscribe(once)
        # It is asked for by one in front of it, and it does so itself.
        self.source.say(WLAN)
        self.assertEqual(len(told), 1)
        self.networks.subscribe(lambda _: leave())
        leave = self.networks.subscribe(told.append)
        self.source.say()
        self.assertEqual(len(told), 1)

    def test_error(self) -> None:
        """
        A subscriber that fails does not keep it from the others.
        """
        told: list[Kind] = []

        def fails(change: Change) -> None:
            raise ZeroDivisionError

        self.networks.subscribe(fails)
        self.networks.subscribe(lambda change: told.append(change.kind))
        self.source.say(WLAN)
        self.assertEqual(told, [Kind.APPEARED])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_fallback(self) -> None:
        """
        Where the one source cannot be had another one is asked.
        """
        other = FakeSource()
        networks = Networks(self.reactor, FakeSource(OSError("not permitted")), other)
        networks.start()
        other.say(ETH)
        self.assertEqual([one.name for one in networks.ranked()], ["eth0"])
        networks.stop()
        self.assertFalse(other.running)

    def test_no_source(self) -> None:
        networks = Networks(Clock(), FakeSource(OSError("not permitted")))
        self.assertRaises(OSError, networks.start)

    def test_reactor_without_descriptors(self) -> None:
        """
        It is asked for networks every few seconds.
        """
        networks = watch_networks(self.reactor, server=["127.0.0.1", "imap.example.org"])
        self.assertIsInstance(networks._source, PollingSource)
        networks.start()
        self.assertEqual(networks.ranked(), (Network("default", 0, ("127.0.0.1",), 0, False),))
        networks.stop()
