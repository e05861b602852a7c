"""
The clients of the drop-in tests: Twisted's own C{IMAP4Client}, and one that writes lines and keeps every octet of the answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.mail.imap4 import IMAP4Client
from twisted.python.failure import Failure

from tests.support.certificates import client_context


def endpoint_to(reactor: Any, port: int, *, tls: bool, source: str | None = None) -> IStreamClientEndpoint:
    """
    To a port on loopback.

    @param source: the address to connect from.
    """
    plain: IStreamClientEndpoint = HostnameEndpoint(
        reactor, b"127.0.0.1", port, bindAddress=None if source is None else (source, 0)
    )
    return wrapClientTLS(client_context(), plain) if tls else plain  # type: ignore[arg-type]


class MailClient(IMAP4Client):
    """
    C{IMAP4Client}; only tells when it was greeted, when it lost its connection, and which BYE it heard.
    """

    def __init__(self, context: Any = None) -> None:
        super().__init__(context)
        self.greeted: Deferred[None] = Deferred()
        self.lost: Deferred[object] = Deferred()
        self.byes: list[bytes] = []

    def lineReceived(self, line: bytes) -> None:
        if line.startswith(b"* BYE"):
            self.byes.append(line)
        super().lineReceived(line)

    def serverGreeting(self, caps: Any) -> None:
        super().serverGreeting(caps)
        self.greeted.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.lost.callback(reason.value or reason)


async def connect_mail(endpoint: IStreamClientEndpoint, context: Any = None) -> MailClient:
    """
    Connect and wait for the greeting.
    """
    client: Any = await endpoint.connect(Factory.forProtocol(lambda: MailClient(context)))
    await client.greeted
    assert isinstance(client, MailClient)
    return client


async def read_mail(client: MailClient, fetching: Callable[[], object] = lambda: None) -> bytes:
    """
    Log in, select, fetch the first message, log out.

    @param fetching: called when FETCH is sent.
    @return: the message.
    """
    await client.login(b"joe", b"secret")
    await client.select(b"INBOX")
    asked = client.fetchMessage("1")
    fetching()
    found = await asked
    await client.noop()
    await client.logout()
    await client.lost
    return str(found[1]["RFC822"]).encode()


class LineClient(Protocol):
    """
    Writes commands and keeps all answers.

    @ivar heard: every octet of the server.
    """

    def __init__(self) -> None:
        self.heard = b""
        self.lost: Deferred[None] = Deferred()
        self._waiting: tuple[re.Pattern[bytes], Deferred[None]] | None = None

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        self._look()

    def _look(self) -> None:
        if self._waiting is not None and self._waiting[0].search(self.heard):
            (_, waiting), self._waiting = self._waiting, None
            waiting.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        waiting, self._waiting = self._waiting, None
        self.lost.callback(None)
        if waiting is not None:
            waiting[1].errback(reason)

    def until(self, pattern: bytes) -> Deferred[None]:
        """
        Wait until a line of the answers matches.
        """
        waiting: Deferred[None] = Deferred()
        self._waiting = (re.compile(b"(?m)^" + pattern), waiting)
        self._look()
        return waiting

    async def say(self, command: bytes) -> None:
        """
        Send a command with its tag and wait for its tagged response.
        """
        transport: Any = self.transport
        transport.write(command + b"\r\n")
        await self.until(re.escape(command.split(b" ")[0]) + rb" [^\r\n]*\r\n")
        if command.upper().endswith(b" STARTTLS"):
            transport.startTLS(client_context())


async def connect_lines(endpoint: IStreamClientEndpoint) -> LineClient:
    """
    Connect and wait for the greeting.
    """
    client: Any = await endpoint.connect(Factory.forProtocol(LineClient))
    assert isinstance(client, LineClient)
    await client.until(rb"\* OK ")
    return client


async def converse(endpoint: IStreamClientEndpoint, commands: Sequence[bytes]) -> bytes:
    """
    A whole conversation; the last command ends it.

    @return: every octet that the server said.
    """
    client = await connect_lines(endpoint)
    for command in commands:
        await client.say(command)
    await client.lost
    return client.heard
