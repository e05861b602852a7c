"""
The endpoint that makes connections which roam.

Invariant: a connection is given out when it is ready, TLS included; what was begun for one that is not wanted any more is closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionAborted, TimeoutError
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from mem_continuity.client.link import ClientLink
from mem_continuity.client.paths import AnyPath, Path
from mem_continuity.client.roamer import Phase, Roamer
from mem_continuity.core.policy import RoamingPolicy

__all__ = ["Phase", "Roamer", "RoamingEndpoint", "roamer_of"]


class _Links(Factory):
    """
    Builds links for one roaming connection.
    """

    noisy = False

    def __init__(self, policy: RoamingPolicy, clock: IReactorTime) -> None:
        self._policy = policy
        self._clock = clock

    def buildProtocol(self, addr: IAddress | None) -> ClientLink:
        return ClientLink(self._policy, self._clock)


@implementer(IStreamClientEndpoint)
class _Ready:
    """
    An endpoint whose connections are ready when they are given out: TLS stands, within C{connect_timeout}.
    """

    def __init__(self, path: Path, policy: RoamingPolicy, clock: IReactorTime) -> None:
        self._path = path
        self._policy = policy
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        connected: Deferred[IProtocol] = self._path.endpoint.connect(protocolFactory)
        connected.addCallback(self._wait)
        connected.addTimeout(self._policy.connect_timeout, self._clock, self._timed_out)
        return connected

    def _timed_out(self, result: Any, seconds: float) -> Any:
        if not isinstance(result, Failure):
            return result
        return Failure(TimeoutError(f"no link by {self._path.name} within {seconds} seconds"))

    def _wait(self, protocol: IProtocol) -> Deferred[IProtocol]:
        assert isinstance(protocol, ClientLink)
        link = protocol
        link.path_name = self._path.name
        ready: Deferred[IProtocol] = Deferred(lambda _: link.abort())
        link.ready.addCallbacks(lambda _: ready.callback(link), lambda why: None if ready.called else ready.errback(why))
        return ready


@implementer(IStreamClientEndpoint)
class RoamingEndpoint:
    """
    A client endpoint: any protocol that connects through it keeps its transport while links come and go.

    With a server that does not have XCONTINUITY it is an ordinary connection.
    """

    def __init__(
        self,
        paths: Sequence[Path | IStreamClientEndpoint],
        *,
        reactor: IReactorTime | None = None,
        policy: RoamingPolicy | None = None,
        client_id: tuple[bytes, bytes] | None = None,
        prepare: bool = False,
    ) -> None:
        """
        @param paths: the ways to the server, the best first.
        @param reactor: the clock; the running reactor when None.
        @param client_id: type and value for CLIENTID; none is sent when None.
        @param prepare: keep a second link ready on another path while the first works, so that a switch takes one round trip.
        @raise ValueError: no path was given.
        """
        if not paths:
            raise ValueError("a roaming endpoint needs at least one path to the server")
        if reactor is None:
            from twisted.internet import reactor as running  # not before it is needed: importing installs one

            reactor = IReactorTime(running)
        self.policy = RoamingPolicy() if policy is None else policy
        self.clock = reactor
        self.paths = [one if isinstance(one, Path) else Path(f"path {number}", one) for number, one in enumerate(paths)]
        self.client_id = client_id
        self.prepare = prepare

    def ways(self, only: str | None = None, without: str | None = None, last: str | None = None) -> AnyPath:
        """
        The ways to the server in the order in which they are to be tried.

        @param only: this one alone.
        @param without: not this one.
        @param last: this one at the end.
        """
        chosen = [path for path in self.paths if only in (None, path.name) and path.name != without]
        chosen.sort(key=lambda path: path.name == last)
        ready = [Path(path.name, _Ready(path, self.policy, self.clock)) for path in chosen]
        return AnyPath(ready, self.clock, self.policy.path_stagger)

    def connect_by(self, ways: AnyPath) -> Deferred[Any]:
        """
        A fresh link that is ready, by the best of these ways that works.
        """
        return ways.connect(_Links(self.policy, self.clock))

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @see: L{IStreamClientEndpoint.connect}
        """
        protocolFactory.doStart()

        def connected(link: ClientLink) -> IProtocol | Deferred[IProtocol]:
            try:
                protocol = protocolFactory.buildProtocol(link.transport.getPeer())
            except BaseException:
                link.abort()
                raise
            if protocol is None:
                link.abort()
                return fail(ConnectionAborted())
            Roamer(self, protocol, link).open(protocolFactory.doStop)
            return protocol

        def failed(reason: Failure) -> Failure:
            protocolFactory.doStop()
            return reason

        connecting: Deferred[Any] = self.connect_by(self.ways())
        connecting.addCallback(connected)
        connecting.addErrback(failed)
        return connecting


def roamer_of(protocol: Any) -> Roamer:
    """
    What keeps a protocol's connection on a link: for hints, planned switches and figures.

    @param protocol: connected through a L{RoamingEndpoint}.
    @raise ValueError: it was not.
    """
    roamer = getattr(protocol.transport, "roamer", None)
    if not isinstance(roamer, Roamer):
        raise ValueError("this protocol was not connected through a roaming endpoint")
    return roamer
