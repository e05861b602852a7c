"""
The machines of L{mem_continuity.imap} between Twisted's own IMAP client and server, both as they are.
"""

from __future__ import annotations

from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import CramMD5Credentials
from twisted.cred.portal import IRealm, Portal
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, ITLSTransport, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.mail.imap4 import CramMD5ClientAuthenticator, IMAP4Client, IMAP4Server, MemoryAccount
from twisted.mail.interfaces import IAccountIMAP
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump, connect
from twisted.trial.unittest import TestCase
from zope.interface import directlyProvides, implementer

from mem_continuity.core.policy import Policy, RoamingPolicy
from mem_continuity.imap.actions import (
    Action,
    Authenticated,
    Extension,
    Over,
    Plain,
    Refused,
    Started,
    StartTLS,
    ToClient,
    ToServer,
)
from mem_continuity.imap.observer import StateObserver
from mem_continuity.imap.opening import ClientOpening
from mem_continuity.imap.preamble import ServerPreamble


class _Mailbox:
    """
    As much of a mailbox as LIST wants.
    """

    def getFlags(self) -> list[str]:
        return []

    def getHierarchicalDelimiter(self) -> str:
        return "/"


@implementer(IRealm)
class _Realm:
    """
    Gives everybody an account with one mailbox.
    """

    def requestAvatar(self, avatarId: object, mind: object, *interfaces: object) -> Any:
        account = MemoryAccount(avatarId)
        account.mailboxes = {"INBOX": _Mailbox()}
        return IAccountIMAP, account, lambda: None


