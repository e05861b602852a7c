"""
C{continuity:} in front of a server endpoint's description: L{continuous<mem_continuity.server.factory.continuous>} without code.

C{continuity:tls:/etc/keys:993:continuityGrace=600} listens as C{tls:/etc/keys:993} does.  A PROXY protocol wrapper that the
description asks for (C{continuity:haproxy:tcp:143}) stands outside of ours, since the endpoint below gets the wrapped factory.

Invariants:

- All endpoints with the same options that listen for one factory share its sessions: a client that comes back to another port of
  the service, from IPv4 to IPv6 say, finds its session.
- Whoever stops the port of such an endpoint has stopped the sessions too, when it was the last one of its factory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory  # the public module gives only an endpoint
from zope.interface import implementer

from mem_continuity.core.handshake import valid_node
from mem_continuity.core.policy import Policy
from mem_continuity.layer.descriptions import Options, join_description, require_description
from mem_continuity.server.factory import ContinuityFactory, continuous


@dataclass(frozen=True)
class ServingOptions:
    """
    What a description says of the layer.  Equal options mean that sessions may be shared.
    """

    policy: Policy
    allow_insecure: bool
    binding: bool
    node: bytes


_factories: WeakValueDictionary[tuple[int, int, ServingOptions], ContinuityFactory] = WeakValueDictionary()
"""By the identities of the wrapped factory and of the reactor, which the value keeps alive."""


def _wrap(factory: IProtocolFactory, reactor: Any, options: ServingOptions) -> ContinuityFactory:
    if isinstance(factory, ContinuityFactory):
        return factory  # continuous() and the prefix at once: the site's own call has the word
    key = (id(factory), id(reactor), options)
    found = _factories.get(key)
    if found is None:
        found = _factories[key] = continuous(
            factory,
            policy=options.policy,
            reactor=reactor,
            allow_insecure=options.allow_insecure,
            binding=options.binding,
            node=options.node,
        )
    return found


@implementer(IStreamServerEndpoint)
class ContinuityServerEndpoint:
    """
    Listens as another endpoint does, for a factory whose sessions outlive their connections.
    """

    def __init__(self, reactor: Any, wrapped: IStreamServerEndpoint, options: ServingOptions) -> None:
        """
        @param reactor: the clock of the sessions.
        @param wrapped: does the listening.
        """
        self.wrapped = wrapped
        self.options = options
        self._reactor = reactor

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        @see: L{IStreamServerEndpoint.listen}

        @return: fires with a port whose C{stopListening} waits for the end of the sessions, too; fails with L{ValueError} when
            the PROXY protocol would have to be read inside of ours.
        """
        if isinstance(protocolFactory, HAProxyWrappingFactory):
            return fail(ValueError("the PROXY header comes first: write continuity:haproxy:…, not haproxy:continuity:…"))
        factory = _wrap(protocolFactory, self._reactor, self.options)
        listening: Deferred[IListeningPort] = maybeDeferred(self.wrapped.listen, factory)
        return listening.addCallback(_Port, factory)


@implementer(IListeningPort)
class _Port:
    """
    A listening port whose stop is complete when the sessions have ended.
    """

    def __init__(self, port: IListeningPort, factory: ContinuityFactory) -> None:
        self._port = port
        self._continuity = factory

    def startListening(self) -> None:
        """
        @see: L{IListeningPort.startListening}
        """
        self._port.startListening()

    def stopListening(self) -> Deferred[None]:
        """
        @see: L{IListeningPort.stopListening}
        """
        return maybeDeferred(self._port.stopListening).addCallback(lambda _: self._continuity.stopped())

    def getHost(self) -> IAddress:
        """
        @see: L{IListeningPort.getHost}
        """
        return self._port.getHost()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_port", "_continuity"):
            raise AttributeError(name)
        return getattr(self._port, name)


def server_endpoint(reactor: Any, args: tuple[object, ...], kwargs: Mapping[str, object]) -> ContinuityServerEndpoint:
    """
    Make the endpoint of a C{continuity:} description.  Called by the plugin.

    @param args: the positional parts behind the prefix.
    @param kwargs: the named parts.
    @raise ValueError: an option is wrong, or what follows the prefix is no server endpoint.
    """
    require_description(args, "continuity:tcp:143")
    options = Options(kwargs)
    policy = options.policy(Policy)
    insecure = options.flag("Insecure", False)
    binding = options.flag("Binding", True)
    node = options.text("Node")
    options.done()
    name = b"n0" if node is None else node.encode("utf-8")
    if not valid_node(name):
        raise ValueError(f"continuityNode is 1 to 32 letters, digits, '-' or '_', not {node!r}")
    wrapped = serverFromString(reactor, join_description(args, options.rest))
    return ContinuityServerEndpoint(reactor, wrapped, ServingOptions(policy, insecure, binding, name))
