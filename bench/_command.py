"""
What the commands of all benches have in common: options, the reactor, the bound in time, the output.

Invariant: a bench that fails or takes too long ends with a non-zero exit code and a line that says so; whether goals are met
does not change the exit code, for a busy machine is no error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore, IReactorTime
from twisted.python.failure import Failure

from bench._report import Report, machine


class Size(IntEnum):
    """
    How much is measured.
    """

    SMOKE = 0
    """Once, to see that it works."""
    SHORT = 1
    FULL = 2
    LONG = 3


@dataclass(frozen=True, slots=True)
class Options:
    """
    What a bench is told.

    @ivar only: what alone is wanted, where a bench lets one choose; all of it when empty.
    """

    size: Size
    only: tuple[str, ...] = ()

    def pick(self, smoke: Any, short: Any, full: Any, long: Any = None) -> Any:
        """
        The value for this size; C{long} is C{full} where nothing else is given.
        """
        return (smoke, short, full, full if long is None else long)[self.size]


Measure = Callable[[Options, Report], Coroutine[Any, Any, None]]

_BOUNDS = {Size.SMOKE: 60.0, Size.SHORT: 300.0, Size.FULL: 900.0, Size.LONG: 1800.0}
"""Seconds for each size, after which a bench is ended."""


def sleep(seconds: float) -> Deferred[None]:
    """
    Time for the reactor.
    """
    done: Deferred[None] = Deferred()
    IReactorTime(reactor).callLater(seconds, done.callback, None)
    return done


def parse(title: str, description: str, arguments: list[str] | None = None, kinds: Sequence[str] = ()) -> argparse.Namespace:
    """
    Read the options that all benches have.

    @param kinds: what one may choose among; nothing in most benches.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m bench.{title.split()[0]}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    size = parser.add_mutually_exclusive_group()
    texts = {Size.SMOKE: "the smallest form: does it run?", Size.SHORT: "fewer repetitions", Size.LONG: "the most"}
    for one, text in texts.items():
        size.add_argument(f"--{one.name.lower()}", dest="size", action="store_const", const=one, default=Size.FULL, help=text)
    where = "write the figures there as well; - for stdout instead of the table"
    parser.add_argument("--json", type=Path, metavar="FILE", help=where)
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="end after so long; the default depends on the size")
    if kinds:
        text = f"measure this alone; repeatable, one of: {', '.join(kinds)}"
        parser.add_argument("--only", action="append", default=[], choices=kinds, metavar="KIND", help=text)
    return parser.parse_args(arguments)


def command(title: str, description: str | None, measure: Measure, *, kinds: Sequence[str] = (), patience: float = 1.0) -> None:
    """
    Run a bench from its command line and leave the process.

    @param title: begins with the module's name.
    @param kinds: see L{parse}.
    @param patience: how much longer than others it may take.
    """
    given = parse(title, description or "", kinds=kinds)
    report = Report(title)
    timeout = given.timeout or _BOUNDS[given.size] * patience
    options = Options(given.size, tuple(given.only) if kinds else ())
    failed = _run(Deferred.fromCoroutine(measure(options, report)), timeout)
    if given.json is None or str(given.json) != "-":
        print(report.table())
        print(f"  ({machine()})", flush=True)
    if given.json is not None:
        text = json.dumps(report.data(), indent=1)
        if str(given.json) == "-":
            print(text, flush=True)
        else:
            given.json.write_text(text + "\n", "utf-8")
    if failed is not None:
        print(f"{title}: {failed}", file=sys.stderr)
        raise SystemExit(1)


def _run(work: Deferred[None], timeout: float) -> str | None:
    core: Any = IReactorCore(reactor)
    ends: list[str | None] = []

    def over(result: Any) -> None:
        ends.append(result.getTraceback() if isinstance(result, Failure) else None)
        core.callLater(0, core.stop)

    work.addTimeout(timeout, core, lambda _, seconds: Failure(TimeoutError(f"not done within {seconds:.0f} s")))
    work.addBoth(over)
    core.run()
    return ends[0] if ends else "interrupted"
