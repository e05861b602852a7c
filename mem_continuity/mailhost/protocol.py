"""
The mailhost's IMAP server: Twisted's C{IMAP4Server} with its commands made complete, session by session.

Subclassing goes by C{do_*} methods and command tables.  Added: UNSELECT (RFC 3691), UIDPLUS (RFC 4315), LITERAL+
(RFC 7888), CHILDREN (RFC 3348).  Any L{IAccountIMAP<twisted.mail.interfaces.IAccountIMAP>} works with it; Maildir
accounts get all of it.

Invariants: C{EXPUNGE} is sent only in answer to NOOP, CHECK, IDLE, EXPUNGE, APPEND and COPY, never within FETCH, STORE
or SEARCH (RFC 3501, section 7.4.1).  Passwords are not asked for on a connection that can be read by others.  What goes
wrong inside is answered by one plain line.
"""

from __future__ import annotations

from collections.abc import Generator
from ipaddress import ip_address
from typing import Any

from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.internet.interfaces import IReactorTime, ISSLTransport
from twisted.logger import Logger
from twisted.mail.imap4 import (
    IllegalClientResponse,
    IllegalQueryError,
    IMAP4Exception,
    LOGINCredentials,
    MessageSet,
    PLAINCredentials,
)
from twisted.mail.interfaces import ICloseableMailboxIMAP, ISearchableIMAPMailbox
from twisted.python.failure import Failure
from zope.interface import implementer

from mem_continuity.core.policy import Policy
from mem_continuity.imap.sequence import uid_ranges
from mem_continuity.mailhost.arguments import ArgumentsMixin, IMAP4Server, own_tables
from mem_continuity.mailhost.interfaces import IExpungeListener
from mem_continuity.mailhost.logins import GuardedPortal, LoginGuard
from mem_continuity.mailhost.mailbox import MaildirMailbox
from mem_continuity.mailhost.maildir import Delivery
from mem_continuity.mailhost.render import string
from mem_continuity.mailhost.storing import StoreMixin

_log = Logger()

_STATUS_ITEMS = ("MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN")
_CHARSETS = (b"US-ASCII", b"UTF-8")


