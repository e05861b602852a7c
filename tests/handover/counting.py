"""
Counts, in a running program, what each RESUME goes back over: nothing is changed, the core's own methods are overlooked.

What is sent again is of two kinds.  Octets that were under way when the link died, which the other side never had: C{lost}.
Octets that the other side had already: C{skipped}, as it has to throw them away.  The second kind must not be.
"""

from __future__ import annotations

from typing import Any

from mem_continuity.core.handshake import Resumed
from mem_continuity.core.resumption import Attempt, grant
from mem_continuity.core.session import Session
from mem_continuity.core.stream import Sender
from mem_continuity.server import commands
from mem_continuity.server.link import ServerLink


class Counting:
    """
    @ivar lost: octets that were on a link and that the other side did not have.
    @ivar skipped: octets that came again though they were here.
    @ivar offsets: where our stream went on, resume by resume.
    @ivar named: where the other side's stream was asked to go on, resume by resume.
    @ivar displaced: links that were told MOVED.
    """

    def __init__(self) -> None:
        self.lost = 0
        self.skipped = 0
        self.offsets: list[int] = []
        self.named: list[int] = []
        self.displaced = 0
        self._watch_client()
        self._watch_server()

    def _watch_client(self) -> None:
        rewind, granted = Sender.rewind, Attempt.granted

        def rewinding(sender: Sender, offset: int) -> None:
            before = sender.sent
            rewind(sender, offset)
            self.lost += before - offset
            self.offsets.append(offset)

        def resuming(attempt: Attempt, answer: Resumed, now: float) -> None:
            if answer.start is None:  # otherwise nobody goes back to what was named
                self.named.append(attempt.request.received)
            granted(attempt, answer, now)

        setattr(Sender, "rewind", rewinding)  # noqa: B010
        setattr(Attempt, "granted", resuming)  # noqa: B010

    def _watch_server(self) -> None:
        displaced, left = ServerLink.displaced, ServerLink.left

        def granting(session: Session, request: Any, *rest: Any) -> Any:
            resumed = grant(session, request, *rest)
            self.skipped += min(len(request.literal), max(0, resumed.received - request.sent))
            if resumed.start is None:
                self.named.append(resumed.received)
            return resumed

        def displacing(link: ServerLink) -> None:
            self.displaced += 1
            displaced(link)

        def leaving(link: ServerLink) -> None:
            self.displaced += 1
            left(link)

        setattr(ServerLink, "left", leaving)  # noqa: B010
        setattr(commands, "grant", granting)  # noqa: B010
        setattr(ServerLink, "displaced", displacing)  # noqa: B010

    def of(self, session: Session) -> dict[str, Any]:
        """
        The figures of one side of a session.
        """
        return {
            "written": session.sender.end,
            "put on links": session.sender.taken,
            "received": session.receiver.received,
            "lost": self.lost,
            "skipped": self.skipped,
            "offsets": self.offsets,
            "named": self.named,
        }
