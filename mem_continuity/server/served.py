"""
A served session: one inner protocol with its transport, its avatar, its record, and the ways in which it may come back.

Three kinds of life after the link:

- It was STARTed: the conduit parks it whole, and a RESUME goes on at the very octet.
- It named a client but was not STARTed: octets may be lost, so the protocol instance ends; its avatar and its mailbox are kept
  for a re-login or a GRAFT.  A session that was cut inside a client's literal, or in the middle of a command, keeps nothing.
- Neither: it ends with its link, as it would without this project.

Invariants: C{connectionLost} and logout happen once each; what is kept is let go when the grace period is over, whoever
took none, one or both of avatar and mailbox.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface.interface import InterfaceClass

from mem_continuity.directory.record import ClientID, Record, Selection
from mem_continuity.imap.observer import SelectedMailbox, StateObserver
from mem_continuity.layer.conduit import Conduit
from mem_continuity.layer.transport import VirtualTransport
from mem_continuity.server import imap4
from mem_continuity.server.avatars import Lease, PortalFacade

if TYPE_CHECKING:
    from mem_continuity.server.hub import Hub
    from mem_continuity.server.link import ServerLink


class Served:
    """
    Made by a link when it binds its inner protocol.

    @ivar session_id: the handle of its record and, once STARTed, of its session.
    @ivar user: the avatar's name; None before login, and for a login that tells none.
    @ivar authority: the realm (or portal) that gave the avatar: users of two of them are strangers, whatever their names.
    @ivar portal_asked: whether a portal, and not the protocol itself, decides who logs in.
    @ivar kept_mailbox: the mailbox object that a lost link left, with its place in the record.
    @ivar peer_host: the host of the last link, for telling siblings apart.
    @ivar heir: who got the avatar by a re-login and may still GRAFT the mailbox.
    @ivar begun_secure: whether START was granted under TLS.
    @ivar draining: it is over, but its link still takes what had been written.
    @ivar parked_at: when it lost its link last, in seconds of the clock.
    """

    _log = Logger()

    def __init__(self, hub: Hub, link: ServerLink, protocol: IProtocol) -> None:
        self.hub = hub
        self.link: ServerLink | None = link
        self.protocol = protocol
        self.transport = VirtualTransport(link, protocol)
        self.session_id: bytes | None = None
        self.user: bytes | None = None
        self.client_id: ClientID | None = None
        self.lease: Lease | None = None
        self.authority: object = None
        self.portal_asked = False
        self.conduit: Conduit | None = None
        self.record: Record | None = None
        self.observer: StateObserver | None = None
        self.kept_mailbox: Any = None
        self.peer_host = link.peer_host
        self.parked_at = 0.0
        self.begun_secure = False
        self.heir: Served | None = None
        self._inherited: Served | None = None
        self.draining = False
        self._keeping = False
        self._grace: IDelayedCall | None = None

    # Login

    def offer_portal(self) -> None:
        """
        Put a facade in place of the protocol's portal.  Called before each login command is handed on, because sites set the
        portal whenever they like: on the class, in C{__init__}, in C{buildProtocol}, later, or never.
        """
        portal = getattr(self.protocol, "portal", None)
        if portal is None or isinstance(portal, PortalFacade):
            return
        try:
            self.protocol.portal = PortalFacade(portal, self)  # type: ignore[attr-defined]
        except AttributeError:
            self._log.info("The portal of {protocol} cannot be replaced: no avatar is kept.", protocol=self.protocol)

    def authenticated(self, user: bytes | None) -> None:
        """
        The login has succeeded.

        @param user: the name given to LOGIN, for sites that have no portal.
        """
        if not self.portal_asked:
            self.user = user
        if self.client_id is None or self.user is None:
            return
        if self.session_id is None:
            self.session_id = self.hub.new_session_id()
        self.record = Record(self.session_id, self.user, self.client_id, self.hub.wall_clock())
        self.observer = StateObserver(self.hub.policy)
        self.transport.observe(self.observer.client_data, self._server_octets)
        self.hub.table.arrived(self)

    def _server_octets(self, octets: bytes) -> None:
        observer = self.observer
        if observer is None:
            return
        observer.server_data(octets)
        if observer.changed:
            observer.changed = False
            found = observer.mailbox
            selection = None if found is None else Selection(found.name, found.read_only, found.uid_validity)
            self.select(selection, observer.enabled)

    def select(self, selection: Selection | None, enabled: frozenset[bytes] = frozenset()) -> None:
        """
        The selected state has changed: so does the record.
        """
        if self.record is not None:
            self.record = replace(self.record, selection=selection, enabled=enabled)
            self.hub.table.noted(self.record)

    def grafted(self, selection: Selection) -> None:
        """
        The protocol is in the selected state without a SELECT: whoever watches it has to be told.
        """
        observer = self.observer
        if observer is not None:
            observer.mailbox = SelectedMailbox(selection.name, selection.read_only, selection.uid_validity)
            self.select(selection, observer.enabled)

    def take_parked_lease(self, user: bytes, interfaces: tuple[InterfaceClass, ...]) -> Lease | None:
        """
        The avatar that a lost link of the same client left, for this login.
        """
        if self.client_id is None:
            return None
        for other in self.hub.table.siblings(user, self.client_id, self.authority):
            if other is not self and other.parked_plainly and other.lease is not None:
                if other.lease.interface not in interfaces:
                    continue
                self.lease, other.lease = other.lease, None
                self._inherit(other)
                return self.lease
        return None

    def give_back(self, lease: Lease) -> None:
        """
        The login that had taken an avatar was refused after all: it goes back to where it was, or is logged out.
        """
        if self.lease is not lease:
            return
        other = self._inherited
        if other is not None and other.parked_plainly and other.heir is self:
            other.lease, other.heir = lease, None
            self.lease = self._inherited = None
        else:
            self.forget_inheritance()
            self.inner_logged_out()

    def _inherit(self, other: Served) -> None:
        if other.kept_mailbox is None and other._inherited is not None:
            # Lost again before it could GRAFT: what it had inherited is passed on.
            first, other._inherited = other._inherited, None
            other.end(b"MOVED")
            other = first
        other.heir, self._inherited = self, other
        if other.kept_mailbox is None:
            self.forget_inheritance()

    def forget_inheritance(self) -> None:
        """
        The client goes on without a GRAFT: the mailbox that its lost link had selected is closed.
        """
        other, self._inherited = self._inherited, None
        if other is not None and other.parked_plainly and other.heir is self:
            other.end(b"MOVED")

    def inner_logged_out(self) -> None:
        """
        The protocol's logout: what its C{connectionLost} calls.
        """
        if not self._keeping and self.lease is not None:
            lease, self.lease = self.lease, None
            lease.release()

    # Links

    @property
    def parked_plainly(self) -> bool:
        """
        Whether the protocol instance has ended with its link and avatar or mailbox are kept.
        """
        return self._keeping

    @property
    def parked(self) -> bool:
        """
        Whether it waits for its client.
        """
        return self._keeping or (self.conduit is not None and self.conduit.link is None)

    @property
    def over(self) -> bool:
        """
        Whether its inner protocol has been told C{connectionLost}.
        """
        return self.transport.disconnected

    @property
    def retained(self) -> int:
        """
        Octets kept for the client.
        """
        return 0 if self.conduit is None else self.conduit.session.sender.retained

    @property
    def inside_literal(self) -> bool:
        """
        Whether the client was last seen inside a literal: nobody else may go on from there.
        """
        return self.observer is not None and self.observer.client_in_literal

    def link_lost(self, reason: Failure) -> None:
        """
        The link of a session that was not STARTed is gone.
        """
        self.link = None
        if self.transport.disconnecting or self.transport.disconnected or not self._may_keep():
            self.end_with(reason)
            return
        try:
            mailbox = imap4.surrender_mailbox(self.protocol)
        except Exception:
            self._log.failure("A mailbox did not let go of its listener; nothing is kept.")
            self.end_with(reason)
            return
        self._keeping = True
        self.transport.lose(reason)
        if self.lease is not None:
            self.kept_mailbox = mailbox
        elif mailbox is not None:
            imap4.close_mailbox(mailbox)  # the protocol has logged out its avatar itself: a GRAFT selects anew
        else:
            self.end(b"CLOSED")
            return
        self._grace = self.hub.clock.callLater(self.hub.policy.grace, self.hub.table.grace_over, self)
        self.hub.table.park(self)

    def _may_keep(self) -> bool:
        return self.record is not None and self.observer is not None and self.between_commands

    @property
    def between_commands(self) -> bool:
        """
        Whether the inner protocol can be parted from its mailbox: nothing is half read, half done or half said.
        """
        if self.inside_literal or not imap4.between_commands(self.protocol):
            return False
        return self.observer is None or not self.observer.mid_command or imap4.idling(self.protocol)

    def end(self, reason: bytes) -> None:
        """
        It is over by our decision: evicted, given to another, refused, shut down.

        @param reason: the word for the peer's END.
        """
        if self.conduit is not None:
            self.conduit.end(reason)
        self.end_with(self.failure_of(reason))

    def retire(self, reason: bytes) -> None:
        """
        As L{end}, but what the inner protocol has written is still delivered, if the link takes it within C{moved_deadline}.

        @param reason: the word for the peer's END.
        """
        conduit, link = self.conduit, self.link
        if conduit is None or link is None:
            self.end(reason)
            return
        self.draining = True
        conduit.retire(reason)
        self.end_with(self.failure_of(reason))
        if self.draining:
            self._grace = self.hub.clock.callLater(self.hub.policy.moved_deadline, link.drop, "it does not drain")

    def end_with(self, reason: Failure) -> None:
        """
        It is over; whatever is still held is let go, once.
        """
        self._keeping = False
        self.forget_inheritance()
        self._stop_grace()
        try:
            self.transport.lose(reason)
            mailbox, self.kept_mailbox = self.kept_mailbox, None
            if mailbox is not None:
                imap4.close_mailbox(mailbox)
        finally:
            self.inner_logged_out()
            self.hub.table.gone(self)

    def _stop_grace(self) -> None:
        grace, self._grace = self._grace, None
        if grace is not None and grace.active():
            grace.cancel()

    # Owner of the conduit

    def session_parked(self) -> None:
        """
        @see: L{Owner<mem_continuity.layer.roles.Owner.session_parked>}
        """
        self.link = None
        if self.draining and self.conduit is not None:
            self.conduit.end(b"SHUTDOWN")  # nobody may come back for the rest
            return
        self.hub.table.park(self)

    def session_moved(self) -> None:
        """
        Only a server says MOVED; from a client it is as good as a lost link.
        """
        self.session_parked()

    def session_grace_over(self) -> None:
        """
        @see: L{Owner<mem_continuity.layer.roles.Owner.session_grace_over>}
        """
        self.hub.table.grace_over(self)

    def session_ended(self) -> None:
        """
        @see: L{Owner<mem_continuity.layer.roles.Owner.session_ended>}
        """
        self.link = None
        self.draining = False
        self._stop_grace()
        self.hub.table.ended(self)

    def session_retained(self, change: int) -> None:
        """
        @see: L{Owner<mem_continuity.layer.roles.Owner.session_retained>}
        """
        self.hub.table.retained_more(self, change)

    @property
    def waits_for_delivery(self) -> bool:
        """
        @see: L{Owner<mem_continuity.layer.roles.Owner.waits_for_delivery>}; logging out does not wait for a client.
        """
        return False

    def failure_of(self, reason: bytes) -> Failure:
        """
        @see: L{Owner<mem_continuity.layer.roles.Owner.failure_of>}
        """
        if reason == b"CLOSED":
            return Failure(ConnectionDone())
        if reason == b"ABORTED":
            return Failure(ConnectionAborted())
        return Failure(ConnectionLost(f"continuity session ended: {reason.decode('ascii', 'replace')}"))
