"""
All benches, one after the other, each in a process of its own: what C{make bench} runs.

C{make bench ARGS='--short'}, C{make bench ARGS='--short gap memory'}, C{make bench ARGS='--json figures.json'}.

Exit code 0 when every bench ran to its end; whether goals are met does not change it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BENCHES = (
    "gap",
    "silence",
    "switch",
    "octets",
    "resent",
    "tail",
    "memory",
    "handover",
    "throughput",
    "tls",
    "gateway",
    "gateway_memory",
)
SIZES = ("smoke", "short", "long")
_BOUND = 4000.0


def run(name: str, size: str | None, file: Path) -> bool:
    """
    One bench; its table goes to stdout.

    @return: whether it came to its end.
    """
    argv = [sys.executable, "-m", f"bench.{name}", "--json", str(file)]
    if size is not None:
        argv.append(f"--{size}")
    try:
        return subprocess.run(argv, cwd=ROOT, timeout=_BOUND, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        print(f"bench.{name} did not end within {_BOUND:.0f} s", file=sys.stderr)
        return False


def main(arguments: list[str] | None = None) -> int:
    """
    @return: the exit code.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", nargs="*", choices=(*BENCHES, []), help="which of them; all when none is named", metavar="BENCH")
    size = parser.add_mutually_exclusive_group()
    for one in SIZES:
        size.add_argument(f"--{one}", dest="size", action="store_const", const=one, help=f"hand --{one} to each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there as well")
    given = parser.parse_args(arguments)
    found: dict[str, Any] = {}
    failed = []
    met = missed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in given.bench or BENCHES:
            file = Path(folder) / f"{name}.json"
            if not run(name, given.size, file):
                failed.append(name)
            print(flush=True)
            if file.exists():
                found[name] = json.loads(file.read_text("utf-8"))
                verdicts = [one["met"] for one in found[name]["figures"]]
                met, missed = met + verdicts.count(True), missed + verdicts.count(False)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    ended = f"; did not come to an end: {', '.join(failed)}" if failed else ""
    print(f"{met} figures meet their goals, {missed} do not{ended}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
