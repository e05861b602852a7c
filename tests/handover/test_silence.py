"""
The network falls silent in the middle of something: no FIN, no RST, nobody is told.
"""

from __future__ import annotations

from typing import ClassVar

from tests.handover.programs import BIG, MIDDLE, HandoverTestCase
from tests.handover.server import SIZE
from tests.netlab import Shape


class HintedTests(HandoverTestCase):
    """
    Somebody tells the client.
    """

    def test_a_fetch_is_cut_in_the_middle(self) -> None:
        self.start_server()
        client = self.start_client()
        fetching = client.begin("fetch", marks=[MIDDLE])
        self.assertLess(client.wait("progress")["octets"], SIZE * 3 // 4)
        self.wlan.silence()
        client.ask("hint", what="link_is_dead")
        self.assertEqual(client.answer(fetching), BIG)
        self.assertEqual(client.ask("state")["path"], "xg")
        self.check_streams()
        self.check_server(handovers=1)
        self.assertEqual(self.server.ask("state")["displaced"], 1)
        gap = client.wait("resumed")["at"] - client.wait("away")["at"]
        self.assertLess(gap, 1.0)

    def test_an_append_is_cut_in_the_middle(self) -> None:
        self.start_server()
        client = self.start_client(by_device=True)

        def cut() -> None:
            self.wlan.silence()
            client.ask("hint", what="link_is_dead")

        self.append_and_cut(client, cut)

    def test_back_and_forth_during_one_fetch(self) -> None:
        self.start_server()
        client = self.start_client()
        marks = [SIZE * number // 10 for number in range(1, 7)]
        fetching = client.begin("fetch", marks=marks)
        for handovers, (here, there) in enumerate(((self.wlan, self.xg), (self.xg, self.wlan)) * 2):
            client.wait("progress", handovers)
            there.restore()
            here.silence()
            client.ask("hint", what="link_is_dead")
            client.wait("resumed", handovers)
            self.assertEqual(client.ask("state")["path"], there.name)
        self.assertEqual(client.answer(fetching), BIG)
        self.check_streams()
        self.check_server(handovers=4)


class UnhintedTests(HandoverTestCase):
    """
    The client has to find out.
    """

    def test_a_fetch_is_cut_in_the_middle(self) -> None:
        self.start_server()
        client = self.start_client()
        fetching = client.begin("fetch", marks=[MIDDLE])
        client.wait("progress")
        self.wlan.silence()
        self.assertEqual(client.answer(fetching), BIG)
        self.check_streams()
        self.check_server(handovers=1)
        gap = client.wait("resumed")["at"] - client.wait("progress")["at"]
        self.assertLess(gap, 2.0)
        self.assertEqual(client.count("away"), 0, "the old link was given up before the new one stood")

    def test_an_append_is_cut_in_the_middle(self) -> None:
        server = self.start_server()
        client = self.start_client()
        self.append_and_cut(client, self.wlan.silence)
        self.assertLess(client.wait("resumed")["at"] - server.wait("progress")["at"], 3.5)

    def test_mail_comes_in_the_gap_of_an_idle(self) -> None:
        server = self.start_server()
        client = self.start_client(probe_idle=1.0)
        client.ask("idle")
        self.wlan.silence()
        server.ask("deliver")
        self.assertEqual(client.wait("pushed")["text"], "* 2 EXISTS\r\n")
        client.ask("done")
        self.assertEqual(client.ask("state")["path"], "xg")
        self.assertEqual(client.count("pushed"), 1)
        self.check_streams()
        self.check_server(handovers=1)


class EmulatedTests(HandoverTestCase):
    """
    Over links with a delay and a rate of their own.
    """

    emulated = True
    shapes: ClassVar[dict[str, Shape]] = {"wlan": Shape(delay_ms=10, rate=60e6), "xg": Shape(delay_ms=30, rate=50e6)}

    def test_a_fetch_is_cut_in_the_middle(self) -> None:
        self.start_server()
        client = self.start_client()
        fetching = client.begin("fetch", marks=[MIDDLE])
        client.wait("progress")
        self.wlan.silence()
        self.assertEqual(client.answer(fetching), BIG)
        self.check_streams()
        self.check_server(handovers=1)
        self.assertLess(client.wait("resumed")["at"] - client.wait("progress")["at"], 2.0)
