"""
GRAFT: put a new session into the selected state that a client's other link had.

The record is found here, by user and client ID; how the state is had again is for the inner end to say (L{Served.graft}).
Either way the view starts at a snapshot that the answer tells whole, so no sequence number has to be guessed.

Invariants:

- A mailbox that is gone, or has another UIDVALIDITY, is said plainly; the client stays authenticated.
- Names stand in a response code only percent-encoded (as RFC 5092, section 11, has it), so no name can end the code.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from twisted.internet.defer import Deferred, succeed

from mem_continuity.directory.record import Record, Selection
from mem_continuity.server.served import Answer, Served
from mem_continuity.server.table import Table

GONE: Answer = (b"NO", b"[XCONTINUITY GONE] nothing to graft")


def encode_name(name: bytes) -> bytes:
    """
    A mailbox name as it stands in a response code.
    """
    return quote(name, safe="/.+-_~&").encode("ascii")


def grafted(name: bytes, read_only: bool) -> Answer:
    """
    The answer of a GRAFT that has put the client into the selected state.
    """
    access = b"READ-ONLY" if read_only else b"READ-WRITE"
    text = b"[XCONTINUITY GRAFTED %b %b] as you left it; SEARCHRES, CONTEXT and a command in progress are not kept"
    return b"OK", text % (encode_name(name), access)


def missing(name: bytes) -> Answer:
    """
    The answer when there is no such mailbox any more.
    """
    return b"NO", b"[XCONTINUITY MISSING %b] the mailbox is gone" % encode_name(name)


def changed(name: bytes, uid_validity: int) -> Answer:
    """
    The answer when another mailbox has that name now.
    """
    return b"NO", b"[XCONTINUITY CHANGED %b %d] the mailbox has another UIDVALIDITY" % (encode_name(name), uid_validity)


def is_another(selection: Selection, uid_validity: int | None) -> bool:
    """
    Whether a mailbox with this UIDVALIDITY is not the one that was selected.
    """
    return selection.uid_validity is not None and uid_validity is not None and uid_validity != selection.uid_validity


def graft(
    table: Table, served: Served, tag: bytes, wanted: bytes | None, write: Callable[[bytes], object]
) -> Deferred[Answer]:
    """
    Carry out a GRAFT for a session that has just logged in.

    @param wanted: the session ID that the client named, or None.
    @param write: takes the untagged responses, right before the Deferred fires.
    @return: fires with the tagged response.
    """
    if served.user is None or served.client_id is None or served.has_mailbox:
        return succeed(GONE)
    records = [
        record
        for record in table.records(served.user, served.client_id, served.authority)
        if record.session_id != served.session_id and record.selection is not None and not _closing(table, record)
    ]
    if wanted is not None:
        records = [record for record in records if record.session_id == wanted]
    if not records:
        return succeed(GONE)
    if len(records) > 1:
        return succeed(_which(records))
    return served.graft(records[0], tag, write)


def _closing(table: Table, record: Record) -> bool:
    """
    Whether the session of a record has said goodbye and only waits to be rid of its last octets.
    """
    source = table.served(record.session_id)
    return source is not None and not source.graftable


def _which(records: list[Record]) -> Answer:
    named = b" ".join(
        record.session_id + b" " + encode_name(record.selection.name) for record in records if record.selection is not None
    )
    return b"NO", b"[XCONTINUITY WHICH " + named + b"] several sessions of this client: name one"
