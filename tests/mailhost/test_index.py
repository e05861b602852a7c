"""
Stable UIDs: under any order of what can happen to a folder, and after crashes.
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.mailhost.index import UidIndex


class IndexMachine(RuleBasedStateMachine):
    """
    What an index must hold to: a base keeps its UID, and no UID is given twice.
    """

    bases: Bundle[str] = Bundle("bases")

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name) / "uids"
        self._validity = itertools.count(100)
        self._number = itertools.count()
        self._index = self._open()
        self._expected: dict[str, int] = {}
        self._given: set[int] = set()

    def _open(self) -> UidIndex:
        return UidIndex(self._path, lambda: next(self._validity))

    @rule(target=bases, count=st.integers(1, 30))
    def assign(self, count: int) -> MultipleResults[str]:
        new = [f"{next(self._number)}.mail host" for _ in range(count)]
        uids = self._index.assign(new)
        assert uids == sorted(uids)
        assert not self._given.intersection(uids)
        self._given.update(uids)
        self._expected.update(zip(new, uids, strict=True))
        return multiple(*new)

    @rule(base=consumes(bases))
    def forget(self, base: str) -> None:
        self._index.forget([base])
        del self._expected[base]

    @rule()
    def rewrite(self) -> None:
        self._index.rewrite()

    @rule(torn=st.binary(max_size=20).filter(lambda octets: b"\n" not in octets))
    def restart(self, torn: bytes) -> None:
        with open(self._path, "ab") as stream:
            stream.write(torn)
        before = self._index.uidnext
        self._index = self._open()
        # What was forgotten may still have its line; the first look at the folder drops it.
        self._index.forget([base for base in self._index.uids if base not in self._expected])
        assert self._index.uidnext == before

    @invariant()
    def same_as_expected(self) -> None:
        assert self._index.uids == self._expected
        assert self._index.uidvalidity == 100
        assert self._index.uidnext > max(self._given, default=0)

    def teardown(self) -> None:
        self._folder.cleanup()


class IndexTests(SynchronousTestCase):
    """
    The index file.
    """

    def test_any_order(self) -> None:
        run_state_machine_as_test(IndexMachine, settings=settings(max_examples=40, stateful_step_count=25, deadline=None))

    def test_broken_file_begins_anew(self) -> None:
        for content in (b"", b"garbage", b"1 5\n", b"1 7 3\n2 a\n1 b\n", b"2 7 3\n", b"1 7 3\n1 \n", b"1 0 1\n"):
            path = Path(self.mktemp())
            path.write_bytes(content)
            index = UidIndex(path, lambda: 4711)
            self.assertEqual((index.uidvalidity, index.uidnext, index.uids), (4711, 1, {}), content)
            self.assertEqual(UidIndex(path, lambda: 1).uidvalidity, 4711)

    def test_failed_write_is_made_good(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        index = UidIndex(folder / "uids", lambda: 7)
        index.assign(["a"])
        (folder / "uids").rename(folder / "aside")
        (folder / "uids").mkdir()
        with self.assertRaises(OSError):
            index.assign(["b"])
        (folder / "uids").rmdir()
        self.assertEqual(index.assign(["b"]), [2])
        self.assertEqual(UidIndex(folder / "uids", lambda: 8).uids, {"a": 1, "b": 2})
