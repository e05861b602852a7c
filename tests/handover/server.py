"""
The server of these tests: Twisted's own C{IMAP4Server} behind L{continuous}, on TLS 1.3.  C{python -m tests.handover.server}.
"""

from __future__ import annotations

import hashlib
from functools import cache
from random import Random
from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory
from twisted.internet.ssl import PrivateCertificate
from twisted.mail.imap4 import IMAP4Server
from twisted.mail.interfaces import IAccountIMAP
from zope.interface import implementer

from mem_continuity.core.policy import Policy
from mem_continuity.server import continuous
from tests.handover.counting import Counting
from tests.handover.talk import Talk, reactor, read_config, run
from tests.support.mailboxes import Account, Mailbox

SIZE = 20_000_000
_STEP = 500_000


@cache
def big_message() -> bytes:
    """
    20 MB that cannot be guessed; the same in every process.
    """
    return Random("handover").randbytes(SIZE // 2).hex().encode("ascii")


def digest(octets: bytes) -> str:
    """
    SHA-256.
    """
    return hashlib.sha256(octets).hexdigest()


@implementer(IRealm)
class Realm:
    """
    One mailbox for all.
    """

    def __init__(self) -> None:
        self.mailboxes = {"INBOX": Mailbox()}
        self.logouts = 0

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        return IAccountIMAP, Account(avatarId.decode("ascii"), self.mailboxes), self._logout

    def _logout(self) -> None:
        self.logouts += 1


class Factory(ServerFactory):
    """
    As a site has it, C{STARTTLS} included when it is not under TLS from the first octet.
    """

    noisy = False

    def __init__(self, portal: Portal, context: Any) -> None:
        self._portal = portal
        self._context = context

    def buildProtocol(self, addr: IAddress | None) -> IMAP4Server:
        made = IMAP4Server(contextFactory=self._context)
        made.portal = self._portal  # type: ignore[assignment]
        return made


class Program:
    """
    What the test can ask of the server.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.counting = Counting()
        self.realm = Realm()
        self.inbox = self.realm.mailboxes["INBOX"]
        self.inbox.deliver(big_message())
        portal = Portal(self.realm, [InMemoryUsernamePasswordDatabaseDontUse(joe=b"secret")])
        context = PrivateCertificate.loadPEM(config["pem"]).options()
        policy = Policy(**config.get("policy", {}))
        self.factory = continuous(Factory(portal, None if config["tls"] else context), policy=policy)
        if config["tls"]:
            port = reactor.listenSSL(config["port"], self.factory, context, interface=config["host"])
        else:
            port = reactor.listenTCP(config["port"], self.factory, interface=config["host"])
        self.talk = Talk({"state": self.state, "deliver": self.deliver, "follow": self.follow, "cut": self.cut})
        self._port = port.getHost().port

    def begin(self) -> None:
        reactor.callWhenRunning(lambda: self.talk.event("listening", port=self._port))
        run(self.talk)

    def state(self) -> dict[str, Any]:
        """
        Table, links, mail.
        """
        table = self.factory.table
        sessions = [served.conduit.session for served in table.all() if served.conduit is not None]
        return {
            "counts": dict(table.counts),
            "sessions": len(table),
            "parked": table.parked,
            "links": len(self.factory._links),
            "displaced": self.counting.displaced,
            "logouts": self.realm.logouts,
            "stored": [digest(octets) for octets in self.inbox.stored],
            "stream": self.counting.of(sessions[0]) if sessions else None,
        }

    def deliver(self) -> None:
        """
        A small mail for the mailbox.
        """
        self.inbox.deliver(b"Subject: hello\r\n\r\nhello\r\n")

    def cut(self) -> None:
        """
        The server's links die; it knows, the client does not.
        """
        for link in list(self.factory._links):
            link.transport.abortConnection()  # type: ignore[attr-defined]

    def follow(self, marks: list[int]) -> None:
        """
        Tell when the inner end has got so many octets.
        """
        received = self.factory.table.all()[0].conduit.session.receiver.received  # type: ignore[union-attr]
        if marks and received >= marks[0]:
            self.talk.event("progress", octets=received)
            marks = [mark for mark in marks if mark > received]
        if marks:
            reactor.callLater(0.002, self.follow, marks)


if __name__ == "__main__":
    Program(read_config()).begin()
