"""
Two real sessions, and between them a network that does what it likes.

The network moves octets one way or the other, as many as it is told; it stalls, dies, keeps octets and lets them come
late.
What belongs to the Twisted side is done here as briefly as can be, and these are the rules that it has to keep:

- The server feeds a session from its current link alone (the fence), and detaches the old link before it grants.
- The client feeds its session from its current link alone.  While it waits for the answer to a RESUME it should not read
  the old link: what it named as received must still be true when the answer comes, or the try is lost
  (L{World.reads_on} does it nevertheless).
- With DRAIN both sides go on with the old link until they know of the new one, end it with MOVED there, and read it up to the
  other's MOVED before they take anything from the new link.  A former link that is lost before takes the new one with it.
- Only the answer to the client's latest try counts.
- A L{LinkError} ends the link, and the session goes on.

Every rule that holds at all times is checked by L{World.check}, or on the way where it can only be seen there.
"""

from __future__ import annotations

from mem_continuity.core.frames import FrameType, encode
from mem_continuity.core.handshake import (
    Binding,
    Refusal,
    Refused,
    Resumed,
    ResumeRequest,
    Terms,
    format_refused,
    format_resume,
    format_resumed,
    parse_answer,
    parse_resume,
)
from mem_continuity.core.policy import Policy, RoamingPolicy
from mem_continuity.core.resumption import Attempt, ResumeFailed, drains, grant, judge
from mem_continuity.core.session import LinkError, Session
from mem_continuity.core.states import Answered, Delivered, GraceOver, Moved, PeerEnded, ProbeFailed, State
from tests.core.network import Link, Phase, Side
from tests.core.support import KEY, PATTERNS, SESSION_ID, held, move_up, snapshot

EVERYTHING = 2**31
GRACE = 2**30
"""Seconds; nothing runs out unless a test wants it."""


