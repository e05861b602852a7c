"""
Tests of L{mem_continuity.agent.networks}: what is told of networks, and when.
"""

from __future__ import annotations

from dataclasses import replace

from mem_continuity.core.policy import AgentPolicy
from tests.agent.watching import ETH, SETTLE, WLAN, WWAN, NetworksCase, device


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
