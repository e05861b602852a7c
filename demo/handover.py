"""
A mail session that moves from a WLAN to another network, before your eyes: C{make demo}.

Exit codes: 0, it went as it should; 1, it did not; 2, wrong options; 130 or 143, it was interrupted.
"""

from __future__ import annotations

import argparse
import io
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from twisted.internet.defer import Deferred
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.python.failure import Failure

from demo.runs import ContinuityRun, PlainRun, Run
from demo.scene import Scene, message, open_lab
from demo.timeline import Timeline, megabytes
from tests.netlab import Lab, LabError


def summary(timeline: Timeline, runs: list[Run]) -> None:
    """
    Both side by side.
    """
    rows = []
    for occasion in Run.occasions:
        rows.append((f"{occasion}: gap", *(f"{run.gaps[occasion]:.0f} ms" for run in runs)))
        if occasion != "IDLE":
            rows.append((f"{occasion}: sent again", *(megabytes(run.again[occasion]) for run in runs)))
            rows.append((f"{occasion}: of it delivered before", *(megabytes(run.again_delivered[occasion]) for run in runs)))
    rows.append(("copies of the stored message", *(str(run.copies) for run in runs)))
    rows.append(("logins", *(str(run.logins) for run in runs)))
    print()
    timeline.table(("", "with continuity", "without"), rows)


async def play(scene: Scene, timeline: Timeline, append_size: int) -> int:
    """
    Both runs.

    @return: the exit code.
    """
    runs: list[Run] = [ContinuityRun(scene, timeline, append_size), PlainRun(scene, timeline, append_size)]
    for run in runs:
        await run.play()
    summary(timeline, runs)
    good = runs[0].intact and runs[0].copies == 1 and not any(runs[0].again_delivered.values())
    return 0 if good else 1


def main() -> int:
    parser = argparse.ArgumentParser(description="Show a mail session that moves from one network to another.")
    parser.add_argument("--short", action="store_true", help="between namespaces, a message of 4 MB instead of 20 MB")
    parser.add_argument("--loopback", action="store_true", help="two loopback addresses, even where namespaces can be had")
    options = parser.parse_args()

    from twisted.internet import reactor as running

    reactor: Any = running
    outcome: list[int] = []
    log = io.StringIO()
    globalLogBeginner.beginLoggingTo([textFileLogObserver(log)], redirectStandardIO=False)

    def stop(number: int, frame: FrameType | None) -> None:
        outcome.append(128 + number)
        reactor.callFromThread(reactor.stop)

    def done(result: Any) -> None:
        if isinstance(result, Failure) and not outcome:
            print(f"{log.getvalue()}the demonstration failed: {result.getErrorMessage()}", file=sys.stderr)
            result = 1
        if not outcome:
            outcome.append(result)
        if reactor.running:
            reactor.stop()

    try:
        lab, said = open_lab(options.loopback)
        with lab:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, stop)
            print(f"Networks: {said}", flush=True)
            # On loopback the kernel's buffers hold several MB: a short message would be through before the network is silent.
            big = message(4_000_000 if options.short and isinstance(lab, Lab) else 20_000_000, "big")
            scene = Scene(reactor, lab, big)

            def begin() -> None:
                Deferred.fromCoroutine(play(scene, Timeline(), 1_000_000)).addBoth(done)

            reactor.callWhenRunning(begin)
            reactor.run(installSignalHandlers=False)
    except LabError as error:
        print(f"the networks cannot be set up: {error}", file=sys.stderr)
        return 1
    return outcome[0] if outcome else 1


if __name__ == "__main__":
    sys.exit(main())
