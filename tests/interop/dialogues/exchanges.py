"""
Dialogues in which it matters how octets are sent, or which connection gets them.
"""

from __future__ import annotations

import re

from tests.interop import messages
from tests.interop.dialogues.registry import DATE, PASSWORD, append, bare, logged_in
from tests.interop.player import Player

BIG = 10_000_000
"""Octets of the message that is too big for every buffer on the way."""


@bare
def octet_by_octet(player: Player) -> None:
    player.dribble(f'LOGIN alice "{PASSWORD}"')
    player.dribble("SELECT INBOX")
    player.dribble("FETCH 1 (FLAGS BODY.PEEK[TEXT])")
    player.dribble("APPEND Sent " + DATE + " {11+}\r\n\r\n34\r\n\r\n890")
    player.command("LOGOUT")  # Dovecot closes at the CR, and a LF that comes later can cost its last words
    player.ended()


@logged_in
def pipelined(player: Player) -> None:
    player.pipeline("SELECT INBOX\n" + "FETCH 1:* (UID FLAGS)\nNOOP\nSTORE 1 +FLAGS (x)\nSTORE 1 -FLAGS (x)\n" * 10)
    player.pipeline("""
        STATUS <+Archive+> (MESSAGES)
        SEARCH SUBJECT <+first+>
        NOSUCH
        FETCH 999 FLAGS
        COPY 1 Archive
        SELECT Archive
        FETCH 1:* ENVELOPE
    """)


@logged_in
def cut_anywhere(player: Player) -> None:
    """
    Two commands with literals, cut in two segments at each place.
    """
    player.command("SELECT INBOX")
    for at in range(1, 70, 4):
        first, second = player.tag(), player.tag()
        octets = first + b" STATUS {7+}\r\nArchive (MESSAGES)\r\n" + second + b" SEARCH SUBJECT {5+}\r\nfirst\r\n"
        player.send(octets[:at])
        player.finish(octets[at:], second)


@logged_in
def appending(player: Player) -> None:
    for number, message in enumerate([*messages.ALL, messages.NUL, b"", b"\r\n"]):
        kind = "~" if b"\0" in message else ""
        append(player, ("Drafts", '"with space"')[number % 2], message, literal=kind + "+" * (number % 2), flags="(\\Seen)")
    player.command(f"APPEND Drafts {DATE} <<Subject: one\r\n\r\n1>> {DATE} <<Subject: two\r\n\r\n2>>")
    player.command(f"APPEND Drafts (a) {DATE} <+x: 1\r\n\r\n+> (b) {DATE} <+x: 2\r\n\r\n+>")
    player.command(f"APPEND Drafts {DATE} <<>>")
    player.command(f"APPEND Drafts {DATE} <++>")
    player.play("""
        SELECT Drafts
        FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])
        FETCH 1:* (BINARY.PEEK[1])
        SELECT "with space"
        FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])
    """)


@logged_in
def catenating(player: Player) -> None:
    player.command("SELECT INBOX")
    player.command(f'APPEND Drafts {DATE} CATENATE (TEXT <<X: 1\r\n\r\n>> URL "/INBOX/;UID=1/;SECTION=TEXT" TEXT <+end+>)')
    player.command(f'APPEND Drafts {DATE} CATENATE (URL "/INBOX/;UID=1" URL "/INBOX/;UID=2/;PARTIAL=0.20")')
    player.command(f'APPEND Drafts {DATE} CATENATE (URL "/INBOX/;UID=999")')
    player.command(f'APPEND Drafts {DATE} CATENATE (URL "/nosuch/;UID=1" TEXT <+x+>)')
    player.command('GENURLAUTH "imap://alice@localhost/INBOX/;UID=1;URLAUTH=user+alice" INTERNAL')
    made = re.search(rb"\* GENURLAUTH (\S+)\r\n", player.record[-1].answered)
    assert made is not None
    tag = player.tag()
    player.finish(tag + b' URLFETCH "' + made[1] + b'"\r\n', tag, label=b"URLFETCH url")
    tag = player.tag()
    octets = tag + b' URLFETCH ("' + made[1] + b'" BODYPARTSTRUCTURE BINARY)\r\n'
    player.finish(octets, tag, label=b"URLFETCH (url BODYPARTSTRUCTURE BINARY)")
    player.command('GENURLAUTH "imap://mallory@localhost/INBOX/;UID=1;URLAUTH=anonymous" INTERNAL')
    player.play("""
        URLFETCH "imap://alice@localhost/INBOX/;UID=1;URLAUTH=anonymous:INTERNAL:00"
        URLFETCH nonsense
        RESETKEY INBOX
        RESETKEY
        SELECT Drafts
        FETCH 1:* BODY.PEEK[]
    """)


