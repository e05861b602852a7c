"""
The directory of one process, against a plain list as its model; and what a record is made of.
"""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mem_continuity.directory.memory import MemoryDirectory
from mem_continuity.directory.record import ClientID, Record, Selection
from mem_continuity.interfaces import IRecordDirectory

HOSTILE = (b"", b"a\tb", b"a\r\nb", b"a\0b", b"\xff\xfe", b'a"b', b"a\\b", b"a b", b"*", b"%41")
"""Octets that other systems have choked on."""

session_ids = st.sampled_from([b"n0.aaaaaaaa", b"n0.bbbbbbbb", b"n1.cccccccc", b"n1.dddddddd"])
texts = st.one_of(st.sampled_from(HOSTILE), st.binary(max_size=4))
client_ids = st.builds(ClientID, st.sampled_from([b"UUID", b"uuid"]), texts)
selections = st.none() | st.builds(Selection, texts, st.booleans(), st.none() | st.integers(1, 2**32 - 1))
records = st.builds(
    Record, session_ids, texts, client_ids, st.just(0.0), selections, st.frozensets(texts, max_size=2)
)
steps = st.lists(st.one_of(records, session_ids), max_size=30)
"""A record is put, a session ID is removed."""


class MemoryDirectoryTests(SynchronousTestCase):
    """
    L{MemoryDirectory}.
    """

    def test_interface(self) -> None:
        """
        It is what the table asks for.
        """
        self.assertTrue(verifyObject(IRecordDirectory, MemoryDirectory()))

    @settings(max_examples=300)
    @given(steps)
    def test_like_a_list(self, course: list[Record | bytes]) -> None:
        """
        After any course of puts and removes it finds what a list of records would: the oldest first, replaced in place, and
        nothing of another user or client.
        """
        directory = MemoryDirectory()
        model: dict[bytes, Record] = {}
        for step in course:
            if isinstance(step, Record):
                old = model.get(step.session_id)
                if old is not None and (old.user, old.client_id) != (step.user, step.client_id):
                    del model[step.session_id]
                model[step.session_id] = step
                directory.put(step)
            else:
                model.pop(step, None)
                directory.remove(step)
        self.assertEqual(len(directory), len(model))
        keys = {(one.user, one.client_id) for one in course if isinstance(one, Record)}
        for user, client_id in keys:
            expected = [one for one in model.values() if (one.user, one.client_id) == (user, client_id)]
            self.assertEqual(list(directory.find(user, client_id)), expected)

    def test_nothing_is_left(self) -> None:
        """
        What was removed leaves nothing behind, in no index.
        """
        directory = MemoryDirectory()
        for number in range(100):
            directory.put(Record(b"n0.%08d" % number, b"joe", ClientID(b"UUID", b"%d" % (number % 7)), 0.0))
        for number in range(100):
            directory.remove(b"n0.%08d" % number)
        directory.remove(b"n0.00000000")
        self.assertEqual(len(directory), 0)
        self.assertEqual([vars(directory)[name] for name in ("_records", "_clients")], [{}, {}])

    def test_hostile_octets_stay_apart(self) -> None:
        """
        Names that differ in one odd octet are different names, and come back as they were.
        """
        directory = MemoryDirectory()
        for number, octets in enumerate(HOSTILE):
            selection = Selection(octets, False, 7)
            directory.put(Record(b"n0.%08d" % number, octets, ClientID(b"UUID", octets), 0.0, selection))
        for number, octets in enumerate(HOSTILE):
            (found,) = directory.find(octets, ClientID(b"UUID", octets))
            self.assertEqual(found.session_id, b"n0.%08d" % number)
            self.assertEqual(found.selection, Selection(octets, False, 7))


class RecordTests(SynchronousTestCase):
    """
    L{Record}.
    """

    def test_plain_data(self) -> None:
        """
        A record is small plain data that nobody changes in place, and has no place for a key, a credential or mail.
        """
        record = Record(b"n0.aaaaaaaa", b"joe", ClientID(b"UUID", b"x"), 0.0, Selection(b"INBOX", False, 7))
        with self.assertRaises(FrozenInstanceError):
            record.user = b"ann"  # type: ignore[misc]
        self.assertEqual(
            {one.name for one in fields(Record)}, {"session_id", "user", "client_id", "since", "selection", "enabled"}
        )
        self.assertNotEqual(replace(record, selection=None), record)
        self.assertEqual(hash(replace(record)), hash(record))