class _Inner:
    """
    The transport of a protocol behind a machine.
    """

    disconnecting = False

    def __init__(self, outer: _Between) -> None:
        directlyProvides(self, ITLSTransport)
        self.outer = outer

    def write(self, data: bytes) -> None:
        self.outer.inner_wrote(data)

    def writeSequence(self, data: list[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        transport = self.outer.transport
        assert transport is not None
        transport.loseConnection()

    def startTLS(self, contextFactory: object, normal: bool = True) -> None:
        self.outer.events.append("startTLS")

    def getPeer(self) -> IAddress:
        return IPv4Address("TCP", "192.0.2.1", 1)

    def getHost(self) -> IAddress:
        return IPv4Address("TCP", "192.0.2.2", 143)


class _Between(Protocol):
    """
    A link with a machine, and a protocol behind it.
    """

    def __init__(self, inner: IMAP4Client | IMAP4Server) -> None:
        self.inner = inner
        self.events: list[Action | str] = []
        self._pumping = False

    def connectionMade(self) -> None:
        self.inner.makeConnection(_Inner(self))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.inner.connectionLost(reason)

    def machine(self) -> ServerPreamble | ClientOpening:
        raise NotImplementedError

    def inner_wrote(self, octets: bytes) -> None:
        raise NotImplementedError

    def carry_out(self, action: Action) -> None:
        raise NotImplementedError

    def pump(self) -> None:
        if self._pumping:
            while (action := self.machine().next_due()) is not None:
                self.carry_out(action)
            return
        self._pumping = True
        try:
            while (action := self.machine().next_action()) is not None:
                self.carry_out(action)
        finally:
            self._pumping = False

    def send(self, octets: bytes) -> None:
        transport: ITransport | None = self.transport
        assert transport is not None
        transport.write(octets)


class _ServerLink(_Between):
    def __init__(self, inner: IMAP4Server) -> None:
        super().__init__(inner)
        self.preamble = ServerPreamble(Policy(), lambda: (b"XCONTINUITY", b"CLIENTID"))
        self.observer: StateObserver | None = None
        self.commands = b""

    def machine(self) -> ServerPreamble:
        return self.preamble

    def dataReceived(self, data: bytes) -> None:
        for place in range(len(data)):  # the worst that a network can do
            self.preamble.client_data(data[place : place + 1])
            self.pump()

    def inner_wrote(self, octets: bytes) -> None:
        self.preamble.server_data(octets)
        self.pump()

    def carry_out(self, action: Action) -> None:
        if isinstance(action, ToClient):
            if self.observer is not None:
                self.observer.server_data(action.octets)
            self.send(action.octets)
            return
        if isinstance(action, (ToServer, Over)):
            if isinstance(action, Over):
                self.observer = StateObserver(Policy())
                self.events.append("over")
            if self.observer is not None:
                self.observer.client_data(action.octets)
            self.commands += action.octets
            self.inner.dataReceived(action.octets)
            return
        self.events.append(action)
        if isinstance(action, Extension):
            code = b"[XCONTINUITY id key 1500 1048576] " if action.name == b"XCONTINUITY" else b""
            self.send(action.tag + b" OK " + code + b"done\r\n")
            self.preamble.proceed()
        elif isinstance(action, Refused):
            self.send(action.octets)


class _ClientLink(_Between):
    def __init__(self, inner: IMAP4Client) -> None:
        super().__init__(inner)
        self.opening = ClientOpening(RoamingPolicy(), (b"UUID", b"23bf"), True)

    def machine(self) -> ClientOpening:
        return self.opening

    def dataReceived(self, data: bytes) -> None:
        self.opening.server_data(data)
        self.pump()

    def inner_wrote(self, octets: bytes) -> None:
        self.opening.client_data(octets)
        self.pump()

    def carry_out(self, action: Action) -> None:
        if isinstance(action, ToServer):
            self.send(action.octets)
        elif isinstance(action, ToClient):
            self.inner.dataReceived(action.octets)
        else:
            self.events.append(action)


class _Recorder(Protocol):
    """
    A client that says what the test says.
    """

    received = b""

    def dataReceived(self, data: bytes) -> None:
        self.received += data


class TwistedTests(TestCase):
    """
    Whole connections in memory.
    """

    timeout = 30

    def _server(self, tls: CertificateOptions | None = None) -> _ServerLink:
        server = IMAP4Server(contextFactory=tls, chal={b"CRAM-MD5": CramMD5Credentials})
        checker = InMemoryUsernamePasswordDatabaseDontUse(joe=b"pw")
        server.portal = Portal(_Realm(), [checker])  # type: ignore[assignment]
        server.setTimeout = lambda period: None  # type: ignore[method-assign]
        return _ServerLink(server)

    def _connect(self, server: _ServerLink, client: Protocol) -> IOPump:
        pump: IOPump = connect(server, FakeTransport(server, True), client, FakeTransport(client, False))
        return pump

    def _client(self) -> IMAP4Client:
        client = IMAP4Client()
        client.timeout = 0
        client.registerAuthenticator(CramMD5ClientAuthenticator(b"joe"))
        return client

    def _result(self, pump: IOPump, deferred: Deferred[Any]) -> Any:
        pump.flush()
        return self.successResultOf(deferred)

    def test_login(self) -> None:
        link, client = self._server(), self._client()
        pump = self._connect(link, client)
        self.assertIn(b"XCONTINUITY", self._result(pump, client.getCapabilities()))
        self._result(pump, client.login(b"joe", b"pw"))
        self.assertEqual([event.user for event in link.events if isinstance(event, Authenticated)], [b"joe"])
        self.assertEqual([name for _, _, name in self._result(pump, client.list("", "*"))], ["INBOX"])
        assert link.observer is not None
        self.assertFalse(link.observer.mid_command or link.observer.blind)
        self.assertEqual(link.events[-1], "over")

    def test_authenticate(self) -> None:
        link, client = self._server(), self._client()
        pump = self._connect(link, client)
        self._result(pump, client.authenticate(b"pw"))
        self.assertEqual([event.user for event in link.events if isinstance(event, Authenticated)], [b"joe"])

    def test_wrong_password_then_right(self) -> None:
        link, client = self._server(), self._client()
        pump = self._connect(link, client)
        refused = client.login(b"joe", b"no")
        pump.flush()
        self.failureResultOf(refused)
        self._result(pump, client.login(b"joe", b"pw"))
        self.assertEqual(len([event for event in link.events if isinstance(event, Authenticated)]), 1)
        self.flushLoggedErrors()

    def test_literals(self) -> None:
        link, client = self._server(), _Recorder()
        pump = self._connect(link, client)
        transport = client.transport
        assert transport is not None
        transport.write(b"a LOGIN {3}\r\njoe {2}\r\npw\r\nb CLIENTID UUID {3}\r\nx\r\n\r\nc LOGIN x {0}\r\nd NOOP\r\n")
        pump.flush()
        self.assertEqual(
            link.events,
            [Authenticated(b"a", b"joe"), Extension(b"b", b"CLIENTID", [b"UUID", b"x\r\n"], None)],
        )
        answers = client.received
        for line in (b"\r\na OK", b"\r\nd OK"):
            self.assertIn(line, answers)

    def test_starttls(self) -> None:
        link, client = self._server(CertificateOptions()), _Recorder()
        pump = self._connect(link, client)
        assert client.transport is not None
        client.transport.write(b"a STARTTLS\r\n")
        pump.flush()
        self.assertEqual(link.events, [StartTLS(), "startTLS"])
        self.assertIn(b"\r\na OK", client.received)

    def test_opening_and_preamble(self) -> None:
        link, inner = self._server(), self._client()
        client = _ClientLink(inner)
        pump = self._connect(link, client)
        capabilities = self._result(pump, inner.getCapabilities())
        self.assertFalse({b"XCONTINUITY", b"CLIENTID"} & set(capabilities))
        self._result(pump, inner.login(b"joe", b"pw"))
        self.assertEqual(client.events, [Started(b"id", b"key", 1500.0, 1048576, b"")])
        self.assertEqual(
            [(event.name, event.arguments) for event in link.events if isinstance(event, Extension)],
            [(b"CLIENTID", [b"UUID", b"23bf"]), (b"XCONTINUITY", [b"START"])],
        )
        self.assertEqual([name for _, _, name in self._result(pump, inner.list("", "*"))], ["INBOX"])
        self._result(pump, inner.logout())

    def test_opening_with_a_server_that_knows_nothing(self) -> None:
        link, inner = self._server(), self._client()
        link.preamble = ServerPreamble(Policy(), lambda: ())
        client = _ClientLink(inner)
        pump = self._connect(link, client)
        self._result(pump, inner.login(b"joe", b"pw"))
        self.assertEqual(client.events, [Plain()])
        self.assertEqual([name for _, _, name in self._result(pump, inner.list("", "*"))], ["INBOX"])
        self.assertNotIn(b"mc0", link.commands)