@logged_in
def big_message(player: Player) -> None:
    append(player, "Archive", messages.big(BIG), literal="+")
    append(player, "Archive", messages.big(BIG // 10))
    player.play("""
        SELECT Archive
        FETCH 4:5 (RFC822.SIZE BODY.PEEK[])
        FETCH 4 BODY.PEEK[]<5000000.1000000>
        FETCH 1:* (UID RFC822.SIZE)
    """)


@logged_in
def compressed(player: Player) -> None:
    player.command("SELECT INBOX")
    player.compress()
    player.play("""
        FETCH 1:* (UID FLAGS BODY.PEEK[])
        COMPRESS DEFLATE
        SEARCH SUBJECT <<first>>
        STATUS <+Archive+> (MESSAGES)
        CAPABILITY
    """)
    append(player, "Archive", messages.big(300_000))
    player.pipeline("NOOP\nSELECT Archive\nFETCH 1:* BODY.PEEK[]")


@logged_in
def idling(player: Player) -> None:
    player.command("SELECT INBOX")
    other = player.another()
    other.greeting()
    other.command(f"LOGIN alice {PASSWORD}")
    tag = player.begin("IDLE")
    append(other, "INBOX", messages.PLAIN)
    player.expect("* 11 EXISTS", "* 1 RECENT")
    other.command("SELECT INBOX")
    other.command("STORE 1 +FLAGS (\\Deleted)")
    player.expect("* 1 FETCH")
    other.command("EXPUNGE")
    player.expect("* 1 EXPUNGE")
    player.finish(b"DONE\r\n", tag)
    tag = player.begin("IDLE")
    player.finish(b"done\r\n", tag)
    tag = player.begin("IDLE")
    player.finish(b"NOOP\r\n", tag)
    player.finish(b"z1 IDLE\r\nDONE\r\n", b"z1")
    other.command("LOGOUT")
    other.ended()


@logged_in
def notifying(player: Player) -> None:
    player.play("""
        NOTIFY SET STATUS (SELECTED (MessageNew MessageExpunge FlagChange)) (PERSONAL (MessageNew MessageExpunge MailboxName))
        SELECT INBOX
    """)
    other = player.another()
    other.greeting()
    other.command(f"LOGIN alice {PASSWORD}")
    append(other, "Archive", messages.PLAIN)
    player.expect("* STATUS Archive")
    append(other, "INBOX", messages.PLAIN)
    player.expect("* 11 EXISTS", "* 1 RECENT")
    player.play("""
        NOTIFY NONE
        NOTIFY SET (SELECTED (NoSuchEvent))
        NOTIFY
    """)
    other.command("LOGOUT")
    other.ended()


@logged_in
def two_clients(player: Player) -> None:
    player.command("SELECT INBOX")
    other = player.another()
    other.greeting()
    other.command(f"LOGIN alice {PASSWORD}")
    other.command("SELECT INBOX")
    other.play("""
        STORE 2 +FLAGS (\\Deleted seen-by-both)
        EXPUNGE
    """)
    player.play("""
        FETCH 1:* FLAGS
        NOOP
        FETCH 1:* (UID FLAGS)
    """)
    other.command("DELETE Archive/2019")
    player.command("STATUS Archive/2019 (MESSAGES)")
    other.command("LOGOUT")
    other.ended()
