"""
A scripted client whose whole dialogue with a server is known beforehand: LOGIN, SELECT, FETCH with literals, APPEND with a
literal, IDLE with a push in it, LOGOUT.  Each step waits for the answer to the one before, so that the streams of both directions
are the same in each run, whatever becomes of the links.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tests.support.site import Site

MESSAGES = (b"Subject: one\r\n\r\n" + b"1" * 60, b"\0\r\n{7}\r\n" + bytes(range(256))[128:] + b"\r\n")
DRAFT = b"Subject: draft\r\n\r\n* 1 FETCH {3}\r\n\x00\xff\r\n"


@dataclass(frozen=True)
class Transcript:
    """
    What the instances at both ends saw, and what became of the mail.
    """

    client: bytes
    server: bytes
    client_losses: int
    server_losses: int
    stored: tuple[bytes, ...]
    logins: tuple[str, ...]
    logouts: tuple[str, ...]


class Dialogue(Protocol):
    """
    The client.

    @ivar done: fires when its connection is lost, with nothing.
    @ivar started: called when it is logged in and says its first command after that.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.heard = b""
        self.losses: list[Failure] = []
        self.done: Deferred[None] = Deferred()
        self.started: Callable[[], object] = lambda: None
        self._steps: list[tuple[bytes, Callable[[], bytes | None]]] = [
            (b"Ready\r\n", lambda: b"1 LOGIN joe secret\r\n"),
            (b"\r\n1 OK LOGIN succeeded\r\n", self._select),
            (b"2 OK [READ-WRITE] SELECT successful\r\n", lambda: b"3 FETCH 1:2 (UID RFC822)\r\n"),
            (b"\r\n3 OK FETCH completed\r\n", lambda: b"4 APPEND INBOX () {%d}\r\n" % len(DRAFT)),
            (b"octets of data\r\n", lambda: DRAFT + b"\r\n"),
            (b"4 OK APPEND complete\r\n", lambda: b"5 IDLE\r\n"),
            (b"\r\n+\r\n", self._push),
            (b"4 EXISTS\r\n", lambda: b"DONE\r\n"),
            (b"5 OK IDLE terminated\r\n", lambda: b"6 LOGOUT\r\n"),
            (b"6 OK LOGOUT successful\r\n", self._close),
        ]
        self._awaited_from = 0

    def _select(self) -> bytes:
        self.started()
        return b"2 SELECT INBOX\r\n"

    def _push(self) -> None:
        self.site.mailbox().deliver(b"while idle")

    def _close(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        while self._steps:
            awaited, step = self._steps[0]
            # the response to LOGIN may be the first octets of a delivery, and nothing else may: hence the line break before
            place = (b"\r\n" + self.heard).find(awaited, self._awaited_from)
            if place < 0:
                return
            self._awaited_from = place + len(awaited) - len(b"\r\n")
            del self._steps[0]
            said = step()
            if said is not None:
                assert self.transport is not None
                self.transport.write(said)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.losses.append(reason)
        if not self.done.called:
            self.done.callback(None)

    def transcript(self) -> Transcript:
        """
        To be read when all is over.
        """
        site = self.site
        (server,) = [one for one in site.servers if b"LOGIN" in one.heard]
        return Transcript(
            self.heard,
            server.heard,
            len(self.losses),
            len(server.losses),
            tuple(site.mailbox().stored),
            tuple(site.logins),
            tuple(site.logouts),
        )


def stock(site: Site) -> None:
    """
    Put the messages into the mailbox that the dialogue reads.
    """
    for octets in MESSAGES:
        site.mailbox().deliver(octets)
