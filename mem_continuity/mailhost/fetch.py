"""
FETCH answers of the mailhost's protocol.

What Twisted's C{IMAP4Server} does not do is done here: parts of a section (C{<0.1024>}), the octets of header fields as
they stand in the message, C{\\Seen} set by reading, messages that vanished left out, and back-pressure: an answer of
many small items is written no faster than the client reads.

Invariants: a message whose content is asked for is opened before its answer is begun, so an answer is never broken off.
What goes wrong with one item is logged and left out, the others are answered, and the command ends in NO.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IConsumer, IPullProducer, IReactorTime
from twisted.logger import Logger
from twisted.mail.imap4 import FileProducer, MailboxException, MessageSet
from zope.interface import implementer

from mem_continuity.mailhost.arguments import ArgumentsMixin
from mem_continuity.mailhost.message import MaildirMessage
from mem_continuity.mailhost.mime import Part
from mem_continuity.mailhost.octets import Octets, Slice
from mem_continuity.mailhost.render import envelope, literal, selected_header, structure

_log = Logger()

#: Answers are gathered up to this many octets, then the client must have read them.
_BURST = 64 * 1024
#: So many messages are answered in one turn of the reactor.
_IN_ONE_TURN = 32

Write = Callable[[bytes], object]
Flush = Callable[[], None]


@implementer(IPullProducer)
class _Burst:
    """
    Octets that are written when asked for; done when more would be asked for.
    """

    def __init__(self, data: bytes, consumer: IConsumer) -> None:
        self._data: bytes | None = data
        self._consumer = consumer
        self.done: Deferred[None] = Deferred()
        consumer.registerProducer(self, False)

    def resumeProducing(self) -> None:
        data, self._data = self._data, None
        if data is not None:
            self._consumer.write(data)
        elif not self.done.called:
            self._consumer.unregisterProducer()
            self.done.callback(None)

    def stopProducing(self) -> None:
        """
        The connection is lost; nobody waits any more.
        """


class _Flags:
    """
    The item that is added when reading changed the flags.
    """

    type = "flags"


class _Uid:
    """
    The item that UID FETCH always has.
    """

    type = "uid"


def _reads(item: Any) -> bool:
    """
    Whether an item sets C{\\Seen}.
    """
    if item.type == "body":
        return not item.peek and bool(item.empty or item.header or item.text or item.mime)
    return item.type in ("rfc822", "rfc822text")


class FetchMixin(ArgumentsMixin):
    """
    The fetching part of the mailhost's protocol.
    """

    reactor: IReactorTime
    _unread = 0
    _turn = 0
    _is_lost: bool
    #: Something of the command at work could not be answered.
    _is_incomplete = False

    def run_steps(self, steps: Generator[Deferred[Any] | None, None, None]) -> Deferred[None]:
        """
        Run a generator whose values are waited for; given to C{IMAP4Server} as its scheduler.
        """
        done: Deferred[None] = Deferred()

        def go(_: object) -> None:
            try:
                for waited in steps:
                    if isinstance(waited, Deferred):
                        waited.addCallbacks(go, done.errback)
                        return
            except Exception:
                done.errback()
                return
            self._turn = (self._turn + 1) % _IN_ONE_TURN
            if self._turn:
                done.callback(None)
            else:
                # Others get their turn, and the stack does not grow with the number of messages.
                self.reactor.callLater(0, done.callback, None)

        go(None)
        return done

    def do_FETCH(self, tag: bytes, messages: MessageSet, query: list[Any], uid: int = 0) -> None:
        """
        FETCH.
        """

        def steps() -> Generator[Deferred[Any], Any, None]:
            self._is_incomplete = False
            # Who reads a long answer slowly is not idle.
            timeout = self.setTimeout(None)
            try:
                found = yield maybeDeferred(self.mbox.fetch, messages, uid=uid)
                for number, message in found:
                    yield self.spewMessage(number, message, query, uid)
            finally:
                if not self._is_lost:
                    self.setTimeout(timeout)
            if self._is_incomplete:
                self.sendNegativeResponse(tag, b"FETCH failed: some of it cannot be read; the rest is above")
            else:
                self.sendPositiveResponse(tag, b"FETCH completed")

        self._run(tag, steps(), b"FETCH")

    select_FETCH = (do_FETCH, ArgumentsMixin.arg_seqset, ArgumentsMixin.arg_fetchatt)

    def spewMessage(self, id: int, msg: Any, query: list[Any], uid: int) -> Deferred[None]:
        """
        Answer for one message.
        """
        return self.run_steps(self._answer(id, msg, query, uid))

    def _opened(self, msg: MaildirMessage, query: list[Any]) -> bool:
        """
        Make a message ready for what is asked of it.

        @return: whether it is there and can be read.
        """
        try:
            if any(item.type not in ("flags", "uid") for item in query):
                msg.octets()
        except FileNotFoundError:
            return False
        except OSError as error:
            _log.error("cannot read message {uid} of {path}: {error}", uid=msg.getUID(), path=str(msg.folder.path), error=error)
            self._is_incomplete = True
            return False
        return True

    def _mark_seen(self, msg: MaildirMessage, query: list[Any]) -> list[Any]:
        """
        What reading does to the flags.

        @return: the items to be answered.
        """
        if not any(_reads(item) for item in query) or not self.mbox.isWriteable() or "\\Seen" in msg.getFlags():
            return query
        try:
            self.mbox.store(MessageSet(msg.getUID()), ["\\Seen"], 1, uid=True)
        except MailboxException:
            return query  # It was logged; the message can be read all the same.
        return query if any(item.type == "flags" for item in query) else [*query, _Flags()]

    def _answer(self, id: int, msg: Any, query: list[Any], uid: int) -> Generator[Deferred[Any] | None, None, None]:
        if self._is_lost:
            return
        if isinstance(msg, MaildirMessage):
            if not self._opened(msg, query):
                return
            query = self._mark_seen(msg, query)
        if uid and not any(item.type == "uid" for item in query):
            query = [*query, _Uid()]
        pieces = [b"* %d FETCH (" % id]
        flushed = 0
        answered = 0

        def flush() -> None:
            nonlocal flushed
            flushed += 1
            self.transport.write(b"".join(pieces))
            pieces.clear()

        for item in query:
            kept, flushed_before = len(pieces), flushed
            if answered:
                pieces.append(b" ")
            try:
                if item.type == "body":
                    waited = self.spew_body(item, id, msg, pieces.append, flush)
                else:
                    waited = getattr(self, f"spew_{item.type}")(id, msg, pieces.append, flush)
            except Exception:
                if flushed != flushed_before:
                    raise  # Half of it is written.
                _log.failure("an item of a message cannot be answered")
                self._is_incomplete = True
                del pieces[kept:]
                continue
            answered += 1
            yield waited
        if not answered:
            return
        pieces.append(b")\r\n")
        answer = b"".join(pieces)
        self._unread += len(answer)
        if self._unread < _BURST:
            self.transport.write(answer)
        else:
            self._unread = 0
            yield _Burst(answer, self.transport).done

    def spew_envelope(self, id: int, msg: Any, _w: Write, _f: Flush) -> Any:
        """
        ENVELOPE.
        """
        if not isinstance(msg, MaildirMessage):
            return super().spew_envelope(id, msg, _w, _f)
        _w(b"ENVELOPE " + envelope(msg.part))
        return None

    def spew_bodystructure(self, id: int, msg: Any, _w: Write, _f: Flush) -> Any:
        """
        BODYSTRUCTURE.
        """
        if not isinstance(msg, MaildirMessage):
            return super().spew_bodystructure(id, msg, _w, _f)
        _w(b"BODYSTRUCTURE " + structure(msg.part, True))
        return None

    def spew_rfc822header(self, id: int, msg: Any, _w: Write, _f: Flush) -> Any:
        """
        RFC822.HEADER.
        """
        if not isinstance(msg, MaildirMessage):
            return super().spew_rfc822header(id, msg, _w, _f)
        _w(b"RFC822.HEADER " + literal(msg.part.header_octets))
        return None

    def spew_body(self, part: Any, id: int, msg: Any, _w: Write, _f: Flush) -> Any:
        """
        BODY with or without a section.
        """
        if not isinstance(msg, MaildirMessage):
            return super().spew_body(part, id, msg, _w, _f)
        if not (part.empty or part.header or part.text or part.mime):
            _w(b"BODY " + structure(msg.part, False))
            return None
        label: bytes = part.getBytes()
        label = label[: label.rindex(b"]") + 1]
        begin, length = part.partialBegin, part.partialLength
        if begin is not None:
            label += b"<%d>" % begin
        _w(label + b" ")
        found = _section(part, msg)
        if found is None:
            _w(b"NIL")
            return None
        if isinstance(found, bytes):
            _w(literal(found if begin is None else found[begin : begin + length]))
            return None
        octets, start, end = found
        if begin is not None:
            start = min(start + begin, end)
            end = min(start + length, end)
        _f()
        return FileProducer(Slice(octets, start, end)).beginProducing(self.transport)


def _section(wanted: Any, msg: MaildirMessage) -> bytes | tuple[Octets, int, int] | None:
    """
    What a section names: octets of a header, or a range of the file; C{None} when the message has no such part.
    """
    if wanted.empty and not wanted.part:
        octets = msg.octets()
        return octets, 0, octets.size
    part: Part | None = msg.part.find(tuple(wanted.part))
    if part is None:
        return None
    if wanted.empty:
        return part.octets, part.body, part.end
    if wanted.mime:
        return part.header_octets
    whole = part.message if wanted.part else part
    if whole is None:
        return None
    if wanted.header:
        return selected_header(whole.header_octets, list(wanted.header.fields or ()), wanted.header.negate)
    return whole.octets, whole.body, whole.end
