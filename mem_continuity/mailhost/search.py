"""
SEARCH (RFC 3501, section 6.4.4): a parsed query becomes one predicate over messages.

Twisted's own search compares octets with text and fails on header keys; mailboxes here provide
L{ISearchableIMAPMailbox<twisted.mail.interfaces.ISearchableIMAPMailbox>} instead, which every C{IMAP4Server} asks
first.

Invariants: a query is understood or refused whole, before the first message is looked at.  Text is compared without
regard to case, decoded from its MIME encodings.
"""

from __future__ import annotations

import datetime
from codecs import lookup
from collections.abc import Callable, Iterator
from contextlib import suppress
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.mail.imap4 import IllegalQueryError

from mem_continuity.imap.sequence import NumberSet, parse_set
from mem_continuity.mailhost.message import MaildirMessage
from mem_continuity.mailhost.mime import Part, header_fields

Test = Callable[[int, MaildirMessage], bool]

_FLAG_KEYS = {
    name: f"\\{name.capitalize()}" for name in ("ANSWERED", "DELETED", "DRAFT", "FLAGGED", "SEEN", "RECENT")
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
#: The most of a text part that is decoded and looked through.
_LONGEST_TEXT = 4 * 1024 * 1024
_DEEPEST = 50
#: A search gives way to others after so many seconds.
_SLICE = 0.01
#: Digits of a size; the standard has 32 bits, and reading takes time of the square of the digits.
_MOST_DIGITS = 19
#: Codecs of host names: they take time of the square of the text.
_NOT_FOR_TEXT = ("idna", "punycode")


class _Compiler:
    def __init__(self, last_number: int, last_uid: int) -> None:
        self._last_number = last_number
        self._last_uid = last_uid

    def all_of(self, query: list[Any], depth: int = 0) -> Test:
        if not query or depth > _DEEPEST:
            raise IllegalQueryError("The search has no keys, or is nested too deep")
        tests = []
        keys = iter(query)
        for key in keys:
            tests.append(self._one(key, keys, depth))
        return lambda number, message: all(test(number, message) for test in tests)

    def _one(self, key: Any, keys: Iterator[Any], depth: int) -> Test:
        if isinstance(key, list):
            return self.all_of(key, depth + 1)
        if depth > _DEEPEST or not isinstance(key, bytes):
            raise IllegalQueryError("The search is not understood")
        name = key.decode("ascii", "replace").upper()
        if name[:1].isdigit() or name.startswith("*"):
            return self._numbers(key)
        if name in _FLAG_KEYS or (name.removeprefix("UN") in _FLAG_KEYS and name != "UNRECENT"):
            flag, wanted = _FLAG_KEYS[name.removeprefix("UN")], not name.startswith("UN")
            return lambda _, message: (flag in message.getFlags()) is wanted
        method = getattr(self, f"_key_{name.lower()}", None) if name.isalpha() else None
        if method is None:
            raise IllegalQueryError("The search has an unknown key")
        test: Test = method(keys, depth + 1)
        return test

    def _next(self, keys: Iterator[Any]) -> Any:
        try:
            return next(keys)
        except StopIteration:
            raise IllegalQueryError("A key of the search lacks its argument") from None

    def _text(self, keys: Iterator[Any]) -> str:
        value = self._next(keys)
        if value is None:
            # The unquoted word NIL, as Twisted's parser gives it.
            value = b"NIL"
        if not isinstance(value, bytes):
            raise IllegalQueryError("A key of the search has a list where a word belongs")
        return value.decode("utf-8", "replace")

    def _number(self, keys: Iterator[Any]) -> int:
        text = self._text(keys)
        if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
            raise IllegalQueryError("A size in the search is not a number")
        return int(text)

    def _date(self, keys: Iterator[Any]) -> datetime.date:
        try:
            day, month, year = self._text(keys).strip().lower().split("-")
            return datetime.date(int(year), 1 + _MONTHS.index(month), int(day))
        except ValueError:
            raise IllegalQueryError("A date in the search is not like 1-Feb-1994") from None

    def _numbers(self, raw: bytes) -> Test:
        wanted = self._set(raw, self._last_number)
        return lambda number, _: wanted(number)

    @staticmethod
    def _set(raw: bytes, last: int) -> Callable[[int], bool]:
        try:
            chosen = NumberSet(parse_set(raw), max(last, 1))
        except ValueError:
            raise IllegalQueryError("A sequence set in the search is not understood") from None
        return lambda number: number in chosen

    # One method for each key that is no flag

    def _key_all(self, keys: Iterator[Any], depth: int) -> Test:
        return lambda *_: True

    def _key_new(self, keys: Iterator[Any], depth: int) -> Test:
        return lambda _, message: "\\Recent" in message.getFlags() and "\\Seen" not in message.getFlags()

    def _key_old(self, keys: Iterator[Any], depth: int) -> Test:
        return lambda _, message: "\\Recent" not in message.getFlags()

    def _key_keyword(self, keys: Iterator[Any], depth: int) -> Test:
        self._text(keys)
        return lambda *_: False

    def _key_unkeyword(self, keys: Iterator[Any], depth: int) -> Test:
        self._text(keys)
        return lambda *_: True

    def _key_not(self, keys: Iterator[Any], depth: int) -> Test:
        test = self._one(self._next(keys), keys, depth)
        return lambda number, message: not test(number, message)

    def _key_or(self, keys: Iterator[Any], depth: int) -> Test:
        first = self._one(self._next(keys), keys, depth)
        second = self._one(self._next(keys), keys, depth)
        return lambda number, message: first(number, message) or second(number, message)

    def _key_uid(self, keys: Iterator[Any], depth: int) -> Test:
        wanted = self._set(self._text(keys).encode("ascii", "replace"), self._last_uid)
        return lambda _, message: wanted(message.getUID())

    def _key_larger(self, keys: Iterator[Any], depth: int) -> Test:
        size = self._number(keys)
        return lambda _, message: message.getSize() > size

    def _key_smaller(self, keys: Iterator[Any], depth: int) -> Test:
        size = self._number(keys)
        return lambda _, message: message.getSize() < size

    def _by_date(self, keys: Iterator[Any], compare: Callable[[datetime.date, datetime.date], bool]) -> Test:
        day = self._date(keys)
        return lambda _, message: compare(_arrived(message), day)

    def _key_before(self, keys: Iterator[Any], depth: int) -> Test:
        return self._by_date(keys, lambda date, day: date < day)

    def _key_on(self, keys: Iterator[Any], depth: int) -> Test:
        return self._by_date(keys, lambda date, day: date == day)

    def _key_since(self, keys: Iterator[Any], depth: int) -> Test:
        return self._by_date(keys, lambda date, day: date >= day)

    def _by_sent(self, keys: Iterator[Any], compare: Callable[[datetime.date, datetime.date], bool]) -> Test:
        day = self._date(keys)

        def test(_: int, message: MaildirMessage) -> bool:
            date = _sent(message)
            return date is not None and compare(date, day)

        return test

    def _key_sentbefore(self, keys: Iterator[Any], depth: int) -> Test:
        return self._by_sent(keys, lambda date, day: date < day)

    def _key_senton(self, keys: Iterator[Any], depth: int) -> Test:
        return self._by_sent(keys, lambda date, day: date == day)

    def _key_sentsince(self, keys: Iterator[Any], depth: int) -> Test:
        return self._by_sent(keys, lambda date, day: date >= day)

    def _by_header(self, name: str, keys: Iterator[Any]) -> Test:
        wanted = self._text(keys).casefold()
        raw_name = name.lower().encode("utf-8")
        return lambda _, message: any(
            wanted in value.casefold() for value in _values(message.part, raw_name)
        )

    def _key_header(self, keys: Iterator[Any], depth: int) -> Test:
        return self._by_header(self._text(keys), keys)

    def _key_from(self, keys: Iterator[Any], depth: int) -> Test:
        return self._by_header("from", keys)

    def _key_to(self, keys: Iterator[Any], depth: int) -> Test:
        return self._by_header("to", keys)

    def _key_cc(self, keys: Iterator[Any], depth: int) -> Test:
        return self._by_header("cc", keys)

    def _key_bcc(self, keys: Iterator[Any], depth: int) -> Test:
        return self._by_header("bcc", keys)

    def _key_subject(self, keys: Iterator[Any], depth: int) -> Test:
        return self._by_header("subject", keys)

    def _key_body(self, keys: Iterator[Any], depth: int) -> Test:
        wanted = self._text(keys).casefold()
        return lambda _, message: any(wanted in text.casefold() for text in _texts(message.part))

    def _key_text(self, keys: Iterator[Any], depth: int) -> Test:
        wanted = self._text(keys).casefold()

        def test(_: int, message: MaildirMessage) -> bool:
            if any(wanted in value.casefold() for value in _values(message.part, None)):
                return True
            return any(wanted in text.casefold() for text in _texts(message.part))

        return test


def _arrived(message: MaildirMessage) -> datetime.date:
    return datetime.datetime.fromtimestamp(message.folder.date_of(message.entry), datetime.UTC).date()


def _sent(message: MaildirMessage) -> datetime.date | None:
    try:
        return parsedate_to_datetime(next(iter(_values(message.part, b"date")), "")).date()
    except (ValueError, TypeError, IndexError):
        return None


def _values(part: Part, wanted: bytes | None) -> Iterator[str]:
    """
    The decoded values of one header field, or of all with their names.
    """
    for name, field in header_fields(part.header_octets):
        if wanted is None or name == wanted:
            _, _, value = field.partition(b":")
            text = b" ".join(line.strip() for line in value.splitlines()).strip().decode("utf-8", "replace")
            try:
                decoded = str(make_header(decode_header(text)))
            except (HeaderParseError, LookupError, ValueError):
                decoded = text
            yield decoded if wanted is not None else f"{name.decode('ascii', 'replace')}: {decoded}"


def _texts(part: Part) -> Iterator[str]:
    """
    The text of a part and of those below it.
    """
    if part.message is not None:
        yield from _texts(part.message)
    for child in part.children:
        yield from _texts(child)
    if not part.children and part.main_type == "text":
        raw = part.octets.read(part.start, min(part.end - part.start, _LONGEST_TEXT))
        payload = message_from_bytes(raw).get_payload(decode=True)
        if isinstance(payload, bytes):
            charset = dict(part.parameters()).get("charset", "utf-8")
            try:
                if lookup(charset).name in _NOT_FOR_TEXT:
                    raise LookupError(charset)
                yield payload.decode(charset, "replace")
            except (LookupError, ValueError):
                # A charset that is not known, or only looks like one.
                yield payload.decode("latin-1")


def compile_search(query: list[Any], last_number: int, last_uid: int) -> Test:
    """
    Make a query ready.

    @return: whether a message, with its sequence number, is wanted.
    @param query: keys and lists of keys, as Twisted's parser gives them: L{bytes}, L{list}, and C{None} for NIL.
    @param last_number: the highest sequence number, which C{*} stands for.
    @param last_uid: the highest UID.
    @raise IllegalQueryError: the query is not understood.
    """
    return _Compiler(last_number, last_uid).all_of(list(query))


def find_all(matches: Test, messages: Iterator[tuple[int, MaildirMessage]], clock: IReactorTime) -> Deferred[list[int]]:
    """
    The numbers of those that match, in their order; others get their turn meanwhile.

    @param messages: each with its sequence number, made when it is asked for.
    """
    found: list[int] = []
    answer: Deferred[list[int]] = Deferred()

    def step() -> None:
        until = monotonic() + _SLICE
        try:
            for number, message in messages:
                # A file that another program removed matches nothing.
                with suppress(FileNotFoundError):
                    if matches(number, message):
                        found.append(number)
                if monotonic() > until:
                    clock.callLater(0, step)
                    return
        except Exception:
            answer.errback()
            return
        answer.callback(found)

    step()
    return answer
