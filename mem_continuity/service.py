"""
The running of it: ports in front of a factory whose sessions want a good-bye.

Invariants: a port that cannot be had ends the start with one line on stderr and status 1, while nothing else has begun.  Stopping
closes the ports first, then says good-bye to the sessions, and waits for both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from twisted.application.service import IService, Service
from twisted.internet.defer import inlineCallbacks, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer


def one_line(error: BaseException | None) -> str:
    """
    What an error says, in one line.
    """
    return " ".join(str(error).split()) or type(error).__name__


@implementer(IService)
class MailService(Service):
    """
    Ports in front of a factory whose sessions want a good-bye.

    @ivar ports: what is listening.
    @ivar command: what the operator has called, for messages.
    """

    command = "twistd mem-continuity"

    def __init__(
        self,
        factory: Any,
        endpoints: Sequence[tuple[str, IStreamServerEndpoint]],
        at_end: Sequence[Callable[[], object]] = (),
    ) -> None:
        """
        @param factory: its C{shutdown}, when it has one, is waited for at the end.
        @param endpoints: each with its description.
        @param at_end: called one after the other when all sessions are over.
        """
        self.factory = factory
        self.ports: list[IListeningPort] = []
        self._endpoints = endpoints
        self._at_end = at_end
        self._is_listening = False
        self._failure: Failure | None = None

    def privilegedStartService(self) -> None:
        """
        Listen, while ports below 1024 still can be had.

        @raise SystemExit: a port cannot be had.
        """
        super().privilegedStartService()
        self._is_listening = True
        for description, endpoint in self._endpoints:
            endpoint.listen(self.factory).addCallbacks(self.ports.append, self._refused, errbackArgs=(description,))
            if self._failure is not None:
                self._give_up(description, self._failure)

    def _refused(self, reason: Failure, description: str) -> None:
        self._failure = reason

    def _give_up(self, description: str, reason: Failure) -> NoReturn:
        error = reason.value
        why = one_line(error)
        if isinstance(error, CannotListenError):
            cause = error.socketError
            why = cause.strerror if isinstance(cause, OSError) and cause.strerror else one_line(error)
        # Twisted's log has taken sys.stderr by now.
        out = sys.__stderr__ or sys.stderr
        out.write(f"{self.command}: cannot listen on {description}: {why}; choose another with --listen\n")
        out.flush()
        raise SystemExit(1)

    def startService(self) -> None:
        """
        Start; listen unless that is done already.
        """
        super().startService()
        if not self._is_listening:
            self.privilegedStartService()

    @inlineCallbacks
    def stopService(self) -> Any:
        """
        Close the ports, then let the sessions end.

        @return: fires when all of that is done.
        """
        super().stopService()
        ports, self.ports = self.ports, []
        closing = [maybeDeferred(port.stopListening) for port in ports]
        yield from closing
        shutdown = getattr(self.factory, "shutdown", None)
        if shutdown is not None:
            yield shutdown()
        for act in self._at_end:
            act()
