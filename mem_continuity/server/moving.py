"""
GRAFT in this process.  When the other session lives here and stands between two commands, its mailbox object and its avatar
move to the new protocol instance; otherwise the mailbox is selected anew by its name.

Invariants:

- The mailbox is looked for by selecting it, in either case, before anything moves; what was opened only for that is closed.
- Nothing moves to a link that is gone by then.
- Both instances are between commands when something moves, and the listener moves with it.
- A session that was cut inside a client's literal is not touched: only its own RESUME may go on there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.mail.imap4 import MailboxException
from twisted.python.failure import Failure

from mem_continuity.directory.record import Record, Selection
from mem_continuity.imap.sequence import uid_ranges
from mem_continuity.server import imap4, resident
from mem_continuity.server.grafting import GONE, changed, grafted, is_another, missing
from mem_continuity.server.served import Answer

if TYPE_CHECKING:
    from mem_continuity.server.resident import Resident


def snapshot(mailbox: Any, tag: bytes) -> bytes:
    """
    What a SELECT would tell, and the whole map from sequence numbers to UIDs as one ESEARCH (RFC 9051, section 7.3.4: the n-th
    UID is message n).
    """
    count = mailbox.getMessageCount()
    uids = uid_ranges(mailbox.getUID(number) for number in range(1, count + 1))
    lines = [
        b"* FLAGS (" + b" ".join(flag.encode("ascii", "replace") for flag in mailbox.getFlags()) + b")",
        b"* %d EXISTS" % count,
        b"* %d RECENT" % mailbox.getRecentCount(),
        b"* OK [UIDVALIDITY %d] UIDs valid" % mailbox.getUIDValidity(),
        b"* OK [UIDNEXT %d] predicted next UID" % mailbox.getUIDNext(),
        b'* ESEARCH (TAG "' + tag.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'") UID' + (b" ALL " + uids if uids else b""),
    ]
    return b"\r\n".join(lines) + b"\r\n"


def move_or_select(served: Resident, record: Record, tag: bytes, write: Callable[[bytes], object]) -> Deferred[Answer]:
    """
    Carry out a GRAFT, see L{Served.graft<mem_continuity.server.served.Served.graft>}.
    """
    if record.selection is None:
        return succeed(GONE)
    return _Move(served, record, record.selection, tag, write).run()


class _Move:
    """
    One GRAFT.
    """

    def __init__(
        self, served: Resident, record: Record, selection: Selection, tag: bytes, write: Callable[[bytes], object]
    ) -> None:
        self._table = served.hub.table
        self._served = served
        self._tag = tag
        self._record = record
        self._selection = selection
        self._write = write

    def run(self) -> Deferred[Answer]:
        account = self._account()
        if account is None:
            return succeed((b"NO", b"[XCONTINUITY GONE] this server cannot graft"))
        return self._select(account).addCallback(self._move_or_select, account)

    def _source(self) -> Resident | None:
        source = self._table.served(self._record.session_id)
        if not isinstance(source, resident.Resident) or source.inside_literal:
            return None
        return source

    def _account(self) -> Any:
        source = self._source()
        if source is not None and source.lease is not None:
            return source.lease.avatar
        return getattr(self._served.protocol, "account", None)

    def _select(self, account: Any) -> Deferred[Any]:
        """
        Look for the mailbox in the one way that every site serves: as SELECT does.  (LIST would match the name as a pattern.)
        """
        name = decode_name(self._selection.name)
        selected: Deferred[Any] = maybeDeferred(account.select, name, 0 if self._selection.read_only else 1)

        def missing(failure: Failure) -> None:
            failure.trap(MailboxException)

        return selected.addErrback(missing)

    @property
    def _wanted(self) -> bool:
        return self._served.link is not None and not self._served.over

    def _move_or_select(self, found: Any, account: Any) -> Any:
        refusal = self._refusal(found)
        if refusal is not None:
            return refusal
        source = self._source()
        moved = None if source is None else self._move(source)
        if moved is not None:
            if moved is not found:
                imap4.close_mailbox(found)  # it was opened only to see that it is there
            return self._adopt(moved)
        mine = getattr(self._served.protocol, "account", None)
        if mine is account:
            return self._selected(found)
        self._discard(found)
        if mine is None:
            return GONE
        return self._select(mine).addCallback(lambda mailbox: self._refusal(mailbox) or self._selected(mailbox))

    def _discard(self, mailbox: Any) -> None:
        """
        A mailbox that was selected here is not needed.  Where an account gives one object to all, a sibling may have it.
        """
        siblings = self._table.siblings(self._record.user, self._record.client_id, self._served.authority)
        held = [one.kept_mailbox for one in siblings if isinstance(one, resident.Resident)]
        held += [imap4.selected_mailbox(one.protocol) for one in siblings]
        if mailbox is not None and not any(mailbox is one for one in held):
            imap4.close_mailbox(mailbox)

    def _refusal(self, mailbox: Any) -> Answer | None:
        """
        Why this is not the mailbox that the client had; then it is closed.
        """
        if not self._wanted:
            self._discard(mailbox)
            return GONE
        if mailbox is None:
            self._forget_source()
            return missing(self._selection.name)
        now = mailbox.getUIDValidity()
        if is_another(self._selection, now):
            self._discard(mailbox)
            self._forget_source()
            return changed(self._selection.name, now)
        return None

    def _move(self, source: Resident) -> Any:
        """
        Take mailbox and avatar from the session that had them; it ends.  None when they cannot be parted from it now.
        """
        inherited = source.heir is self._served
        if not inherited and (source.lease is None or self._served.lease is None):
            return None
        if source.parked_plainly:
            mailbox, source.kept_mailbox = source.kept_mailbox, None
        elif source.between_commands:
            mailbox = imap4.surrender_mailbox(source.protocol)
        else:
            return None
        if mailbox is None:
            return None
        if source.lease is not None:
            mine, self._served.lease, source.lease = self._served.lease, source.lease, None
            self._served.protocol.account = self._served.lease.avatar  # type: ignore[attr-defined]
            if mine is not None:
                mine.release()
        source.give_way()
        return mailbox

    def _forget_source(self) -> None:
        source = self._source()
        if source is not None and source.parked_plainly:
            source.end(b"MOVED")

    def _selected(self, mailbox: Any) -> Answer:
        self._forget_source()
        return self._adopt(mailbox)

    def _adopt(self, mailbox: Any) -> Answer:
        if not imap4.between_commands(self._served.protocol):
            imap4.close_mailbox(mailbox)
            return b"NO", b"[XCONTINUITY GONE] the session is busy"
        try:
            imap4.adopt_mailbox(self._served.protocol, mailbox)
            told = snapshot(mailbox, self._tag)
            read_only = not mailbox.isWriteable()
            selection = Selection(self._selection.name, read_only, mailbox.getUIDValidity())
        except Exception:
            imap4.surrender_mailbox(self._served.protocol)
            imap4.close_mailbox(mailbox)
            raise
        self._served.grafted(selection)
        self._write(told)
        self._table.counts["grafted"] += 1
        return grafted(self._selection.name, read_only)


def decode_name(name: bytes) -> str:
    """
    A mailbox name as L{IAccount<twisted.mail.interfaces.IAccountIMAP>} takes it: modified UTF-7 (RFC 3501, section 5.1.3) decoded
    where it is that, UTF-8 otherwise.
    """
    try:
        return name.decode("imap4-utf-7")
    except (UnicodeError, ValueError):
        return name.decode("utf-8", "replace")
