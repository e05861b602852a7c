"""
C{docs/conformance.md} against the tests there are.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

import tests.interop
import tests.scenarios
from tests.conformance import steps, test_change_request

DOCUMENT = Path(__file__).parents[2] / "docs" / "conformance.md"
ELSEWHERE = {25, *range(46, 53)}
"""Scenarios that have no row in the first table; the document says why."""

GATEWAY = {1, 2, *range(5, 9), 10, 17, *range(19, 31), 32, 33, 37, 38}
"""Scenarios that are shown with real servers behind the gateway."""

Rows = dict[int, tuple[list[tuple[str, str]], str]]

_NAMED = re.compile(r"`(tests\.(?:scenarios|interop)\.\w+)\.(\w+)`")
_NUMBER = re.compile(r"test_scenario_(\d\d)_")
_STEP = re.compile(r"^\| ((?:Server|Client) \d) \| [^|]+ \| `(\w+)` \|$", re.MULTILINE)
_BEYOND = re.compile(r"`(\w+Tests)\.(test_\w+)`")


def tests_of(module: ModuleType) -> set[str]:
    """
    The names of the tests that a module has.
    """
    classes = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
    return {name for one in classes for name in dir(one) if name.startswith("test_") and callable(getattr(one, name))}


class TableTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.text = DOCUMENT.read_text("utf-8")
        alone, heading, gateway = self.text.partition("\n## The same through the gateway\n")
        self.assertTrue(heading)
        self.rows, self.gateway = self.rows_of(alone), self.rows_of(gateway)

    def rows_of(self, text: str) -> Rows:
        """
        The rows of a table: by number, the tests that they name and what is seen.
        """
        rows = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
        found = {int(number): (_NAMED.findall(tests), seen) for number, tests, seen in rows}
        self.assertEqual(len(rows), len(found), "a number has two rows")
        return found

    def entries(self) -> list[tuple[int, str, str]]:
        """
        Number, module and name of all tests that both tables name.
        """
        both = [*self.rows.items(), *self.gateway.items()]
        return [(number, module, name) for number, (named, _) in both for module, name in named]

    def test_numbers(self) -> None:
        """
        Every scenario has a row that says what is seen, but those of which the document says that they are not shown.
        """
        self.assertEqual(set(range(1, 53)) - set(self.rows), ELSEWHERE)
        self.assertEqual(set(self.gateway), GATEWAY)
        for number, (named, seen) in [*self.rows.items(), *self.gateway.items()]:
            self.assertTrue(named and len(seen) > 10, f"row {number} names no test, or does not say what is seen")

    def test_named_tests_exist(self) -> None:
        """
        Every test that a row names exists, and has the row's number.
        """
        for number, module, name in self.entries():
            self.assertIn(name, tests_of(import_module(module)), f"row {number}: {module}.{name} is not there")
            found = _NUMBER.match(name)
            self.assertTrue(found is not None and int(found.group(1)) == number, f"row {number} names {name}")

    def test_every_scenario_test_has_its_row(self) -> None:
        """
        Every test of a scenario is in the table.
        """
        listed = {(module, name) for _, module, name in self.entries()}
        packages = (tests.scenarios, tests.interop)
        for module in [one for package in packages for one in iter_modules(package.__path__, package.__name__ + ".")]:
            for name in tests_of(import_module(module.name)):
                if _NUMBER.match(name):
                    self.assertIn((module.name, name), listed, f"{module.name}.{name} has no row in {DOCUMENT.name}")

    def test_steps(self) -> None:
        """
        Each step of the change request is in the table, with a test in each way of moving; what is named beyond exists, too.
        """
        named = dict(_STEP.findall(self.text))
        self.assertEqual(list(named), [*(f"Server {one}" for one in range(1, 8)), *(f"Client {one}" for one in range(1, 5))])
        ways = [one for one in vars(test_change_request).values() if isinstance(one, type) and issubclass(one, steps.Steps)]
        self.assertEqual({one.__name__ for one in ways}, {"GraftTests", "GraftFromLayerTests", "ResumeTests"})
        for step, name in named.items():
            self.assertTrue(all(callable(getattr(one, name, None)) for one in ways), f"{step}: {name} is not there")
        beyond = _BEYOND.findall(self.text)
        self.assertEqual(len(beyond), 3)
        for way, name in beyond:
            self.assertTrue(callable(getattr(getattr(test_change_request, way), name, None)), f"{way}.{name} is not there")