class World:
    """
    The two sides, all links there ever were, and the time.
    """

    def __init__(
        self,
        window: int = 4096,
        base: int = 0,
        client_policy: RoamingPolicy | None = None,
        server_policy: Policy | None = None,
        binding: Binding = Binding.TLS_EXPORTER,
    ) -> None:
        self.now = 1000.0
        self.client_policy = client_policy or RoamingPolicy(frame_payload=1500)
        self.server_policy = server_policy or Policy(window=window, frame_payload=1500)
        terms = Terms(SESSION_ID, KEY, GRACE, window, binding)
        first = Link(b"exported of link 0", {"client": Phase.FRAMES, "server": Phase.FRAMES})
        self.links = [first]
        self.client = Side("client", Session(terms, self.client_policy, self.now), first)
        self.server = Side("server", Session(terms, self.server_policy, self.now), first)
        self.sides = {"client": self.client, "server": self.server}
        move_up(self.client.session, self.server.session, base)
        for side in self.sides.values():
            side.session.attach(self.now)
        self.pending: Link | None = None
        self.moved_early = False
        self.drains = 0
        self.reads_on = False
        self.lost_tries = 0
        self.refusals: list[Refused] = []
        self.grants = 0
        self.repeated = 0

    def other(self, side: Side) -> Side:
        return self.server if side is self.client else self.client

    # Inner ends

    def write(self, side: Side, count: int) -> None:
        octets = PATTERNS[side.name][side.wrote : side.wrote + count]
        side.wrote += len(octets)
        side.session.write(octets)

    def deliver(self, side: Side, most: int = EVERYTHING) -> None:
        """
        The inner end takes up to so many chunks.
        """
        while most and (octets := side.session.next_delivery(self.now)):
            most -= 1
            expected = PATTERNS[self.other(side).name][side.got : side.got + len(octets)]
            assert octets == expected, f"{side.name} got something else at {side.got}"
            side.got += len(octets)
            assert side.got <= self.other(side).wrote, f"{side.name} got more than was written"

    # Links

    def pump(self, side: Side, most: int = EVERYTHING) -> None:
        """
        The session puts up to so many flights of frames on its link.
        """
        link = side.link
        while most and link is not None:
            before = side.session.sender.sent
            octets = side.session.frames(self.now)
            if not octets:
                return
            most -= 1
            if side.session.sender.sent > before:
                # Goal: nothing that the other side has is ever sent again.
                current, receiver = link is self.other(side).link, self.other(side).session.receiver
                assert not current or before >= receiver.arrived, f"{side.name} repeats itself"
            link.put(self.other(side).name, octets)

    def move(self, link: Link, to: str, most: int = EVERYTHING) -> int:
        """
        The network hands up to so many octets to one side.

        @return: how many were taken.
        """
        side = self.sides[to]
        if link.phases[to] is Phase.LEFT:
            link.pipes[to].clear()  # this side does not read it any more: the fence
            return 0
        asked = self.pending if side is self.client else None
        if asked is not None and link is not asked and not self.reads_on and not self._drains(asked):
            return 0  # stands still until the answer is there
        octets = bytes(link.pipes[to][:most])
        if not octets:
            return 0
        del link.pipes[to][:most]
        if link.phases[to] is Phase.FRAMES:
            self._feed(side, link, octets)
        else:
            link.heads[to] += octets
            (self._answer if side is self.client else self._ask)(link)
        return len(octets)

    def _feed(self, side: Side, link: Link, octets: bytes) -> None:
        if not octets:
            return
        former = link is side.former
        if side.former is not None and not former:
            side.ahead += octets
            return
        assert former or link is side.link
        try:
            events = side.session.receive(octets, self.now, former)
        except LinkError as fault:
            assert str(fault)
            assert link.garbled, f"{side.name} is said to break the rules: {fault}"
            self.drop(side)
            return
        side.events += events
        if any(isinstance(event, Moved) for event in events):
            if former:
                self._former_ended(side)
            elif side is self.client and self.pending is not None and self._drains(self.pending):
                self.moved_early = True
            else:
                self.drop(side)

    @staticmethod
    def _drains(link: Link) -> bool:
        return link.attempt is not None and link.attempt.request.drain is not None

    def _former_ended(self, side: Side) -> None:
        assert side.former is not None and side.link is not None
        side.former.phases[side.name] = Phase.LEFT
        side.former = None
        side.session.former_ended()
        ahead, side.ahead = side.ahead, b""
        self._feed(side, side.link, ahead)

    def drop(self, side: Side) -> None:
        """
        One side lets its link go.  The other learns of it later, or never.
        """
        if side.link is not None:
            if side.former is not None:
                side.former.phases[side.name] = Phase.LEFT
                side.former, side.ahead = None, b""
                self.lost_tries += side is self.client
            side.link.phases[side.name] = Phase.LEFT
            side.link = None
            side.session.detach(self.now)

    def notice(self, side: Side) -> None:
        """
        One side finds out that its link is dead; the client also that the one it waits for is.
        """
        if any(link is not None and link.dead for link in (side.link, side.former)):
            self.drop(side)
        if side is self.client and self.pending is not None and self.pending.dead:
            self.pending.phases["client"] = Phase.LEFT
            self.pending = None

    def give_up(self) -> None:
        """
        The client does not wait for the answer any longer.
        """
        if self.pending is not None:
            self.pending.phases["client"] = Phase.LEFT
            self.pending = None
        if self.moved_early:
            self.moved_early = False
            self.drop(self.client)

    # RESUME

    def attempt(self, drain: bool = False) -> Link:
        """
        The client tries a new link; with its old one still attached it is a planned switch.

        @param drain: a planned switch for which the old link is read to its end.
        """
        session = self.client.session
        self.give_up()
        if session.attached and session.receiver.waiting > session.receiver.window:
            self.drop(self.client)  # the inner end is too slow for a switch: break before make
        link = Link(b"exported of link %d" % len(self.links), {"client": Phase.ASKING, "server": Phase.ASKING})
        self.links.append(link)
        policy = self.client_policy
        most = 0 if session.attached else policy.resume_literal
        before = snapshot(session.sender)
        link.planned = session.attached
        drain = drain and session.attached and self.client.former is None
        link.attempt = Attempt(session, link.exported, most, policy.resume_repeat, drain=drain)
        if session.attached:
            assert snapshot(session.sender) == before, "a planned switch has touched the sender"
        assert len(link.attempt.request.literal) <= most
        link.asked = format_resume(b"r1", link.attempt.request)
        link.put("server", link.asked)
        self.pending = link
        return link

    def replay(self, old: Link) -> None:
        """
        Somebody who has seen a RESUME sends it again on a link of his own.
        """
        if old.asked:
            before = snapshot(self.server.session)
            request = self._parse(old.asked)
            session = self.server.session
            if session.terms.binding is not Binding.NONE:
                assert judge(session, request, b"exported elsewhere") == Refused(Refusal.GONE)
                assert judge(session, request, b"") == Refused(Refusal.GONE)
            if request.attempt <= session.attempt:
                assert judge(session, request, old.exported) == Refused(Refusal.STALE)
            assert snapshot(self.server.session) == before, "a judgement has changed something"

    @staticmethod
    def _parse(octets: bytes) -> ResumeRequest:
        line, _, rest = octets.partition(b"\r\n")
        words = line.split(b" ")
        assert words[1:3] == [b"XCONTINUITY", b"RESUME"]
        assert words[-1] == b"{%d+}" % (len(rest) - 2)
        return parse_resume(words[3:-1], rest[:-2])

    def _ask(self, link: Link) -> None:
        """
        The server has a part of a RESUME, or all of it and more.
        """
        head = bytes(link.heads["server"])
        if len(head) < len(link.asked):
            return
        session = self.server.session
        request = self._parse(head[: len(link.asked)])
        before = snapshot(session)
        refused = judge(session, request, link.exported)
        assert snapshot(session) == before, "a judgement has changed something"
        if refused is not None:
            assert refused.refusal is not Refusal.BEHIND or not drains(session, request), "the old link was there to ask"
            self.refusals.append(refused)
            link.phases["server"] = Phase.LEFT
            link.put("client", b"r1 NO %b no\r\n" % format_refused(refused))
            return
        old = self.server.link
        standing = drains(session, request)
        if old is not None:
            if not standing:
                self.drop(self.server)
            old.put("client", encode(FrameType.MOVED))
        had = session.receiver.arrived
        resumed = grant(session, request, link.exported, self.now, standing)
        assert standing == (resumed.start is not None)
        if standing:
            self.server.former = old
        again = max(0, min(had, request.sent + len(request.literal)) - request.sent)
        assert again <= self.client_policy.resume_repeat, "too much was repeated with RESUME"
        self.repeated += again
        self.grants += 1
        self.server.link = link
        link.phases["server"] = Phase.FRAMES
        link.put("client", b"r1 OK %b resumed\r\n" % format_resumed(resumed))
        self._feed(self.server, link, head[len(link.asked) :])

    def _answer(self, link: Link) -> None:
        """
        The client has a part of the answer, or all of it and more.
        """
        line, end, rest = bytes(link.heads["client"]).partition(b"\r\n")
        if not end:
            return
        assert link is self.pending and link.attempt is not None
        words = line[line.index(b"[") + 1 : line.index(b"]")].split(b" ")
        answer = parse_answer(line.split(b" ")[1] == b"OK", words[1:])
        self.pending = None
        if isinstance(answer, Refused):
            behind = answer.refusal is Refusal.BEHIND and self._drains(link)  # an acknowledgement by the old link was faster
            assert answer.refusal is Refusal.STALE or behind or self.over, answer
            link.phases["client"] = Phase.LEFT
            return
        assert isinstance(answer, Resumed)
        early, self.moved_early = self.moved_early, False
        try:
            link.attempt.granted(answer, self.now)
        except ResumeFailed as fault:
            # A planned switch may be overtaken by what the old link brings or the inner end takes; nothing else may be.
            assert self.reads_on or link.planned, f"an honest server was not believed: {fault}"
            # With DRAIN nothing overtakes anything: the old link may only be lost meanwhile.
            assert answer.start is None or not self.client.session.attached, f"an honest server was not believed: {fault}"
            self.lost_tries += 1
            link.phases["client"] = Phase.LEFT
            if early:
                self.drop(self.client)
            return
        old = self.client.link
        if answer.start is not None:
            assert old is not None
            self.drains += 1
            old.put("server", encode(FrameType.MOVED))
            if early:
                self.client.session.former_ended()
            else:
                self.client.former = old
        if old is not None and self.client.former is not old:
            old.phases["client"] = Phase.LEFT
        self.client.link = link
        link.phases["client"] = Phase.FRAMES
        self._feed(self.client, link, rest)

    # Time

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for side in self.sides.values():
            for event in side.session.tick(self.now):
                assert not isinstance(event, GraceOver), "the grace period is longer than that"
                if isinstance(event, ProbeFailed):
                    self.drop(side)

    # What must always be so

    def check(self) -> None:
        for side in self.sides.values():
            session, other = side.session, self.other(side).session
            sender, receiver, window = session.sender, session.receiver, session.terms.window
            assert sender.in_flight <= window
            assert sender.acknowledged <= sender.sent <= sender.highest <= sender.end
            assert len(held(sender)) == sender.retained
            assert receiver.waiting <= 2 * window
            assert session.attached == (side.link is not None)
            assert session.attached == (session.state in (State.LIVE, State.DRAINING))
            if session.state is not State.ENDED and other.state is not State.ENDED:
                # What is released here has arrived there; what is there was sent from here.
                assert sender.acknowledged <= other.receiver.arrived <= sender.highest
            assert (session.deadline() is not None) or session.attached

    @property
    def done(self) -> bool:
        """
        Whether both inner ends have everything, and both sides know it.
        """
        return all(side.got == self.other(side).wrote and not side.session.sender.retained for side in self.sides.values())

    def flow(self, link: Link | None = None) -> None:
        """
        One round in which everybody does what he can.
        """
        for side in self.sides.values():
            self.deliver(side)
            self.pump(side)
        for one in [link] if link is not None else self.links:
            for to in ("server", "client"):
                self.move(one, to)
        self.check()

    def reconnect(self) -> None:
        """
        All links die, and a good one is found.
        """
        for link in self.links:
            link.die()
        self.notice(self.client)
        for _ in range(2):  # an answer that is lost costs one try
            link = self.attempt()
            self.move(link, "server")
            self.move(link, "client")
            if self.client.link is link or self.over:
                self.check()
                return
        raise AssertionError(f"no way back: {self.refusals}")

    @property
    def over(self) -> bool:
        """
        Whether the client has all that the server's inner end had written before it closed.
        """
        ended = Refused(Refusal.ENDED, self.server.session.receiver.received)
        everything = self.client.session.receiver.arrived == self.server.session.sender.end
        return everything and self.refusals[-1:] == [ended]

    def settle(self) -> None:
        """
        On a good link everything arrives, and is known to have.
        """
        link = self.client.link
        if link is None or link is not self.server.link or link.dead or self.pending is not None:
            self.reconnect()
        for _ in range(3):
            self.flow()
        if any(side.former is not None for side in self.sides.values()):
            self.reconnect()
        quiet = 0
        for _ in range(10000):
            moved = self._progress()
            self.flow(self.client.link)
            if self.client.link is None or self.client.link is not self.server.link:
                self.reconnect()
            if self.done:
                return
            quiet = quiet + 1 if self._progress() == moved else 0
            if quiet > 1:
                self.advance(1.0)
            assert quiet < 20, "nothing moves any more"
        raise AssertionError("it never ends")

    def _progress(self) -> tuple[int, ...]:
        return tuple(
            count
            for side in self.sides.values()
            for count in (side.got, side.session.sender.acknowledged, side.session.sender.sent)
        )

    def count(self, side: Side, kind: type[PeerEnded] | type[Delivered] | type[Answered] | type[Moved]) -> int:
        return sum(isinstance(event, kind) for event in side.events)
