"""
What the scenarios with real servers stand on: a server, a gateway in front of it as a process of its own, and clients.

Both are started once for each kind of server and each set of the gateway's options, and serve all tests of the process that ask
for the same, for a start costs as much as many tests.  Tests do not meet, because each takes users of its own.
"""

from __future__ import annotations

import atexit
import base64
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.client import Client
from tests.interop.cyrus import Cyrus
from tests.interop.dovecot import Dovecot
from tests.interop.gateway import GatewayProcess, upstream_of
from tests.interop.servers import RealServer, Rig

HASTY = ("--moved-deadline", "1", "--suspect-timeout", "1.5")
"""Options of a gateway that does not wait long for what is dead."""
PASSWORD = 'a "pass\\word"'
_USERS = {f"user{number:03d}": PASSWORD for number in range(60)}
_MORE: dict[object, dict[str, Any]] = {Dovecot: {"login_processes": 4}}
_rigs: dict[tuple[Any, ...], Rig] = {}
_taken: Counter[object] = Counter()
"""How many users tests have, by kind of server."""


def _stop_all() -> None:
    for rig in reversed(list(_rigs.values())):
        rig.close()


atexit.register(_stop_all)


def _standing(key: tuple[Any, ...], make: Callable[[], Rig]) -> Any:
    if key not in _rigs:
        rig = make()
        try:
            rig.start()
        except BaseException:
            rig.close()
            raise
        _rigs[key] = rig
    return _rigs[key]


def standing_server(kind: type[Dovecot] | type[Cyrus], generation: int = 0) -> RealServer:
    """
    The one of this process.

    @param generation: a higher one for a fresh server, when all users of the last are taken.
    """
    found: RealServer = _standing((kind, generation), lambda: kind(users=_USERS, **_MORE.get(kind, {})))
    return found


def standing_gateway(server: RealServer, *options: str) -> GatewayProcess:
    """
    One in front of a server, reached by TLS from both sides.
    """
    upstream = upstream_of(server.imaps_port, server.authority)
    found: GatewayProcess = _standing((server, *options), lambda: GatewayProcess(upstream, *options))
    return found


def resident(pid: int) -> int:
    """
    Octets of memory that a process has.
    """
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc", str(pid), "status").read_text("ascii"))
    assert found is not None
    return int(found[1]) * 1024


def make_mail(chance: Random, size: int) -> bytes:
    """
    A message of about so many octets, that every server takes as it is.
    """
    lines = base64.encodebytes(chance.randbytes(size * 73 // 100)).replace(b"\n", b"\r\n")
    return b"Subject: some %d octets\r\n\r\n" % size + lines


@dataclass(frozen=True)
class Row:
    """
    An IPv4 connection as the kernel has it.

    @ivar is_held: its process at this end has not closed it, though the other may have.
    @ivar unsent: octets that were not sent or not acknowledged.
    @ivar unread: octets that wait to be read.
    """

    local: int
    remote: int
    is_held: bool
    unsent: int
    unread: int


def kernel_rows() -> list[Row]:
    """
    All connections of this machine, each end for itself.
    """
    found = []
    for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]:
        words = line.split()
        local, remote = (int(words[place].partition(":")[2], 16) for place in (1, 2))
        unsent, unread = (int(count, 16) for count in words[4].split(":"))
        found.append(Row(local, remote, words[3] in ("01", "08"), unsent, unread))  # ESTABLISHED, CLOSE_WAIT
    return found


@contextmanager
def about(what: object) -> Iterator[None]:
    """
    Say of which of many cases it is that something goes wrong.
    """
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{what}: {error!r}") from error


def until(done: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """
    Wait until something is so.

    @raise AssertionError: it does not come to that in time.
    """
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise AssertionError(f"waited for {what} for {seconds} seconds")
        time.sleep(0.01)


class GroundCase(SynchronousTestCase):
    """
    Tests with one kind of server.  A class of tests names it.

    @ivar server: runs.
    @ivar gateway: runs in front of it with L{options}.
    @ivar user: no other test has it; with an empty INBOX.
    """

    options: tuple[str, ...] = ()
    kind: type[Dovecot] | type[Cyrus]

    def setUp(self) -> None:
        taken = _taken[self.kind]
        self.server = standing_server(self.kind, taken // len(_USERS))
        self.gateway = standing_gateway(self.server, *self.options)
        self.user = sorted(_USERS)[taken % len(_USERS)]
        _taken[self.kind] += 1
        self.addCleanup(self._look_into_log, len(self.gateway.log()))

    def _look_into_log(self, begin: int) -> None:
        """
        Whatever happened, the gateway took it without a traceback, and has not told a password.
        """
        log = self.gateway.log()[begin:]
        self.assertNotIn(PASSWORD, log, "the log has a password")
        self.assertNotIn("Traceback", log, log[log.find("Traceback") :][:3000])

    def upstream_ports(self) -> set[int]:
        """
        The ports of this machine from which connections to the server stand.
        """
        return {row.local for row in kernel_rows() if row.remote == self.server.imaps_port and row.is_held}

    def descriptors(self) -> int:
        """
        How many the gateway has open.
        """
        return len(os.listdir(f"/proc/{self.gateway.pid}/fd"))

    def new_client(self, user: str | None = None, **options: Any) -> Client:
        """
        A client of the gateway.
        """
        user = self.user if user is None else user
        client = Client(self.gateway.port, self.gateway.authority, user, self.server.users[user], **options)
        self.addCleanup(client.close)
        return client

    def direct(self, user: str | None = None) -> Client:
        """
        A client that is logged in at the server itself.
        """
        user = self.user if user is None else user
        client = Client(self.server.imaps_port, self.server.authority, user, self.server.users[user], client_id=None)
        self.addCleanup(client.close)
        return client.logged_in("127.0.0.1")

    def deliver(self, *mails: bytes, user: str | None = None, mailbox: bytes = b"INBOX") -> None:
        """
        Mail arrives, by another way than the gateway.
        """
        client = self.direct(user)
        for mail in mails:
            said = client.command(b"APPEND %b {%d}" % (mailbox, len(mail)), mail)
            self.assertIn(b" OK ", said)
        client.command(b"LOGOUT")
        client.close()

    def stored(self, user: str | None = None, mailbox: bytes = b"INBOX") -> list[bytes]:
        """
        The messages of a mailbox, as the server itself gives them.
        """
        client = self.direct(user)
        self.assertIn(b" OK ", client.command(b"EXAMINE " + mailbox))
        said = client.command(b"UID FETCH 1:* (BODY.PEEK[])")
        client.command(b"LOGOUT")
        client.close()
        found, place = [], 0
        while match := re.compile(rb"BODY\[\] \{(\d+)\}\r\n").search(said, place):
            place = match.end() + int(match[1])
            found.append(said[match.end() : place])
        return found

    def last_line(self, said: bytes) -> bytes:
        """
        The tagged response.
        """
        return said.splitlines()[-1].partition(b" ")[2]

    def assert_ok(self, said: bytes) -> bytes:
        """
        The answer to a command is OK.
        """
        self.assertTrue(self.last_line(said).startswith(b"OK"), said[-300:])
        return said


class OnDovecot(GroundCase):
    """
    For a class of tests to be mixed with.
    """

    kind = Dovecot


class OnCyrus(GroundCase):
    """
    For a class of tests to be mixed with.
    """

    kind = Cyrus
