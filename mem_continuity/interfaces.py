"""
The seams that a site implements.

Each interface here has a default in this project and is looked for by type, never by class: a site hands in its own object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.cred.portal import IRealm
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime

    from mem_continuity.core.policy import Policy
    from mem_continuity.directory.record import ClientID, Record
    from mem_continuity.gateway.upstream import Upstream


class IMailRealmFactory(Interface):
    """
    A plugin that makes a realm of mail accounts for C{twistd mem-continuity --realm NAME[:ARGUMENT]}.

    Provide it, together with L{twisted.plugin.IPlugin}, from a module in C{twisted/plugins/}: it is then found by name.
    The embedded mailhost is one such plugin.
    """

    name: str = Attribute("The word after --realm: str, lower case, without a colon.")
    summary: str = Attribute("One line for --help: str.")
    argument_help: str = Attribute("What follows the colon, for --help: str, empty when the realm takes nothing.")

    def make_realm(argument: str, reactor: IReactorTime, policy: Policy) -> IRealm:
        """
        Make the realm.  Called once, by the options -> services step, before anything listens.

        @param argument: what followed the colon, C{str}; empty when there was none.
        @param policy: the L{Policy<mem_continuity.core.policy.Policy>} of the command line.
        @param reactor: an L{IReactorTime<twisted.internet.interfaces.IReactorTime>} provider.
        @return: an L{IRealm<twisted.cred.portal.IRealm>} that gives L{IAccount<twisted.mail.interfaces.IAccountIMAP>}
            avatars.
        @raise ValueError: the argument cannot be used; the text says why and what to do, and is shown to the operator.
        """


class IVeto(Interface):
    """
    Asked before a session is handed to a new link: the account may have been disabled, the password changed, the token
    expired since it was begun.
    """

    def allows(claim: Any) -> bool | Deferred[bool]:
        """
        Called by the server side after a RESUME has proved itself and before anything changes.

        @param claim: a L{Claim<mem_continuity.server.table.Claim>}: user, client ID, session ID, old and new peer.
        @return: C{True} to let it pass, C{False} to end the session and refuse; or a
            L{Deferred<twisted.internet.defer.Deferred>} of that.  An error counts as C{False} and is logged.
        """


class IRecordDirectory(Interface):
    """
    Where records live: the buffer of all active clients, searched by (user, client ID).

    Records are small plain data (L{Record<mem_continuity.directory.record.Record>}), so an implementation may keep them
    in this process or elsewhere.  Keys and mail are never part of a record.
    """

    def put(record: Record) -> None:
        """
        Add a record or replace the one of the same session ID.
        """

    def find(user: bytes, client_id: ClientID) -> Sequence[Record]:
        """
        All records of one client, the oldest first.

        @param user: the avatar's name, L{bytes}.
        @param client_id: a L{ClientID<mem_continuity.directory.record.ClientID>}.
        @return: a sequence of records.
        """

    def remove(session_id: bytes) -> None:
        """
        Forget the record of a session; nothing happens when there is none.
        """


class IUpstreamRouter(Interface):
    """
    Which upstream a user of the gateway has.
    """

    upstreams: Sequence[Upstream] = Attribute("All that may ever be answered; fixed from the start.")

    def route(user: bytes) -> Upstream | Deferred[Upstream | None] | None:
        """
        Called by the gateway when somebody tries to log in, before the password is known to be right: the answer must not
        depend on anything but the name, and says nothing about whether there is such a user.

        @param user: as the client spelt it, L{bytes}.
        @return: an L{Upstream<mem_continuity.gateway.upstream.Upstream>}, one of C{upstreams}; C{None} for nobody knows, and the
            client is told what a wrong password gets; or a L{Deferred<twisted.internet.defer.Deferred>} of that.  An error
            counts as C{None} and is logged.
        """
