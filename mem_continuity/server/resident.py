"""
A session whose inner end serves mailboxes in this process: Twisted's C{IMAP4Server} or what a site has in its place, with its
avatar.

Three kinds of life after the link:

- It was STARTed: the conduit parks it whole.
- It named a client but was not STARTed: octets may be lost, so the protocol instance ends; its avatar and its mailbox are kept
  for a re-login or a GRAFT.  A session that was cut inside a client's literal, or in the middle of a command, keeps nothing.
- Neither: it ends with its link.

Invariants: logout happens once; what is kept is let go when the grace period is over, whoever took none, one or both of avatar
and mailbox.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface.interface import InterfaceClass

from mem_continuity.server import imap4
from mem_continuity.server.avatars import Lease, PortalFacade
from mem_continuity.server.moving import move_or_select
from mem_continuity.server.served import Answer, Served

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IProtocol

    from mem_continuity.directory.record import Record
    from mem_continuity.server.hub import Hub
    from mem_continuity.server.link import ServerLink


class Resident(Served):
    """
    What L{continuous<mem_continuity.server.factory.continuous>} serves.

    @ivar authority: the realm (or portal) that gave the avatar.
    @ivar portal_asked: whether a portal, and not the protocol itself, decides who logs in.
    @ivar kept_mailbox: the mailbox object that a lost link left, with its place in the record.
    @ivar heir: who got the avatar by a re-login and may still GRAFT the mailbox.
    """

    def __init__(self, hub: Hub, link: ServerLink, protocol: IProtocol) -> None:
        super().__init__(hub, link, protocol)
        self.lease: Lease | None = None
        self.portal_asked = False
        self.kept_mailbox: Any = None
        self.heir: Resident | None = None
        self._inherited: Resident | None = None
        self._keeping = False

    # Login

    def before_command(self) -> None:
        """
        Put a facade in place of the protocol's portal.  Before each command, because sites set the portal whenever they like: on
        the class, in C{__init__}, in C{buildProtocol}, later, or never.
        """
        portal = getattr(self.protocol, "portal", None)
        if portal is None or isinstance(portal, PortalFacade):
            return
        try:
            self.protocol.portal = PortalFacade(portal, self)  # type: ignore[attr-defined]
        except AttributeError:
            self._log.info("The portal of {protocol} cannot be replaced: no avatar is kept.", protocol=self.protocol)

    def _vouched(self, user: bytes | None) -> None:
        if not self.portal_asked:
            self.user = user

    def take_parked_lease(self, user: bytes, interfaces: tuple[InterfaceClass, ...]) -> Lease | None:
        """
        The avatar that a lost link of the same client left, for this login.
        """
        if self.client_id is None:
            return None
        for other in self.hub.table.siblings(user, self.client_id, self.authority):
            if other is not self and isinstance(other, Resident) and other.parked_plainly and other.lease is not None:
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
            self.settle()
            self.inner_logged_out()

    def _inherit(self, other: Resident) -> None:
        if other.kept_mailbox is None and other._inherited is not None:
            # Lost again before it could GRAFT: what it had inherited is passed on.
            first, other._inherited = other._inherited, None
            other.end(b"MOVED")
            other = first
        other.heir, self._inherited = self, other
        if other.kept_mailbox is None:
            self.settle()

    def settle(self) -> None:
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

    def _keep(self, reason: Failure) -> bool:
        if self.observer is None or not self.between_commands:
            return False
        try:
            mailbox = imap4.surrender_mailbox(self.protocol)
        except Exception:
            self._log.failure("A mailbox did not let go of its listener; nothing is kept.")
            return False
        self._keeping = True
        self.transport.lose(reason)
        if self.lease is not None:
            self.kept_mailbox = mailbox
        elif mailbox is not None:
            imap4.close_mailbox(mailbox)  # the protocol has logged out its avatar itself: a GRAFT selects anew
        else:
            self._keeping = False
            return False
        self._grace = self.hub.clock.callLater(self.hub.policy.grace, self.hub.table.grace_over, self)
        self.hub.table.park(self)
        return True

    @property
    def between_commands(self) -> bool:
        """
        Whether the inner protocol can be parted from its mailbox: nothing is half read, half done or half said.
        """
        if self.inside_literal or not imap4.between_commands(self.protocol):
            return False
        return self.observer is None or not self.observer.mid_command or imap4.idling(self.protocol)

    @property
    def has_mailbox(self) -> bool:
        """
        @see: L{Served.has_mailbox}
        """
        return imap4.selected_mailbox(self.protocol) is not None

    def say_bye(self, text: bytes) -> None:
        """
        @see: L{Served.say_bye}
        """
        imap4.say_bye(self.protocol, text)

    def graft(self, record: Record, tag: bytes, write: Callable[[bytes], object]) -> Deferred[Answer]:
        """
        @see: L{Served.graft}
        """
        return move_or_select(self, record, tag, write)

    def _released(self) -> None:
        self._keeping = False
        self.settle()
        try:
            mailbox, self.kept_mailbox = self.kept_mailbox, None
            if mailbox is not None:
                imap4.close_mailbox(mailbox)
        finally:
            self.inner_logged_out()
