"""
TLS session tickets: the next connection to the same server is made without its certificate, with fewer octets and less work.

Invariants: a connection made with a ticket does not verify the server's certificate and name anew, it goes on from a
connection that did.  So a ticket is learned only from a connection whose handshake was completed, which it is not when the
verification fails, and is used only for connections of the same creator, which verifies one name.  A server that no longer
takes a ticket makes a full handshake, with everything that belongs to it, and nobody notices.
"""

from __future__ import annotations

from typing import Any

from OpenSSL.SSL import Connection, Session
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer


@implementer(IOpenSSLClientConnectionCreator)
class TicketKeeper:
    """
    A client connection creator around another, for C{wrapClientTLS}, that offers each new connection the last ticket.

    TLS 1.3 (RFC 8446 section 4.6.1) sends tickets behind the handshake, so a connection is asked for its ticket when the next
    one is made: by then it has one, if the server gives any.
    """

    def __init__(self, creator: Any) -> None:
        """
        @param creator: what L{optionsForClientTLS<twisted.internet.ssl.optionsForClientTLS>} gives for one host name.
        """
        self._creator = creator
        self._last: Connection | None = None
        self._session: Session | None = None

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> Connection:
        """
        @see: L{IOpenSSLClientConnectionCreator.clientConnectionForTLS}
        """
        self._learn()
        connection: Connection = self._creator.clientConnectionForTLS(tlsProtocol)
        if self._session is not None:
            try:
                connection.set_session(self._session)
            except ValueError:
                self._session = None  # the creator has changed its context, so it may verify something else now
        self._last = connection
        return connection

    def _learn(self) -> None:
        last = self._last
        if last is None or last.get_finished() is None or last.get_peer_finished() is None:
            return
        session = last.get_session()
        if session is not None:
            self._session = session
            self._last = None
