"""
The client of these tests: Twisted's own C{IMAP4Client} over a L{RoamingEndpoint}.  C{python -m tests.handover.client}.
"""

from __future__ import annotations

import io
import sys
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.mail.imap4 import Command, IMAP4Client
from twisted.python.failure import Failure

from mem_continuity.client import ContinuityLost, DeviceEndpoint, Path, RoamingEndpoint, roamer_of
from mem_continuity.core.policy import RoamingPolicy
from tests.handover.counting import Counting
from tests.handover.server import big_message, digest
from tests.handover.talk import Talk, reactor, read_config, run


class Client(IMAP4Client):
    """
    C{IMAP4Client}; it tells when it has got so many octets, and what comes in IDLE, which Twisted's client keeps to itself until
    DONE is answered.
    """

    idling = False

    got = 0
    marks: tuple[int, ...] | list[int] = ()
    program: Program

    def dataReceived(self, data: bytes) -> None:
        self.got += len(data)
        if self.marks and self.got >= self.marks[0]:
            self.marks = [mark for mark in self.marks if mark > self.got]
            self.program.talk.event("progress", octets=self.got)
        if self.idling:
            self.program.talk.event("pushed", text=data.decode("ascii"))
        super().dataReceived(data)

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        super().connectionLost(reason)
        why = reason.value
        told: dict[str, Any] = {"error": type(why).__name__}
        if isinstance(why, ContinuityLost):
            told |= {"why": why.why, "received": why.received, "written": why.written}
        self.program.talk.event("lost", **told)


class Program:
    """
    What the test can ask of the client.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.counting = Counting()
        self.config = config
        self.client = Client()
        self.client.program = self
        names = ("connect", "fetch", "append", "idle", "done", "noop", "hint", "switch", "close", "logout", "state")
        self.talk = Talk({name: getattr(self, name) for name in names})

    def begin(self) -> None:
        run(self.talk)

    def _endpoint(self) -> RoamingEndpoint:
        config = self.config
        context = optionsForClientTLS("localhost", trustRoot=Certificate.loadPEM(config["pem"]))
        paths = []
        for path in config["paths"]:
            endpoint: Any = DeviceEndpoint(
                reactor, path["host"], config["port"], device=path.get("device"), source=path.get("source")
            )
            paths.append(Path(path["name"], wrapClientTLS(context, endpoint) if config["tls"] else endpoint))
        policy = RoamingPolicy(**config.get("policy", {}))
        return RoamingEndpoint(paths, policy=policy, prepare=config.get("prepare", False), client_id=(b"UUID", b"handset"))

    @inlineCallbacks
    def connect(self) -> Any:
        yield self._endpoint().connect(Factory.forProtocol(lambda: self.client))
        if not self.config["tls"]:
            context = optionsForClientTLS("localhost", trustRoot=Certificate.loadPEM(self.config["pem"]))
            yield self.client.getCapabilities()
            yield self.client.startTLS(context)
        yield self.client.login(b"joe", b"secret")
        roamer_of(self.client).watchers.append(self._happened)
        yield self.client.select(b"INBOX")
        return roamer_of(self.client).path

    def _happened(self, word: str, text: str) -> None:
        self.talk.event("resumed" if text.startswith("resumed") else word, text=text)

    @inlineCallbacks
    def fetch(self, marks: list[int]) -> Any:
        """
        The big message.
        """
        self.client.got, self.client.marks = 0, marks
        found = yield self.client.fetchMessage("1")
        return digest(found[1]["RFC822"].encode("ascii"))

    @inlineCallbacks
    def append(self) -> Any:
        """
        The big message, the other way.
        """
        yield self.client.append(b"INBOX", io.BytesIO(big_message()))

    def idle(self) -> Deferred[None]:
        """
        Fires when the server has agreed.
        """
        agreed: Deferred[None] = Deferred()

        def begin(rest: bytes) -> None:
            self.client.idling = True
            agreed.callback(None)

        self._idle = self.client.sendCommand(Command(b"IDLE", continuation=begin))
        return agreed

    def done(self) -> Any:
        self.client.idling = False
        self.client.sendLine(b"DONE")
        return self._idle.addCallback(lambda _: None)

    def noop(self) -> Any:
        return self.client.noop().addCallback(lambda _: None)

    def hint(self, what: str) -> None:
        getattr(roamer_of(self.client), what)()

    def switch(self, path: str) -> Any:
        return roamer_of(self.client).switch(path)

    def close(self) -> None:
        transport: Any = self.client.transport
        transport.loseConnection()

    def logout(self) -> Any:
        return self.client.logout().addCallback(lambda _: None)

    def state(self) -> dict[str, Any]:
        roamer = roamer_of(self.client)
        assert roamer.conduit is not None
        return {
            "phase": roamer.phase.name,
            "path": roamer.path,
            "prepared": roamer.prepared,
            "handovers": roamer.handovers,
            "stream": self.counting.of(roamer.conduit.session),
            "timers": len(reactor.getDelayedCalls()),
            "sockets": sum(type(one).__name__ in ("_Client", "Client") for one in (*reactor.getReaders(), *reactor.getWriters())),
        }


if __name__ == "__main__":
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    Program(read_config()).begin()
