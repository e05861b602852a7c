"""
A message as Twisted's IMAP server wants it.

Invariants: the file is opened when its content is first asked for, and parsed when its structure is; flags, UID and the
dates cost neither.  Once open, the message can be read to its end although it is renamed or expunged meanwhile.
"""

from __future__ import annotations

from email.utils import formatdate, mktime_tz, parsedate_tz
from typing import TYPE_CHECKING

from twisted.mail.imap4 import IMAP4Exception
from twisted.mail.interfaces import IMessageIMAP, IMessageIMAPFile, IMessageIMAPPart
from zope.interface import implementer

from mem_continuity.mailhost.mime import Part, header_fields, parse
from mem_continuity.mailhost.octets import Octets, Slice

if TYPE_CHECKING:
    from mem_continuity.mailhost.folder import Entry, Folder


@implementer(IMessageIMAPPart)
class MaildirPart:
    """
    A part of a message.
    """

    def __init__(self, part: Part) -> None:
        self._part = part

    @property
    def part(self) -> Part:
        """
        Where it lies.
        """
        return self._part

    def getHeaders(self, negate: bool, *names: str | bytes) -> dict[str, str]:
        """
        Header fields by lower-case name, ASCII; of repeated ones the first.

        @param negate: all but the named ones.
        """
        wanted = {(name.decode("ascii", "replace") if isinstance(name, bytes) else name).lower() for name in names}
        found: dict[str, str] = {}
        for raw, field in header_fields(self.part.header_octets):
            name = raw.decode("ascii", "replace").replace("\ufffd", "?")
            if (name in wanted) != bool(negate):
                value = field.partition(b":")[2].strip().decode("ascii", "replace").replace("\ufffd", "?")
                found.setdefault(name, value)
        return found

    def getBodyFile(self) -> Slice:
        """
        The body, as a file.
        """
        return Slice(self.part.octets, self.part.body, self.part.end)

    def getSize(self) -> int:
        """
        The octets of the body.
        """
        return self.part.end - self.part.body

    def isMultipart(self) -> bool:
        """
        Whether there are parts below.
        """
        return bool(self.part.children)

    def getSubPart(self, part: int) -> MaildirPart:
        """
        A part below, counted from 0.

        @raise IndexError: there is none of that number.
        """
        if self.part.message is not None and part == 0:
            return MaildirPart(self.part.message)
        return MaildirPart(self.part.children[part])


@implementer(IMessageIMAP, IMessageIMAPFile)
class MaildirMessage(MaildirPart):
    """
    A message of a folder.
    """

    def __init__(self, folder: Folder, entry: Entry, is_recent: bool) -> None:
        self.folder = folder
        self.entry = entry
        self._is_recent = is_recent
        self._octets: Octets | None = None
        self._root: Part | None = None

    def octets(self) -> Octets:
        """
        The content; from the first call on it stays readable.

        @raise FileNotFoundError: the message is gone.
        """
        if self._octets is None:
            self._octets = self.folder.open(self.entry)
        return self._octets

    @property
    def part(self) -> Part:
        if self._root is None:
            self._root = parse(self.octets())
        return self._root

    def getUID(self) -> int:
        """
        The UID.
        """
        return self.entry.uid

    def getFlags(self) -> list[str]:
        """
        The flags as they are now, C{\\Recent} among them.
        """
        return [*self.entry.name.flags, *(["\\Recent"] if self._is_recent else [])]

    def getInternalDate(self) -> str:
        """
        When it arrived, as in a C{Date} field.
        """
        return formatdate(self.folder.date_of(self.entry))

    def getSize(self) -> int:
        """
        The octets of the whole message.
        """
        known = self.entry.name.wire_size
        return self.octets().size if known is None or self._octets is not None else known

    def open(self) -> Slice:
        """
        The whole message, as a file.
        """
        return Slice(self.octets())


def parse_date(date: bytes | str | None) -> float | None:
    """
    The internal date that APPEND gives, in seconds since the epoch.

    @param date: as in IMAP, or as in a C{Date} field.
    @raise IMAP4Exception: it is neither.
    """
    if date is None:
        return None
    text = date.decode("ascii", "replace") if isinstance(date, bytes) else date
    parsed = parsedate_tz(text.strip())
    if parsed is None:
        raise IMAP4Exception("The date is not like 01-Feb-1994 12:00:00 +0000")
    try:
        return max(0.0, float(mktime_tz(parsed)))
    except (ValueError, OverflowError):
        raise IMAP4Exception("The date is out of range") from None