@own_tables
@implementer(IExpungeListener)
class MailhostProtocol(StoreMixin):
    """
    One session.

    @ivar policy: C{message_size} is used from it.
    @ivar reactor: gives others their turn.
    @ivar allow_plaintext: passwords are taken without TLS from this host itself.
    """

    IDENT = b"IMAP4rev1 ready"
    arg_message, arg_mailbox = ArgumentsMixin.arg_message, ArgumentsMixin.arg_mailbox
    arg_atom, arg_line, arg_seqset = IMAP4Server.arg_atom, IMAP4Server.arg_line, ArgumentsMixin.arg_seqset
    arg_plist, opt_datetime = ArgumentsMixin.arg_plist, IMAP4Server.opt_datetime

    def __init__(self, policy: Policy, reactor: IReactorTime, allow_plaintext: bool = False) -> None:
        super().__init__({b"PLAIN": PLAINCredentials, b"LOGIN": LOGINCredentials}, scheduler=self.run_steps)
        self.policy = policy
        self.reactor = reactor
        self.allow_plaintext = allow_plaintext
        self.attempts: GuardedPortal | None = None

    def enter_by(self, portal: Portal, guard: LoginGuard) -> None:
        """
        Log in there, as often as the guard lets.  Called by the factory.
        """
        self.portal = self.attempts = GuardedPortal(portal, guard, self)

    # Before login

    def connectionMade(self) -> None:
        if not self._may_take_passwords():
            self.challengers = {}
        super().connectionMade()

    def _may_take_passwords(self) -> bool:
        if ISSLTransport.providedBy(self.transport):
            return True
        try:
            return self.allow_plaintext and ip_address(self.transport.getPeer().host).is_loopback
        except (AttributeError, ValueError):
            return False

    def capabilities(self) -> dict[bytes, list[bytes] | None]:
        """
        What is announced.
        """
        announced: dict[bytes, list[bytes] | None] = super().capabilities()
        if not self.challengers:
            announced[b"LOGINDISABLED"] = None
        for name in (b"UNSELECT", b"UIDPLUS", b"LITERAL+", b"CHILDREN"):
            announced[name] = None
        return announced

    def peer(self) -> str:
        """
        The address that the client comes from; empty when it has none.
        """
        return str(getattr(self.transport.getPeer(), "host", ""))

    def connectionLost(self, reason: Any) -> None:
        super().connectionLost(reason)
        if self.attempts is not None and self.attempts.waiting is not None:
            self.attempts.waiting.cancel()

    def do_LOGOUT(self, tag: bytes) -> None:
        """
        The end; what was sent behind it is not run.
        """
        super().do_LOGOUT(tag)
        self.state = "logout"

    # Answers

    def _run(self, tag: bytes, steps: Generator[Deferred[Any], Any, None], command: bytes) -> None:
        """
        Run a command to its end before the next one is read.
        """
        self.block()
        done: Deferred[None] = inlineCallbacks(lambda: steps)()
        done.addErrback(self._failed, tag, command)
        done.addBoth(lambda _: self.unblock())

    def _failed(self, reason: Failure, tag: bytes, command: bytes) -> None:
        if reason.check(IllegalClientResponse, IllegalQueryError):
            self.sendBadResponse(tag, command + b": " + self._plain(reason))
        elif reason.check(IMAP4Exception):
            self.sendNegativeResponse(tag, command + b" failed: " + self._plain(reason))
        elif isinstance(reason.value, OSError):
            why = reason.value.strerror or "a file is gone"
            _log.error("{command} failed: {error}", command=command.decode("ascii"), error=reason.value)
            self.sendNegativeResponse(tag, b"[UNAVAILABLE] " + command + b" failed: " + why.encode("ascii", "replace"))
        else:
            _log.failure("a mail command failed", failure=reason)
            self.sendNegativeResponse(tag, b"[SERVERBUG] " + command + b" failed; look into the server's log")

    @staticmethod
    def _plain(reason: Failure) -> bytes:
        return " ".join(str(reason.value).split()).encode("ascii", "replace")

    def _tell_expunged(self) -> None:
        if isinstance(self.mbox, MaildirMailbox):
            for number in self.mbox.take_expunged():
                self.sendUntaggedResponse(b"%d EXPUNGE" % number)

    def messagesVanished(self) -> None:
        """
        Another session, or another program, removed messages.
        """
        if self.parseState == "idle":
            self._tell_expunged()

    # Commands

    def do_NOOP(self, tag: bytes) -> None:
        """
        NOOP and CHECK: what is new.
        """
        if self.state == "select" and isinstance(self.mbox, MaildirMailbox):
            try:
                self.mbox.folder.look()
            except OSError:
                _log.error("cannot look into {path}", path=str(self.mbox.folder.path))
            self._tell_expunged()
        self.sendPositiveResponse(tag, b"completed")

    select_CHECK = (do_NOOP,)

    def do_IDLE(self, tag: bytes) -> None:
        """
        IDLE (RFC 2177).
        """
        super().do_IDLE(tag)
        self._tell_expunged()

    def _leave(self) -> None:
        mailbox, self.mbox, self.state = self.mbox, None, "auth"
        if mailbox is not None:
            mailbox.removeListener(self)
            closeable = ICloseableMailboxIMAP(mailbox, None)
            if closeable is not None:
                maybeDeferred(closeable.close).addErrback(lambda reason: _log.failure("cannot close", failure=reason))

    def do_UNSELECT(self, tag: bytes) -> None:
        """
        Leave the mailbox without removing anything.
        """
        self._leave()
        self.sendPositiveResponse(tag, b"UNSELECT completed")

    select_UNSELECT = (do_UNSELECT,)

    def do_CLOSE(self, tag: bytes) -> None:
        """
        Remove what is flagged C{\\Deleted}, silently, and leave the mailbox.
        """

        def steps() -> Generator[Deferred[Any], Any, None]:
            if self.mbox.isWriteable():
                yield maybeDeferred(self.mbox.expunge)
            self._leave()
            self.sendPositiveResponse(tag, b"CLOSE completed")

        self._run(tag, steps(), b"CLOSE")

    def do_SELECT(self, tag: bytes, name: str, rw: int, command: bytes) -> None:
        """
        SELECT and EXAMINE.
        """
        self._leave()

        def steps() -> Generator[Deferred[Any], Any, None]:
            mbox = yield maybeDeferred(self.account.select, name, rw)
            if mbox is None:
                self.sendNegativeResponse(tag, b"[NONEXISTENT] There is no such mailbox")
                return
            flags = b" ".join(flag.encode("ascii") for flag in mbox.getFlags())
            self.sendUntaggedResponse(b"FLAGS (" + flags + b")")
            self.sendUntaggedResponse(b"%d EXISTS" % mbox.getMessageCount())
            self.sendUntaggedResponse(b"%d RECENT" % mbox.getRecentCount())
            is_writeable = bool(mbox.isWriteable())
            kept = flags if is_writeable else b""
            self.sendPositiveResponse(None, b"[PERMANENTFLAGS (" + kept + b")] are kept")
            self.sendPositiveResponse(None, b"[UIDVALIDITY %d] UIDs valid" % mbox.getUIDValidity())
            self.sendPositiveResponse(None, b"[UIDNEXT %d] is next" % mbox.getUIDNext())
            self.mbox, self.state = mbox, "select"
            mbox.addListener(self)
            access = b"[READ-WRITE] " if is_writeable else b"[READ-ONLY] "
            self.sendPositiveResponse(tag, access + command + b" completed")

        self._run(tag, steps(), command)

    auth_SELECT = (do_SELECT, arg_mailbox, 1, b"SELECT")
    select_SELECT = auth_SELECT
    auth_EXAMINE = (do_SELECT, arg_mailbox, 0, b"EXAMINE")
    select_EXAMINE = auth_EXAMINE

    def do_STATUS(self, tag: bytes, name: str, items: list[Any]) -> None:
        """
        STATUS.
        """
        wanted = [item.decode("ascii", "replace").upper() for item in items if isinstance(item, bytes)]

        def steps() -> Generator[Deferred[Any], Any, None]:
            if not wanted or not set(wanted) <= set(_STATUS_ITEMS):
                raise IllegalClientResponse("a status item is missing or unknown")
            mbox = yield maybeDeferred(self.account.select, name, 0)
            if mbox is None:
                self.sendNegativeResponse(tag, b"[NONEXISTENT] There is no such mailbox")
                return
            status = yield maybeDeferred(mbox.requestStatus, wanted)
            told = " ".join(f"{key} {value}" for key, value in status.items()).encode("ascii")
            self.sendUntaggedResponse(b"STATUS " + string(name.encode("imap4-utf-7")) + b" (" + told + b")")
            self.sendPositiveResponse(tag, b"STATUS completed")

        self._run(tag, steps(), b"STATUS")

    auth_STATUS = (do_STATUS, arg_mailbox, arg_plist)
    select_STATUS = auth_STATUS

    def do_APPEND(self, tag: bytes, name: str, flags: list[Any] | None, date: bytes | None, message: Any) -> None:
        """
        APPEND; the answer comes when the message is safe.
        """

        def steps() -> Generator[Deferred[Any], Any, None]:
            try:
                mbox = yield maybeDeferred(self.account.select, name)
                if mbox is None:
                    self.sendNegativeResponse(tag, b"[TRYCREATE] There is no such mailbox")
                    return
                kept = [flag.decode("ascii", "replace") for flag in flags or () if isinstance(flag, bytes)]
                uid = yield maybeDeferred(mbox.addMessage, message, kept, date)
            finally:
                if isinstance(message, Delivery):
                    message.discard()
            self._tell_expunged()
            code = b""
            if isinstance(mbox, MaildirMailbox):
                code = b"[APPENDUID %d %d] " % (mbox.getUIDValidity(), uid)
            self.sendPositiveResponse(tag, code + b"APPEND completed")

        self._run(tag, steps(), b"APPEND")

    auth_APPEND = (do_APPEND, arg_mailbox, ArgumentsMixin.opt_plist, opt_datetime, arg_message)
    select_APPEND = auth_APPEND

    def do_COPY(self, tag: bytes, messages: MessageSet, name: str, uid: int = 0) -> None:
        """
        COPY; all messages or none.
        """

        def steps() -> Generator[Deferred[Any], Any, None]:
            target = yield maybeDeferred(self.account.select, name)
            if target is None:
                self.sendNegativeResponse(tag, b"[TRYCREATE] There is no such mailbox")
                return
            found = yield maybeDeferred(self.mbox.fetch, messages, uid)
            chosen = [message for _, message in found]
            code = b""
            if isinstance(target, MaildirMailbox):
                copied = yield target.copy_all(chosen)
                if chosen:
                    sources = uid_ranges(message.getUID() for message in chosen)
                    code = b"[COPYUID %d %b %b] " % (target.getUIDValidity(), sources, uid_ranges(copied))
            else:
                for message in chosen:
                    opened = message.open()
                    yield maybeDeferred(target.addMessage, opened, message.getFlags(), message.getInternalDate())
            self._tell_expunged()
            self.sendPositiveResponse(tag, code + b"COPY completed")

        self._run(tag, steps(), b"COPY")

    select_COPY = (do_COPY, arg_seqset, arg_mailbox)

    def do_EXPUNGE(self, tag: bytes, messages: MessageSet | None = None, uid: int = 0) -> None:
        """
        EXPUNGE, and UID EXPUNGE with a set.
        """

        def steps() -> Generator[Deferred[Any], Any, None]:
            if not self.mbox.isWriteable():
                self.sendNegativeResponse(tag, b"The mailbox is open for reading only")
                return
            if messages is None:
                numbers = yield maybeDeferred(self.mbox.expunge)
            else:
                numbers = yield maybeDeferred(self.mbox.expunge_uids, messages)
            for number in numbers:
                self.sendUntaggedResponse(b"%d EXPUNGE" % number)
            self.sendPositiveResponse(tag, b"EXPUNGE completed")

        self._run(tag, steps(), b"EXPUNGE")

    def do_SEARCH(self, tag: bytes, charset: bytes | None, query: list[Any], uid: int = 0) -> None:
        """
        SEARCH.
        """
        if ISearchableIMAPMailbox(self.mbox, None) is None:
            super().do_SEARCH(tag, charset, query, uid)
            return

        def steps() -> Generator[Deferred[Any], Any, None]:
            if charset is not None and charset.upper().strip(b'"') not in _CHARSETS:
                self.sendNegativeResponse(tag, b"[BADCHARSET (US-ASCII UTF-8)] The charset is not known")
                return
            numbers = yield maybeDeferred(ISearchableIMAPMailbox(self.mbox).search, query, uid)
            told = [self.mbox.getUID(number) for number in numbers] if uid else numbers
            self.sendUntaggedResponse(b" ".join([b"SEARCH", *(b"%d" % one for one in told)]))
            self.sendPositiveResponse(tag, b"SEARCH completed")

        self._run(tag, steps(), b"SEARCH")

    def do_UID(self, tag: bytes, command: bytes, line: bytes) -> None:
        """
        UID COPY, EXPUNGE, FETCH, SEARCH and STORE.
        """
        if command.upper() != b"EXPUNGE":
            super().do_UID(tag, command, line)
        elif isinstance(self.mbox, MaildirMailbox):
            messages, rest = self.arg_seqset(line or b"")
            if rest:
                raise IllegalClientResponse("there are too many arguments")
            self.do_EXPUNGE(tag, messages)
        else:
            raise IllegalClientResponse("this mailbox cannot do that")
