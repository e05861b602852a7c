"""
The demonstration, in its short form, and what it prints.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.netlab.fixtures import CHECKOUT, namespaces_of

_COMMAND = [sys.executable, "demo/handover.py", "--short"]


class DemoTests(SynchronousTestCase):
    """
    C{demo/handover.py}, as C{make demo} starts it.
    """

    timeout = 60

    def show(self, *options: str) -> str:
        """
        Its output.
        """
        done = subprocess.run([*_COMMAND, *options], cwd=CHECKOUT, capture_output=True, text=True, timeout=45)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        self.assertNotIn("\x1b", done.stdout, "no colours without a terminal")
        return done.stdout

    def row(self, text: str, name: str) -> tuple[float, float]:
        """
        The two figures of a row of the summary.
        """
        found = re.search(rf"^{re.escape(name)} +([0-9.]+)(?: MB| ms)? +([0-9.]+)", text, re.MULTILINE)
        assert found is not None, f"no row {name!r} in {text}"
        return float(found.group(1)), float(found.group(2))

    def check(self, text: str) -> None:
        """
        The summary says what it should.
        """
        self.assertEqual(text.count("SHA-256 equal"), 2)
        delivered, delivered_plain = self.row(text, "FETCH: of it delivered before")
        self.assertEqual(delivered, 0.0)
        self.assertGreaterEqual(delivered_plain, 2.0)
        self.assertEqual(self.row(text, "APPEND: of it delivered before"), (0.0, 1.0))
        self.assertEqual(self.row(text, "copies of the stored message"), (1, 2))
        self.assertEqual(self.row(text, "logins"), (1, 4))
        for occasion in ("FETCH", "APPEND"):
            gap, plain_gap = self.row(text, f"{occasion}: gap")
            self.assertLess(gap, plain_gap)

    def test_between_namespaces(self) -> None:
        text = self.show()
        self.assertIn("two network namespaces", text)
        self.check(text)

    def test_on_loopback(self) -> None:
        text = self.show("--loopback")
        self.assertIn("two loopback addresses", text)
        self.check(text)

    def test_interrupted(self) -> None:
        running = subprocess.Popen(_COMMAND, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(running.kill)
        assert running.stdout is not None
        while "FETCH of" not in (line := running.stdout.readline()):
            self.assertTrue(line, "the demonstration has ended early")
        self.assertTrue(namespaces_of(running.pid))
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=15)
        self.assertEqual((running.returncode, errors), (130, ""))
        self.assertEqual(namespaces_of(running.pid), [])
