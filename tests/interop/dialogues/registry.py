"""
Which dialogues there are, and what each of them begins with.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.interop import messages
from tests.interop.dovecot import USERS
from tests.interop.player import Player

Dialogue = Callable[[Player], None]
DIALOGUES: dict[str, Dialogue] = {}
"""By name; each is given a connection on which the greeting was read."""
DATE = '"01-Jan-2020 10:00:00 +0000"'
PASSWORD = USERS["alice"]


def append(player: Player, mailbox: str, message: bytes, *, literal: str = "", flags: str = "") -> None:
    """
    APPEND, with a fixed date.

    @param literal: C{+} for one that the server does not ask for, C{~} in front for one with NULs.
    """
    head = f"APPEND {mailbox} {flags + ' ' if flags else ''}{DATE} ".encode("latin-1")
    tag = player.tag()
    sign = b"~" if "~" in literal else b""
    plus = b"+" if "+" in literal else b""
    begin = tag + b" " + head + sign + b"{%d" % len(message) + plus + b"}\r\n"
    if plus:
        player.finish(begin + message + b"\r\n", tag)
        return
    player.raw(begin, b"+")
    player.finish(message + b"\r\n", tag)


def fill(player: Player) -> None:
    """
    The mailboxes that all dialogues begin with.
    """
    player.command(f"LOGIN alice {PASSWORD}")
    for number, message in enumerate(messages.ALL):
        append(player, "INBOX", message, flags=("", "(\\Seen)", "(\\Flagged $Label1)", "(\\Answered \\Draft)")[number % 4])
    player.play("""
        CREATE Archive
        CREATE Archive/2019
        CREATE "with space"
        CREATE "&AOQ-"
        STATUS Drafts (MESSAGES)
        STATUS Junk (MESSAGES)
        STATUS Sent (MESSAGES)
        STATUS Trash (MESSAGES)
        SUBSCRIBE INBOX
        SUBSCRIBE Archive/2019
        SELECT INBOX
        COPY 1:3 Archive
        COPY 1:2,4 Archive/2019
        CLOSE
    """)


def bare(function: Dialogue) -> Dialogue:
    """
    One that has nothing before it and nothing behind it.
    """
    DIALOGUES[function.__name__] = function
    return function


def logged_in(function: Dialogue) -> Dialogue:
    """
    One between a login and a logout.
    """

    def whole(player: Player) -> None:
        player.command(f"LOGIN alice {PASSWORD}")
        function(player)
        player.command("LOGOUT")
        player.ended()

    DIALOGUES[function.__name__] = whole
    return function


def script(name: str, text: str) -> None:
    """
    One that is a command per line, between a login and a logout.
    """

    def played(player: Player) -> None:
        player.play(text)

    played.__name__ = name
    logged_in(played)
