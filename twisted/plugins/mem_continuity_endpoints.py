"""
Endpoint descriptions: C{continuity:} for servers and clients, C{device:} for clients.

Read by every Twisted program on the system that makes an endpoint of any kind from a description, so it imports nothing of the
project before one of its prefixes is asked for.  There must be no C{__init__.py} beside this file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IStreamClientEndpointStringParserWithReactor, IStreamServerEndpointStringParser
from twisted.plugin import IPlugin
from zope.interface import implementer

if TYPE_CHECKING:
    from mem_continuity.client.paths import DeviceEndpoint
    from mem_continuity.client.roaming import RoamingEndpoint
    from mem_continuity.server.endpoint_strings import ContinuityServerEndpoint


@implementer(IPlugin, IStreamServerEndpointStringParser)
class ContinuityServerParser:
    """
    C{continuity:} in front of a server endpoint's description.
    """

    prefix = "continuity"

    def parseStreamServer(self, reactor: Any, *args: object, **kwargs: object) -> ContinuityServerEndpoint:
        """
        @see: L{IStreamServerEndpointStringParser.parseStreamServer}
        """
        from mem_continuity.server.endpoint_strings import server_endpoint

        return server_endpoint(reactor, args, kwargs)


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class ContinuityClientParser:
    """
    C{continuity:} in front of a client endpoint's description.
    """

    prefix = "continuity"

    def parseStreamClient(self, reactor: Any, *args: object, **kwargs: object) -> RoamingEndpoint:
        """
        @see: L{IStreamClientEndpointStringParserWithReactor.parseStreamClient}
        """
        from mem_continuity.client.endpoint_strings import client_endpoint

        return client_endpoint(reactor, args, kwargs)


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class DeviceClientParser:
    """
    C{device:}, TCP through one network interface.
    """

    prefix = "device"

    def parseStreamClient(self, reactor: Any, *args: Any, **kwargs: Any) -> DeviceEndpoint:
        """
        @see: L{IStreamClientEndpointStringParserWithReactor.parseStreamClient}
        """
        from mem_continuity.client.endpoint_strings import device_endpoint

        if len(args) > 3:
            raise ValueError("write device:INTERFACE:HOST:PORT; a colon within an address is written \\:")
        return device_endpoint(reactor, *args, **kwargs)


continuity_server_parser = ContinuityServerParser()
continuity_client_parser = ContinuityClientParser()
device_client_parser = DeviceClientParser()
