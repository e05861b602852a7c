"""
All the checks of the project, those that fail fastest first: ruff, mypy, then the tests under Twisted's trial.

Invariants:

- Tests that mostly wait run in a process of their own beside the others; what they say is shown when the others are done.
- The last line on stdout is always C{N passed, N failed, N skipped}, also when a test hangs, kills its process or the
  run is interrupted.  Therefore the tests run in a child process, which tells its parent over a pipe how each went.
- Each test counts once, with the worst that happened to it: errors and unexpected successes are failures, an expected
  failure is a skip.  What went wrong outside a test (an import, a logged error after the last test, ruff, mypy) adds
  one failure each, so that the last line alone tells whether the run is good (with two exceptions: no test at all,
  and tests skipped on CI).
- Warnings are errors.  Trial collects them during a test and repeats them afterwards, where the filters set here turn
  them into an error of that test; outside of tests they are raised where they stand, or counted where nothing can be
  raised.
- No test can hang the run: trial ends what waits for a Deferred, and a watchdog ends the process when a test blocks.

Exit code 0 only for: at least one test passed, none failed, and (with C{CI} in the environment) none skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gc
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent

TEST_TIMEOUT = 60.0
"""Seconds for a test that does not say C{timeout}; trial applies it to setUp, the test, tearDown and each cleanup."""

STDERR = 2
"""The descriptor, since logging may have replaced C{sys.stderr}."""

WATCHDOG_MARGIN = 30.0
"""Seconds beyond twice a test's timeout after which the process is ended: the test blocks the reactor."""

LINTED = ("mem_continuity", "tests", "bench", "demo", "tools", "setup.py")
"""What ruff and mypy look at, as far as it exists; plugin modules are added one by one, their folder is no package."""

TOLERATED_WARNINGS: tuple[dict[str, Any], ...] = ()
"""Keyword arguments for L{warnings.filterwarnings}: a narrow entry, with C{message} and C{module}, for each warning
inside a dependency that cannot be avoided here."""

BESIDE = ("tests.handover", "tests.netlab", "tests.roaming")
"""Packages whose tests mostly wait, on slow networks."""

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


def count_line(counts: Counter[str]) -> str:
    """
    The line that every run ends with.
    """
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in (PASSED, FAILED, SKIPPED))


class Tally:
    """
    Follows a run of tests as they report, and says for each how it went.

    @ivar tell: called with one of the three outcomes, once per test and once per failure outside of tests.
    """

    ranks = (PASSED, SKIPPED, FAILED)

    def __init__(self, tell: Callable[[str], object]) -> None:
        self.tell = tell
        self._inside = False
        self._worst: str | None = None

    def begin(self) -> None:
        self._inside, self._worst = True, None

    def note(self, outcome: str) -> None:
        if not self._inside:
            self.tell(outcome)
        elif self._worst is None or self.ranks.index(outcome) > self.ranks.index(self._worst):
            self._worst = outcome

    def end(self) -> None:
        # A test of which nothing was heard did not pass.
        self._inside = False
        self.tell(FAILED if self._worst is None else self._worst)


# In the child: the tests.


def _timeout_of(test: object) -> float:
    get_timeout = getattr(test, "getTimeout", None)
    value = get_timeout() if get_timeout is not None else getattr(test, "timeout", None)
    return TEST_TIMEOUT if value is None else float(value)


