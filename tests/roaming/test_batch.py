"""
Programs that carry a mailbox, in their short form: with handovers in the middle each comes to what it comes to undisturbed.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.netlab import Shape
from tests.roaming.batch import SHORT, Batch, short_cases
from tests.roaming.ground import Way

HANDOVERS = 2


class BatchTests(SynchronousTestCase):
    timeout: ClassVar[float] = 90.0

    def check(self, name: str) -> None:
        """
        Directly without any handover, and on a network as fast as can be, then by the agent with some.
        """
        (case,) = (one for one in short_cases() if one.name == name)
        assert isinstance(case, Batch)
        outcomes = []
        with case.ground() as ground:
            wlan = ground.present
            for way, handovers, shape in ((Way.DIRECT, 0, Shape()), (Way.AGENT, HANDOVERS, SHORT[0])):
                wlan.shape(shape)
                with tempfile.TemporaryDirectory(dir="/tmp") as folder:
                    outcomes.append(case.run(ground, way, Path(folder), handovers))
            log = ground.agent_log()
        undisturbed, roaming = outcomes
        self.assertEqual((undisturbed.errors, roaming.errors), ([], []), log)
        self.assertEqual(roaming.lost, 0)
        for end in undisturbed.result.values():
            self.assertEqual((end["messages"], end["twice"], end["missing"]), (case.load.messages, 0, 0))
        self.assertEqual(roaming.result, undisturbed.result)
        self.assertEqual(roaming.connections, undisturbed.connections)
        self.assertEqual(roaming.handovers, HANDOVERS, f"they fall within the run: {roaming.seconds} seconds")
        self.assertGreaterEqual(len(re.findall(r" \d+: live: resumed by ", log)), HANDOVERS, log)

    def test_mbsync_fetching(self) -> None:
        self.check("mbsync, fetching")

    def test_mbsync_pushing(self) -> None:
        self.check("mbsync, pushing")

    def test_offlineimap(self) -> None:
        self.check("offlineimap")

    def test_fetchmail(self) -> None:
        self.check("fetchmail")

    def test_getmail(self) -> None:
        self.check("getmail")

    def test_curl(self) -> None:
        self.check("curl")
