"""
Sequence sets.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.imap.sequence import NumberSet, parse_set, uid_ranges

ENDS = st.none() | st.integers(1, 30)


class SequenceTests(SynchronousTestCase):
    """
    Reading, asking and writing.
    """

    @given(st.lists(st.tuples(ENDS, ENDS), min_size=1), st.integers(1, 30))
    def test_contains(self, ranges: list[tuple[int | None, int | None]], last: int) -> None:
        text = b",".join(b":".join(b"*" if end is None else b"%d" % end for end in one) for one in ranges)
        chosen = NumberSet(parse_set(text), last)
        expected: set[int] = set()
        for one in ranges:
            low, high = sorted(last if end is None else end for end in one)
            expected.update(range(low, high + 1))
        self.assertEqual({number for number in range(40) if number in chosen}, expected)

    @given(st.sets(st.integers(1, 2**32 - 1) | st.integers(1, 30), min_size=1))
    def test_written_and_read(self, uids: set[int]) -> None:
        ranges = parse_set(uid_ranges(sorted(uids)))
        self.assertEqual(sum((high or 0) - (low or 0) + 1 for low, high in ranges), len(uids))
        chosen = NumberSet(ranges, 1)
        self.assertTrue(all(uid in chosen for uid in uids))

    def test_single(self) -> None:
        self.assertEqual(parse_set(b"7,*,3:*"), [(7, 7), (None, None), (3, None)])

    def test_refused(self) -> None:
        for text in (b"", b"0", b"1,", b"1:", b":1", b"a", b"-1", b"+1", b"1:2:3", b" 1", b"1_0", b"1" * 5000, b"\xd9\xa1"):
            with self.assertRaises(ValueError, msg=repr(text)):
                parse_set(text)
