"""
The scene: a handset and a server, two networks between them, a mail server with one big message.

As root these are network namespaces with emulated links; otherwise two loopback addresses, which have neither delay nor rate.

Invariant: whatever ends the program, the networks and processes of the scene go with it.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import ServerFactory
from twisted.mail.imap4 import IMAP4Server
from twisted.mail.interfaces import IAccountIMAP
from zope.interface import implementer

from tests.netlab import BaseLab, Lab, LoopbackLab, Network, Shape, available
from tests.support.certificates import client_context, server_context
from tests.support.mailboxes import Account, Mailbox

WLAN = Shape(delay_ms=10, rate=120e6)
XG = Shape(delay_ms=30, rate=100e6)


def open_lab(loopback: bool) -> tuple[BaseLab, str]:
    """
    The networks, and what is to be said of them.

    @param loopback: do without namespaces even if they can be had.
    """
    reason = "as asked" if loopback else available()
    if reason is None:
        shapes = (("wlan", WLAN), ("xG", XG))
        said = ", ".join(f"{name} {2 * one.delay_ms:.0f} ms {one.rate / 1e6:.0f} Mbit/s" for name, one in shapes)
        return Lab(emulated=True, wlan=WLAN, xg=XG), f"two network namespaces: {said}"
    return LoopbackLab(), f"two loopback addresses, without delay or rate ({reason})"


def message(octets: int, name: str) -> bytes:
    """
    A message that cannot be guessed.
    """
    return b"Subject: %b\r\n\r\n" % name.encode() + Random(name).randbytes(octets // 2).hex().encode("ascii")


class WatchedMailbox(Mailbox):
    """
    Tells when a message has been stored, before the client is.
    """

    on_stored: Callable[[], object] = staticmethod(lambda: None)

    def addMessage(self, message: Any, flags: Any = (), date: Any = None) -> Deferred[int]:
        stored = super().addMessage(message, flags, date)
        self.on_stored()
        return stored


@implementer(IRealm)
class _Realm:
    def __init__(self, inbox: Mailbox) -> None:
        self._mailboxes = {"INBOX": inbox}

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        return IAccountIMAP, Account(avatarId.decode("ascii"), self._mailboxes), lambda: None


class MailServer(ServerFactory):
    """
    Twisted's own C{IMAP4Server} on one mailbox.
    """

    noisy = False

    def __init__(self, inbox: Mailbox) -> None:
        self._portal = Portal(_Realm(inbox), [InMemoryUsernamePasswordDatabaseDontUse(joe=b"secret")])

    def buildProtocol(self, addr: IAddress | None) -> IMAP4Server:
        made = IMAP4Server()
        made.portal = self._portal  # type: ignore[assignment]
        return made


@implementer(IStreamClientEndpoint)
class _OnHandset:
    """
    Connects from the handset, over one network, under TLS.
    """

    def __init__(self, scene: Scene, network: Network, port: int) -> None:
        self._scene = scene
        plain = TCP4ClientEndpoint(scene.reactor, network.reach, port, 30, (network.handset_address, 0))
        context: Any = client_context()
        self._endpoint = wrapClientTLS(context, plain)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        with self._scene.lab.inside(self._scene.lab.handset):
            connecting: Deferred[IProtocol] = self._endpoint.connect(protocolFactory)
        return connecting


class Scene:
    """
    @ivar inbox: the mailbox, with the big message in it, of the present run.
    """

    def __init__(self, reactor: Any, lab: BaseLab, big: bytes) -> None:
        self.reactor = reactor
        self.lab = lab
        self.big = big
        self.inbox = WatchedMailbox()
        self._port: Any = None

    def serve(self, wrap: Callable[[IProtocolFactory], Any]) -> Any:
        """
        A fresh mailbox behind a fresh server.

        @param wrap: what is put around the server's factory.
        @return: what C{wrap} gave.
        """
        self.close()
        for network in self.lab.networks.values():
            network.restore()
        self.inbox = WatchedMailbox()
        self.inbox.deliver(self.big)
        factory = wrap(MailServer(self.inbox))
        with self.lab.inside(self.lab.server):
            self._port = self.reactor.listenSSL(0, factory, server_context(), interface=self.lab.server_address)
        self.lab.publish(self._port.getHost().port)
        return factory

    def endpoint(self, name: str) -> IStreamClientEndpoint:
        """
        The way to the server over a network.
        """
        return _OnHandset(self, self.lab.networks[name], self._port.getHost().port)

    def close(self) -> None:
        """
        Stop listening.
        """
        port, self._port = self._port, None
        if port is not None:
            port.stopListening()


def mail(name: str, octets: int) -> io.BytesIO:
    """
    A message to be stored.
    """
    return io.BytesIO(message(octets, name))