def _make_reporter(tally: Tally, show: Callable[[str], object]) -> type[Any]:
    """
    A reporter class that prints as C{trial} does, feeds the tally and winds the watchdog.

    Made here, since trial must not be imported before the warning filters are set.
    """
    from twisted.trial.reporter import TreeReporter

    class CountingReporter(TreeReporter):
        def startTest(self, test: Any) -> None:
            tally.begin()
            show(test.id())
            limit = 2 * _timeout_of(test) + WATCHDOG_MARGIN
            faulthandler.dump_traceback_later(limit, exit=True, file=STDERR)
            super().startTest(test)

        def stopTest(self, test: Any) -> None:
            faulthandler.cancel_dump_traceback_later()
            super().stopTest(test)
            tally.end()

        def addSuccess(self, test: Any) -> None:
            tally.note(PASSED)
            super().addSuccess(test)

        def addError(self, *args: Any) -> None:
            tally.note(FAILED)
            super().addError(*args)

        def addFailure(self, *args: Any) -> None:
            tally.note(FAILED)
            super().addFailure(*args)

        def addUnexpectedSuccess(self, *args: Any) -> None:
            tally.note(FAILED)
            super().addUnexpectedSuccess(*args)

        def addSkip(self, *args: Any) -> None:
            tally.note(SKIPPED)
            super().addSkip(*args)

        def addExpectedFailure(self, *args: Any) -> None:
            tally.note(SKIPPED)
            super().addExpectedFailure(*args)

    return CountingReporter


class _CollectedAtTheEnd(unittest.TestSuite):
    """
    Collects garbage after the last test, while trial still watches for errors that only then come to light.
    """

    def run(self, result: unittest.TestResult, debug: bool = False) -> unittest.TestResult:
        super().run(result, debug)
        gc.collect()
        return result


def _set_warning_filters() -> None:
    warnings.resetwarnings()
    warnings.simplefilter("error")
    for entry in TOLERATED_WARNINGS:
        warnings.filterwarnings("ignore", **entry)


def _count_unraisable(tally: Tally) -> None:
    """
    A warning in a finalizer cannot be raised; outside of a test this hook is the only one to hear of it.
    """
    usual = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        usual(unraisable)
        tally.note(FAILED)

    sys.unraisablehook = hook


def run_child(names: Sequence[str], pipe: int, force_gc: bool) -> None:
    """
    Run the tests of these names in this process and write C{+<test>} at the begin and C{=<outcome>} at the end of each.
    """
    os.set_inheritable(pipe, False)
    report = os.fdopen(pipe, "w", buffering=1, encoding="utf-8")
    tally = Tally(lambda outcome: print(f"={outcome}", file=report))
    sys.path[0] = str(ROOT)
    _set_warning_filters()
    _count_unraisable(tally)

    from twisted.trial import runner, util

    util.DEFAULT_TIMEOUT_DURATION = TEST_TIMEOUT
    loader = runner.TestLoader()
    loader.suiteFactory = runner.DestructiveTestSuite
    suite = _CollectedAtTheEnd([loader.loadByNames(list(names), recurse=True)])
    trial = runner.TrialRunner(
        _make_reporter(tally, lambda name: print(f"+{name}", file=report)),
        workingDirectory=str(ROOT / "_trial_temp"),
        forceGarbageCollection=force_gc,
    )
    trial.run(suite)
    print("=over", file=report)
    sys.unraisablehook = sys.__unraisablehook__
    report.close()


# In the parent: ruff, mypy, the child and the count.


def _say(text: str) -> None:
    print(text, flush=True)


def _lint(counts: Counter[str]) -> None:
    python = [sys.executable, "-m"]
    targets = [name for name in LINTED if (ROOT / name).is_file() or any((ROOT / name).rglob("*.py"))]
    plugins = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "twisted" / "plugins").glob("*.py"))
    for name, command in (
        ("ruff", [*python, "ruff", "check", *targets, *plugins]),
        ("mypy", [*python, "mypy", *targets, *plugins]),
    ):
        _say(f"--- {name}")
        if subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=False).returncode:
            counts[FAILED] += 1
            _say(f"{name} failed, which counts as one failure")


def _follow(report: IO[str], counts: Counter[str]) -> tuple[str | None, bool]:
    """
    Count what the child says, until it says no more.

    @return: the test that was begun and not ended, and whether the child came to its end.
    """
    running: str | None = None
    over = False
    for line in report:
        mark, text = line[0], line[1:].rstrip("\n")
        if mark == "+":
            running = text
        elif text == "over":
            over = True
        else:
            counts[text] += 1
            running = None
    return running, over


