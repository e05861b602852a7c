"""
Programs that wait for mail, in their short form: what arrives while there is no network is noticed once, soon after there is one.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.roaming.ground import Way
from tests.roaming.idlers import WELL, short_case

HANDOVERS = 3
SOON = 3.0
"""Seconds from the new network's being there; the old one goes half a second later."""


class IdlersTests(SynchronousTestCase):
    timeout: ClassVar[float] = 90.0

    def check(self, name: str) -> None:
        case = short_case(name)
        outcomes = []
        with case.ground() as ground:
            for way, handovers in ((Way.DIRECT, 0), (Way.AGENT, HANDOVERS)):
                with tempfile.TemporaryDirectory(dir="/tmp") as folder:
                    outcomes.append(case.run(ground, way, Path(folder), handovers))
            log = ground.agent_log()
        undisturbed, roaming = outcomes
        self.assertEqual((undisturbed.errors, roaming.errors), ([], []), log)
        self.assertEqual(undisturbed.result, WELL)
        self.assertEqual(roaming.result, undisturbed.result)
        self.assertEqual((roaming.connections, roaming.lost, roaming.handovers), (1, 0, HANDOVERS), log)
        self.assertLess(roaming.figures["noticed after there was a network at most"], SOON, log)

    def test_imapflow(self) -> None:
        self.check("imapflow")

    def test_aioimaplib(self) -> None:
        self.check("aioimaplib")
