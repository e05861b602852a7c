"""
What is asked of a Twisted C{IMAP4Server} instance from outside, for GRAFT and for an orderly end.

Only attributes that the class has in public are used (C{state}, C{parseState}, C{blocked}, C{mbox}, C{account}), and each is
looked for first: sites serve subclasses, and other protocols altogether.  Where something is missing, the careful
answer is given.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger
from twisted.mail.interfaces import ICloseableMailboxIMAP

_log = Logger()


def between_commands(protocol: Any) -> bool:
    """
    Whether a server instance stands between two commands, or in IDLE: nothing is half read, half done or half said.
    """
    return (
        getattr(protocol, "parseState", None) in ("command", "idle")
        and getattr(protocol, "blocked", None) is None
        and getattr(protocol, "_pendingLiteral", None) is None
    )


def idling(protocol: Any) -> bool:
    """
    Whether an instance waits for DONE.
    """
    return getattr(protocol, "parseState", None) == "idle"


def selected_mailbox(protocol: Any) -> Any:
    """
    The mailbox object that an instance has selected, or None.
    """
    return getattr(protocol, "mbox", None) if getattr(protocol, "state", None) == "select" else None


def surrender_mailbox(protocol: Any) -> Any:
    """
    Take the selected mailbox from an instance, so that nothing it tells reaches that instance any more; None when it has none.
    """
    mailbox = selected_mailbox(protocol)
    if mailbox is None:
        return None
    mailbox.removeListener(protocol)
    protocol.mbox = None
    protocol.state = "auth"
    return mailbox


def adopt_mailbox(protocol: Any, mailbox: Any) -> None:
    """
    Put an authenticated instance into the selected state on a mailbox object.
    """
    mailbox.addListener(protocol)
    protocol.mbox = mailbox
    protocol.state = "select"


def close_mailbox(mailbox: Any) -> None:
    """
    Nobody has this mailbox selected any more.
    """
    closeable = ICloseableMailboxIMAP(mailbox, None)
    if closeable is not None:
        maybeDeferred(closeable.close).addErrback(lambda failure: _log.failure("Closing a mailbox failed.", failure))


def say_bye(protocol: Any, text: bytes) -> bool:
    """
    Let an instance say BYE, if it is at a place where an untagged response may stand.

    @return: whether it did.
    """
    say = getattr(protocol, "sendUntaggedResponse", None)
    if say is None or not between_commands(protocol):
        return False
    try:
        say(b"BYE " + text)
    except Exception:
        _log.failure("The protocol failed to say BYE.")
        return False
    return True
