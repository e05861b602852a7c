"""
What the tests of L{mem_continuity.imap.preamble} share.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.policy import Policy
from mem_continuity.imap.actions import (
    Action,
    Extension,
    Refused,
)
from mem_continuity.imap.preamble import ServerPreamble
from tests.imap import ToyServer, Transcript, pull

GREETING = b"* OK [CAPABILITY IMAP4rev1] ready\r\n"
SHOWN_GREETING = b"* OK [CAPABILITY IMAP4rev1 XCONTINUITY] ready\r\n"


def announce() -> tuple[bytes, ...]:
    return (b"XCONTINUITY",)


def events(actions: Iterable[Action]) -> list[str]:
    return [type(action).__name__ for action in actions]


class PreambleCase(SynchronousTestCase):
    """
    The machine between a link and L{ToyServer}.
    """

    def setUp(self) -> None:
        self.begin()

    def begin(self, greeting: bytes | None = GREETING, **limits: int) -> None:
        self.preamble = ServerPreamble(Policy(**limits), announce, bound=greeting is not None)
        self.server = ToyServer({b"CAPABILITY": b"* CAPABILITY IMAP4rev1 IDLE\r\nTAG OK done\r\n"})
        self.transcript = Transcript()
        if greeting is not None:
            self.preamble.server_data(greeting)
            self.pull()
            self.transcript.to_client = b""

    def answer(self, action: Action) -> bytes | None:
        if isinstance(action, Extension):
            self.preamble.proceed()
            return action.tag + b" OK ours\r\n"
        return action.octets if isinstance(action, Refused) else None

    def pull(self) -> None:
        pull(self.preamble, self.transcript, self.server, self.answer)

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self.preamble.client_data(part)
            self.pull()

    def actions(self) -> list[Action]:
        return self.transcript.actions()
