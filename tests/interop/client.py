"""
A client of the layer over real sockets, made of the sans-IO parts alone, in the manner of L{tests.support.raw_client}.

In the clear: C{client.command(b"LOGIN joe secret")}.  After C{client.start()} the inner stream goes through C{client.write} and
comes out in C{client.stream}; C{client.call} is a whole command inside the layer.  C{client.resume()} comes back on a new wire.

Invariants: those of L{PlainClient}; not even a PING is answered but within a call of the test.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Self

from mem_continuity.core.handshake import (
    Binding,
    Refused,
    Resumed,
    client_proof,
    format_resume,
    parse_answer,
    parse_started,
)
from mem_continuity.core.policy import RoamingPolicy
from mem_continuity.core.resumption import Attempt
from mem_continuity.core.session import Session
from mem_continuity.core.states import Event, PeerEnded
from tests.interop.plain_client import CLIENT_ID, HOME, TRAIN, PlainClient, tagged
from tests.interop.tls_wire import SECONDS, Lost, Wire

_CODE = re.compile(rb"\[XCONTINUITY ([^\]]*)\]")


class Client(PlainClient):
    """
    One client.

    @ivar policy: of its side of the session.
    @ivar stream: what the server has said inside the layer so far.
    @ivar events: what the session's link told: END, MOVED and so on.
    """

    def __init__(
        self, port: int, authority: Path | None, user: str, password: str, *, client_id: bytes | None = CLIENT_ID
    ) -> None:
        """
        @param authority: trusted for TLS; None for a port without.
        @param client_id: what it calls itself; None when it does not.
        """
        super().__init__(port, authority, user, password, client_id=client_id)
        self.policy = RoamingPolicy()
        self.stream = bytearray()
        self.events: list[Event] = []
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        assert self._session is not None, "the layer was not started"
        return self._session

    @property
    def now(self) -> float:
        return time.monotonic()

    def start(self, *, grace: int | None = None) -> Session:
        """
        XCONTINUITY START: frames from now on.
        """
        said = self.command(b"XCONTINUITY START" + (b"" if grace is None else b" GRACE %d" % grace))
        found = _CODE.search(said)
        assert found is not None and b" OK " in said, said
        binding = Binding.TLS_EXPORTER if self.wire.exported else Binding.NONE
        self._session = Session(parse_started(found[1].split(), binding), self.policy, self.now)
        self._session.attach(self.now)
        return self._session

    def begin(self, source: str = HOME, select: bytes | None = None) -> Self:
        """
        Connect, log in, START.

        @param select: a first command inside the layer.
        """
        self.logged_in(source).start()
        if select is not None:
            said = self.call(select)
            assert b" OK " in said, said
        return self

    # In the layer

    def write(self, octets: bytes) -> None:
        """
        Octets of the inner stream; they are sent by L{flush} or while something is waited for.
        """
        self.session.write(octets)

    def flush(self) -> None:
        """
        Send what the session has to send.

        @raise Lost: the link is gone; the session is detached.
        """
        try:
            while self.session.attached and (octets := self.session.frames(self.now)):
                self.wire.send(octets)
        except Lost:
            self.session.detach(self.now)
            raise

    def step(self, seconds: float = SECONDS) -> bytes:
        """
        Send what there is to send, read once, and hand on what came.

        @return: what was handed on.
        @raise TimeoutError: nothing came.
        @raise Lost: the link is gone; the session is detached.
        """
        self.flush()
        try:
            came = self.wire.receive(seconds)
        except Lost:
            self.session.detach(self.now)
            raise
        self.events += self.session.receive(came, self.now)
        got = b""
        while octets := self.session.next_delivery(self.now):
            got += octets
        self.stream += got
        return got

    def wait_for(self, done: Callable[[], object], seconds: float = SECONDS) -> None:
        """
        Exchange frames until something is so.

        @raise AssertionError: it does not come to that in time.
        @raise Lost: the link goes before; the session is detached.
        """
        self.flush()
        until = self.now + seconds
        while not done():
            wait = until - self.now
            due = self.session.deadline()
            try:
                self.step(max(min(wait, SECONDS if due is None else due - self.now), 0.001))
            except TimeoutError:
                self.session.tick(self.now)
                if self.now >= until:
                    raise AssertionError(f"waited for {seconds} seconds; last came {bytes(self.stream[-500:])!r}") from None
        self.flush()

    def wait_for_text(self, text: bytes, begin: int = 0) -> None:
        """
        Exchange frames until the stream has some octets.
        """
        self.wait_for(lambda: self.stream.find(text, begin) >= 0)

    def settle(self, seconds: float = 0.1) -> None:
        """
        Exchange frames until nothing has come for a while.
        """
        while self.session.attached:
            try:
                self.step(seconds)
            except (TimeoutError, Lost):
                return

    def finish(self, tag: bytes, begin: int = 0) -> bytes:
        """
        Wait for the tagged response to a command that was written.

        @return: what the stream has had from C{begin} up to its end.
        """
        self.wait_for(lambda: tagged(tag, self.stream, max(begin, len(self.stream) - (1 << 20))))
        return bytes(self.stream[begin:])

    def call(self, *parts: bytes) -> bytes:
        """
        A whole command inside the layer, C{parts} as in L{command}.

        @return: what the stream has had since it was begun.
        """
        tag, begin = self.new_tag(), len(self.stream)
        self.write(tag + b" " + parts[0] + b"\r\n")
        for part in parts[1:]:
            place = len(self.stream)
            self.wait_for(lambda place=place: re.compile(rb"(?m)^\+[^\n]*\n").search(self.stream, place))  # type: ignore[misc]
            self.write(part + b"\r\n")
        return self.finish(tag, begin)

    # Losing and coming back

    def lose(self, how: str = "fin") -> None:
        """
        The link is gone: C{fin}, C{reset}, or C{silence}, which the server is not told of.
        """
        getattr(self.wire, how)()
        if self._session is not None and self.session.attached:
            self.session.detach(self.now)

    def flap(self, how: str, most: int, chance: Random) -> None:
        """
        The link dies after some octets of either direction.

        @param how: as in L{lose}; or C{stays}, when the client leaves a link that works.
        @param most: of octets.
        """
        frames = b""
        while len(frames) < most and (octets := self.session.frames(self.now)):
            frames += octets
        self.wire.send(frames[: chance.randrange(most)])
        if chance.random() < 0.5:
            with suppress(TimeoutError):
                self.events += self.session.receive(self.wire.receive(0.02)[: chance.randrange(most)], self.now)
            while octets := self.session.next_delivery(self.now):
                self.stream += octets
        if how == "stays":
            self.session.detach(self.now)
        else:
            self.lose(how)

    def attempt(
        self, wire: Wire, *, number: int | None = None, literal: int | None = None, key: bytes | None = None, **changes: Any
    ) -> Attempt:
        """
        A RESUME to be sent on a wire.

        @param number: its attempt number; the next when None.
        @param literal: the most octets that go with it.
        @param key: prove with another key.
        @param changes: fields of its request that are to be different; the proof is made over what is then there.
        """
        if number is not None:
            self.session.attempt = number - 1
        most = self.policy.resume_literal if literal is None else literal
        made = Attempt(self.session, wire.exported, most, self.policy.resume_repeat)
        if changes or key is not None:
            request = replace(made.request, **changes)
            terms = self.session.terms if key is None else replace(self.session.terms, key=key)
            bound = b"" if terms.binding is Binding.NONE else wire.exported
            proof = client_proof(terms, request.attempt, request.received, request.sent, bound)
            made.request = request if "proof" in changes else replace(request, proof=proof)
        return made

    def ask(self, attempt: Attempt, wire: Wire) -> Resumed | Refused:
        """
        Send a RESUME and read its answer.
        """
        wire.send(self.octets(attempt))
        return self.read_answer(wire)

    @staticmethod
    def octets(attempt: Attempt) -> bytes:
        """
        A RESUME as it stands on the wire.
        """
        return format_resume(b"r1", attempt.request)

    def read_answer(self, wire: Wire) -> Resumed | Refused:
        """
        The answer to a RESUME that was sent; a greeting may stand before it.
        """
        said = self.read_until(lambda octets: tagged(b"r1", octets), wire)
        code = _CODE.search(said)
        assert code is not None, said
        return parse_answer(b"r1 OK" in said, code[1].split())

    def resume(self, source: str = TRAIN, *, wire: Wire | None = None, **how: Any) -> Resumed | Refused:
        """
        Come back: on a new wire, where RESUME is sent before a greeting is read.

        @param wire: the latest one, if it is made already.
        @param how: as for L{attempt}.
        @raise Lost: that link is gone, too.
        """
        wire = self.connect(source, greet=False) if wire is None else wire
        attempt = self.attempt(wire, **how)
        answer = self.ask(attempt, wire)
        if isinstance(answer, Resumed):
            attempt.granted(answer, self.now)
        return answer

    @property
    def end_reason(self) -> bytes | None:
        """
        What END said.
        """
        return next((event.reason for event in self.events if isinstance(event, PeerEnded)), None)
