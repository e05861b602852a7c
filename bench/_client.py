"""
The client of the benches: an IMAP client of few words that costs little, over a plain connection or one that roams.

Invariant: it is the same protocol with and without the layer, so what differs in the figures is the layer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet import reactor as _reactor
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.protocols.basic import FileSender
from twisted.python.failure import Failure
from zope.interface import implementer

from bench._process import ServerProcess
from bench._site import Body
from mem_continuity.client import DeviceEndpoint, Path, RoamingEndpoint
from mem_continuity.client.tickets import TicketKeeper
from mem_continuity.core.policy import RoamingPolicy
from tests.netlab import Lab, Network
from tests.support.certificates import certificate_pem

reactor: Any = _reactor
_TAIL = 4096


class Talker(Protocol):
    """
    Sends one command after the other and waits for its tagged answer.

    @ivar octets: how many were received.
    @ivar on_octets: called for each chunk, before anything is made of it.
    """

    def __init__(self) -> None:
        self.octets = 0
        self.on_octets: Callable[[bytes], object] = lambda octets: None
        self._tail = b""
        self._mark = b"\r\n* OK"
        self.greeted: Deferred[bytes] = Deferred()
        self._waiting: Deferred[bytes] | None = self.greeted
        self._number = 0

    def dataReceived(self, data: bytes) -> None:
        self.octets += len(data)
        self.on_octets(data)
        if self._waiting is None:
            return
        seen = (self._tail or b"\r\n") + data
        begin = seen.find(self._mark)
        if begin >= 0:
            end = seen.find(b"\r\n", begin + 2)
            if end >= 0:
                self._tail = b""
                waiting, self._waiting = self._waiting, None
                waiting.callback(seen[begin + 2 : end])
                return
            self._tail = seen[begin:]
            return
        self._tail = seen[-_TAIL:]

    def connectionLost(self, reason: Failure | None = None) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and reason is not None:
            waiting.errback(reason)

    def wait(self, mark: bytes) -> Deferred[bytes]:
        """
        For a line that begins so.
        """
        self._mark = b"\r\n" + mark
        self._tail = b""
        self._waiting = Deferred()
        return self._waiting

    def ask(self, command: bytes) -> Deferred[bytes]:
        """
        @return: fires with the tagged line.
        """
        self._number += 1
        tag = b"t%d" % self._number
        answer = self.wait(tag + b" ")
        self._transport.write(tag + b" " + command + b"\r\n")
        return answer

    async def append(self, size: int) -> bytes:
        """
        APPEND a message of this size.
        """
        self._number += 1
        tag = b"t%d" % self._number
        go_on = self.wait(b"+")
        self._transport.write(tag + b" APPEND INBOX () {%d}\r\n" % size)
        await go_on
        answer = self.wait(tag + b" ")
        sending: Deferred[Any] = FileSender().beginFileTransfer(Body(size), self._transport)
        sending.addErrback(lambda _: None)  # the answer tells as well
        await sending
        self._transport.write(b"\r\n")
        return await answer

    async def log_in(self, user: bytes = b"joe", select: bool = True) -> None:
        """
        LOGIN and SELECT.  CAPABILITY comes first, so that a roaming endpoint learns of the layer as it would.
        """
        for command in (b"CAPABILITY", b"LOGIN %b secret" % user, b"SELECT INBOX")[: 2 + select]:
            answer = await self.ask(command)
            if b" OK" not in answer:
                raise RuntimeError(f"{command!r} was answered {answer!r}")

    @property
    def _transport(self) -> Any:
        return self.transport

    def abort(self) -> None:
        """
        Break off.
        """
        self.on_octets = lambda octets: None
        self._waiting = None
        self._transport.abortConnection()


@implementer(IStreamClientEndpoint)
class _Inside:
    """
    An endpoint whose sockets are made on a lab's handset.
    """

    def __init__(self, lab: Lab, endpoint: IStreamClientEndpoint) -> None:
        self._lab, self._endpoint = lab, endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        with self._lab.inside(self._lab.handset):
            connecting: Deferred[IProtocol] = self._endpoint.connect(protocolFactory)
        return connecting


@implementer(IStreamClientEndpoint)
class Route:
    """
    The default route of a handset: an endpoint that leads over whichever network is the present one.
    """

    def __init__(self, endpoints: dict[str, IStreamClientEndpoint], now: str) -> None:
        self.endpoints = endpoints
        self.now = now

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        connecting: Deferred[IProtocol] = self.endpoints[self.now].connect(protocolFactory)
        return connecting


@implementer(IOpenSSLTrustRoot)
class _Lean:
    """
    Trusts the benches' certificate, and lets the client offer P-256 only: without the hybrid key share of 1.2 kB its
    ClientHello fits one packet.  Trust is what a client's context can be reached by.
    """

    def _addCACertsToContext(self, context: Any) -> None:
        context.get_cert_store().add_cert(Certificate.loadPEM(certificate_pem()).original)
        context.set_tmp_ecdh(ec.SECP256R1())


def creator(tickets: bool = False, lean: bool = False) -> Any:
    """
    TLS as the benches' clients do it.

    @param lean: offer P-256 only.
    """
    made = optionsForClientTLS("localhost", trustRoot=_Lean() if lean else Certificate.loadPEM(certificate_pem()))
    return TicketKeeper(made) if tickets else made


def endpoint(
    server: ServerProcess,
    tls: Any,
    lab: Lab | None = None,
    network: Network | None = None,
    fast_open: bool = False,
) -> IStreamClientEndpoint:
    """
    TLS to a server, from a lab's handset over one of its networks if one is named.
    """
    source = None if network is None else network.handset_address
    host = server.address if network is None else network.reach
    made: IStreamClientEndpoint = DeviceEndpoint(reactor, host, server.port, source=source, fast_open=fast_open)
    return wrapClientTLS(tls, made if lab is None else _Inside(lab, made))


def roaming(paths: list[Path], prepare: bool = False, **limits: Any) -> RoamingEndpoint:
    """
    A roaming endpoint that names itself.
    """
    policy = RoamingPolicy(**limits)
    return RoamingEndpoint(paths, reactor=reactor, policy=policy, client_id=(b"UUID", b"bench"), prepare=prepare)


async def connect(way: IStreamClientEndpoint) -> Talker:
    """
    A talker that was greeted.
    """
    talker: Any = await way.connect(Factory.forProtocol(Talker))
    assert isinstance(talker, Talker)
    if not talker.greeted.called:
        await talker.greeted
    return talker


def now() -> float:
    """
    Seconds of one monotonic clock.
    """
    return time.monotonic()
