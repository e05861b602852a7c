"""
STORE of the mailhost's protocol.

Invariant: the flags of many messages are changed some at a time, and others get their turn in between.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.mail.imap4 import IllegalClientResponse, MessageSet

from mem_continuity.mailhost.arguments import ArgumentsMixin, IMAP4Server
from mem_continuity.mailhost.fetch import FetchMixin
from mem_continuity.mailhost.mailbox import MaildirMailbox

_MODE = re.compile(rb"([+-]?)FLAGS(\.SILENT)?")
_MODES = {b"": 0, b"+": 1, b"-": -1}
#: Flags of so many messages are changed in one turn of the reactor.
_STORED_AT_ONCE = 200


class StoreMixin(FetchMixin):
    """
    The part of the mailhost's protocol that changes flags.
    """

    def do_STORE(self, tag: bytes, messages: MessageSet, mode: bytes, flags: list[Any], uid: int = 0) -> None:
        """
        STORE, some messages at a time, so that others get their turn.
        """
        mailbox = self.mbox
        if not isinstance(mailbox, MaildirMailbox):
            super().do_STORE(tag, messages, mode, flags, uid)
            return

        def steps() -> Generator[Deferred[Any], Any, None]:
            kind = mode.upper()
            found = _MODE.fullmatch(kind)
            if found is None:
                raise IllegalClientResponse("STORE sets FLAGS, +FLAGS or -FLAGS, each also with .SILENT")
            given = [flag.decode("ascii", "replace") for flag in flags if isinstance(flag, bytes)]
            uids = [mailbox.getUID(number) for number in mailbox.numbers_of(messages, bool(uid))]
            for start in range(0, len(uids), _STORED_AT_ONCE):
                if start:
                    yield deferLater(self.reactor, 0)
                some = MessageSet([(one, one) for one in uids[start : start + _STORED_AT_ONCE]])
                changed = mailbox.store(some, given, _MODES[found[1]], True)
                if found[2]:
                    continue
                for number, told in changed.items():
                    also = b" UID %d" % mailbox.getUID(number) if uid else b""
                    self.sendUntaggedResponse(b"%d FETCH (FLAGS (%b)%b)" % (number, " ".join(told).encode("ascii"), also))
            self.sendPositiveResponse(tag, b"STORE completed")

        self._run(tag, steps(), b"STORE")

    select_STORE = (do_STORE, ArgumentsMixin.arg_seqset, IMAP4Server.arg_atom, ArgumentsMixin.arg_flaglist)
