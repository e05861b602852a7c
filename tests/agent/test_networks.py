"""
Tests of L{mem_continuity.agent.networks}: what is a network, their order, and what is told when; with a source that says what it
is told to say, and a clock that is set by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.agent.devices import Device
from mem_continuity.agent.networks import Change, Kind, Network, Networks, Wishes, watch_networks
from mem_continuity.agent.polling import PollingSource
from mem_continuity.core.policy import AgentPolicy

POLICY = AgentPolicy()
SETTLE = POLICY.network_settle


def device(
    name: str,
    index: int = 5,
    metric: int | None = 100,
    addresses: tuple[str, ...] = ("192.0.2.7",),
    running: bool = True,
    length: int = 0,
) -> Device:
    return Device(index, name, running, name == "lo", addresses, None if metric is None else (-length, metric))


WLAN = device("wlan0", 3, 600, ("192.0.2.3",))
ETH = device("eth0", 2, 100, ("192.0.2.2",))
WWAN = device("wwan0", 4, 700, ("192.0.2.4", "2001:db8::4"))


class WishesTests(SynchronousTestCase):
    """
    Which devices are networks, and in which order.
    """

    def ranked(self, *devices: Device, order: str = "", metered: str = "", ignored: str = "") -> str:
        wishes = Wishes(tuple(order.split()), tuple(metered.split()), tuple(ignored.split()))
        return " ".join(one.name for one in wishes.rank(devices))

    def test_usable(self) -> None:
        """
        Running, with an address and a route.
        """
        unfit = (
            device("a", running=False),
            device("b", addresses=()),
            device("c", metric=None),
        )
        self.assertEqual(self.ranked(*unfit, WLAN), "wlan0")

    def test_named_outright(self) -> None:
        """
        A device that is named without a wildcard needs no route, but an address.
        """
        bare = device("wlan1", metric=None)
        self.assertEqual(self.ranked(bare, order="wlan*"), "")
        self.assertEqual(self.ranked(bare, order="wlan1"), "wlan1")
        self.assertEqual(self.ranked(bare, metered="wlan1"), "wlan1")
        self.assertEqual(self.ranked(replace(bare, addresses=()), order="wlan1"), "")

    def test_metric(self) -> None:
        """
        Without wishes the kernel's order: a route that says more of the server, then the metric, then the index.
        """
        self.assertEqual(self.ranked(WWAN, WLAN, ETH), "eth0 wlan0 wwan0")
        vpn = device("tun0", 9, 800, length=1)
        self.assertEqual(self.ranked(WLAN, vpn, ETH), "tun0 eth0 wlan0")
        self.assertEqual(self.ranked(device("b", 8), device("a", 7), device("c", 6)), "c a b")

    def test_order(self) -> None:
        """
        The operator's order goes before, and all else comes behind it.
        """
        self.assertEqual(self.ranked(ETH, WLAN, WWAN, order="wwan* wlan0"), "wwan0 wlan0 eth0")

    def test_metered(self) -> None:
        """
        Last, whatever the metric; unless it is named in the order, where a mere wildcard does not name it.
        """
        self.assertEqual(self.ranked(ETH, WLAN, metered="eth*"), "wlan0 eth0")
        self.assertEqual(self.ranked(ETH, WLAN, metered="eth*", order="*"), "wlan0 eth0")
        self.assertEqual(self.ranked(ETH, WLAN, metered="eth*", order="eth0 *"), "eth0 wlan0")
        self.assertEqual(self.ranked(ETH, WLAN, WWAN, metered="w*", order="wwan*"), "wwan0 eth0 wlan0")

    def test_metered_is_told(self) -> None:
        found = Wishes((), ("wwan*",)).rank([WWAN, ETH])
        self.assertEqual(
            found,
            (
                Network("eth0", 2, ("192.0.2.2",), 100, False),
                Network("wwan0", 4, ("192.0.2.4", "2001:db8::4"), 700, True),
            ),
        )

    def test_virtual(self) -> None:
        """
        What leads into this host is taken only when it is named.
        """
        inner = (device("lo", 1), device("docker0", 8), device("veth12ab", 9))
        self.assertEqual(self.ranked(*inner, WLAN), "wlan0")
        self.assertEqual(self.ranked(*inner, WLAN, order="*"), "wlan0")
        self.assertEqual(self.ranked(*inner, WLAN, order="docker* lo"), "docker0 lo wlan0")

    def test_ignored(self) -> None:
        """
        Never, even when named.
        """
        self.assertEqual(self.ranked(ETH, WLAN, order="eth0", ignored="e*"), "wlan0")

    def test_bad_patterns(self) -> None:
        for bad in ("", "x" * 65):
            for key in ("order", "metered", "ignored"):
                self.assertRaisesRegex(ValueError, "pattern", lambda key=key, bad=bad: Wishes(**{key: (bad,)}))

    @given(st.permutations([ETH, WLAN, WWAN, device("a", 7), device("b", 8)]), st.sampled_from(["", "w*", "* eth0", "b a"]))
    def test_stable(self, devices: list[Device], order: str) -> None:
        """
        The order in which the devices are told of does not matter.
        """
        known = sorted(devices, key=lambda one: one.index)
        self.assertEqual(self.ranked(*devices, order=order), self.ranked(*known, order=order))


class FakeSource:
    """
    Says what it is told to.
    """

    def __init__(self, error: OSError | None = None) -> None:
        self.looked = False
        self.known: tuple[Device, ...] = ()
        self.looks = 0
        self.running = False
        self._error = error
        self._changed: Callable[[], None] = lambda: None

    def start(self, changed: Callable[[], None]) -> None:
        if self._error is not None:
            raise self._error
        self.running = True
        self._changed = changed

    def stop(self) -> None:
        self.running = self.looked = False

    def look(self) -> None:
        self.looks += 1

    def devices(self) -> Iterable[Device]:
        return self.known

    def say(self, *devices: Device) -> None:
        self.looked = True
        self.known = devices
        self._changed()


class NetworksCase(SynchronousTestCase):
    """
    A watch, with everything that it has told.
    """

    def begin(self, policy: AgentPolicy = POLICY, wishes: Wishes | None = None) -> None:
        self.reactor = Clock()
        self.slept = 0.0
        self.source = FakeSource()
        self.networks = Networks(
            self.reactor,
            self.source,
            policy=policy,
            wishes=wishes,
            elapsed=lambda: self.reactor.seconds() + self.slept,
            awake=self.reactor.seconds,
        )
        self.told: list[str] = []
        self.networks.subscribe(self.heard)
        self.networks.start()

    def heard(self, change: Change) -> None:
        words = [change.kind.name, *([change.name] if change.name else []), *change.addresses]
        self.told.append(f"{' '.join(words)} | {self.names()}")

    def names(self) -> str:
        return " ".join(one.name for one in self.networks.ranked())

    def rest(self) -> None:
        """
        A minute in which nothing happens.
        """
        self.reactor.pump([0.5] * 120)

    def assert_told(self, *lines: str) -> None:
        """
        Exactly this since the last time.
        """
        told, self.told = self.told, []
        self.assertEqual(told, list(lines))


class ChangeTests(NetworksCase):
    """
    What is told, and when.
    """

    def setUp(self) -> None:
        self.begin()

    def test_first_look(self) -> None:
        """
        At once, each that there is, the best first.
        """
        self.source.say(WLAN, ETH)
        self.assert_told("APPEARED eth0 192.0.2.2 | eth0 wlan0", "APPEARED wlan0 192.0.2.3 | eth0 wlan0")

    def test_half_a_look(self) -> None:
        """
        Nothing is told before everything has been looked at.
        """
        self.source.say(WLAN)
        self.source.looked = False
        self.told.clear()
        self.source._changed()
        self.assert_told()

    def test_appeared(self) -> None:
        """
        After a short wait, once for a burst.
        """
        self.source.say(WLAN)
        self.told.clear()
        bare = replace(ETH, addresses=())
        for known in (bare, ETH, replace(ETH, leading=None), ETH, ETH):
            self.source.say(WLAN, known)
            self.reactor.advance(SETTLE / 10)
        self.assert_told()
        self.assertEqual(self.names(), "wlan0")
        self.reactor.advance(SETTLE)
        self.assert_told("APPEARED eth0 192.0.2.2 | eth0 wlan0")
        self.rest()
        self.assert_told()

    def test_burst_without_end(self) -> None:
        """
        Signs that do not end do not put it off.
        """
        self.source.say()
        for _ in range(20):
            self.source.say(WLAN)
            self.reactor.advance(SETTLE / 10)
        self.assert_told("APPEARED wlan0 192.0.2.3 | wlan0")

    def test_nothing_new(self) -> None:
        self.source.say(WLAN)
        self.told.clear()
        self.source.say(replace(WLAN), device("eth0", 2, running=False))
        self.rest()
        self.assert_told()

    def test_lost(self) -> None:
        """
        At once: with its device, its carrier, its addresses or its route.
        """
        for gone in ((), (replace(ETH, running=False),), (replace(ETH, addresses=()),), (replace(ETH, leading=None),)):
            self.begin()
            self.source.say(WLAN, ETH)
            self.told.clear()
            self.source.say(WLAN, *gone)
            self.assert_told("LOST eth0 192.0.2.2 | wlan0")
            self.rest()
            self.assert_told()

    def test_back(self) -> None:
        """
        A loss that lasts for a moment is a loss, and then it is there again.
        """
        self.source.say(WLAN, ETH)
        self.told.clear()
        self.source.say(ETH)
        self.source.say(WLAN, ETH)
        self.assert_told("LOST wlan0 192.0.2.3 | eth0")
        self.reactor.advance(SETTLE)
        self.assert_told("APPEARED wlan0 192.0.2.3 | eth0 wlan0")

    def test_come_and_gone(self) -> None:
        """
        What is gone before it was told of is not told of.
        """
        self.source.say(WLAN)
        self.told.clear()
        self.source.say(WLAN, ETH)
        self.source.say(WLAN)
        self.rest()
        self.assert_told()

    def test_instead(self) -> None:
        """
        One goes, another comes: the loss first.
        """
        self.source.say(WLAN)
        self.told.clear()
        self.source.say(WWAN)
        self.assert_told("LOST wlan0 192.0.2.3 | ")
        self.reactor.advance(SETTLE)
        self.assert_told("APPEARED wwan0 192.0.2.4 2001:db8::4 | wwan0")

    def test_other_device(self) -> None:
        """
        Another device with the same name, and the same address even, is another network.
        """
        self.source.say(WLAN)
        self.told.clear()
        self.source.say(replace(WLAN, index=30))
        self.reactor.advance(SETTLE)
        self.assert_told("LOST wlan0 192.0.2.3 | ", "APPEARED wlan0 192.0.2.3 | wlan0")

    def test_some_addresses(self) -> None:
        """
        An address goes and another comes, while the network stays.
        """
        self.source.say(WWAN, ETH)
        self.told.clear()
        self.source.say(replace(WWAN, addresses=("2001:db8::4", "192.0.2.44")), ETH)
        self.assert_told("LOST wwan0 192.0.2.4 | eth0 wwan0")
        self.assertEqual(self.networks.ranked()[1].addresses, ("2001:db8::4",))
        self.reactor.advance(SETTLE)
        self.assert_told("APPEARED wwan0 192.0.2.44 | eth0 wwan0")
        self.assertEqual(self.networks.ranked()[1].addresses, ("2001:db8::4", "192.0.2.44"))

    def test_ranked(self) -> None:
        """
        The same ones in another order; another metric alone is not told of, but known.
        """
        self.source.say(ETH, WLAN)
        self.told.clear()
        self.source.say(replace(ETH, leading=(0, 900)), WLAN)
        self.reactor.advance(SETTLE)
        self.assert_told("RANKED | wlan0 eth0")
        self.source.say(replace(ETH, leading=(0, 901)), WLAN)
        self.reactor.advance(SETTLE)
        self.assert_told()
        self.assertEqual(self.networks.ranked()[1].metric, 901)

    def test_loss_can_wait(self) -> None:
        """
        Where the operator wants it so, a loss of a moment is none.
        """
        self.begin(AgentPolicy(network_loss=1.0))
        self.source.say(WLAN)
        self.told.clear()
        self.source.say()
        self.source.say(WLAN)
        self.rest()
        self.assert_told()
        self.source.say()
        self.source.say()
        self.assert_told()
        self.reactor.advance(1)
        self.assert_told("LOST wlan0 192.0.2.3 | ")
        self.source.say(ETH)
        self.reactor.advance(SETTLE)
        self.told.clear()
        for _ in range(3):
            self.source.say(WLAN)
        self.networks.stop()
        self.assertEqual(self.reactor.getDelayedCalls(), [])


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
