"""
The directory of one process: records in a dictionary, gone with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import implementer

from mem_continuity.directory.record import ClientID, Record
from mem_continuity.interfaces import IRecordDirectory


@implementer(IRecordDirectory)
class MemoryDirectory:
    """
    An L{IRecordDirectory<mem_continuity.interfaces.IRecordDirectory>} for one node.  What it holds is bounded by who puts
    records into it: one a session.
    """

    def __init__(self) -> None:
        self._records: dict[bytes, Record] = {}
        self._clients: dict[tuple[bytes, ClientID], tuple[bytes, ...]] = {}  # few each, so a tuple is the least

    def __len__(self) -> int:
        return len(self._records)

    def put(self, record: Record) -> None:
        """
        @see: L{IRecordDirectory<mem_continuity.interfaces.IRecordDirectory.put>}
        """
        old = self._records.get(record.session_id)
        if old is not None and (old.user, old.client_id) != (record.user, record.client_id):
            self.remove(record.session_id)
        if record.session_id not in self._records:
            key = (record.user, record.client_id)
            self._clients[key] = (*self._clients.get(key, ()), record.session_id)
        self._records[record.session_id] = record

    def find(self, user: bytes, client_id: ClientID) -> Sequence[Record]:
        """
        @see: L{IRecordDirectory<mem_continuity.interfaces.IRecordDirectory.find>}
        """
        return [self._records[session_id] for session_id in self._clients.get((user, client_id), ())]

    def remove(self, session_id: bytes) -> None:
        """
        @see: L{IRecordDirectory<mem_continuity.interfaces.IRecordDirectory.remove>}
        """
        record = self._records.pop(session_id, None)
        if record is None:
            return
        key = (record.user, record.client_id)
        left = tuple(one for one in self._clients[key] if one != session_id)
        if left:
            self._clients[key] = left
        else:
            del self._clients[key]
