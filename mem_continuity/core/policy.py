"""
Every limit of the project, by name.

A limit is a field of one of the frozen classes below, and nowhere else: L{Policy} for whoever serves, L{RoamingPolicy} for
whoever connects, L{StreamPolicy} for what both have.  Each field carries its unit, the least and the most that make sense and its
reason as metadata, so that C{--help}, the documentation and the logs say the same thing.

Invariants: values are checked once, when the object is made (L{PolicyError}); a policy never changes afterwards, so every
session that was begun under one keeps the terms it was promised.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

KIB = 1024
MIB = 1024 * KIB
FRAME_LEAST = 256 * KIB
"""Octets: what everybody takes as a frame's payload, so nobody sends more."""
FRAME_MOST = 2**24 - 1
"""Octets: what the three octets of a frame's length can say."""

_Number = TypeVar("_Number", int, float)


class PolicyError(ValueError):
    """
    A limit was given a value that cannot work; the text names the limit, its unit and the least value.
    """


@dataclass(frozen=True, slots=True)
class Limit:
    """
    What there is to say about one limit: made from a policy class by L{limits_of}, read by option parsers and documents.
    """

    name: str
    default: int | float
    unit: str
    least: int | float
    most: int | float
    reason: str

    @property
    def bounds(self) -> str:
        """
        In words, what values are taken.
        """
        return f"at least {self.least}" if self.most == sys.maxsize else f"{self.least} to {self.most}"


def _limit(default: _Number, unit: str, reason: str, least: _Number | None = None, most: _Number | None = None) -> _Number:
    least = type(default)(1) if least is None else least
    metadata = {"unit": unit, "reason": reason, "least": least, "most": sys.maxsize if most is None else most}
    value: _Number = field(default=default, metadata=metadata)
    return value


def limits_of(policy: type[StreamPolicy]) -> Iterator[Limit]:
    """
    The limits of a policy class in the order of their definition.
    """
    for one in fields(policy):
        default: Any = one.default
        said = one.metadata
        yield Limit(one.name, default, said["unit"], said["least"], said["most"], said["reason"])


