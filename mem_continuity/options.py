"""
What the command lines of this project have in common: each limit of a policy as an option of its own, and errors of one line.

Invariant: what somebody can get wrong ends in one line on stderr and status 1, never in a traceback.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from twisted.python import usage

import mem_continuity
from mem_continuity.core.policy import Limit, PolicyError, StreamPolicy, limits_of

_Policy = TypeVar("_Policy", bound=StreamPolicy)


def option_name(limit: Limit) -> str:
    """
    How a limit is spelt on the command line.
    """
    return limit.name.replace("_", "-")


def _number(limit: Limit) -> Callable[[str], int | float]:
    def read(text: str) -> int | float:
        try:
            return type(limit.default)(text)
        except ValueError:
            raise ValueError(f"--{option_name(limit)} must be a number of {limit.unit}, not {text!r}") from None

    return read


def limit_parameters(kind: type[StreamPolicy]) -> list[list[Any]]:
    """
    The limits of a policy class as C{optParameters}.
    """
    return [
        [option_name(limit), None, limit.default, f"[{limit.unit}, {limit.bounds}] {limit.reason}", _number(limit)]
        for limit in limits_of(kind)
    ]


def state_folder(name: str) -> str:
    """
    The folder for a program's state, as the XDG base directory specification has it.
    """
    base = os.environ.get("XDG_STATE_HOME", "")
    return str((Path(base) if os.path.isabs(base) else Path.home() / ".local" / "state") / name)


class PolicyOptions(usage.Options):
    """
    A command line with the limits of a policy; a subclass lists them among its C{optParameters}.

    @cvar command: what is typed to get here, for errors.
    """

    command = "twistd"

    def opt_version(self) -> None:
        """
        Show the version.
        """
        print(f"mem-continuity {mem_continuity.__version__}")
        raise SystemExit(0)

    def parseArgs(self) -> None:
        """
        There are no arguments besides options.
        """

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Read the command line.

        @raise SystemExit: something is wrong with it.  C{twistd} itself would print pages of help and then the error.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise SystemExit(f"{self.command}: {' '.join(str(error).split())}") from None

    def read_policy(self, kind: type[_Policy]) -> _Policy:
        """
        The policy that the options say.

        @raise usage.UsageError: a limit is out of its bounds.
        """
        try:
            return kind(**{limit.name: self[option_name(limit)] for limit in limits_of(kind)})
        except PolicyError as error:
            raise usage.UsageError("--" + str(error).replace("_", "-", str(error).partition(" ")[0].count("_"))) from None
