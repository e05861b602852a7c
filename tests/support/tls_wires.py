"""
Wires with real TLS in memory, and a client of the layer on them: for what depends on the keying material of a connection.

Both ends are Twisted's TLS over iosim's transports, pumped by hand on the site's clock; no socket, no time.
"""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, TLSVersion, optionsForClientTLS
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.test.iosim import FakeTransport, IOPump

from mem_continuity.core.handshake import Binding, ResumeRequest, parse_started
from mem_continuity.core.resumption import Attempt
from mem_continuity.core.session import Session
from mem_continuity.layer.sockets import exported_binding
from mem_continuity.server.link import ServerLink
from tests.support.certificates import certificate_pem, client_context, server_context
from tests.support.raw_client import RawClient
from tests.support.site import Site

_STARTED = re.compile(rb"OK \[XCONTINUITY ([^\]]*)\]")


class _Ears(Protocol):
    heard = b""

    def dataReceived(self, data: bytes) -> None:
        self.heard += data


def _old_context() -> Any:
    """
    A client's TLS context without TLS 1.3.
    """
    trust = Certificate.loadPEM(certificate_pem())
    return optionsForClientTLS("localhost", trust, extraCertificateOptions={"lowerMaximumSecurityTo": TLSVersion.TLSv1_2})


class TLSWire:
    """
    One connection under TLS, with what L{RawClient} needs of a wire.
    """

    def __init__(self, site: Site, host: str, *, old: bool = False) -> None:
        self.site = site
        self.taken = 0
        self.ears = _Ears()
        context: Any = _old_context() if old else client_context()
        address = IPv4Address("TCP", host, 40000)
        client: Any = TLSMemoryBIOFactory(
            context, True, Factory.forProtocol(lambda: self.ears), site.clock
        ).buildProtocol(None)
        server: Any = TLSMemoryBIOFactory(server_context(), False, site.factory, site.clock).buildProtocol(address)
        ends = FakeTransport(client, False), FakeTransport(server, True, None, address)
        server.makeConnection(ends[1])
        client.makeConnection(ends[0])
        self._ends = ends
        self._pump = IOPump(client, server, *ends, False, site.clock)
        self._pump.flush()
        link = server.wrappedProtocol
        assert isinstance(link, ServerLink)
        self.link = link

    @property
    def exported(self) -> bytes:
        """
        The channel binding as the client's end has it.
        """
        assert self.ears.transport is not None
        return exported_binding(self.ears.transport)

    @property
    def heard(self) -> bytes:
        return self.ears.heard

    @property
    def ended(self) -> bool:
        return bool(self._ends[1].disconnected or self._ends[1].disconnecting)

    def send(self, octets: bytes) -> None:
        assert self.ears.transport is not None
        self.ears.transport.write(octets)
        self._pump.flush()

    def peek(self) -> bytes:
        self._pump.flush()
        return self.ears.heard[self.taken :]

    def take(self) -> bytes:
        octets = self.peek()
        self.taken = len(self.ears.heard)
        return octets

    def reset(self) -> None:
        """
        The connection breaks off.
        """
        self._ends[0].disconnecting = True
        self._pump.flush()

    fin = reset


class TLSClient(RawClient):
    """
    A client of the layer that binds what it proves to its TLS connection.
    """

    def connect(self, host: str = "192.0.2.1", *, secure: bool = True, old: bool = False) -> Any:
        """
        @param old: TLS 1.2 at most.
        """
        self.wire = TLSWire(self.site, host, old=old)  # type: ignore[assignment]
        return self.wire

    def start(self, *, grace: int | None = None) -> Session:
        said = self.command(b"XCONTINUITY START")
        found = _STARTED.search(said)
        assert found is not None, said
        self._session = Session(parse_started(found.group(1).split(), Binding.TLS_EXPORTER), self.policy, self.now)
        self._session.attach(self.now)
        self.pump()
        return self._session

    def request(self, exported: bytes) -> Attempt:
        """
        A RESUME to be sent on the connection that exports this.
        """
        return Attempt(self.session, exported, self.policy.resume_literal, self.policy.resume_repeat)

    def return_on(self, wire: TLSWire) -> Any:
        """
        Come back on that wire.

        @return: the answer.
        """
        attempt = self.request(wire.exported)
        answer = self.ask(attempt, wire)  # type: ignore[arg-type]
        if answer is not None and hasattr(answer, "proof"):
            self.take_over(attempt, answer, wire)  # type: ignore[arg-type]
            self.pump()
        return answer

    def said_to(self, request: ResumeRequest, wire: Any) -> Any:
        """
        Somebody sends this RESUME on some wire.

        @return: the answer.
        """
        wire.send(self.octets(request))
        self.site.settle()
        return self.read_answer(wire)
