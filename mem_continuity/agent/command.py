"""
C{mem-continuity-agent}: what is asked of an agent that runs.  It is started by C{twistd mem-continuity-agent}.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import mem_continuity
from mem_continuity.agent.status import ask, default_data, in_words


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Called by the console script.

    @param arguments: None for those of the process.
    @return: the exit status.
    """
    parser = argparse.ArgumentParser(
        prog="mem-continuity-agent", description="Asks the agent that twistd mem-continuity-agent has started."
    )
    parser.add_argument("--version", action="version", version=f"mem-continuity {mem_continuity.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser("status", help="show accounts, mail programs and the networks in use")
    status.add_argument("--data", default=None, help="its folder for state [default: ~/.local/state/mem-continuity-agent]")
    status.add_argument("--json", action="store_true", help="for programs: one JSON document")
    options = parser.parse_args(arguments)
    try:
        found = ask(Path(options.data or default_data()).absolute())
    except ValueError as error:
        print(f"mem-continuity-agent: {error}", file=sys.stderr)
        return 1
    print(json.dumps(found, indent=1) if options.json else in_words(found))
    return 0
