"""
C{python -m tests.roaming}: what unmodified mail programs make of changes of network, as a table in Markdown.

Each program runs undisturbed, with the agent over some handovers, and without it over the same journey.  The rows are kept in a
file as they are finished, so that a run that was broken off goes on where it was.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.roaming.cases import Case, Outcome
from tests.roaming.ground import Way

MODULES = ("batch", "terminal", "idlers", "thunderbird")
"""Each has C{cases()}, the long form, and may have C{short_cases()}."""

_HANDOVERS = [1, 5, 20]
_SHORT = [2]


class Rows:
    """
    The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, Outcome] = {}
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            row = json.loads(line)
            key = row.pop("key")
            self._found[key] = Outcome.from_json(row)

    def get(self, case: Case, way: Way, handovers: int) -> Outcome | None:
        return self._found.get(_key(case, way, handovers))

    def put(self, case: Case, way: Way, handovers: int, outcome: Outcome) -> None:
        """
        Keep it, at once.
        """
        self._found[_key(case, way, handovers)] = outcome
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": _key(case, way, handovers), **outcome.as_json()}) + "\n")


def _key(case: Case, way: Way, handovers: int) -> str:
    return f"{case.name}/{way.value}/{handovers}"


def find_cases(wanted: Sequence[str], long: bool) -> list[Case]:
    """
    @param wanted: how their names begin; none for all.
    """
    found: list[Case] = []
    for name in MODULES:
        module = importlib.import_module(f"tests.roaming.{name}")
        found += module.cases() if long or not hasattr(module, "short_cases") else module.short_cases()
    return [case for case in found if not wanted or any(case.name.startswith(one) for one in wanted)]


def _run(case: Case, way: Way, handovers: int, rows: Rows) -> Outcome:
    outcome = rows.get(case, way, handovers)
    if outcome is None:
        print(f"{time.strftime('%H:%M:%S')} {_key(case, way, handovers)} ...", file=sys.stderr, flush=True)
        with case.ground() as ground, tempfile.TemporaryDirectory(prefix="roaming-", dir="/tmp") as folder:
            outcome = case.run(ground, way, Path(folder), handovers)
        rows.put(case, way, handovers, outcome)
        said = f"{outcome.seconds:.1f} s, stall {outcome.stall:.1f} s, {outcome.handovers} handovers, {outcome.errors}"
        print(f"{time.strftime('%H:%M:%S')} {_key(case, way, handovers)}: {said}", file=sys.stderr, flush=True)
    return outcome


def _words(case: Case, outcome: Outcome, undisturbed: Outcome) -> str:
    if outcome.errors:
        return f"{case.describe(outcome.result)}; error"
    return case.describe(outcome.result) + ("" if outcome.result == undisturbed.result else "; not the same")


def main(arguments: Sequence[str] | None = None, find: Callable[[Sequence[str], bool], Sequence[Case]] = find_cases) -> int:
    """
    @param find: gives the cases of these names, in their long form or not.
    @return: 0 if each run with the agent came to what the undisturbed one came to.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.roaming", description=__doc__)
    parser.add_argument("--long", action="store_true", help="thousands of messages, and up to 20 handovers")
    parser.add_argument("--program", action="append", default=[], help="only those whose name begins so; may be repeated")
    parser.add_argument("--handovers", type=int, nargs="+", help="how many in one run")
    parser.add_argument("--rows", type=Path, default=Path("roaming-rows.jsonl"), help="where finished rows are kept")
    parser.add_argument("--without", action="store_true", help="also without the agent")
    options = parser.parse_args(arguments)
    rows = Rows(options.rows)
    good = True
    head = [
        "program",
        "version",
        "handovers",
        "with the agent",
        "its longest stall",
        "without",
        "its longest stall",
        "undisturbed",
    ]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for case in find(options.program, options.long):
        undisturbed = _run(case, Way.DIRECT, 0, rows)
        for handovers in options.handovers or (_HANDOVERS if options.long else _SHORT):
            roaming = _run(case, Way.AGENT, handovers, rows)
            good = good and not roaming.errors and roaming.result == undisturbed.result
            line = [
                case.name,
                case.version(),
                str(roaming.handovers),
                _words(case, roaming, undisturbed),
                f"{roaming.stall:.1f} s",
            ]
            if options.without:
                alone = _run(case, Way.DIRECT, handovers, rows)
                line += [_words(case, alone, undisturbed), f"{alone.stall:.1f} s"]
            else:
                line += ["", ""]
            print(f"| {' | '.join([*line, f'{undisturbed.seconds:.0f} s'])} |", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
