"""
A site as a third party would have it: Twisted's own C{IMAP4Server} on mailboxes in memory behind cred, wrapped by
L{continuous} on a L{Clock}.  Connections to it are L{Wire}s: a transport of iosim at the server's end, and at the other end
whatever the test does by hand, octet by octet.

Invariants: nothing happens by itself.  A turn of the reactor is C{site.turn()}, time passes by C{site.clock.advance()}, and
everything that any link carried or that became of it stands in C{site.trace}, in the order in which it happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.internet.task import Clock
from twisted.mail.imap4 import IMAP4Server
from twisted.mail.interfaces import IAccountIMAP
from twisted.python.failure import Failure
from zope.interface import implementer

from mem_continuity.core.policy import Policy
from mem_continuity.server import ContinuityRealm, continuous
from mem_continuity.server.factory import ContinuityFactory
from tests.support.mailboxes import Account, Mailbox
from tests.support.wires import Event, Wire


class Server(IMAP4Server):
    """
    C{IMAP4Server} with ears: what it receives and what becomes of it is noted, nothing else is changed.
    """

    def __init__(self, site: Site) -> None:
        super().__init__(scheduler=site.iterate)
        self.heard = b""
        self._inside = False
        self.losses: list[Failure] = []
        for name in ("timeOut", "POSTAUTH_TIMEOUT"):  # its autologout would be one timer more, and the running reactor's
            setattr(self, name, None)

    def dataReceived(self, data: bytes) -> None:
        if self._inside:
            super().dataReceived(data)  # LineReceiver hands itself what is left behind a literal
            return
        self.heard += data
        self._inside = True
        try:
            super().dataReceived(data)
        finally:
            self._inside = False

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.losses.append(reason)
        super().connectionLost(reason)


@implementer(IRealm)
class Realm:
    """
    Gives accounts and counts logins and logouts.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        site, name = self._site, avatarId.decode("ascii")
        assert IAccountIMAP in interfaces
        site.logins.append(name)
        account = Account(name, site.mailboxes.setdefault(name, {"INBOX": Mailbox()}))
        site.accounts.append(account)
        return IAccountIMAP, account, lambda: site.logouts.append(name)


class Site(ServerFactory):
    """
    The site: factory of C{IMAP4Server}s, realm, mailboxes; C{continuous} is the one line that was changed.

    @ivar factory: what is listened with.
    @ivar servers: all protocol instances that were made, in their order.
    @ivar logins: the users in the order of their logins, as the realm saw them; L{logouts} likewise.
    @ivar trace: what all links carried.
    @ivar wires: all links that were made.
    """

    noisy = False
    protocol_class: Callable[[Site], Any] = Server

    def __init__(
        self, policy: Policy | None = None, *, continuity_realm: bool = False, clock: Any = None, **options: Any
    ) -> None:
        """
        @param clock: a reactor, for a site on real connections; a L{Clock} of its own when None.
        @param continuity_realm: put L{ContinuityRealm} around the realm.
        @param options: for L{continuous}; C{binding} is off when not told otherwise, for these links have no TLS of their own.
        """
        self.clock: Any = clock
        if clock is None:
            self.clock = Clock()
            self.clock.advance(1000.0)
        self.mailboxes: dict[str, dict[str, Mailbox]] = {}
        self.servers: list[Any] = []
        self.accounts: list[Account] = []
        self.logins: list[str] = []
        self.logouts: list[str] = []
        self.trace: list[Event] = []
        self.wires: list[Wire] = []
        self.policy = Policy() if policy is None else policy
        self.checker = InMemoryUsernamePasswordDatabaseDontUse(joe=b"secret", ann=b"hidden")
        realm: Any = Realm(self)
        self.portal = Portal(ContinuityRealm(realm) if continuity_realm else realm, [self.checker])
        options.setdefault("binding", False)
        self.factory: ContinuityFactory = continuous(self, policy=self.policy, reactor=self.clock, **options)

    def mailbox(self, user: str = "joe", name: str = "INBOX") -> Mailbox:
        """
        A user's mailbox, made when there is none.
        """
        return self.mailboxes.setdefault(user, {"INBOX": Mailbox()}).setdefault(name, Mailbox())

    def buildProtocol(self, addr: IAddress | None) -> Any:
        made: Any = self.protocol_class(self)
        made.portal = self.portal
        made.factory = self
        self.servers.append(made)
        return made

    def iterate(self, steps: Iterator[Any]) -> Deferred[Any]:
        """
        A scheduler for C{IMAP4Server}: one step a turn, on the clock.
        """
        done: Deferred[Any] = Deferred()

        def go(last: Any) -> None:
            try:
                step = next(steps)
            except StopIteration:
                done.callback(last)
            except Exception:
                done.errback()
            else:
                if isinstance(step, Deferred):
                    step.addCallbacks(go, done.errback)
                else:
                    self.clock.callLater(0, go, step)

        go(None)
        return done

    def turn(self, count: int = 1) -> None:
        """
        So many turns of the reactor in which no time passes.
        """
        for _ in range(count):
            self.clock.advance(0)

    def settle(self) -> None:
        """
        Turns until nothing is due any more.
        """
        for _ in range(10000):
            if not any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
                return
            self.clock.advance(0)
        raise AssertionError("the clock does not come to rest")

    def connect(
        self, host: str = "192.0.2.1", *, secure: bool = True, greet: bool = True, wire_class: type[Wire] = Wire
    ) -> Wire:
        """
        A client connects.

        @param host: its address.
        @param secure: under TLS, as far as the server can see.
        @param greet: let the server greet; otherwise that is left to the next turn.
        """
        number = len(self.wires)
        name = chr(ord("A") + number) if number < 26 else f"L{number}"
        wire = wire_class(self, name, IPv4Address("TCP", host, 40000 + number), secure)
        self.wires.append(wire)
        if greet:
            self.settle()
        return wire
