"""
A site may put Twisted's PROXY protocol wrapper outside of us.  Then the peer's address is not known before the header has been
read, and an inner protocol that looks at it in C{connectionMade} must not be bound before.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import ITransport
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper  # the public module gives only an endpoint


def when_peer_known(transport: ITransport, known: Callable[[], object]) -> None:
    """
    Call C{known} as soon as C{transport.getPeer()} tells the client: now, or when the PROXY header has been read.
    """
    if not isinstance(transport, HAProxyProtocolWrapper):
        known()
        return
    wrapper = transport
    receive = wrapper.dataReceived

    def read_header(data: bytes) -> None:
        receive(data)
        if wrapper._proxyInfo is not None:
            del wrapper.dataReceived
            known()

    wrapper.dataReceived = read_header  # type: ignore[method-assign]
