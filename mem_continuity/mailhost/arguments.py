"""
How the mailhost's protocol reads commands: strings, mailbox names, literals, and one command at a time.

What Twisted's C{IMAP4Server} leaves open is closed here: quoted strings with escapes, non-synchronizing literals
(RFC 7888), messages that are written to the disk as they arrive, and answers without a traceback in the log when a
client sends nonsense.

Invariants: while a command is at work (C{blocked}) nothing more is read, so a literal that was sent ahead is never
taken for commands, and pipelined commands wait in the client's socket, not in memory.  What a literal declares is
bounded before its first octet is stored; one that was sent ahead and is too long is read and dropped.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.mail.imap4 import (
    IllegalClientResponse,
    IllegalMailboxEncoding,
    IllegalOperation,
    LiteralString,
    MessageSet,
    parseNestedParens,
)

from mem_continuity.core.policy import Policy
from mem_continuity.imap.sequence import parse_set
from mem_continuity.mailhost.maildir import Delivery

if TYPE_CHECKING:
    # Twisted's class is typed by its defaults alone: every attribute would be None.
    IMAP4Server = Any
else:
    from twisted.mail.imap4 import IMAP4Server

_log = Logger()

_QUOTED = re.compile(rb'"((?:[^"\\]|\\["\\])*)"(?: (.*))?', re.DOTALL)
_LITERAL = re.compile(rb"\{(\d{1,19})(\+?)\}")
_LITERAL_AT_END = re.compile(rb"\{(\d{1,19})(\+?)\}\Z")
_Class = TypeVar("_Class")
_MAILBOX_COMMANDS = ("CREATE", "DELETE", "SUBSCRIBE", "UNSUBSCRIBE", "RENAME", "LIST", "LSUB")
_STATES = ("unauth", "auth", "select", "logout")

Argument = Any


class _Literal(Protocol):
    def write(self, data: bytes) -> bytes | None: ...

    def callback(self, line: bytes) -> None: ...


class MessageLiteral:
    """
    A literal that is written into a delivery, or dropped.
    """

    def __init__(self, size: int, answer: Deferred[Any], delivery: Delivery | None, refusal: Exception | None) -> None:
        """
        @param refusal: given as the answer when all of it was read.
        """
        self._left = size
        self._answer = answer
        self._delivery = delivery
        self._refusal = refusal

    def write(self, data: bytes) -> bytes | None:
        """
        Take octets.

        @return: those behind the literal when it is complete, otherwise C{None}.
        """
        own, rest = data[: self._left], data[self._left :]
        self._left -= len(own)
        if self._delivery is not None:
            try:
                self._delivery.write(own)
            except OSError as error:
                _log.error("a message cannot be stored: {error}", error=error)
                self._refusal = IllegalOperation(f"the message cannot be stored: {error.strerror}")
                self.drop()
        return None if self._left else rest

    def callback(self, line: bytes) -> None:
        """
        The rest of the command's line is there.
        """
        if self._refusal is not None:
            self._answer.errback(self._refusal)
        else:
            self._answer.callback((self._delivery, line))

    def drop(self) -> None:
        """
        The connection is lost, or the disk is full.
        """
        if self._delivery is not None:
            self._delivery.discard()
            self._delivery = None


def _own_name(attribute: str, method: Any) -> str:
    """
    The method that takes a place in a table; mailbox names are read by L{ArgumentsMixin.arg_mailbox}.
    """
    name: str = method.__name__
    is_name = name in ("arg_astring", "arg_finalastring") and attribute.partition("_")[2] in _MAILBOX_COMMANDS
    return "arg_mailbox" if is_name else name


def own_tables(cls: type[_Class]) -> type[_Class]:
    """
    Make the command tables that a class inherits name its own methods: they hold functions, which overriding a method
    does not reach.
    """
    for attribute in dir(IMAP4Server):
        row = getattr(IMAP4Server, attribute)
        if attribute.partition("_")[0] in _STATES and isinstance(row, tuple) and attribute not in cls.__dict__:
            own = tuple(getattr(cls, _own_name(attribute, item)) if callable(item) else item for item in row)
            setattr(cls, attribute, own)
    return cls


class ArgumentsMixin(IMAP4Server):  # type: ignore[misc]
    """
    The reading half of the mailhost's protocol.
    """

    policy: Policy
    blocked: list[bytes] | None
    mbox: Any
    state: str
    paused: bool
    challengers: dict[bytes, Any]
    _is_lost = False

    # One command at a time

    def lineReceived(self, line: bytes) -> None:
        if self.blocked is not None:
            self.blocked.append(line)
            if not self.paused:
                self.pauseProducing()
            return
        super().lineReceived(line)

    def block(self) -> None:
        """
        A command is at work; nothing more is read until L{unblock}.
        """
        if self.blocked is None:
            self.blocked = []

    def unblock(self) -> None:
        """
        It is done.
        """
        self._unblock()

    def _unblock(self) -> None:
        super()._unblock()
        if self.blocked is None and self.paused and not self._is_lost:
            self.resumeProducing()

    def connectionLost(self, reason: Any) -> None:
        self._is_lost = True
        if isinstance(self._pendingLiteral, MessageLiteral):
            self._pendingLiteral.drop()
        super().connectionLost(reason)

    # Literals

    def _begin_literal(self, literal: _Literal, size: int, is_sent_ahead: bool) -> None:
        self.parseState = "pending"
        self._pendingLiteral = literal
        if not is_sent_ahead:
            self.sendContinuationRequest(b"Ready")
        if size:
            self.setRawMode()

    def _read_string(self, size: int, is_sent_ahead: bool) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        if size > self._literalStringLimit:
            refusal = IllegalClientResponse(f"a string may have at most {self._literalStringLimit} octets")
            if not is_sent_ahead:
                raise refusal
            self._begin_literal(MessageLiteral(size, answer, None, refusal), size, True)
        else:
            self._begin_literal(LiteralString(size, answer), size, is_sent_ahead)
        return answer

    def arg_message(self, line: bytes) -> Argument:
        """
        The message of APPEND: a L{Delivery}, or a file when the account is not one of ours.
        """
        found = _LITERAL.fullmatch(line or b"")
        if found is None:
            raise IllegalClientResponse("a literal is missing")
        size, is_sent_ahead = int(found[1]), bool(found[2])
        refusal = None
        if size > self.policy.message_size:
            refusal = IllegalOperation(f"a message may have at most {self.policy.message_size} octets")
            if not is_sent_ahead:
                raise refusal
        begin = getattr(self.account, "delivery", None)
        if begin is None and not is_sent_ahead:
            return self.arg_literal(line)
        answer: Deferred[Any] = Deferred()
        delivery = None
        if refusal is None:
            try:
                if begin is None:
                    raise OSError(0, "send the literal after the server's continuation")
                delivery = begin()
            except OSError as error:
                if error.errno:
                    _log.error("a message cannot be stored: {error}", error=error)
                refusal = IllegalOperation(f"the message cannot be stored: {error.strerror}")
                if not is_sent_ahead:
                    raise refusal from None
        self._begin_literal(MessageLiteral(size, answer, delivery, refusal), size, is_sent_ahead)
        return answer

    # Other arguments

    def arg_astring(self, line: bytes, final: bool = False) -> Argument:
        """
        A string: an atom, quoted with escapes, or a literal.
        """
        line = (line or b"").lstrip(b" ")
        if line.startswith(b'"'):
            quoted = _QUOTED.fullmatch(line)
            if quoted is None:
                raise IllegalClientResponse("a quoted string is not closed, or has a wrong escape")
            return re.sub(rb"\\(.)", rb"\1", quoted[1]), quoted[2] or b""
        if line.startswith(b"{"):
            literal = _LITERAL.fullmatch(line)
            if literal is None:
                raise IllegalClientResponse("a literal is malformed")
            read = self._read_string(int(literal[1]), bool(literal[2]))
            return read.addCallback(lambda found: (found[0], found[1].removeprefix(b" ")))
        atom, _, rest = line.partition(b" ")
        if not atom:
            raise IllegalClientResponse("an argument is missing")
        return atom, rest

    def arg_mailbox(self, line: bytes) -> Argument:
        """
        A mailbox name, decoded.
        """
        found = self.arg_astring(line)
        if isinstance(found, Deferred):
            return found.addCallback(self._decoded)
        return self._decoded(found)

    @staticmethod
    def _decoded(found: tuple[bytes, bytes]) -> tuple[str, bytes]:
        raw, rest = found
        try:
            return raw.decode("imap4-utf-7"), rest
        except (UnicodeError, ValueError):
            raise IllegalMailboxEncoding("it is not modified UTF-7") from None

    def arg_searchkeys(self, line: bytes) -> Argument:
        """
        The keys of SEARCH, with literals among them.
        """
        found = _LITERAL_AT_END.search(line or b"")
        if found is not None:
            if len(line) > self.policy.preamble_line:
                raise IllegalClientResponse("the search is too long")
            start = line[: found.start()] + b"{" + found[1] + b"}\r\n"
            return self._read_string(int(found[1]), bool(found[2])).addCallback(
                lambda more: self.arg_searchkeys(start + more[0] + more[1])
            )
        return self._parsed(lambda: (parseNestedParens(line or b""), b""))

    def arg_fetchatt(self, line: bytes) -> Argument:
        """
        The items of FETCH.
        """
        return self._parsed(lambda: super(ArgumentsMixin, self).arg_fetchatt(line))

    def arg_plist(self, line: bytes) -> Argument:
        """
        A list of words.
        """
        return self._parsed(lambda: super(ArgumentsMixin, self).arg_plist(line))

    def arg_seqset(self, line: bytes) -> Argument:
        """
        A sequence set.
        """
        first, _, rest = (line or b"").partition(b" ")
        try:
            # All ranges at once: adding one by one takes time of their number's square.
            return MessageSet(list(parse_set(first))), rest
        except ValueError:
            raise IllegalClientResponse("a sequence set is missing or not understood") from None

    def arg_flaglist(self, line: bytes) -> Argument:
        """
        The flags of STORE.
        """
        return self._parsed(lambda: super(ArgumentsMixin, self).arg_flaglist(line))

    def opt_charset(self, line: bytes) -> Argument:
        """
        The charset of SEARCH, or none.
        """
        return self._parsed(lambda: super(ArgumentsMixin, self).opt_charset(line or b""))

    def opt_plist(self, line: bytes) -> Argument:
        """
        A list of words, or none.
        """
        return self._parsed(lambda: super(ArgumentsMixin, self).opt_plist(line or b""))

    @staticmethod
    def _parsed(parse: Any) -> Argument:
        """
        What Twisted's parsers raise for nonsense is of many kinds; the client hears of it, the log does not.
        """
        try:
            return parse()
        except IllegalClientResponse:
            raise
        except Exception:
            raise IllegalClientResponse("an argument is missing or not understood") from None
