"""
What the tests of L{mem_continuity.imap.front} share.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable

from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.policy import Policy
from mem_continuity.imap.actions import Action, Close, Failed, LoggedIn, LoginFailed, Route
from mem_continuity.imap.front import Front, LocalFront
from tests.imap import ToyServer, Transcript, pull

GREETING = b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=LOGIN] upstream\r\n"
HELLO = b"* OK [CAPABILITY IMAP4rev1 ID SASL-IR AUTH=PLAIN AUTH=LOGIN] ready\r\n"
SCRAM = b64encode(b"n,,n=joe,r=x"), b64encode(b"c=biws,r=xy,p=AAAA")
ALL = (b"PLAIN", b"LOGIN", b"SCRAM-SHA-256", b"OAUTHBEARER")
UPSTREAM = frozenset((b"IMAP4REV1", b"SASL-IR", b"LITERAL+"))


def plain(user: bytes, other: bytes = b"", password: bytes = b"pw") -> bytes:
    """
    A response of PLAIN.
    """
    return b64encode(other + b"\0" + user + b"\0" + password)


class Upstream(ToyServer):
    """
    L{ToyServer}, with responses as they are counted in truth.
    """

    def __init__(self, answers: dict[bytes, bytes] | None = None) -> None:
        super().__init__(answers)
        self.responses = {b"PLAIN": 1, b"LOGIN": 2, b"SCRAM-SHA-256": 2, b"OAUTHBEARER": 1}

    def renew(self) -> None:
        """
        Another connection to it.
        """
        self.commands, self._buffer, self._command, self._literal, self._asked = [], b"", b"", 0, 0


class FrontCase(SynchronousTestCase):
    """
    A front between a client and an upstream.
    """

    timeout = 60

    def setUp(self) -> None:
        self.begin()

    def begin(
        self,
        local: LocalFront | None = None,
        greeting: bytes | None = GREETING,
        secure: bool = True,
        tls: bool = False,
        **limits: int,
    ) -> None:
        self.secure, self.tls = secure, tls
        self.front = Front(Policy(**limits), lambda: self.secure, lambda: self.tls, local)
        self.upstream = Upstream()
        self.transcript = Transcript()
        self.handle: Callable[[Action], bytes | None] = self.carry_out
        self.capabilities = UPSTREAM
        self.split: Callable[[bytes], Iterable[bytes]] = lambda octets: [octets]
        self.front.greet()
        if local is None and greeting is not None:
            self.front.server_data(greeting)
        self.pull()

    def carry_out(self, action: Action) -> bytes | None:
        """
        Everybody has the same upstream, which is given up when a login fails.
        """
        if isinstance(action, Route):
            self.upstream.renew()
            self.front.attach(self.capabilities)
        elif isinstance(action, LoginFailed) and self.local:
            self.front.detach()
        return None

    @property
    def local(self) -> bool:
        return self.front._own is not None

    def pull(self) -> None:
        pull(self.front, self.transcript, self.upstream, lambda action: self.handle(action), lambda octets: self.split(octets))

    def send(self, *parts: bytes) -> bytes:
        """
        @return: what the client got for it.
        """
        before = len(self.transcript.to_client)
        for part in parts:
            self.front.client_data(part)
            self.pull()
        return self.transcript.to_client[before:]

    def say(self, octets: bytes) -> bytes:
        """
        The upstream says something by itself.
        """
        before = len(self.transcript.to_client)
        self.front.server_data(octets)
        self.pull()
        return self.transcript.to_client[before:]

    def actions(self) -> list[Action]:
        return self.transcript.actions()

    def failed(self) -> list[str]:
        return [action.text for action in self.actions() if isinstance(action, Failed)]

    def logged_in(self) -> list[tuple[bytes | None, bytes | None]]:
        return [(action.claimed, action.user) for action in self.actions() if isinstance(action, LoggedIn)]

    def assertEnded(self) -> None:
        """
        Nothing that still arrives counts, and nothing is kept.
        """
        self.assertIsInstance(self.actions()[-1], (Failed, Close))
        before = self.transcript.to_client, self.transcript.to_server, len(self.transcript.events)
        self.send(b"z NOOP\r\n" + b"x" * 100_000)
        self.say(b"* OK more\r\nz OK done\r\n")
        self.front.detach()
        self.front.refuse(b"x")
        self.pull()
        after = self.transcript.to_client, self.transcript.to_server, len(self.transcript.events)
        self.assertEqual((after, self.front.held, len(self.front._client)), (before, 0, 0))
        self.assertFalse(self.front.waiting)
        kept = self.front._collected, self.front._login, self.front._prompted, self.front._watch, len(self.front._flights)
        self.assertEqual(kept, (None, None, None, None, 0))


class LocalCase(FrontCase):
    """
    A front that answers by itself.
    """

    def setUp(self) -> None:
        self.begin(LocalFront())

    def routes(self) -> list[bytes]:
        return [action.claimed for action in self.actions() if isinstance(action, Route)]

    def stand(self) -> None:
        """
        From now on the test answers L{Route} by itself.
        """
        self.handle = lambda action: None
