"""
A session whose inner end is a connection to an upstream server.

Three kinds of life after the link:

- It was STARTed: the conduit parks it whole, with its upstream connection; beyond the window the upstream is not read.
- It named a client but was not STARTed: octets may be lost, so the upstream connection is closed.  The record outlives it: a
  GRAFT selects the mailbox again on the fresh connection of a new login.
- Neither: it ends with its link.

When the upstream itself goes away the session ends, parked or not, and its record outlives it likewise.

Invariants: an upstream connection is never handed from one session to another, so what was cut inside a literal ends there; a
record is left only by a session that did not end by the client's own word, nor by a decision against it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from mem_continuity.directory.record import Record, Selection
from mem_continuity.imap.reselection import Outcome, Reselection, Result
from mem_continuity.server.grafting import GONE, changed, grafted, missing
from mem_continuity.server.served import Answer, Served

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IProtocol

    from mem_continuity.gateway.end import GatewayEnd
    from mem_continuity.gateway.slots import Slot
    from mem_continuity.server.hub import Hub
    from mem_continuity.server.link import ServerLink


class Relayed(Served):
    """
    What a gateway serves.

    @ivar end: the inner protocol.
    @ivar authority: the upstream that took the login: users of two of them are strangers.
    """

    protocol: GatewayEnd

    def __init__(self, hub: Hub, link: ServerLink, protocol: IProtocol) -> None:
        super().__init__(hub, link, protocol)
        self._leaves_record = True
        self.protocol.served = self

    def _vouched(self, user: bytes | None) -> None:
        self.user = user
        self.authority = self.protocol.upstream

    def slot_of_older_link(self, user: bytes | None) -> Slot | None:
        """
        The upstream slot of an older link of this client, which is about to go or waits parked.  Asked at login.

        @param user: who logs in, if that is vouched for.
        """
        if user is None or self.client_id is None:
            return None
        for other in self.hub.table.siblings(user, self.client_id, self.protocol.upstream):
            if other is self or not isinstance(other, Relayed) or other.protocol.slot is None:
                continue
            if other.parked or other.peer_host != self.peer_host:
                return other.protocol.slot
        return None

    @property
    def graftable(self) -> bool:
        """
        @see: L{Served.graftable}; what the client itself has closed has nothing selected.
        """
        return True

    def say_bye(self, text: bytes) -> None:
        """
        @see: L{Served.say_bye}; only where it is certain that no response of the upstream is cut by it.
        """
        observer = self.observer
        if observer is not None and not observer.blind and observer.between_responses and self.between_commands:
            self.transport.write(b"* BYE " + text + b"\r\n")

    def settle(self) -> None:
        """
        @see: L{Served.settle}; the oldest record that a lost link of this client left is in nobody's way any more.
        """
        if self.user is None or self.client_id is None:
            return
        table = self.hub.table
        left = table.oldest_outliving(self.user, self.client_id, self.authority)
        if left is not None:
            table.forget(left.session_id)

    # Ends

    def end(self, reason: bytes) -> None:
        """
        @see: L{Served.end}; only who was evicted may still come back for the mailbox.
        """
        self._leaves_record = self._leaves_record and reason == b"EVICTED"
        super().end(reason)

    def retire(self, reason: bytes) -> None:
        """
        @see: L{Served.retire}
        """
        self._leaves_record = False
        super().retire(reason)

    def end_with(self, reason: Failure) -> None:
        """
        @see: L{Served.end_with}
        """
        super().end_with(reason)
        self._leave_record()

    def session_ended(self) -> None:
        """
        @see: L{Owner<mem_continuity.layer.roles.Owner.session_ended>}
        """
        super().session_ended()
        self._leave_record()

    def _leave_record(self) -> None:
        leaves, self._leaves_record = self._leaves_record, False
        record = self.record
        said_goodbye = self.conduit is not None and self.conduit.session.peer_ended is not None
        if leaves and record is not None and record.selection is not None and not said_goodbye:
            self.hub.table.outlive(record, self.authority)

    # GRAFT

    def graft(self, record: Record, tag: bytes, write: Callable[[bytes], object]) -> Deferred[Answer]:
        """
        @see: L{Served.graft}
        """
        selection = record.selection
        link = self.link
        if selection is None or link is None or not link.preamble.server_rests:
            return succeed(GONE)  # in the middle of what the upstream says nobody else can listen to it
        policy = self.hub.policy
        reselection = Reselection(
            selection.name,
            read_only=selection.read_only,
            uid_validity=selection.uid_validity,
            enabled=record.enabled,
            tag=tag,
            has_esearch=not self.protocol.capabilities.isdisjoint((b"ESEARCH", b"IMAP4REV2")),
            line_bound=policy.preamble_line,
            most=policy.graft_snapshot,
        )
        return self.protocol.reselect(reselection).addCallback(self._reselected, record, selection, write)

    def _reselected(
        self, result: Result, record: Record, selection: Selection, write: Callable[[bytes], object]
    ) -> Answer:
        if self.link is None or self.over:
            return GONE
        table = self.hub.table
        if result.untagged:
            write(result.untagged)
        if result.outcome is Outcome.UNABLE:
            return GONE
        source = table.served(record.session_id)
        table.forget(record.session_id)
        if result.outcome is Outcome.MISSING:
            return missing(selection.name)
        if result.outcome is Outcome.CHANGED:
            return changed(selection.name, result.uid_validity or 0)
        now = Selection(selection.name, result.read_only, result.uid_validity)
        self.grafted(now, result.enabled)
        if source is not None and source is not self and source.between_commands:
            source.give_way()
        table.counts["grafted"] += 1
        return grafted(selection.name, result.read_only)
