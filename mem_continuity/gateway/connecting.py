"""
How an upstream is reached: from its description to a link that a client's octets can go over.

Invariants: every attempt ends in time, in a link or in an L{UpstreamError}; one that is given up, by its caller or by the clock,
leaves no connection and no timer behind.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from mem_continuity.core.policy import Policy
from mem_continuity.gateway.errors import Trouble, UpstreamError
from mem_continuity.gateway.link import UpstreamLink
from mem_continuity.gateway.source import Source
from mem_continuity.gateway.upstream import Upstream


def connect_upstream(
    reactor: Any, upstream: Upstream, policy: Policy, source: Source | None = None, want_capabilities: bool = False
) -> Deferred[UpstreamLink]:
    """
    Connect, and say what is to be said before the client's octets.

    @param reactor: connects and tells time.
    @param policy: C{upstream_connect}, C{upstream_greeting}, C{preamble_line} and C{preamble_buffer} count.
    @param source: whom the connection is for; told to the upstream when its description says so.
    @param want_capabilities: ask for the capabilities if the greeting does not tell them.
    @return: fires with a link that is ready and not read until L{UpstreamLink.attach}; fails with L{UpstreamError}.  Cancelling
        it closes the connection.
    """
    return _Attempt(reactor, upstream, policy, source, want_capabilities).start()


class _Attempt:
    """
    One attempt; the owner of its link until that is ready.  Nothing of it is kept then.
    """

    __slots__ = ("_dial", "_link", "_over", "_policy", "_reactor", "_result", "_source", "_timer", "_upstream", "_want")

    def __init__(self, reactor: Any, upstream: Upstream, policy: Policy, source: Source | None, want: bool) -> None:
        self._reactor = reactor
        self._upstream = upstream
        self._policy = policy
        self._source = source
        self._want = want
        self._link: UpstreamLink | None = None
        self._result: Deferred[UpstreamLink] = Deferred(lambda _: self._give_up())
        self._over = False

    def start(self) -> Deferred[UpstreamLink]:
        seconds = self._policy.upstream_connect
        result = self._result
        self._timer = self._reactor.callLater(seconds, self._late, f"no connection within {seconds} seconds")
        self._dial: Deferred[Any] = self._endpoint().connect(_Links(self))
        self._dial.addErrback(self._not_reached)
        return result

    def _endpoint(self) -> IStreamClientEndpoint:
        upstream, seconds = self._upstream, self._policy.upstream_connect
        if upstream.kind == "unix":
            return UNIXClientEndpoint(self._reactor, upstream.path, seconds)
        # Addresses need no look-up, and so no thread.
        if isIPAddress(upstream.host):
            return TCP4ClientEndpoint(self._reactor, upstream.host, upstream.port, seconds)
        if isIPv6Address(upstream.host):
            return TCP6ClientEndpoint(self._reactor, upstream.host, upstream.port, seconds)
        return HostnameEndpoint(self._reactor, upstream.host, upstream.port, seconds)

    def make_link(self) -> UpstreamLink:
        """
        TCP stands.
        """
        self._link = UpstreamLink(self._reactor, self._upstream, self._policy, self._source, self._want, self)
        return self._link

    # Owner of the link

    def link_stands(self) -> None:
        """
        @see: L{LinkOwner<mem_continuity.gateway.link.LinkOwner.link_stands>}
        """
        seconds = self._policy.upstream_greeting
        self._timer.cancel()
        self._timer = self._reactor.callLater(seconds, self._late, f"no greeting, or no answer to it, within {seconds} seconds")

    def link_ready(self) -> None:
        """
        @see: L{LinkOwner<mem_continuity.gateway.link.LinkOwner.link_ready>}
        """
        link, result = self._link, self._result
        assert link is not None
        if not self._over:
            self._over = True
            self._timer.cancel()
            del self._result  # which knows us as its canceller
            result.callback(link)

    def link_failed(self, error: UpstreamError) -> None:
        """
        @see: L{LinkOwner<mem_continuity.gateway.link.LinkOwner.link_failed>}
        """
        if not self._over:
            self._give_up()
            error.detail = f"{self._upstream}: {error.detail}"
            self._result.errback(error)

    # Ends

    def _late(self, detail: str) -> None:
        self.link_failed(Trouble.SLOW.error(detail))

    def _not_reached(self, reason: Failure) -> None:
        kind = Trouble.SLOW if reason.check(ConnectTimeout) else Trouble.UNREACHABLE
        self.link_failed(kind.error(reason.getErrorMessage()))

    def _give_up(self) -> None:
        self._over = True
        if self._timer.active():
            self._timer.cancel()
        if self._link is None:
            self._dial.cancel()
        else:
            self._link.give_up()


class _Links(Factory):
    """
    Makes the link of one attempt.
    """

    noisy = False

    def __init__(self, attempt: _Attempt) -> None:
        self._attempt: _Attempt | None = attempt

    def buildProtocol(self, addr: IAddress | None) -> UpstreamLink | None:
        """
        @see: L{twisted.internet.interfaces.IProtocolFactory.buildProtocol}
        """
        attempt, self._attempt = self._attempt, None  # Twisted keeps us as long as the connection
        return None if attempt is None else attempt.make_link()
