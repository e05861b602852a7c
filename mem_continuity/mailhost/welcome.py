"""
The first mail of a new mailhost: what this is and how to connect.
"""

from __future__ import annotations

from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate

from mem_continuity.mailhost.maildir import INBOX, Delivery
from mem_continuity.mailhost.store import Store


def welcome_message(user: str, where: str, now: float) -> bytes:
    """
    The mail's octets.

    @param user: who it is for.
    @param where: how to connect: lines of text.
    @param now: seconds since the epoch.
    """
    message = EmailMessage(SMTP)
    message["From"] = "mem-continuity <postmaster@localhost>"
    message["To"] = f"{user}@localhost"
    message["Subject"] = "Welcome: this mailbox outlives its connections"
    message["Date"] = formatdate(now)
    message["Message-ID"] = "<welcome@mem-continuity.localhost>"
    message.set_content(
        "This mailbox is a Maildir folder, served by mem-continuity.\n"
        "\n"
        "A mail program that names itself (CLIENTID) gets its live account back after its\n"
        "network changed; one that speaks XCONTINUITY goes on at the very octet where\n"
        "it was interrupted.\n"
        "\n"
        f"{where}\n"
    )
    return message.as_bytes()


def deliver_welcome(store: Store, octets: bytes) -> None:
    """
    Put it into the inbox of a user whose Maildir was just made.

    @raise OSError: it cannot be stored.
    """
    delivery = Delivery(store.path)
    try:
        delivery.write(octets)
        delivery.sync()
        delivery.commit(store.path, (), None)
    finally:
        delivery.discard()
    assert store.has(INBOX)
