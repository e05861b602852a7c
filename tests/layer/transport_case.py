"""
A client that is logged in, in the clear or in the layer, and the transport that the protocol at the server sees.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.policy import KIB, Policy
from mem_continuity.layer.transport import VirtualTransport
from tests.support.raw_client import RawClient
from tests.support.site import Site

WINDOW = 16 * KIB


class TransportCase(SynchronousTestCase):
    """
    A client that is logged in, in the clear or in the layer.
    """

    timeout = 60

    def begin(self, layer: bool) -> None:
        self.site = Site(Policy(window=WINDOW, grace=100.0))
        self.client = RawClient(self.site)
        self.client.connect()
        self.client.login()
        if layer:
            self.client.start()
        else:
            self.client.command(b"SELECT INBOX")  # so that the preamble is over
        self.layer = layer
        self.server = self.site.servers[0]
        self.transport: VirtualTransport = self.server.transport
        self.client.link.take()

    def heard(self) -> bytes:
        """
        What the client's side has got since the beginning.
        """
        if self.layer:
            self.client.pump()
            return self.client.stream
        self.site.settle()
        return self.client.link.peek()
