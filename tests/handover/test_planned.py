"""
Moves that are made while both networks work, and moves to a link that stands ready.
"""

from __future__ import annotations

from tests.handover.programs import BIG, MIDDLE, HandoverTestCase


class SwitchTests(HandoverTestCase):
    """
    Make before break.
    """

    def test_during_a_fetch(self) -> None:
        self.start_server()
        client = self.start_client()
        fetching = client.begin("fetch", marks=[MIDDLE])
        client.wait("progress")
        client.ask("switch", path="xg")
        self.assertEqual(client.ask("state")["path"], "xg")
        self.assertEqual(client.answer(fetching), BIG)
        self.assertEqual(client.count("away"), 0, client.events)
        self.check_streams()
        self.check_server(handovers=1)
        state = self.server.ask("state")
        self.assertEqual(state["displaced"], 1)
        self.assertEqual(state["stream"]["lost"], 0, "the old link was read to its end: nothing was put on a link twice")

    def test_during_an_append(self) -> None:
        self.start_server()
        client = self.start_client()
        self.append_and_cut(client, lambda: client.ask("switch", path="xg"))
        self.assertEqual(client.count("away"), 0, client.events)

    def test_to_a_silent_network_leaves_the_present_link(self) -> None:
        self.start_server()
        client = self.start_client(connect_timeout=0.5)
        self.xg.silence()
        with self.assertRaisesRegex(AssertionError, "Timeout"):
            client.ask("switch", path="xg")
        self.assertEqual(client.ask("fetch", marks=[]), BIG)
        self.assertEqual(client.ask("state")["path"], "wlan")
        self.check_server(handovers=0)


class PreparedTests(HandoverTestCase):
    """
    A link stands ready on the other network.
    """

    def test_a_dead_link_is_replaced_within_a_round_trip(self) -> None:
        self.start_server()
        client = self.start_client(prepare=True)
        self.eventually(client, prepared="xg")
        fetching = client.begin("fetch", marks=[MIDDLE])
        client.wait("progress")
        self.wlan.silence()
        client.ask("hint", what="link_is_dead")
        self.assertEqual(client.answer(fetching), BIG)
        self.assertLess(client.wait("resumed")["at"] - client.wait("away")["at"], 5.0)
        self.check_streams()
        # The next reserve is wanted on the network that is silent now; one more link than that of the session is none of ours.
        self.assertEqual(self.eventually(self.server, parked=0)["counts"]["handovers"], 1)

    def test_both_have_died(self) -> None:
        self.start_server()
        client = self.start_client(prepare=True)
        self.eventually(client, prepared="xg")
        self.xg.silence()
        self.wlan.silence()
        client.ask("hint", what="link_is_dead")
        client.wait("away")
        self.wlan.restore()
        client.wait("resumed")
        self.assertEqual(client.ask("fetch", marks=[]), BIG)
        self.check_streams()


class PreferenceTests(HandoverTestCase):
    """
    Which network is taken.
    """

    def test_a_silent_network_delays_by_its_head_start_alone(self) -> None:
        self.start_server()
        client = self.start_client(path_stagger=30.0)
        self.wlan.silence()
        client.ask("hint", what="link_is_dead")
        client.wait("resumed")
        self.assertEqual(client.ask("state")["path"], "xg")
        # What fell silent is tried last, so it delays nothing; now both are tried in their order again.
        self.assertLess(client.wait("resumed")["at"] - client.wait("away")["at"], 5.0)
        self.wlan.restore()
        self.xg.silence()
        client.ask("hint", what="link_is_dead")
        client.wait("resumed", 1)
        self.assertEqual(client.ask("state")["path"], "wlan")
        self.check_streams()

    def test_the_better_one_is_taken_when_both_work(self) -> None:
        self.start_server()
        client = self.start_client()
        client.ask("switch", path="xg")
        client.ask("switch", path=None)
        self.assertEqual(client.ask("state")["path"], "wlan")
        self.check_server(handovers=2)
