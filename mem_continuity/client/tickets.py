"""
TLS session tickets: the next connection to the same server is made without its certificate, with fewer octets and less work.

Invariants: a connection made with a ticket does not verify anew who signed the server's certificate, it goes on from a
connection that did.  So a ticket is learned only from a connection whose server was verified, and is used only for connections
that are meant for the same one, under the same context.  A server that no longer takes a ticket makes a full handshake, with
everything that belongs to it, and nobody notices.
"""

from __future__ import annotations

from typing import Any

from OpenSSL.SSL import Connection, Session
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer


class Tickets:
    """
    The last ticket of one server.  Whoever makes a connection says L{offer} before its handshake, and L{learn} when its server is
    verified.

    TLS 1.3 (RFC 8446 section 4.6.1) sends tickets behind the handshake, so a connection is asked for its ticket when the next
    one is made: by then it has one, if the server gives any.
    """

    def __init__(self) -> None:
        self._last: Connection | None = None
        self._session: Session | None = None
        # OpenSSL spoils the ticket of a connection that is freed without a good-bye, as one is that was lost.  So it is kept for
        # as long as its ticket is.
        self._source: Connection | None = None

    def offer(self, connection: Connection) -> None:
        """
        Let a connection go on from the last one, if that is possible.

        @param connection: a client's, before its handshake.
        """
        session = None if self._last is None else self._last.get_session()
        if session is not None:
            self._session, self._source, self._last = session, self._last, None
        if self._session is not None:
            connection.set_session(self._session)

    def learn(self, connection: Connection) -> None:
        """
        The handshake is complete, and the server is the right one.
        """
        self._last = connection

    def forget(self) -> None:
        """
        What is verified may be something else from now on.
        """
        self._last = self._session = self._source = None


@implementer(IOpenSSLClientConnectionCreator)
class TicketKeeper:
    """
    A client connection creator around another, for C{wrapClientTLS}, that offers each new connection the last ticket.
    """

    def __init__(self, creator: Any) -> None:
        """
        @param creator: what L{optionsForClientTLS<twisted.internet.ssl.optionsForClientTLS>} gives for one host name.
        """
        self._creator = creator
        self._made: Connection | None = None
        self._tickets = Tickets()

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> Connection:
        """
        @see: L{IOpenSSLClientConnectionCreator.clientConnectionForTLS}
        """
        made = self._made
        # Twisted verifies within the handshake, which is not completed when that fails.
        if made is not None and made.get_finished() is not None and made.get_peer_finished() is not None:
            self._tickets.learn(made)
        connection: Connection = self._creator.clientConnectionForTLS(tlsProtocol)
        try:
            self._tickets.offer(connection)
        except ValueError:
            self._tickets.forget()  # the creator has changed its context, so it may verify something else now
        self._made = connection
        return connection
