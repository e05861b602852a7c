"""
Thunderbird in its short form: over two handovers, with the agent, nothing is told, nothing is lost, nothing is there twice.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.roaming.ground import Way
from tests.roaming.thunderbird import SHORT, ThunderbirdCase, plain

HANDOVERS = 2


class ThunderbirdTests(SynchronousTestCase):
    timeout: ClassVar[float] = 240.0

    def test_short(self) -> None:
        """
        A mailbox is fetched, mail comes while there is no network, and a large message is stored meanwhile.  What an undisturbed
        run comes to is known beforehand.
        """
        case = ThunderbirdCase(SHORT)
        with case.ground() as ground, tempfile.TemporaryDirectory(dir="/tmp") as folder:
            outcome = case.run(ground, Way.AGENT, Path(folder), HANDOVERS)
            log = ground.agent_log()
        self.assertEqual(outcome.errors, [], log)
        self.assertEqual((outcome.handovers, outcome.lost), (HANDOVERS, 0), log)
        expected = plain(SHORT.expected())
        self.assertEqual((outcome.result["brought"], outcome.result["left"]), (expected, expected))
        self.assertEqual(outcome.result["noticed"], {f"late-{number:03d}@a.example": 1 for number in range(len(SHORT.late))})
        # It keeps several connections; each handover brings all of them back.
        moved = Counter(re.findall(r" (\d+): live: resumed by ", log))
        self.assertGreaterEqual(len([times for times in moved.values() if times >= HANDOVERS]), 3, log)
        self.assertLessEqual(outcome.connections, 6, log)
