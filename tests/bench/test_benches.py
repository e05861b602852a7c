"""
Every bench runs in its smallest form, prints its table and its figures; the report tells met from missed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench._report import Report
from bench.run import BENCHES

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 50.0

FIRST_FIGURES = {
    "gap": "cold, RTT 20 ms, 10 messages",
    "silence": "download, RTT 20 ms, 20 Mbit/s, loss 0 %: doubt",
    "switch": "planned, FETCH, RTT 20: agent",
    "octets": "cold, default, up",
    "resent": "FETCH of 2 MB, delivered payload sent again",
    "tail": "20 Mbit/s x 60 ms, the most",
    "memory": "live, idle: IMAP4Server and TLS alone",
    "handover": "handovers, full handshakes",
    "throughput": "FETCH 20 MB, bare",
    "tls": "memory, idle: Twisted's TLS",
    "gateway": "Dovecot: FETCH, 1 session, Dovecot direct",
    "gateway_memory": "40 sessions, idle: haproxy",
}


class BenchTests(SynchronousTestCase):
    """
    The commands, as people call them.
    """

    def run_bench(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """
        From the checkout, as people do.
        """
        return subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )

    def start(self, name: str, folder: Path) -> subprocess.Popen[str]:
        """
        Without waiting for it; it ends with the test.
        """
        argv = [sys.executable, "-m", f"bench.{name}", "--smoke", "--json", str(folder / name)]
        process = subprocess.Popen(
            argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

        def end() -> None:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=TIMEOUT)

        self.addCleanup(end)
        return process

    def check(self, names: Iterable[str]) -> None:
        """
        Side by side, as they mostly wait; what they measure does not matter here.
        """
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        running = {name: self.start(name, folder) for name in names}
        for name, process in running.items():
            table, complaint = process.communicate(timeout=TIMEOUT)
            self.assertEqual((name, process.returncode, complaint), (name, 0, ""), table)
            figures = json.loads((folder / name).read_text("utf-8"))["figures"]
            self.assertEqual(figures[0]["what"], FIRST_FIGURES[name])
            for figure in figures:
                self.assertIn(figure["what"], table)
                self.assertIsInstance(figure["value"], (int, float))

    def test_every_bench_is_known(self) -> None:
        """
        To the tests here.
        """
        self.assertEqual(set(FIRST_FIGURES), set(BENCHES))

    def test_every_bench_runs(self) -> None:
        """
        But those with other people's servers.
        """
        self.check(name for name in BENCHES if name != "switch" and not name.startswith("gateway"))

    def test_the_switch_s_bench_runs(self) -> None:
        """
        By itself: it has seven processes.
        """
        self.check(["switch"])

    def test_the_gateway_s_benches_run(self) -> None:
        """
        Beside Dovecot, nginx and haproxy.
        """
        self.check(name for name in BENCHES if name.startswith("gateway"))

    def test_run_refuses_what_it_does_not_know(self) -> None:
        """
        Said in a line, without a traceback.
        """
        ended = self.run_bench("bench/run.py", "nonsense")
        self.assertEqual(ended.returncode, 2)
        self.assertIn("nonsense", ended.stderr)
        self.assertNotIn("Traceback", ended.stderr)

    def test_too_slow(self) -> None:
        """
        A bench that takes too long says so and ends.
        """
        ended = self.run_bench("-m", "bench.tail", "--smoke", "--timeout", "0.1")
        self.assertEqual(ended.returncode, 1)
        self.assertIn("not done within", ended.stderr)


class ReportTests(SynchronousTestCase):
    """
    L{Report}.
    """

    def test_verdicts(self) -> None:
        """
        The most, the least, neither; the goal itself is met.
        """
        report = Report("title")
        for value, goal, at_least in ((5, 5, False), (6, 5, False), (5, 5, True), (4, 5, True), (1, None, False)):
            report.add("figure", value, "s", goal, at_least=at_least)
        self.assertEqual([one.met for one in report.figures], [True, False, True, False, None])
        self.assertEqual([one["met"] for one in report.data()["figures"]], [True, False, True, False, None])
        lines = report.table().splitlines()
        self.assertEqual([line.split()[-1] for line in lines[2:]], ["met", "MISSED", "met", "MISSED", "s"])
