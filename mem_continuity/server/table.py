"""
The table of sessions: who is live, who is parked, who has ended, and the bounds on all of them.

Invariants:

- A session ID stands for one L{Served}, for one L{Tombstone}, or for nothing.
- The parked are kept in the order in which they were parked; what has to go, goes from the front.  Each eviction is logged and
  counted.
- A record outlives its session where the inner end says so (L{Table.outlive}), for the grace period, and then goes by itself.
- The sum of the octets kept for parked sessions is maintained, never computed: parking and taking up cost the same for one
  session as for ten thousand.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mem_continuity.core.policy import Policy
from mem_continuity.core.resumption import Tombstone
from mem_continuity.core.session import Session
from mem_continuity.directory.record import ClientID, Record
from mem_continuity.interfaces import IRecordDirectory
from mem_continuity.server.served import Served

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class Claim:
    """
    A RESUME that has proved itself, as a veto sees it.

    @ivar user: the avatar's name; None when the login told none.
    @ivar client_id: None when the client named none.
    @ivar old_peer: the host of the link before, as text; empty when it has none.
    @ivar new_peer: the host that asks.
    """

    session_id: bytes
    user: bytes | None
    client_id: ClientID | None
    old_peer: str
    new_peer: str


@dataclass(frozen=True, slots=True)
class _Outliving:
    """
    A record whose session is gone.

    @ivar until: in seconds of the clock.
    """

    record: Record
    authority: object
    until: float


class Failures:
    """
    Counts failed RESUMEs for each peer address, in fixed windows of time; forgets the oldest peers first.
    """

    def __init__(self, policy: Policy, clock: IReactorTime) -> None:
        self._policy = policy
        self._clock = clock
        self._peers: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def _current(self, peer: str) -> tuple[float, int]:
        began, count = self._peers.get(peer, (0.0, 0))
        now = self._clock.seconds()
        if not count or now - began >= self._policy.resume_failure_time:
            return now, 0
        return began, count

    def note(self, peer: str) -> None:
        """
        One more failure of this peer.
        """
        began, count = self._current(peer)
        self._peers[peer] = (began, count + 1)
        self._peers.move_to_end(peer)
        while len(self._peers) > self._policy.peers:
            self._peers.popitem(last=False)

    def too_many(self, peer: str) -> bool:
        """
        Whether this peer has used up its failures.
        """
        return self._current(peer)[1] >= self._policy.resume_failures


class Table:
    """
    All sessions of one factory.

    @ivar counts: how often what happened, by name: handovers, evictions, refusals.
    @ivar retained: octets kept for parked sessions.
    """

    _log = Logger()

    def __init__(self, policy: Policy, directory: IRecordDirectory, clock: IReactorTime) -> None:
        self._policy = policy
        self._directory = directory
        self._clock = clock
        self.failures = Failures(policy, clock)
        self.counts: Counter[str] = Counter()
        self.retained = 0
        self._served: dict[bytes, Served] = {}
        self._clients: dict[tuple[bytes, ClientID], dict[Served, None]] = {}
        self._users: dict[bytes, dict[Served, None]] = {}
        self._parked: OrderedDict[Served, int] = OrderedDict()
        self._outliving: OrderedDict[bytes, _Outliving] = OrderedDict()
        self._tombstones: OrderedDict[bytes, tuple[float, Tombstone]] = OrderedDict()

    # Looking up

    def __len__(self) -> int:
        return len(self._served)

    @property
    def parked(self) -> int:
        """
        How many sessions wait for their clients.
        """
        return len(self._parked)

    def all(self) -> list[Served]:
        """
        Everything that is live or parked under a session ID.
        """
        return list(self._served.values())

    def served(self, session_id: bytes) -> Served | None:
        """
        The session of this ID, live or parked.
        """
        return self._served.get(session_id)

    def known(self, session_id: bytes) -> Session | Tombstone | None:
        """
        What a RESUME is judged by.
        """
        served = self._served.get(session_id)
        if served is not None and served.conduit is not None:
            return served.conduit.session
        self._bury()
        entry = self._tombstones.get(session_id)
        return None if entry is None else entry[1]

    def siblings(self, user: bytes, client_id: ClientID, authority: object) -> list[Served]:
        """
        All sessions of one client, the oldest first.

        @param authority: L{Served.authority}; those of another are somebody else's, though the names are the same.
        """
        return [one for one in self._clients.get((user, client_id), ()) if one.authority is authority]

    def records(self, user: bytes, client_id: ClientID, authority: object) -> list[Record]:
        """
        All records of one client, wherever their sessions live, the oldest first.

        @param authority: as in L{siblings}.
        """
        self._forget_outliving()
        found = []
        for record in self._directory.find(user, client_id):
            of: Served | _Outliving | None = self._served.get(record.session_id) or self._outliving.get(record.session_id)
            if of is None or of.authority is authority:
                found.append(record)
        return found

    # Life

    def _hit(self, limit: str, text: str, served: Served | None = None) -> None:
        self.counts[f"limit_{limit}"] += 1
        session_id = None if served is None else served.session_id
        self._log.warn("Limit {limit}: {text} (session {session_id!r})", limit=limit, text=text, session_id=session_id)

    def arrived(self, served: Served) -> None:
        """
        A client that names itself has logged in.  Its siblings at other addresses have to show that they live.
        """
        self._enter(served)
        if served.record is None or served.client_id is None or served.user is None:
            return
        mine = self._clients.setdefault((served.user, served.client_id), {})
        mine[served] = None
        self._directory.put(served.record)
        while len(mine) > self._policy.records_per_client:
            oldest = min((one for one in mine if one.parked), key=lambda one: one.parked_at, default=None)
            if oldest is None:
                break
            self._hit("records_per_client", "the longest-parked of this client goes", oldest)
            oldest.end(b"EVICTED")
        while len(self._served) > self._policy.records and self._parked:
            self._evict("records")
        self.suspect_siblings(served)

    def suspect_siblings(self, served: Served) -> None:
        """
        This client has come from where C{served} is now: its links elsewhere may be dead.
        """
        if served.user is None or served.client_id is None:
            return
        for other in self.siblings(served.user, served.client_id, served.authority):
            if other is not served and other.link is not None and other.peer_host != served.peer_host:
                self.counts["suspected"] += 1
                other.link.suspect()

    def refuses(self, served: Served) -> str | None:
        """
        Why there is no room for one more session of this user, or None.  The longest-parked make room.
        """
        entered = served.session_id is not None and self._served.get(served.session_id) is served
        if len(self._served) - entered >= self._policy.sessions:
            oldest = next(iter(self._parked), None)
            if oldest is None:
                self._hit("sessions", "START is refused")
                return "too many sessions"
            self._hit("sessions", "the longest-parked goes", oldest)
            oldest.end(b"EVICTED")
        if served.user is not None:
            mine = self._users.get(served.user, {})
            if len(mine) - (served in mine) >= self._policy.sessions_per_user:
                parked = self._parked_of(served.user)
                if not parked:
                    self._hit("sessions_per_user", "START is refused")
                    return "too many sessions of this user"
                self._hit("sessions_per_user", "the longest-parked of this user goes", parked[0])
                parked[0].end(b"EVICTED")
        return None

    def started(self, served: Served) -> None:
        """
        START was granted.
        """
        self.counts["started"] += 1
        self._enter(served)

    def _enter(self, served: Served) -> None:
        if served.session_id is None:
            return
        self._served[served.session_id] = served
        if served.user is not None:
            self._users.setdefault(served.user, {})[served] = None

    def noted(self, record: Record) -> None:
        """
        A record has changed.
        """
        if record.session_id in self._served:
            self._directory.put(record)

    def park(self, served: Served) -> None:
        """
        A session has lost its link.
        """
        self.counts["parked"] += 1
        served.parked_at = self._clock.seconds()
        self._parked[served] = served.retained
        self.retained += served.retained
        self._make_room(served)

    def _make_room(self, newest: Served) -> None:
        mine = self._parked_of(newest.user)
        if len(mine) > self._policy.parked_per_user:
            self._hit("parked_per_user", "the longest-parked of this user goes", mine[0])
            mine[0].end(b"EVICTED")
        while len(self._parked) > self._policy.parked:
            self._evict("parked")
        while self.retained > self._policy.retained and self._parked:
            self._evict("retained")

    def _parked_of(self, user: bytes | None) -> list[Served]:
        found = [] if user is None else [one for one in self._users.get(user, ()) if one in self._parked]
        return sorted(found, key=lambda one: one.parked_at)

    def _evict(self, limit: str) -> None:
        oldest = next(iter(self._parked))
        self._hit(limit, "the longest-parked goes", oldest)
        oldest.end(b"EVICTED")

    def unpark(self, served: Served) -> None:
        """
        A session has a link again.
        """
        octets = self._parked.pop(served, None)
        if octets is not None:
            self.retained -= octets

    def retained_more(self, served: Served, change: int) -> None:
        """
        The inner end of a parked session has written on.
        """
        if served in self._parked:
            self._parked[served] += change
            self.retained += change
            if self.retained > self._policy.retained:
                self._clock.callLater(0, self._make_room, served)

    def grace_over(self, served: Served) -> None:
        """
        Nobody came back for this session.
        """
        self.counts["grace_over"] += 1
        served.end(b"GRACE")

    def ended(self, served: Served) -> None:
        """
        The session (not necessarily its inner protocol) is over: what is left is a tombstone.
        """
        self.unpark(served)
        if served.conduit is not None and served.session_id is not None:
            session = served.conduit.session
            self._tombstones[served.session_id] = (
                self._clock.seconds() + self._policy.tombstone_time,
                Tombstone(session.terms, session.receiver.received),
            )
            self._bury()
        self.gone(served)

    def outlive(self, record: Record, authority: object) -> None:
        """
        A session is gone, but its client may come back for the state that its record tells: keep that for the grace period.

        @param authority: L{Served.authority} of the session.
        """
        self._outliving[record.session_id] = _Outliving(record, authority, self._clock.seconds() + self._policy.grace)
        self._directory.put(record)
        mine = [one for one in self._directory.find(record.user, record.client_id) if one.session_id in self._outliving]
        if len(mine) > self._policy.records_per_client:
            self._hit("records_per_client", "the oldest record without a session goes")
            self.forget(mine[0].session_id)
        if len(self._outliving) > self._policy.records:
            self._hit("records", "the oldest record without a session goes")
            self.forget(next(iter(self._outliving)))
        self._forget_outliving()

    def oldest_outliving(self, user: bytes, client_id: ClientID, authority: object) -> Record | None:
        """
        The record of a client that has been without its session for longest.
        """
        for record in self.records(user, client_id, authority):
            if record.session_id in self._outliving:
                return record
        return None

    def forget(self, session_id: bytes) -> None:
        """
        A record that outlived its session is not needed any more; nothing happens for any other.
        """
        if self._outliving.pop(session_id, None) is not None:
            self._directory.remove(session_id)

    def _forget_outliving(self) -> None:
        now = self._clock.seconds()
        while self._outliving and (first := next(iter(self._outliving.values()))).until <= now:
            self.forget(first.record.session_id)

    def _bury(self) -> None:
        now = self._clock.seconds()
        while self._tombstones:
            first = next(iter(self._tombstones))
            if len(self._tombstones) <= self._policy.tombstones and self._tombstones[first][0] > now:
                return
            del self._tombstones[first]

    def gone(self, served: Served) -> None:
        """
        Nothing is left of this session but perhaps its tombstone.
        """
        self.unpark(served)
        if served.session_id is None or self._served.get(served.session_id) is not served:
            return
        del self._served[served.session_id]
        if served.user is not None:
            self._leave(self._users, served.user, served)
            if served.client_id is not None:
                self._leave(self._clients, (served.user, served.client_id), served)
        self._directory.remove(served.session_id)

    @staticmethod
    def _leave(groups: dict[_Key, dict[Served, None]], key: _Key, served: Served) -> None:
        group = groups.get(key)
        if group is not None:
            group.pop(served, None)
            if not group:
                del groups[key]
