"""
The mail that programs carry: many messages with attachments, and some of the odd ones of L{tests.interop.programs.fixture}.

Invariants: the same octets in every run; no message is there twice; lines end with CR LF.
"""

from __future__ import annotations

import atexit
import base64
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.interop.dovecot import Dovecot
from tests.interop.programs import fixture
from tests.interop.programs.imap_words import connect
from tests.interop.programs.target import PATIENCE, Target
from tests.roaming.ground import USERS

_LARGEST_ODD = 200_000
_LONGEST_LINE = 998
"""Octets (RFC 5322 section 2.1.1).  Into longer ones fetchmail puts an octet of its own, not always the same."""


@dataclass(frozen=True)
class Load:
    """
    A mailbox.

    @ivar messages: how many.
    @ivar least: octets of an attachment, before it is encoded.
    @ivar most: likewise.
    @ivar odd: how many of the odd messages are among them.
    """

    messages: int
    least: int = 15_000
    most: int = 60_000
    odd: int = 0

    def mails(self) -> Iterator[bytes]:
        """
        The messages, in their order.
        """
        source = random.Random(11)
        odd = [item.octets for item in fixture.items() if len(item.octets) < _LARGEST_ODD]
        odd = [one for one in odd if max(map(len, one.split(b"\r\n"))) <= _LONGEST_LINE][: self.odd]
        yield from odd
        for number in range(self.messages - len(odd)):
            data = base64.encodebytes(source.randbytes(source.randint(self.least, self.most))).replace(b"\n", b"\r\n")
            yield _MAIL % (number, number, number, data)


_MAIL = (
    b"From: Ann <ann@a.example>\r\nTo: <joe@b.example>\r\nSubject: with an attachment %05d\r\n"
    b"Date: Sat, 3 Feb 2024 04:05:06 +0100\r\nMessage-ID: <load-%d@a.example>\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="=="\r\n\r\n--==\r\nContent-Type: text/plain\r\n\r\nSee there.\r\n'
    b'--==\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; filename="%d.bin"\r\n'
    b"Content-Transfer-Encoding: base64\r\n\r\n%s--==--\r\n"
)


@cache
def _place() -> Path:
    place = tempfile.TemporaryDirectory(prefix="roaming-", dir="/tmp")
    atexit.register(place.cleanup)
    return Path(place.name)


@cache
def account_with(load: Load) -> Path:
    """
    The mail folder of an account with that in its INBOX, as L{tests.roaming.ground.Ground.restore} takes it; made once in a
    process, gone with it.

    @raise AssertionError: Dovecot does not come to an end with it.
    """
    with Dovecot(users=USERS) as server:
        with connect(Target(server.host, server.imap_port, None, "ann", USERS["ann"])) as client:
            client.select()  # so that there is one, with or without messages
            for number, mail in enumerate(load.mails()):
                answer = client.append("INBOX", "(\\Seen)" if number % 3 else "", "", mail)
                assert answer[0] == "OK", answer
        until = time.monotonic() + PATIENCE
        while server.sessions("ann"):
            assert time.monotonic() < until, "Dovecot does not end a session after LOGOUT"
            time.sleep(0.01)
        return shutil.copytree(server.mail / "ann", _place() / f"account{len(list(_place().iterdir()))}")


def make_maildir(load: Load, folder: Path) -> None:
    """
    The same as a Maildir, with lines as they are in files.
    """
    for kind in ("cur", "new", "tmp"):
        (folder / kind).mkdir(parents=True)
    for number, mail in enumerate(load.mails()):
        letters = "S" if number % 3 else ""
        (folder / "cur" / f"{1700000000 + number}.{number}.client.example:2,{letters}").write_bytes(mail.replace(b"\r\n", b"\n"))
