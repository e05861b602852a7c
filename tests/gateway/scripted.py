"""
An upstream that says what a test wants, on a real socket of this machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.python.failure import Failure

from tests.support.certificates import server_context

HELLO = b"* OK [CAPABILITY IMAP4rev1 ID STARTTLS] Hello\r\n"


class Scripted(Protocol):
    """
    One connection to it.

    @ivar heard: all that came, of each state: in the clear, and under TLS.
    """

    transport: Any
    factory: ScriptedServer

    def __init__(self) -> None:
        self.heard = [b""]
        self.lost = False

    def connectionMade(self) -> None:
        self.factory.connections.append(self)
        if self.factory.greeting:
            self.transport.write(self.factory.greeting)

    def dataReceived(self, data: bytes) -> None:
        self.heard[-1] += data
        for word, answer in list(self.factory.answers.items()):
            if word in data:
                self.transport.write(answer.replace(b"TAG", data.split()[0]))
                if word == b"STARTTLS":
                    self.heard.append(b"")
                    self.transport.startTLS(server_context())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True


class ScriptedServer(ServerFactory):
    """
    Listens where C{listen} says.

    @ivar greeting: what it says at first.
    @ivar answers: what it says when a word is in what it hears; C{TAG} stands for the first word heard.
    """

    noisy = False
    protocol = Scripted  # type: ignore[assignment]

    def __init__(self, greeting: bytes = HELLO, answers: dict[bytes, bytes] | None = None) -> None:
        self.greeting = greeting
        self.answers = answers or {}
        self.connections: list[Scripted] = []

    def listen(self, add_cleanup: Callable[..., object], tls: bool = False) -> int:
        """
        @return: the port on 127.0.0.1.
        """
        any_reactor: Any = reactor
        if tls:
            port = any_reactor.listenSSL(0, self, server_context(), interface="127.0.0.1")
        else:
            port = any_reactor.listenTCP(0, self, interface="127.0.0.1")
        add_cleanup(self.stop, port)
        number: int = port.getHost().port
        return number

    def listen_unix(self, path: str, add_cleanup: Callable[..., object]) -> None:
        any_reactor: Any = reactor
        add_cleanup(self.stop, any_reactor.listenUNIX(path, self))

    def stop(self, port: IListeningPort) -> Deferred[None] | None:
        """
        End it with all its connections.
        """
        for one in self.connections:
            if not one.lost:
                one.transport.abortConnection()
        stopped: Deferred[None] | None = port.stopListening()
        return stopped
