"""
Tests of L{Wishes<mem_continuity.agent.networks.Wishes>}: what is a network, and their order.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.agent.devices import Device
from mem_continuity.agent.networks import Network, Wishes
from tests.agent.watching import ETH, WLAN, WWAN, device


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
