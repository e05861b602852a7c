"""
The other side of the ground: somebody at home, whose network is never disturbed, who keeps an account.
"""

from __future__ import annotations

import contextlib
import imaplib
import re
from collections.abc import Iterator

from tests.interop.programs.imap_words import connect
from tests.interop.programs.target import Target
from tests.roaming.ground import Ground

_FETCHED = re.compile(rb"\d+ \(UID (\d+) FLAGS \(([^)]*)\)")


@contextlib.contextmanager
def at_home(ground: Ground, user: str) -> Iterator[imaplib.IMAP4]:
    """
    A connection to Dovecot in which INBOX is selected.
    """
    # This process has not the names of the namespace; TLS would need them.
    with ground.lab.inside(ground.lab.server):
        client = connect(Target(ground.lab.server_address, ground.dovecot.imap_port, None, user, ground.users[user]))
    with client:
        client.select("INBOX")
        yield client


def clear(ground: Ground, user: str) -> None:
    """
    Leave nothing in an account but an empty INBOX, and empty Drafts.
    """
    with at_home(ground, user) as client:
        client.uid("STORE", "1:*", "+FLAGS.SILENT", "(\\Deleted)")
        client.expunge()
        client.delete("Drafts")
        client.create("Drafts")


def list_inbox(ground: Ground, user: str) -> list[tuple[int, tuple[str, ...]]]:
    """
    UIDs and flags, without C{\\Recent}, in the order of the messages.
    """
    with at_home(ground, user) as client:
        found = []
        for line in client.uid("FETCH", "1:*", "(UID FLAGS)")[1]:
            if isinstance(line, bytes) and (match := _FETCHED.match(line)):
                flags = sorted(flag for flag in match[2].decode("ascii").split() if flag != "\\Recent")
                found.append((int(match[1]), tuple(flags)))
        return found


def fetch_all(ground: Ground, user: str, mailbox: str) -> list[bytes]:
    """
    The messages of a mailbox, octet by octet.
    """
    with at_home(ground, user) as client:
        client.select(mailbox, readonly=True)
        return [entry[1] for entry in client.uid("FETCH", "1:*", "(BODY.PEEK[])")[1] if isinstance(entry, tuple)]
