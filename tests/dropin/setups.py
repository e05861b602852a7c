"""
Loading a site from its text, as it is or with lines changed.

Invariant: what is changed is given as whole lines, each of which stands in the text exactly once; so a test that names its lines
shows
all that a site has to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from twisted.internet.defer import maybeDeferred

SITES = Path(__file__).parent / "sites"
IMPORT = ("from __future__ import annotations", "from __future__ import annotations\nfrom mem_continuity import continuous")
"""The import that goes with the changed line."""

Change = tuple[str, str]


def changed_text(name: str, changes: Sequence[Change]) -> str:
    """
    A site's text with lines changed.

    @param name: the file's name in the folder of sites.
    @param changes: pairs of a line, without its indentation, and what is to stand there.
    """
    lines = (SITES / name).read_text("utf-8").split("\n")
    for old, new in changes:
        places = [number for number, line in enumerate(lines) if line.strip() == old]
        assert len(places) == 1, f"{name} has the line {old!r} {len(places)} times"
        lines[places[0]] = lines[places[0]].replace(old, new)
    return "\n".join(lines)


class RunningSite:
    """
    A site that listens.

    @ivar journal: what its own code has seen.
    @ivar port: its TCP port.
    """

    def __init__(self, listening: Any, journal: list[str]) -> None:
        self._listening = listening
        self._stopped = False
        self.journal = journal
        self.port: int = listening.getHost().port

    async def stop(self) -> None:
        """
        Close the port, and wait for the end of the sessions when there is somebody who knows of it.
        """
        if self._stopped:
            return
        self._stopped = True
        await maybeDeferred(self._listening.stopListening)
        factory = self._listening.factory
        while factory is not None:
            stopped = getattr(factory, "stopped", None)
            if stopped is not None:
                await stopped()
                return
            factory = getattr(factory, "wrappedFactory", None)


async def start_site(name: str, reactor: Any, context: Any, changes: Sequence[Change] = ()) -> RunningSite:
    """
    Load a site's module and let it listen.

    @param name: the module's name without C{.py}.
    @param changes: see L{changed_text}; C{IMPORT} is added when there are any.
    """
    text = changed_text(f"{name}.py", [IMPORT, *changes] if changes else [])
    module = ModuleType(f"changed_{name}" if changes else name)
    exec(compile(text, str(SITES / f"{name}.py"), "exec"), module.__dict__)
    journal: list[str] = []
    listening = await maybeDeferred(module.listen, reactor, context, journal)
    return RunningSite(listening, journal)
