"""
Where a mail program connects to, and how it is run.

Invariants: a program sees an environment made for it, with a home of its own; it is ended with all its children when it takes too
long; it has succeeded only with exit status 0 and nothing on stderr.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 40.0
"""Seconds for one run of one program on a busy machine."""

CHECKOUT = Path(__file__).resolve().parents[3]


class ProgramFailed(Exception):
    """
    A program ended with an error, said something on stderr, or did not end; the text has what it said.
    """


@dataclass(frozen=True)
class Target:
    """
    A server and an account.

    @ivar host: a name that the certificate has.
    @ivar authority: a PEM file with the certificate to trust, for TLS at once; without one there is no TLS.
    """

    host: str
    port: int
    authority: Path | None
    user: str
    password: str


def environment(folder: Path) -> dict[str, str]:
    """
    In which nothing of the user's is found.
    """
    return {
        "PATH": os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]),
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / "xdg" / "config"),
        "XDG_DATA_HOME": str(folder / "xdg" / "data"),
        "XDG_STATE_HOME": str(folder / "xdg" / "state"),
        "XDG_CACHE_HOME": str(folder / "xdg" / "cache"),
        "XDG_RUNTIME_DIR": str(folder / "xdg"),
        "TMPDIR": str(folder),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "TERM": "vt100",
    }


def execute(
    command: Sequence[str],
    folder: Path,
    *,
    within: Sequence[str] = (),
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
    variables: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    tolerated: bytes = b"",
    patience: float | None = None,
) -> bytes:
    """
    Run a program to its end.

    @param folder: its home.
    @param within: what the command is put behind, such as C{ip netns exec NAME}.
    @param stdin: and C{stdout}, C{stderr}: descriptors.
    @param variables: more of the environment.
    @param cwd: where it is run; C{folder} if not given.
    @param tolerated: what it may say on stderr besides nothing, a regular expression.
    @param patience: seconds until it has to have ended; L{PATIENCE} if not given.
    @return: what it said on stdout.
    @raise ProgramFailed: see there.
    """
    seconds = PATIENCE if patience is None else patience
    process = subprocess.Popen(
        [*within, *command],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env={**environment(folder), **(variables or {})},
        cwd=cwd or folder,
        start_new_session=True,
    )
    try:
        said, complaint = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        _kill(process)
        said, complaint = process.communicate()
        raise ProgramFailed(f"{command[0]} did not end in {seconds} seconds\n{_text(said)}\n{_text(complaint)}") from None
    except BaseException:
        _kill(process)
        process.communicate()
        raise
    if process.returncode or (complaint and not re.fullmatch(tolerated, complaint, re.DOTALL)):
        raise ProgramFailed(f"{command[0]}: exit status {process.returncode}\n{_text(complaint)}\n{_text(said)}")
    return said or b""


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _text(octets: bytes | None) -> str:
    return (octets or b"")[-4000:].decode("utf-8", "replace")