class _Lane:
    """
    A child with some of the tests.

    @ivar counts: how they went.
    """

    def __init__(self, names: Sequence[str], force_gc: bool, output: IO[bytes] | None) -> None:
        """
        @param output: where it says what it says; our own stdout and stderr if not given.
        """
        self.counts: Counter[str] = Counter()
        reading, writing = os.pipe()
        command = [sys.executable, __file__, "--child", str(writing), *(["--force-gc"] if force_gc else []), *names]
        # A process group of its own, so that whatever a test that was cut off had started can be ended with it.
        self._child = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            pass_fds=[writing],
            process_group=0,
        )
        os.close(writing)
        self._report = os.fdopen(reading, encoding="utf-8")

    def follow(self) -> None:
        """
        Count until it has ended.
        """
        with self._report:
            running, over = _follow(self._report, self.counts)
        code = self._child.wait()
        if over and code == 0:
            return
        _end_group(self._child)
        self.counts[FAILED] += 1
        if running is not None:
            _say(f"the tests ended in the middle of {running} (exit code {code}); those after it did not run")
        else:
            _say(f"the tests did not come to their end (exit code {code})")

    def end(self) -> None:
        """
        End it, if it has not ended.
        """
        if self._child.poll() is None:
            _end_group(self._child)
            self._child.wait()


def _lanes(names: Sequence[str]) -> list[list[str]]:
    """
    What runs in one process each: first what is shown as it goes, then what runs beside it.
    """
    if list(names) != ["tests"]:
        return [list(names)]
    found = sorted(f"tests.{module.name}" for module in pkgutil.iter_modules([str(ROOT / "tests")]))
    return [[name for name in found if name not in BESIDE], [name for name in found if name in BESIDE]]


def _test(names: Sequence[str], force_gc: bool, counts: Counter[str]) -> None:
    _say("--- tests")
    with contextlib.ExitStack() as stack:
        beside = []
        shown, *others = _lanes(names)
        for other in others:
            output = stack.enter_context(tempfile.TemporaryFile())
            lane = _Lane(other, force_gc, output)
            stack.callback(lane.end)
            thread = threading.Thread(target=lane.follow, daemon=True)
            thread.start()
            beside.append((lane, thread, output))
        lane = _Lane(shown, force_gc, None)
        stack.callback(lane.end)
        try:
            lane.follow()
            for _, thread, _ in beside:
                thread.join()
        finally:
            counts.update(lane.counts)
            for lane, _, output in beside:
                counts.update(lane.counts)
                # Without a seek: where an interrupted child writes is not for us to change.
                said = os.pread(output.fileno(), os.fstat(output.fileno()).st_size, 0)
                _say("--- beside them\n" + said.decode("utf-8", "replace"))


def _end_group(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


class _Interrupted(Exception):
    """
    Somebody asked this run to end.
    """


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise _Interrupted(signal.Signals(number).name)


def run_parent(names: Sequence[str], lint: bool, tests: bool, force_gc: bool) -> int:
    """
    Run what was asked for, print the count as the last line and return the exit code.
    """
    counts: Counter[str] = Counter()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        if lint:
            _lint(counts)
        if tests:
            _test(names, force_gc, counts)
    except _Interrupted as why:
        counts[FAILED] += 1
        _say(f"ended by {why}; what did not run is not counted")
    bad = bool(counts[FAILED])
    if tests and not counts[PASSED]:
        _say("no test passed")
        bad = True
    if counts[SKIPPED] and os.environ.get("CI"):
        _say("tests were skipped, and on CI every test must run")
        bad = True
    _say(count_line(counts))
    return int(bad)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run ruff, mypy and the tests; the last line is the count.")
    parser.add_argument("names", nargs="*", help="tests to run, as trial takes them (default: tests)")
    parser.add_argument("--no-lint", action="store_true", help="leave out ruff and mypy")
    parser.add_argument("--lint", action="store_true", help="ruff and mypy alone")
    parser.add_argument("--force-gc", action="store_true", help="collect garbage at each test: slow, finds who leaks")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.names or ["tests"]
    if options.child is not None:
        run_child(names, options.child, options.force_gc)
        return 0
    return run_parent(names, not options.no_lint, not options.lint, options.force_gc)


if __name__ == "__main__":
    sys.exit(main())
