"""
GRAFT: put a new protocol instance into the selected state that a client's other link had.

The record is found by user and client ID.  When its session lives in this process and stands between two commands, its mailbox
object and its avatar move to the new instance; otherwise the mailbox is selected anew by its name.  Either way the view starts at
a snapshot that the answer tells whole, so no sequence number has to be guessed.

Invariants:

- The mailbox is looked for by selecting it, in either case, before anything moves; what was opened only for that is closed.
- Nothing moves to a link that is gone by then.
- Both instances are between commands when something moves, and the listener moves with it.
- A session that was cut inside a client's literal is not touched: only its own RESUME may go on there.
- A mailbox that is gone, or has another UIDVALIDITY, is said plainly; the client stays authenticated.
- Names stand in a response code only percent-encoded (as RFC 5092, section 11, has it), so no name can end the code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.mail.imap4 import MailboxException
from twisted.python.failure import Failure

from mem_continuity.directory.record import Record, Selection
from mem_continuity.imap.sequence import uid_ranges
from mem_continuity.server import imap4
from mem_continuity.server.served import Served
from mem_continuity.server.table import Table

if TYPE_CHECKING:
    from mem_continuity.server.link import ServerLink

_log = Logger()

Answer = tuple[bytes, bytes]
"""Condition and text of the tagged response."""

_GONE: Answer = (b"NO", b"[XCONTINUITY GONE] nothing to graft")


def encode_name(name: bytes) -> bytes:
    """
    A mailbox name as it stands in a response code.
    """
    return quote(name, safe="/.+-_~&").encode("ascii")


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


def graft(
    table: Table, served: Served, tag: bytes, wanted: bytes | None, write: Callable[[bytes], object]
) -> Deferred[Answer]:
    """
    Carry out a GRAFT for a session that has just logged in.

    @param wanted: the session ID that the client named, or None.
    @param write: takes the untagged responses, right before the Deferred fires.
    @return: fires with the tagged response.
    """
    if served.user is None or served.client_id is None or imap4.selected_mailbox(served.protocol) is not None:
        return succeed(_GONE)
    records = [
        record
        for record in table.records(served.user, served.client_id, served.authority)
        if record.session_id != served.session_id and record.selection is not None and not _closing(table, record)
    ]
    if wanted is not None:
        records = [record for record in records if record.session_id == wanted]
    if not records:
        return succeed(_GONE)
    if len(records) > 1:
        return succeed(_which(records))
    return _Graft(table, served, tag, records[0], write).run()


def _closing(table: Table, record: Record) -> bool:
    """
    Whether the session of a record has said goodbye and only waits to be rid of its last octets.
    """
    source = table.served(record.session_id)
    return source is not None and source.transport.disconnecting


def _which(records: list[Record]) -> Answer:
    named = b" ".join(
        record.session_id + b" " + encode_name(record.selection.name) for record in records if record.selection is not None
    )
    return b"NO", b"[XCONTINUITY WHICH " + named + b"] several sessions of this client: name one"


class _Graft:
    def __init__(
        self, table: Table, served: Served, tag: bytes, record: Record, write: Callable[[bytes], object]
    ) -> None:
        assert record.selection is not None
        self._table = table
        self._served = served
        self._tag = tag
        self._record = record
        self._selection: Selection = record.selection
        self._write = write

    def run(self) -> Deferred[Answer]:
        account = self._account()
        if account is None:
            return succeed((b"NO", b"[XCONTINUITY GONE] this server cannot graft"))
        return self._select(account).addCallback(self._move_or_select, account)

    def _source(self) -> Served | None:
        source = self._table.served(self._record.session_id)
        return None if source is None or source.inside_literal else source

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
            return _GONE
        return self._select(mine).addCallback(lambda mailbox: self._refusal(mailbox) or self._selected(mailbox))

    def _discard(self, mailbox: Any) -> None:
        """
        A mailbox that was selected here is not needed.  Where an account gives one object to all, a sibling may have it.
        """
        siblings = self._table.siblings(self._record.user, self._record.client_id, self._served.authority)
        held = [one.kept_mailbox for one in siblings] + [imap4.selected_mailbox(one.protocol) for one in siblings]
        if mailbox is not None and not any(mailbox is one for one in held):
            imap4.close_mailbox(mailbox)

    def _refusal(self, mailbox: Any) -> Answer | None:
        """
        Why this is not the mailbox that the client had; then it is closed.
        """
        name = encode_name(self._selection.name)
        if not self._wanted:
            self._discard(mailbox)
            return _GONE
        if mailbox is None:
            self._forget_source()
            return b"NO", b"[XCONTINUITY MISSING %b] the mailbox is gone" % name
        now = mailbox.getUIDValidity()
        if self._selection.uid_validity is not None and now != self._selection.uid_validity:
            self._discard(mailbox)
            self._forget_source()
            return b"NO", b"[XCONTINUITY CHANGED %b %d] the mailbox has another UIDVALIDITY" % (name, now)
        return None

    def _move(self, source: Served) -> Any:
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
        self._retire(source)
        return mailbox

    def _retire(self, source: Served) -> None:
        link = source.link
        if link is None:
            source.end(b"MOVED")
            return
        # Fenced at once, but disconnected behind the answer, which is written in this turn: as the change request orders it.
        link.fence()
        self._table.gone(source)
        source.hub.clock.callLater(0, self._disconnect, source, link)

    @staticmethod
    def _disconnect(source: Served, link: ServerLink) -> None:
        source.end(b"MOVED")
        link.finish()

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
        access = b"READ-ONLY" if read_only else b"READ-WRITE"
        text = b"[XCONTINUITY GRAFTED %b %b] as you left it; SEARCHRES, CONTEXT and a command in progress are not kept"
        self._table.counts["grafted"] += 1
        return b"OK", text % (encode_name(self._selection.name), access)


def decode_name(name: bytes) -> str:
    """
    A mailbox name as L{IAccount<twisted.mail.interfaces.IAccountIMAP>} takes it: modified UTF-7 (RFC 3501, section 5.1.3) decoded
    where it is that, UTF-8 otherwise.
    """
    try:
        return name.decode("imap4-utf-7")
    except (UnicodeError, ValueError):
        return name.decode("utf-8", "replace")
