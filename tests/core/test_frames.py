"""
Frames: L{mem_continuity.core.frames}.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.frames import (
    END_REASON_LIMIT,
    HEADER_LENGTH,
    MOST_OFFSET,
    Frame,
    FrameError,
    FrameReader,
    FrameType,
    data_header,
    encode,
    encode_ack,
)

LIMIT = 300
MOST_HELD = HEADER_LENGTH + END_REASON_LIMIT - 1
"""One octet less than the longest control frame."""

eight = st.binary(min_size=8, max_size=8)
frame_lists = st.lists(
    st.one_of(
        st.builds(Frame, st.just(FrameType.DATA), st.binary(min_size=1, max_size=LIMIT)),
        st.builds(Frame, st.sampled_from([FrameType.ACK, FrameType.PING, FrameType.PONG]), eight),
        st.builds(Frame, st.just(FrameType.END), st.binary(max_size=END_REASON_LIMIT)),
        st.just(Frame(FrameType.MOVED, b"")),
    ),
    max_size=12,
)


def split(octets: bytes, cuts: list[int]) -> list[bytes]:
    """
    The octets in pieces; some may be empty.
    """
    places = [0, *sorted(cut % (len(octets) + 1) for cut in cuts), len(octets)]
    return [octets[one:other] for one, other in pairwise(places)]


def merged(frames: list[Frame]) -> list[Frame]:
    """
    The same frames with neighbouring DATA joined: where a DATA frame was cut says nothing.
    """
    result: list[Frame] = []
    for frame in frames:
        if result and frame.type is FrameType.DATA and result[-1].type is FrameType.DATA:
            result[-1] = Frame(FrameType.DATA, result[-1].payload + frame.payload)
        else:
            result.append(frame)
    return result


cut_lists = st.lists(st.integers(0, 5000), max_size=30)


class RoundTripTests(SynchronousTestCase):
    @given(frame_lists, cut_lists)
    def test_any_split_gives_the_same_frames(self, frames: list[Frame], cuts: list[int]) -> None:
        wire = b"".join(encode(frame.type, frame.payload) for frame in frames)
        reader = FrameReader(LIMIT)
        found: list[Frame] = []
        for piece in split(wire, cuts):
            found += reader.feed(piece)
            self.assertLessEqual(len(reader._partial), MOST_HELD)
        self.assertEqual(merged(found), merged(frames))
        self.assertEqual(reader._partial, b"")

    @given(frame_lists)
    def test_octet_by_octet(self, frames: list[Frame]) -> None:
        wire = b"".join(encode(frame.type, frame.payload) for frame in frames)
        reader = FrameReader(LIMIT)
        found = [frame for octet in wire for frame in reader.feed(bytes((octet,)))]
        self.assertEqual(merged(found), merged(frames))

    @given(frame_lists, cut_lists)
    def test_data_is_given_out_as_it_comes_in(self, frames: list[Frame], cuts: list[int]) -> None:
        wire = b""
        is_data: list[bool] = []
        for frame in frames:
            octets = encode(frame.type, frame.payload)
            wire += octets
            is_data += [False] * HEADER_LENGTH + [frame.type is FrameType.DATA] * len(frame.payload)
        reader = FrameReader(LIMIT)
        fed = given_out = 0
        for piece in split(wire, cuts):
            fed += len(piece)
            given_out += sum(len(frame.payload) for frame in reader.feed(piece) if frame.type is FrameType.DATA)
            self.assertEqual(given_out, sum(is_data[:fed]))

    @given(st.integers(0, MOST_OFFSET))
    def test_ack(self, offset: int) -> None:
        (frame,) = FrameReader(LIMIT).feed(encode_ack(offset))
        self.assertEqual((frame.type, frame.offset), (FrameType.ACK, offset))
        self.assertEqual(encode_ack(offset), encode(FrameType.ACK, frame.payload))

    @given(st.integers(1, 2**24 - 1))
    def test_data_header(self, length: int) -> None:
        self.assertEqual(data_header(length), bytes((FrameType.DATA,)) + length.to_bytes(3, "big"))

    def test_the_octets_are_those_of_the_document(self) -> None:
        self.assertEqual(encode(FrameType.DATA, b"abc"), b"\x00\x00\x00\x03abc")
        self.assertEqual(encode_ack(258), b"\x01\x00\x00\x08\x00\x00\x00\x00\x00\x00\x01\x02")
        self.assertEqual(encode(FrameType.PING, b"12345678"), b"\x02\x00\x00\x0812345678")
        self.assertEqual(encode(FrameType.PONG, b"12345678"), b"\x03\x00\x00\x0812345678")
        self.assertEqual(encode(FrameType.END, b"LOGOUT"), b"\x04\x00\x00\x06LOGOUT")
        self.assertEqual(encode(FrameType.MOVED), b"\x05\x00\x00\x00")


class RefusalTests(SynchronousTestCase):
    def assert_refused(self, header: bytes) -> None:
        """
        The header alone is refused, before any payload was awaited, and nothing is taken after it.
        """
        reader = FrameReader(LIMIT)
        self.assertRaises(FrameError, reader.feed, header)
        for more in (encode_ack(1), b"", b"\x00"):
            self.assertRaises(FrameError, reader.feed, more)
        self.assertLessEqual(len(reader._partial), MOST_HELD)

    @given(st.integers(len(FrameType), 255), st.integers(0, 2**24 - 1))
    def test_scenario_38_unknown_types(self, kind: int, length: int) -> None:
        self.assert_refused(bytes((kind,)) + length.to_bytes(3, "big"))

    def test_scenario_38_lengths_outside_the_bounds(self) -> None:
        bounds = {
            FrameType.DATA: (1, LIMIT),
            FrameType.ACK: (8, 8),
            FrameType.PING: (8, 8),
            FrameType.PONG: (8, 8),
            FrameType.END: (0, END_REASON_LIMIT),
            FrameType.MOVED: (0, 0),
        }
        self.assertEqual(set(bounds), set(FrameType))
        for kind, (least, most) in bounds.items():
            for good in {least, most}:
                (frame,) = FrameReader(LIMIT).feed(encode(kind, b"x" * good))
                self.assertEqual(frame, Frame(kind, b"x" * good))
            for bad in {least - 1, most + 1, 2**24 - 1} - {-1}:
                self.assert_refused(bytes((kind,)) + bad.to_bytes(3, "big"))

    @given(st.binary(max_size=600), cut_lists)
    def test_scenario_38_random_octets(self, octets: bytes, cuts: list[int]) -> None:
        reader = FrameReader(LIMIT)
        broken = False
        for piece in split(octets, cuts):
            try:
                frames = reader.feed(piece)
            except FrameError as fault:
                broken = True
                self.assertTrue(str(fault))
            else:
                self.assertFalse(broken, "a reader went on after an error")
                self.assertLessEqual(sum(len(frame.payload) for frame in frames), len(piece) + MOST_HELD)
            self.assertLessEqual(len(reader._partial), MOST_HELD)

    @given(frame_lists, st.integers(len(FrameType), 255), cut_lists)
    def test_a_fault_behind_good_frames_is_found(self, frames: list[Frame], kind: int, cuts: list[int]) -> None:
        wire = b"".join(encode(frame.type, frame.payload) for frame in frames) + bytes((kind, 0, 0, 0))
        reader = FrameReader(LIMIT)
        pieces = split(wire, cuts)
        with self.assertRaises(FrameError) as caught:
            for piece in pieces:
                reader.feed(piece)
        self.assertIn(str(kind), str(caught.exception))
