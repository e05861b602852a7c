"""
A message's octets, read from its file piece by piece.

Invariants: a message is never loaded whole.  The descriptor is closed when the last reader is gone, also when a
producer was dropped half way.  Lines end in CRLF, as IMAP wants them: a file that another program delivered with bare
LF is converted into an unnamed temporary file when it is opened.
"""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path

_PIECE = 1024 * 1024
_PEEK = 64 * 1024
#: What is looked for is near, or the message is long: then many readings do not matter.
_SEARCHED = 64 * 1024


class Octets:
    """
    A file of known size that can be read at any offset.

    @ivar size: octets.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def __del__(self) -> None:
        os.close(self._descriptor)

    def read(self, offset: int, length: int) -> bytes:
        """
        At most so many octets from there; fewer only at the end.
        """
        return os.pread(self._descriptor, length, offset)

    def find(self, wanted: bytes, start: int, end: int) -> int:
        """
        The first place of C{wanted} that lies wholly in C{start:end}, or -1.
        """
        while start < end:
            piece = self.read(start, min(_SEARCHED, end - start))
            at = piece.find(wanted)
            if at >= 0:
                return start + at
            if len(piece) < _SEARCHED:
                return -1
            start += len(piece) - len(wanted) + 1
        return -1

    def count_lines(self, start: int, end: int) -> int:
        """
        Lines in C{start:end}; an incomplete last one counts.
        """
        lines, last = 0, b"\n"
        while start < end:
            piece = self.read(start, min(_PIECE, end - start))
            if not piece:
                break
            lines += piece.count(b"\n")
            last = piece[-1:]
            start += len(piece)
        return lines + (last != b"\n")


class Slice(io.RawIOBase):
    """
    A read-only file over a range of octets, for C{FileProducer} and everyone else who wants C{read}, C{seek}, C{tell}.
    """

    def __init__(self, octets: Octets, start: int = 0, end: int | None = None) -> None:
        super().__init__()
        self._octets = octets
        self._end = min(octets.size if end is None else end, octets.size)
        self._start = min(start, self._end)
        self._at = self._start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        piece = self._octets.read(self._at, min(len(view), self._end - self._at))
        view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: self._start, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        self._at = min(max(origin + offset, self._start), self._end)
        return self.tell()

    def tell(self) -> int:
        return self._at - self._start


def open_octets(path: Path) -> Octets:
    """
    Open a message file.

    @raise FileNotFoundError: it was renamed or removed since.
    """
    octets = Octets(os.open(path, os.O_RDONLY))
    first = octets.read(0, _PEEK)
    line_end = first.find(b"\n")
    if line_end < 0 or first[:line_end].endswith(b"\r"):
        return octets
    with tempfile.TemporaryFile() as converted:
        offset, carried = 0, b""
        while piece := octets.read(offset, _PIECE):
            offset += len(piece)
            piece = carried + piece
            # A CR at the end may belong to an LF in the next piece.
            carried = b"\r" if piece.endswith(b"\r") else b""
            converted.write(piece.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
        converted.write(carried)
        converted.flush()
        return Octets(os.dup(converted.fileno()))
