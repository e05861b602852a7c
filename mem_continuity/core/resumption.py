"""
Who gets a session: the server's judgement of a RESUME, and the client's side of the same transaction.

Invariants:

- Judging changes nothing.  Only L{grant} does, in one synchronous step, and only what L{judge} has let pass.
- The proof comes first.  Whoever cannot prove knowledge of the key is told GONE, whatever the session's state: unknown,
  expired and wrong proof are one answer, and an unknown session costs the same computation as a known one.
- An attempt's number is spent by a grant alone, so a forged RESUME cannot burn it.
"""

from __future__ import annotations

from dataclasses import dataclass

from mem_continuity.core.handshake import (
    KEY_LENGTH,
    Binding,
    Refusal,
    Refused,
    Resumed,
    ResumeRequest,
    Terms,
    client_proof,
    same,
    server_proof,
)
from mem_continuity.core.session import Session
from mem_continuity.core.states import State


@dataclass(frozen=True, slots=True)
class Tombstone:
    """
    What is left of an ended session: enough to tell its client how much had arrived, and to tell nobody else.

    @ivar received: octets of the client's stream that the inner end had got.
    """

    terms: Terms
    received: int


_STRANGER = Terms(b"-.--------", bytes(KEY_LENGTH), 0, 1, Binding.NONE)


def judge(known: Session | Tombstone | None, request: ResumeRequest, exported: bytes) -> Refused | None:
    """
    Whether a RESUME may be granted.

    @param known: what the table has under the session ID.
    @param exported: the exporter's octets of the link that asks; empty when it has none.
    @return: why not, or None.
    """
    terms = _STRANGER if known is None else known.terms
    if terms.binding is Binding.NONE:
        exported = b""
    expected = client_proof(terms, request.attempt, request.received, request.sent, exported, request.drain)
    proved = same(expected, request.proof)
    bound = terms.binding is Binding.NONE or exported != b""
    if known is None or not proved or not bound:
        return Refused(Refusal.GONE)
    if isinstance(known, Tombstone):
        return Refused(Refusal.ENDED, known.received)
    if known.state is State.ENDED:
        return Refused(Refusal.ENDED, known.receiver.received)
    if request.attempt <= known.attempt:
        return Refused(Refusal.STALE)
    # With DRAIN the old link goes on acknowledging, and may be faster than this request.
    covered = known.sender.covers(request.received) or (drains(known, request) and request.received <= known.sender.sent)
    if not covered or request.sent > known.receiver.arrived:
        return Refused(Refusal.BEHIND, known.receiver.received)
    if known.delivered or (known.state in (State.DRAINING, State.WAITING) and request.received == known.sender.end):
        return Refused(Refusal.ENDED, known.receiver.received)
    return None


def grant(session: Session, request: ResumeRequest, exported: bytes, now: float, standing: bool = False) -> Resumed:
    """
    Hand the session to the link that asked.  The old link must have been detached before, but where it is L{drains}.

    @param standing: the old link stands, and both sides go on reading it.
    @return: the answer; the server's octets from C{request.received} on, or from the answer's C{start}, and the client's
        literal, follow by themselves.
    """
    session.attempt = session.granted = request.attempt
    if session.terms.binding is Binding.NONE:
        exported = b""
    start: int | None = None
    if standing:
        count = session.receiver.arrived
        session.succeed(now, request.received, count)
        start = session.sender.sent
    else:
        count = session.receiver.resume()
        session.attach(now, request.received)
    proof = server_proof(session.terms, request.attempt, request.received, request.sent, exported, count, start)
    if standing:
        return Resumed(count, proof, start)  # what the literal might have comes by the old link
    new = b"" if count < request.sent else request.literal[count - request.sent :]  # never with a gap before it
    session.receiver.skipped += len(request.literal) - len(new)
    if new and session.state is State.LIVE:
        session.receiver.arrive(new[: session.terms.window])
    return Resumed(count, proof)


