"""
mutt and NeoMutt in a terminal, in their short form: nothing that a user sees tells of the changes of network.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.dovecot import Dovecot
from tests.interop.programs.mutt_window import MUTT, NEOMUTT, Flavour, Window
from tests.interop.programs.target import Target
from tests.roaming.ground import Way
from tests.roaming.terminal import WELL, short_case

HANDOVERS = 3
"""In the midst of a draft that is saved, of a message that is read, and of waiting."""


class TerminalTests(SynchronousTestCase):
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
        self.assertEqual([fact for fact in undisturbed.result if not fact.startswith("a draft")], list(WELL))
        self.assertEqual(len(undisturbed.result), 5, "all drafts are the same")
        self.assertEqual(roaming.result, undisturbed.result)
        self.assertEqual((roaming.connections, roaming.lost, roaming.handovers), (1, 0, HANDOVERS), log)

    def check_complaint(self, flavour: Flavour) -> None:
        """
        What must not be seen elsewhere is seen here: the connection ends while the program waits.
        """
        with Dovecot(users={"ann": "secret"}) as server, tempfile.TemporaryDirectory(dir="/tmp") as folder:
            window = Window(flavour, Target("localhost", server.imap_port, None, "ann", "secret"), Path(folder) / "home")
            with window:
                self.assertEqual(window.complaints(), [])
                server.stop()
                window.terminal.wait_until(lambda screen: window.complaints(), "it says nothing")

    def test_mutt_complains(self) -> None:
        self.check_complaint(MUTT)

    def test_neomutt_complains(self) -> None:
        self.check_complaint(NEOMUTT)

    def test_mutt(self) -> None:
        self.check("mutt")

    def test_neomutt(self) -> None:
        self.check("neomutt")
