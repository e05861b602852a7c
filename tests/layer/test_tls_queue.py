"""
What waits to be written: L{mem_continuity.layer.tls_queue}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.layer.tls_queue import RECORD, WriteQueue

SIZES = st.lists(st.one_of(st.integers(1, 20), st.integers(RECORD - 2, RECORD + 2), st.integers(1, 5 * RECORD)), max_size=12)


class QueueTests(SynchronousTestCase):
    @given(SIZES, st.data())
    def test_the_octets_come_out_in_their_order(self, sizes: list[int], data: st.DataObject) -> None:
        written = [bytes([number]) * size for number, size in enumerate(sizes)]
        queue = WriteQueue()
        for one in written:
            queue.append(one)
        out = b""
        while queue.size:
            piece = queue.next_slice()
            self.assertLessEqual(len(piece), RECORD)
            self.assertTrue(piece)
            self.assertEqual(bytes(queue.next_slice()), bytes(piece), "what was not taken comes again")
            count = data.draw(st.sampled_from([len(piece), max(1, len(piece) // 2)]))
            out += bytes(piece[:count])
            queue.took(count)
        self.assertEqual(out, b"".join(written))
        self.assertEqual(queue.next_slice(), b"")

    def test_small_ones_are_joined(self) -> None:
        queue = WriteQueue()
        for _ in range(100):
            queue.append(b"x" * 100)
        self.assertEqual(len(queue.next_slice()), 10_000)

    def test_a_record_is_filled(self) -> None:
        queue = WriteQueue()
        queue.append(b"a" * 100)
        queue.append(b"b" * 2 * RECORD)
        self.assertEqual(len(queue.next_slice()), RECORD)

    def test_a_big_one_is_not_copied(self) -> None:
        queue = WriteQueue()
        big = b"x" * 10 * RECORD
        queue.append(big)
        piece = queue.next_slice()
        assert isinstance(piece, memoryview)
        self.assertIs(piece.obj, big)
