"""
A served session: one inner protocol with its transport, its record, and the ways in which it may come back.

What the inner end is made of is for a subclass to say: L{Resident<mem_continuity.server.resident.Resident>} for a protocol that
serves mailboxes in this process, the gateway's for an upstream connection.

Invariants: the inner protocol is told C{connectionLost} once; a session that was STARTed is parked whole and a RESUME goes on at
the very octet; what becomes of any other when its link is lost is the subclass's to say in L{Served._keep}; when nothing is
kept it ends with its link, as it would without this project.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from mem_continuity.directory.record import ClientID, Record, Selection
from mem_continuity.imap.observer import SelectedMailbox, StateObserver
from mem_continuity.layer.conduit import Conduit
from mem_continuity.layer.transport import VirtualTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from mem_continuity.server.hub import Hub
    from mem_continuity.server.link import ServerLink

Answer = tuple[bytes, bytes]
"""Condition and text of a tagged response."""


class Served:
    """
    Made by a link when it binds its inner protocol.

    @ivar session_id: the handle of its record and, once STARTed, of its session.
    @ivar user: the avatar's name; None before login, and for a login that tells none.
    @ivar authority: who vouches for the user: users of two of them are strangers, whatever their names.
    @ivar peer_host: the host of the last link, for telling siblings apart.
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
        self.authority: object = None
        self.conduit: Conduit | None = None
        self.record: Record | None = None
        self.observer: StateObserver | None = None
        self.peer_host = link.peer_host
        self.parked_at = 0.0
        self.begun_secure = False
        self.draining = False
        self._grace: IDelayedCall | None = None

    # What a subclass says

    def before_command(self) -> None:
        """
        A command of the preamble is about to be handed to the inner protocol.
        """

    def _vouched(self, user: bytes | None) -> None:
        """
        The login has succeeded.

        @param user: the name that the login itself vouches for.
        """
        self.user = user

    def settle(self) -> None:
        """
        The client goes on without a GRAFT: whatever was kept for one that might follow is let go.
        """

    def _keep(self, reason: Failure) -> bool:
        """
        The link is lost and there is no layer: keep what the client may come back for.

        @return: whether this session goes on to exist for that.
        """
        return False

    @property
    def parked_plainly(self) -> bool:
        """
        Whether the protocol instance has ended with its link, and yet something of it is kept here.
        """
        return False

    @property
    def between_commands(self) -> bool:
        """
        Whether nothing is half read, half done or half said.
        """
        return not self.inside_literal and (self.observer is None or self.observer.at_rest)

    @property
    def graftable(self) -> bool:
        """
        Whether the selected state of this session may be had by a GRAFT; not when it has said goodbye and only waits to be rid of
        its last octets.
        """
        return not self.transport.disconnecting

    @property
    def has_mailbox(self) -> bool:
        """
        Whether a mailbox is selected.
        """
        return self.record is not None and self.record.selection is not None

    def say_bye(self, text: bytes) -> None:
        """
        Let the inner protocol say BYE, if it is at a place where an untagged response may stand.
        """

    def graft(self, record: Record, tag: bytes, write: Callable[[bytes], object]) -> Deferred[Answer]:
        """
        Put this session into the selected state of another one of the same client.

        @param record: of the other one, with a selection.
        @param write: takes the untagged responses, right before the Deferred fires.
        @return: fires with the tagged response.
        """
        raise NotImplementedError

    def _released(self) -> None:
        """
        It is over, and its inner protocol has been told: let go of whatever else is held.
        """

    # Login

    def authenticated(self, user: bytes | None) -> None:
        """
        The login has succeeded.

        @param user: the name that the login itself vouches for.
        """
        self._vouched(user)
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

    def grafted(self, selection: Selection, enabled: frozenset[bytes] = frozenset()) -> None:
        """
        The protocol is in the selected state without a SELECT: whoever watches it has to be told.

        @param enabled: what was ENABLEd with it.
        """
        observer = self.observer
        if observer is not None:
            observer.enabled |= enabled
            observer.mailbox = SelectedMailbox(selection.name, selection.read_only, selection.uid_validity)
            self.select(selection, observer.enabled)

    # Links

    @property
    def parked(self) -> bool:
        """
        Whether it waits for its client.
        """
        return self.parked_plainly or (self.conduit is not None and self.conduit.link is None)

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
        if self.transport.disconnecting or self.transport.disconnected or self.record is None or not self._keep(reason):
            self.end_with(reason)

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

    def give_way(self) -> None:
        """
        A GRAFT has taken what this session had.  It is fenced at once, but disconnected behind the answer, which is written in
        this turn: as the change request orders it.
        """
        link = self.link
        if link is None:
            self.end(b"MOVED")
            return
        (link if self.conduit is None else self.conduit).fence()
        self.hub.table.gone(self)
        self.hub.clock.callLater(0, self._disconnect, link)

    def _disconnect(self, link: ServerLink) -> None:
        self.end(b"MOVED")
        link.finish()

    def end_with(self, reason: Failure) -> None:
        """
        It is over; whatever is still held is let go, once.
        """
        self._stop_grace()
        try:
            self.transport.lose(reason)
        finally:
            try:
                self._released()
            finally:
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
