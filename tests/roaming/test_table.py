"""
The table: rows are kept as they are finished, and say what is not the same.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.roaming.__main__ import find_cases, main
from tests.roaming.cases import Case, Outcome
from tests.roaming.ground import Ground, Way


class _Nowhere(Ground):
    """
    Has nothing.
    """

    def __enter__(self) -> _Nowhere:
        return self


class _Made(Case):
    """
    Comes to what it was told.
    """

    name = "made"

    def __init__(self, roaming: Any, errors: list[str]) -> None:
        self.runs: list[tuple[Way, int]] = []
        self._roaming = roaming
        self._errors = errors

    def version(self) -> str:
        return "1.0"

    def ground(self) -> Ground:
        return _Nowhere()

    def run(self, ground: Ground, way: Way, folder: Path, handovers: int) -> Outcome:
        self.runs.append((way, handovers))
        if way is Way.DIRECT and not handovers:
            return Outcome([3], [], 0.1, 1, 0, 8.0, 0)
        return Outcome(self._roaming, self._errors, 2.5, 1, 0, 9.0, handovers)


class TableTests(SynchronousTestCase):
    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.rows = Path(place.name, "rows")

    def run_with(self, case: _Made, *options: str) -> tuple[int, str]:
        """
        Exit status, and the last line of the table.
        """
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
            code = main(["--rows", str(self.rows), *options], lambda wanted, long: [case])
        return code, said.getvalue().splitlines()[-1]

    def test_good(self) -> None:
        code, line = self.run_with(_Made([3], []), "--handovers", "2")
        self.assertEqual((code, line), (0, "| made | 1.0 | 2 | [3] | 2.5 s |  |  | 8 s |"))

    def test_not_the_same(self) -> None:
        code, line = self.run_with(_Made([2], []), "--without")
        self.assertEqual(code, 1)
        self.assertEqual(line.count("[2]; not the same"), 2)

    def test_error(self) -> None:
        code, line = self.run_with(_Made([3], ["oh"]))
        self.assertEqual(code, 1)
        self.assertIn("[3]; error", line)

    def test_goes_on(self) -> None:
        """
        What is finished is not run again.
        """
        first, second = _Made([3], []), _Made([3], [])
        self.run_with(first, "--handovers", "2")
        self.assertEqual(first.runs, [(Way.DIRECT, 0), (Way.AGENT, 2)])
        code, _ = self.run_with(second, "--handovers", "2", "5", "--without")
        self.assertEqual(second.runs, [(Way.DIRECT, 2), (Way.AGENT, 5), (Way.DIRECT, 5)])
        self.assertEqual(code, 0)

    def test_cases(self) -> None:
        """
        All kinds are there, in both forms, by different names.
        """
        for long in (False, True):
            names = [case.name for case in find_cases([], long)]
            self.assertEqual(len(set(names)), len(names))
            self.assertTrue({"mbsync, fetching", "mbsync, pushing", "fetchmail"} <= set(names))
        self.assertEqual([case.name for case in find_cases(["mbsync, p"], True)], ["mbsync, pushing"])
