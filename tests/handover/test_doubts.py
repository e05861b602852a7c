"""
The network falls silent, nobody tells, and the client finds out by itself: soon in both directions, and not where a link is only
slow.
"""

from __future__ import annotations

import time
from typing import ClassVar

from tests.handover.programs import BIG, MIDDLE, HandoverTestCase, Program
from tests.netlab import Shape

SOON = 1.4
"""Seconds; the goal is a third of that, and what was waited for acknowledgements took more than this."""


class DoubtTests(HandoverTestCase):
    """
    Links of 20 Mbit/s and 20 ms.
    """

    emulated = True
    shapes: ClassVar[dict[str, Shape]] = {
        "wlan": Shape(delay_ms=10, rate=20e6, queue=1048576),
        "xg": Shape(delay_ms=10, rate=60e6, queue=1048576),
    }

    def check(self, client: Program, silent_at: float) -> None:
        """
        Doubted soon, left for the other network, and not given up before.
        """
        doubt = client.wait("doubt")
        self.assertIn("no sign of life", doubt["text"])
        self.assertLess(doubt["at"] - silent_at, SOON)
        client.wait("resumed")
        self.assertEqual((client.ask("state")["path"], client.count("away")), ("xg", 0))

    def test_in_a_download(self) -> None:
        self.start_server()
        client = self.start_client()
        fetching = client.begin("fetch", marks=[MIDDLE])
        client.wait("progress")
        self.wlan.silence()
        self.check(client, time.monotonic())
        self.assertEqual(client.answer(fetching), BIG)
        self.check_streams()
        self.check_server(handovers=1)

    def test_in_an_upload(self) -> None:
        self.start_server()
        client = self.start_client()

        def cut() -> None:
            self.wlan.silence()
            self.check(client, time.monotonic())

        self.append_and_cut(client, cut)

    def test_with_the_first_command_after_a_pause(self) -> None:
        self.start_server()
        client = self.start_client()
        client.ask("noop")
        time.sleep(1.0)  # traffic has fallen silent, and was asked about
        self.wlan.silence()
        began = time.monotonic()
        asked = client.begin("noop")
        self.check(client, began)
        client.answer(asked)
        self.check_streams()


class SlowTests(HandoverTestCase):
    """
    An upload that fills a queue of seconds.
    """

    emulated = True
    shapes: ClassVar[dict[str, Shape]] = {"wlan": Shape(delay_ms=30, rate=1e6, queue=524288), "xg": Shape(delay_ms=10)}

    def test_a_slow_link_is_not_doubted(self) -> None:
        self.start_server()
        self.lab.sysctl(self.lab.handset, "net.ipv4.tcp_congestion_control", "reno")  # it fills queues, and is everywhere
        client = self.start_client()
        self.server.ask("follow", marks=[400_000])
        client.begin("append")
        self.server.wait("progress")
        state = client.ask("state")
        self.assertEqual((state["path"], state["handovers"], client.count("doubt")), ("wlan", 0, 0))
