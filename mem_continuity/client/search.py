"""
A link that is being made for a session that needs one.

Invariants: a search goes on by the paths that it began with; whether those still are the right ones is asked whenever networks
change.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.defer import Deferred

from mem_continuity.client.link import ClientLink
from mem_continuity.client.paths import AnyPath


@dataclass
class Search:
    """
    One search.

    @ivar anew: it was cancelled only to be begun again, with the paths that there are now.
    """

    ways: AnyPath
    link: Deferred[ClientLink]
    anew: bool = False

    def outdated(self, names: set[str], present: str | None) -> bool:
        """
        Whether it may hang where nothing leads anywhere any more: there is a path now that it does not try, or none of its own.

        @param present: the path in use, which is there for whoever wants to leave it.
        """
        tried = {path.name for path in self.ways.paths}
        return not names - {present} <= tried or not tried & names