def drains(session: Session, request: ResumeRequest) -> bool:
    """
    Whether a RESUME that was let pass says DRAIN to a session that can do so: it is on the very link that the client means
    (another may have been granted without the client's hearing of it), and has no slow inner end.
    """
    if request.drain != session.granted or not session.attached or session.moving:
        return False
    return session.receiver.waiting <= session.receiver.window


class ResumeFailed(Exception):
    """
    The server's answer does not fit: wrong proof, or counts that cannot be.  The link must not be used.
    """


class Attempt:
    """
    The client's side of one RESUME, from request to answer.
    """

    def __init__(self, session: Session, exported: bytes, literal_most: int, repeat_most: int, *, drain: bool = False) -> None:
        """
        @param exported: the exporter's octets of the new link.
        @param literal_most: octets that may travel in the first flight; 0 while the old link may still be gone back to.
        @param repeat_most: octets sent before and not acknowledged that may travel again without asking first.
        @param drain: the old link works, and is read and written on until the server has granted, and read on until it has
            brought everything.
        @raise ResumeFailed: the old link still stands, and the inner end is too slow to take another one meanwhile.
        """
        if session.attached and session.receiver.waiting > session.receiver.window:
            raise ResumeFailed("more octets wait for the inner end than can be kept across links")
        session.attempt += 1
        self._session = session
        self._exported = b"" if session.terms.binding is Binding.NONE else exported
        sender = session.sender
        literal = b""
        if not session.attached and sender.highest - sender.acknowledged <= min(repeat_most, literal_most):
            sender.rewind(sender.acknowledged)
            literal = sender.take(literal_most)
        sent = sender.acknowledged
        received = session.receiver.arrived
        old = session.granted if drain else None
        proof = client_proof(session.terms, session.attempt, received, sent, self._exported, old)
        self.request = ResumeRequest(session.terms.session_id, session.attempt, received, sent, proof, literal, old)

    def verify(self, answer: Resumed) -> None:
        """
        The server has said OK: is it the server, and can we go on from its count?

        @raise ResumeFailed: it is not the server that holds the key, or its count cannot be.
        """
        request = self.request
        terms = self._session.terms
        expected = server_proof(
            terms, request.attempt, request.received, request.sent, self._exported, answer.received, answer.start
        )
        if not same(expected, answer.proof):
            raise ResumeFailed("the server could not prove that it holds the session")
        if request.attempt != self._session.attempt:
            raise ResumeFailed("a later attempt is under way")
        receiver = self._session.receiver
        start = most = request.received
        if answer.start is not None:
            if request.drain is None:
                raise ResumeFailed("the server reads the old link on, which was not asked for")
            if not self._session.attached:
                raise ResumeFailed("the old link was lost before it had brought everything")
            start, most = answer.start, receiver.most  # what was acknowledged meanwhile has let the server go on
        if not request.received <= receiver.arrived <= start <= most:
            raise ResumeFailed("octets arrived by the old link, or were given up, since this resume was asked for")
        if not self._session.sender.covers(answer.received):
            raise ResumeFailed(f"the server says that it has {answer.received} octets, which cannot be")

    def granted(self, answer: Resumed, now: float) -> None:
        """
        Go on with the new link; the old one, if it still was attached, is detached, or where the answer has a C{start} it is the
        former one from now on.

        @raise ResumeFailed: as L{verify}; nothing was changed.
        """
        self.verify(answer)
        request = self.request
        self._session.granted = request.attempt
        if answer.start is not None:
            self._session.succeed(now, answer.received, request.received)
            return
        if self._session.attached:
            self._session.detach(now)
        self._session.receiver.resume()
        self._session.attach(now, answer.received)
        taken = request.sent + len(request.literal) - answer.received
        if taken > 0 and answer.received >= request.sent:
            self._session.sender.take(taken)
            self._session.sender.taken -= taken  # counted when it was put into the request
