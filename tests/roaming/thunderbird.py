"""
Thunderbird on its way: it fetches a whole account for offline use, sits idle, and brings large messages up, while the handset
goes from network to network.

Invariants: the account and the work are the same for every number of handovers, so what comes of it can be compared; a part of
the mail arrives in the very moments in which the handset has no network, the rest of it after the journey; Thunderbird is told
nothing of networks, and asked for new mail by nobody, as long as it notices by itself.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from tests.interop.dovecot import Dovecot
from tests.interop.programs import fixture
from tests.interop.programs.imap_words import connect, quoted
from tests.interop.programs.result import content_digest, contents
from tests.interop.programs.target import Target
from tests.interop.programs.thunderbird import Thunderbird
from tests.interop.programs.xvfb import Xvfb
from tests.roaming.cases import Case, Outcome, said_by
from tests.roaming.ground import USERS, Ground, Way
from tests.roaming.journey import Journey
from tests.roaming.meter import Meter

USER = "joe"
PAPERS = "Papers"
UP = "Sent"
"""Where it brings messages up to."""

_DATE = '"03-Feb-2024 04:05:06 +0100"'
_BEGIN = 100_000
"""Octets of the server after which the journey begins."""
_PATIENCE = 150.0
"""Seconds for an operation that is cut, where Thunderbird has to find out by itself; it gives a server 100."""
_NOTICING = 60.0
"""Seconds for new mail to be noticed, with all networks well."""
_ENDING = 60.0
"""Seconds for sessions of an earlier run to end."""
_JOURNEY = 300.0
"""Seconds for the longest one."""
_ENOUGH = 420.0
"""Seconds for a whole run: what is not done then is left undone."""
_RETURNING = 15.0
"""Seconds for the agent to bring back what is away at the end."""
_TRIES = 3
_LOOK = 0.05


def _attachment(source: random.Random, name: str, size: int) -> bytes:
    lines = base64.encodebytes(source.randbytes(size * 3 // 4)).replace(b"\n", b"\r\n")
    return (
        b"From: Ann <ann@a.example>\r\nTo: Joe <joe@b.example>\r\nSubject: %(name)b\r\nMessage-ID: <%(name)b@a.example>\r\n"
        b"Date: Sat, 3 Feb 2024 04:05:06 +0100\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=part\r\n\r\n"
        b"--part\r\nContent-Type: text/plain\r\n\r\nHere it is.\r\n--part\r\nContent-Type: application/octet-stream\r\n"
        b"Content-Disposition: attachment; filename=%(name)b.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        b"%(lines)b--part--\r\n" % {b"name": name.encode("ascii"), b"lines": lines}
    )


@dataclass(frozen=True)
class Work:
    """
    What there is to do.

    @ivar odd: with the messages of L{fixture}: 150, many of them odd, one of 10 MB.
    @ivar papers: sizes of messages with an attachment, in octets.
    @ivar late: sizes of messages that arrive on the way.
    @ivar uploads: sizes of messages that are brought up.
    """

    odd: bool
    papers: tuple[int, ...]
    late: tuple[int, ...]
    uploads: tuple[int, ...]

    def messages(self, kind: str) -> list[bytes]:
        """
        @param kind: C{papers}, C{late} or C{uploads}.
        """
        sizes: tuple[int, ...] = getattr(self, kind)
        source = random.Random(kind)
        return [_attachment(source, f"{kind}-{number:03d}", size) for number, size in enumerate(sizes)]

    def expected(self) -> dict[str, Counter[str]]:
        """
        All that is there at the end, as L{contents} gives it.
        """
        found = {name: Counter(messages) for name, messages in fixture.expected().items()} if self.odd else {}
        for name, kind in ((PAPERS, "papers"), ("INBOX", "late"), (UP, "uploads")):
            found.setdefault(name, Counter()).update(map(content_digest, self.messages(kind)))
        return found


LONG = Work(True, (200_000,) * 110 + (8_000_000,) * 2, (30_000,) * 20, (6_000_000,) * 5)
SHORT = Work(False, (40_000,) * 40 + (3_000_000,), (20_000,) * 2, (1_500_000,))


@cache
def _template(work: Work) -> Path:
    """
    The mail folder of the account, as L{Ground.restore} takes it; made once in a process, gone with it.
    """
    place = tempfile.TemporaryDirectory(prefix="thunderbird-")
    atexit.register(place.cleanup)
    with Dovecot(users=USERS) as server:
        target = Target("localhost", server.imaps_port, server.authority, USER, USERS[USER])
        if work.odd:
            fixture.fill(target)
        with connect(target) as client:
            client.create(quoted(PAPERS))
            for octets in work.messages("papers"):
                answer, said = client.append(quoted(PAPERS), "", _DATE, octets)
                assert answer == "OK", said
        server.wait_for_sessions(0, USER)
        return shutil.copytree(server.mail / USER, Path(place.name, "mail"))


class _Arrivals:
    """
    Mail that arrives, one at a time or what is left.  Two threads use it, one after the other.
    """

    def __init__(self, ground: Ground, mails: Sequence[bytes]) -> None:
        self._ground = ground
        self._left = list(mails)
        self._lock = threading.Lock()

    def one(self) -> None:
        self._deliver(1)

    def rest(self) -> None:
        self._deliver(len(self._left))

    def _deliver(self, count: int) -> None:
        with self._lock:
            mails, self._left = self._left[:count], self._left[count:]
            if mails:
                self._ground.deliver(USER, *mails)


class _Patience:
    """
    The longest time in which nothing moved between the program and its server although the program had something to do.

    @ivar longest: seconds.
    """

    def __init__(self, meter: Meter) -> None:
        self.longest = 0.0
        self._meter = meter
        self._octets = meter.octets
        self._since = time.monotonic()

    def look(self, busy: bool) -> None:
        """
        To be called often.
        """
        now, octets = time.monotonic(), self._meter.octets
        if busy:
            self.longest = max(self.longest, now - self._since)
        if not busy or octets != self._octets:
            self._octets, self._since = octets, now


class _GivenUp(Exception):
    """
    It hangs for good, as far as we know: its user would start it anew.
    """


class _Ride:
    """
    One run.

    @ivar errors: what failed, or had to be repeated.
    """

    def __init__(self, program: Thunderbird, meter: Meter, folder: Path, due: Sequence[Callable[[], bool]]) -> None:
        """
        @param due: for each message that is brought up, whether it is time.
        """
        self.errors: list[str] = []
        self.patience = _Patience(meter)
        self._program = program
        self._folder = folder
        self._due = list(due)
        self._uploads: list[int] = []
        self._enough = time.monotonic() + _ENOUGH

    def _begin_upload(self) -> None:
        if not self._due or UP not in self._program.call("folders") or not self._due[0]():
            return
        del self._due[0]
        self._uploads.append(self._program.call("upload", str(self._folder / f"{len(self._uploads)}.eml"), UP))

    def until(self, so: Callable[[], object], seconds: float, busy: bool) -> bool:
        """
        Wait, and begin what there is to begin.

        @param busy: meanwhile the program has something to do.
        @return: whether it came to that in time.
        """
        until = min(time.monotonic() + seconds, self._enough)
        while not so():
            self._begin_upload()
            self.patience.look(busy or not self._ended(self._uploads))
            if time.monotonic() > until:
                return False
            time.sleep(_LOOK)
        return True

    def _ended(self, jobs: Sequence[int]) -> bool:
        return not jobs or all(one.done for one in self._program.jobs(jobs))

    def _note(self, jobs: Sequence[int]) -> None:
        """
        Note those that failed, or do not end.

        @raise _GivenUp: all has taken too long.
        """
        found = [one for one in self._program.jobs(jobs) if not one.done or one.status]
        self.errors += [f"{one.what}: " + (f"failed ({one.status:#x})" if one.done else "no end") for one in found]
        if time.monotonic() > self._enough:
            raise _GivenUp

    def discover(self, expected: set[str]) -> None:
        """
        Learn which folders there are.

        @raise _GivenUp: it has taken too long.
        """
        for _ in range(_TRIES):
            self._program.call("discover")
            if self.until(lambda: expected <= set(self._program.call("folders")), _PATIENCE, True):
                return
            self.errors.append("the folders do not come")
        raise _GivenUp

    def download(self, wanted: Mapping[str, int]) -> None:
        """
        Fetch all messages of folders; again, where they do not come.

        @param wanted: how many have to be there.
        @raise _GivenUp: it has taken too long.
        """

        def lacking() -> list[str]:
            whole = self._program.call("whole")
            return [name for name, count in wanted.items() if whole.get(name, 0) < count]

        for _ in range(_TRIES):
            if not (names := lacking()):
                return
            jobs = [self._program.call("download", name) for name in names]
            # The messages count: an operation of which Thunderbird forgets to tell the end is none that failed.
            if self.until(lambda: not lacking(), _PATIENCE, True):
                return
            self.errors.append(f"not all of {', '.join(lacking())} is fetched within {_PATIENCE:g} seconds")
            self._note(jobs)

    def upload(self) -> None:
        """
        Bring up what has not been brought up so far.  Nothing is tried again: it may be there.

        @raise _GivenUp: it has taken too long.
        """
        self.until(lambda: not self._due, _PATIENCE, False)
        self.until(lambda: self._ended(self._uploads), _PATIENCE, True)
        self._note(self._uploads)

    def notice(self, count: int) -> None:
        """
        Wait for new mail in INBOX; it has to be asked for, when it is not noticed.

        @raise _GivenUp: it has taken too long.
        """
        for _ in range(_TRIES):
            if self.until(lambda: self.noticed().total() >= count, _NOTICING, True):
                return
            self.errors.append(f"new mail is not noticed within {_NOTICING:g} seconds, with a good network")
            self._note(())
            self._program.call("update", "INBOX")

    def noticed(self) -> Counter[str]:
        """
        Which messages came to INBOX on the way, and how often.
        """
        added = self._program.seen().added
        return Counter(identity for name, identity in added if name == "INBOX" and identity.startswith("late-"))


class ThunderbirdCase(Case):
    """
    @param work: what it does.
    """

    name = "thunderbird"

    def __init__(self, work: Work = LONG) -> None:
        self._work = work

    def version(self) -> str:
        return said_by("thunderbird", "--version").rpartition(" ")[2]

    def run(self, ground: Ground, way: Way, folder: Path, handovers: int) -> Outcome:
        work, late, uploads = self._work, self._work.messages("late"), self._work.messages("uploads")
        for number, octets in enumerate(uploads):
            (folder / f"{number}.eml").write_bytes(octets)
        ground.dovecot.wait_for_sessions(0, USER, _ENDING)
        ground.restore(USER, _template(work))
        totals = {name: messages.total() for name, messages in work.expected().items()}
        arrivals = _Arrivals(ground, late)
        begun = time.monotonic()
        with Xvfb() as screen, Meter(ground, way) as meter:
            journey = Journey(ground, handovers, between=arrivals.one, begin=lambda: meter.octets[1] > _BEGIN)

            def is_due(number: int) -> bool:
                # Each has its share of the handovers, and begins when the network has just gone.
                return len(journey.moments) > number * handovers // len(uploads) or journey.wait(0.0)

            with Thunderbird(
                ground.target(USER, way),
                folder / "thunderbird",
                screen.display,
                within=ground.within,
                inside=lambda: ground.lab.inside(ground.lab.handset),
            ) as program:
                ride = _Ride(program, meter, folder, [partial(is_due, number) for number in range(len(uploads))])
                with contextlib.suppress(_GivenUp), journey:
                    ride.discover(set(totals))
                    # Thunderbird does one thing at a time in a folder, and complains otherwise: not in the one for uploads.
                    ride.download({**totals, "INBOX": totals["INBOX"] - len(late), UP: 0})
                    ride.until(lambda: journey.wait(0.0), _JOURNEY, False)
                    arrivals.rest()
                    ride.upload()
                    ride.notice(len(late))
                    ride.download(totals)
                brought, noticed = program.messages(program.call("folders")), ride.noticed()
                errors = [*ride.errors, *dict.fromkeys(program.seen().told)]
                if way is Way.AGENT and not ride.until(lambda: not _away(ground), _RETURNING, False):
                    errors += _away(ground)
            seconds = time.monotonic() - begun
        result = {"brought": plain(contents(brought)), "left": plain(contents(ground.look(USER))), "noticed": dict(noticed)}
        return Outcome(result, errors, ride.patience.longest, meter.connections, meter.lost, seconds, journey.done)

    def describe(self, result: Any) -> str:
        brought = sum(sum(one.values()) for one in result["brought"].values())
        noticed, stored = sum(result["noticed"].values()), sum(result["left"].get(UP, {}).values())
        return f"{brought} messages brought, {noticed} noticed, {stored} stored"


def cases() -> list[Case]:
    return [ThunderbirdCase()]


def short_cases() -> list[Case]:
    return [ThunderbirdCase(SHORT)]


def plain(found: Mapping[str, Counter[str]]) -> dict[str, dict[str, int]]:
    """
    As an outcome has it.
    """
    return {name: dict(sorted(messages.items())) for name, messages in sorted(found.items()) if messages}


def _away(ground: Ground) -> list[str]:
    """
    The connections that the agent has not brought back.
    """
    connections = [one for account in ground.agent_status()["accounts"] for one in account["connections"]]
    return [f"connection {one['number']} is {one['phase']}" for one in connections if one["phase"] != "live"]