def _check(policy: StreamPolicy) -> None:
    for limit in limits_of(type(policy)):
        value = getattr(policy, limit.name)
        whole = isinstance(limit.default, int)
        right = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not right or not limit.least <= value <= limit.most:
            kind = "a whole number" if whole else "a number"
            raise PolicyError(f"{limit.name} is {value!r}, but it must be {kind} of {limit.unit}, {limit.bounds}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPolicy:
    """
    The limits of a session's streams and of the links below, the same on both sides.
    """

    ack_every: int = _limit(64 * KIB, "octets", "an acknowledgement at the latest after so much data", 1, 64 * KIB)
    ack_delay: float = _limit(1.0, "seconds", "an acknowledgement at the latest so long after data", 0.0, 1.0)
    frame_payload: int = _limit(64 * KIB - 4, "octets", "of a DATA frame of ours; with its header 4 TLS records", 1, FRAME_LEAST)
    frame_limit: int = _limit(256 * KIB, "octets", "a longer frame of the peer ends the link", FRAME_LEAST, FRAME_MOST)
    first_data: int = _limit(KIB, "octets", "the first DATA after a RESUME; in one segment with the answer", 1, FRAME_LEAST)
    overrun: int = _limit(
        32 * MIB, "octets", "queued beyond the window by an inner end that ignores pauseProducing; then the session ends"
    )
    linger: float = _limit(60.0, "seconds", "what a closed inner end wrote last waits so long for a lost peer", 0.0)
    notsent_lowat: int = _limit(128 * KIB, "octets", "TCP_NOTSENT_LOWAT: keeps the tail near bandwidth x delay")
    drain: float = _limit(5.0, "seconds", "in a planned move, for what is still on the old link; then it is sent again", 0.0)

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy(StreamPolicy):
    """
    The limits of a serving side: of the factory that wraps a protocol factory, its links, its sessions and their table.
    """

    # Sessions and their streams
    grace: float = _limit(1500.0, "seconds", "a parked session waits this long; under IMAP's autologout of 30 minutes", 0.0, 1e8)
    window: int = _limit(MIB, "octets", "kept unacknowledged per direction; bounds a session's memory", 4 * KIB)
    tombstone_time: float = _limit(86400.0, "seconds", "an ended session can still be told from an unknown one", 0.0)
    tombstones: int = _limit(20000, "entries", "ended sessions remembered; the oldest is forgotten first", 0)

    # Links
    moved_deadline: float = _limit(2.0, "seconds", "a displaced link that does not drain is aborted after this", 0.0)
    suspect_idle: int = _limit(2, "seconds", "keepalive idle time of a suspect sibling link")
    suspect_interval: int = _limit(1, "seconds", "keepalive interval of a suspect sibling link")
    suspect_probes: int = _limit(3, "probes", "unanswered keepalives that retire a suspect sibling link")
    suspect_timeout: float = _limit(5.0, "seconds", "TCP_USER_TIMEOUT and PING deadline of a suspect sibling link", 0.1)
    links_per_address: int = _limit(5000, "connections", "of one address at a time; all behind one NAT, or a balancer, share it")
    silent_link: float = _limit(1200.0, "seconds", "nothing has come in on a framed link for so long: it is sent one PING", 1.0)
    silent_answer: float = _limit(60.0, "seconds", "a silent link without an answer by then is dropped, its session parked", 0.1)

    # The preamble: what is read before anybody is known
    preamble_line: int = _limit(16 * KIB, "octets", "the longest command line; as Twisted's LineReceiver has it", 64)
    preamble_literal: int = _limit(16 * KIB, "octets", "the longest literal of a command of ours, as RESUME has it", 0)
    preamble_buffer: int = _limit(64 * KIB, "octets", "pipelined commands that wait; then the link is not read")
    preamble_time: float = _limit(120.0, "seconds", "a link still in the preamble, neither logged in nor resumed, is closed", 0.1)
    outstanding: int = _limit(1000, "commands", "in flight behind the login; beyond, a record no longer knows the mailbox")
    client_id_value: int = _limit(256, "octets", "the longest client ID value taken")

    # The table
    sessions: int = _limit(20000, "sessions", "live and parked in this process; START is refused beyond")
    sessions_per_user: int = _limit(64, "sessions", "live and parked of one user; the longest-parked goes first")
    parked: int = _limit(10000, "sessions", "parked in this process; the longest-parked goes first", 0)
    parked_per_user: int = _limit(16, "sessions", "parked of one user; the longest-parked goes first", 0)
    retained: int = _limit(1024 * MIB, "octets", "unacknowledged octets of all parked sessions; the longest-parked goes first")
    records_per_client: int = _limit(16, "records", "of one client ID; a mail program opens about five links")
    records: int = _limit(40000, "records", "of all clients; the oldest that has no link goes first")
    resume_failures: int = _limit(20, "failures", "of RESUME from one address in resume_failure_time; more are told RETRY")
    resume_failure_time: float = _limit(60.0, "seconds", "the window in which failed RESUMEs of one peer are counted")
    peers: int = _limit(10000, "addresses", "peers whose failures are counted; the oldest is forgotten first")

    # The gateway
    upstream_connect: float = _limit(10.0, "seconds", "for a connection to an upstream, its TLS included unless by STARTTLS", 0.1)
    upstream_greeting: float = _limit(30.0, "seconds", "for an upstream's greeting and what we say before the client does", 0.1)
    upstream_answer: float = _limit(90.0, "seconds", "for an upstream's answer to a login; servers delay a NO", 0.1)
    upstream_connections: int = _limit(20000, "connections", "to all upstreams; the old and the new one of a client count as one")
    upstream_spare: int = _limit(1000, "connections", "beyond, for clients that come back, until the old ones are gone", 0)
    login_attempts: int = _limit(5, "attempts", "logins that failed on one link to the gateway; then it is closed")
    graft_snapshot: int = _limit(16 * MIB, "octets", "what an upstream may say to the SELECT and the search of a GRAFT")

    # TLS on the descriptor
    handshake_time: float = _limit(30.0, "seconds", "for a TLS handshake, with a PROXY header in front of it", 0.1)
    close_time: float = _limit(30.0, "seconds", "a peer that does not answer our close_notify by then is cut off", 0.1)

    # The embedded mailhost
    message_size: int = _limit(64 * MIB, "octets", "the longest message that APPEND takes; a longer one is refused")
    login_failures: int = _limit(5, "failures", "of logins from one address in the time below; then each attempt waits", 1)
    login_failure_time: float = _limit(60.0, "seconds", "the window in which failed logins of one address are counted")
    login_wait: float = _limit(8.0, "seconds", "the longest wait of an attempt to log in; it doubles up to here", 0.0)
    logins_per_address: int = _limit(4, "logins", "of one address are looked at at the same time; its others wait")
    login_threads: int = _limit(2, "threads", "that hash passwords, apart from those that wait for the disk")
    login_queue: int = _limit(1000, "logins", "that wait for such a thread; one more is refused")
    folder_interval: float = _limit(5.0, "seconds", "between two looks for mail that was dropped into an open folder", 0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoamingPolicy(StreamPolicy):
    """
    The limits of a roaming side: of the client endpoint and its links.  Window and grace are the server's to say.
    """

    linger: float = _limit(30.0, "seconds", "octets written before loseConnection wait so long for a new link", 0.0)
    resume_literal: int = _limit(8 * KIB, "octets", "the most that travels in the first flight together with RESUME", 0)
    resume_repeat: int = _limit(
        KIB, "octets", "sent before and not acknowledged: up to this it travels with RESUME again, more waits for the count", 0
    )
    preamble_line: int = _limit(16 * KIB, "octets", "the longest line of a server before the layer starts", 64)
    preamble_buffer: int = _limit(64 * KIB, "octets", "written while the layer is being started; then a pause")
    connect_timeout: float = _limit(10.0, "seconds", "for TCP and TLS on one path", 0.1)
    answer_timeout: float = _limit(10.0, "seconds", "for the answer to RESUME on a link that stands", 0.1)
    probe_timeout: float = _limit(3.0, "seconds", "no sign of life for so long, though one is due: the link is dead", 0.05)
    probe_quiet: float = _limit(0.2, "seconds", "after traffic, so much silence: one PING asks for a sign of life", 0.05)
    probe_doubt: float = _limit(0.47, "seconds", "no sign of life for so long, though one is due: another link is sought", 0.05)
    probe_idle: float = _limit(240.0, "seconds", "an idle link is asked so often whether it lives", 1.0)
    answer_doubt: float = _limit(2.0, "seconds", "no answer to RESUME on a fresh link by then: another is sought as well", 0.05)
    drain_quiet: float = _limit(0.5, "seconds", "in a planned move: an old link that brings nothing is given up", 0.01)
    path_stagger: float = _limit(0.25, "seconds", "head start of each better path over the next one", 0.0)
    give_up: float = _limit(86400.0, "seconds", "without any answer from the server; then the session is given up", 1.0)
    backoff_first: float = _limit(0.2, "seconds", "before the second try of a round over all paths", 0.0)
    backoff_most: float = _limit(30.0, "seconds", "the longest pause between two tries", 0.0)
    backoff_factor: float = _limit(1.6, "times", "how much longer each pause is", 1.0)
    backoff_jitter: float = _limit(0.3, "parts of the pause", "so that many clients do not come back in one instant", 0.0)
    prepared_refresh: float = _limit(45.0, "seconds", "a link in reserve is made anew; servers close idle ones after 60", 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPolicy(RoamingPolicy):
    """
    The limits of the agent: of its roaming connections, and of what it does for mail programs.
    """

    # Mail programs
    keep_warm: float = _limit(10.0, "seconds", "of silence while away; then * OK to the program, again and again; 0: never", 0.0)
    keep_warm_idle: float = _limit(120.0, "seconds", "the same to a program in IDLE, or one that waits for nothing", 0.0)
    network_wait: float = _limit(10.0, "seconds", "a program that connects while there is no network is held so long", 0.0)
    farewell: float = _limit(2.0, "seconds", "for the server to learn that the agent stops", 0.0)
    programs: int = _limit(200, "connections", "of mail programs to one account; each is a connection to its server")
    greeting_time: float = _limit(20.0, "seconds", "for the server's greeting, once it is connected to", 0.1)
    login_answer: float = _limit(90.0, "seconds", "without a word of the server that owes one before login; they delay a NO", 0.1)
    login_idle: float = _limit(300.0, "seconds", "before login a program says nothing; longer than servers wait, who decide", 0.1)

    # The name of the server
    name_patience: float = _limit(0.25, "seconds", "for a name server; then the addresses are used that the name had before", 0.0)
    name_fresh: float = _limit(3600.0, "seconds", "the addresses of a name that were found are used without waiting", 0.0)
    name_lookups: int = _limit(2, "look-ups", "of one name that may be under way; each has a thread while it hangs")

    # Networks
    network_settle: float = _limit(0.15, "seconds", "from the first sign of another network to telling; they come in bursts", 0.0)
    network_loss: float = _limit(0.0, "seconds", "from the first sign of a loss to telling", 0.0)
    network_look: float = _limit(5.0, "seconds", "for a look at all networks; then it is begun anew, on a new socket", 0.1)
    network_again: float = _limit(10.0, "seconds", "after a move that failed, until the next try; then twice as long", 0.1)
    network_return: float = _limit(300.0, "seconds", "a session on another network than the best is moved back so often", 0.0)
    network_poll: float = _limit(3.0, "seconds", "between two looks where the system does not tell of changes by itself", 0.1)
    network_reads: int = _limit(64, "datagrams", "of changes that are read before others have their turn")
    network_devices: int = _limit(1024, "devices", "that are known; further ones are left out")
    network_addresses: int = _limit(32, "addresses", "of one device that are known; further ones are left out")
    network_routes: int = _limit(1024, "routes", "towards the server that are known; further ones are left out")
    sleep_look: float = _limit(2.0, "seconds", "between two looks at the clocks for a suspend that nothing else tells of", 0.1)
    sleep_least: float = _limit(1.0, "seconds", "slept at least so long: every connection is in doubt", 0.1)
    sleep_stopped: float = _limit(10.0, "seconds", "a timer so late means that the process was stopped, which is the same", 1.0)
