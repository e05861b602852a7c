"""
A client of the layer made of the sans-IO parts alone (L{Session}, L{Attempt}, the handshake's grammar) over the wires of
L{tests.support.site}: every octet that it sends, and when, is the test's to say.

In the clear: C{client.command(b"LOGIN joe secret")}.  After C{client.start()} the inner stream goes through C{client.write} and
comes out in C{client.stream}; C{client.call} is a whole command inside the layer.  C{client.pump()} exchanges frames until
nothing moves.  C{client.resume()} comes back on a new wire.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from mem_continuity.core.handshake import (
    Binding,
    Refused,
    Resumed,
    ResumeRequest,
    client_proof,
    format_resume,
    parse_answer,
    parse_started,
)
from mem_continuity.core.policy import RoamingPolicy
from mem_continuity.core.resumption import Attempt
from mem_continuity.core.session import Session
from mem_continuity.core.states import Event
from tests.support.site import Site
from tests.support.wires import Wire

_CODE = re.compile(rb"\[XCONTINUITY ([^\]]*)\]")


class RawClient:
    """
    One client.

    @ivar wire: the link in use.
    @ivar session: its side of the session, once started.
    @ivar stream: what the server's inner end has said inside the layer, as far as it was handed on.
    @ivar events: what the session's link told: END, MOVED and so on.
    """

    def __init__(
        self,
        site: Site,
        *,
        user: bytes = b"joe",
        password: bytes = b"secret",
        client_id: bytes | None = b"UUID 23bf83be-aad8-46aa-9f0b-39191ccd402f",
        policy: RoamingPolicy | None = None,
    ) -> None:
        self.site = site
        self.user, self.password, self.client_id = user, password, client_id
        self.policy = RoamingPolicy() if policy is None else policy
        self.wire: Wire | None = None
        self._session: Session | None = None
        self.stream = b""
        self.events: list[Event] = []
        self._tags = 0

    @property
    def session(self) -> Session:
        assert self._session is not None, "the layer was not started"
        return self._session

    @property
    def link(self) -> Wire:
        """
        The wire in use.
        """
        assert self.wire is not None, "the client is not connected"
        return self.wire

    @property
    def now(self) -> float:
        return float(self.site.clock.seconds())

    # In the clear

    def connect(self, host: str = "192.0.2.1", *, secure: bool = True) -> Wire:
        """
        Connect, and read the greeting.
        """
        self.wire = self.site.connect(host, secure=secure)
        return self.wire

    def new_tag(self) -> bytes:
        self._tags += 1
        return b"t%d" % self._tags

    def command(self, line: bytes, wire: Wire | None = None) -> bytes:
        """
        A command in the clear.

        @return: all that came back, the tagged response last; what followed it is left on the wire.
        """
        wire = self.link if wire is None else wire
        tag = self.new_tag()
        wire.take()
        wire.send(tag + b" " + line + b"\r\n")
        self.site.settle()
        heard = wire.take()
        found = re.search(rb"(?m)^" + tag + rb" .*\r\n", heard)
        assert found is not None, f"no tagged response to {line!r}, but {heard!r}"
        wire.taken -= len(heard) - found.end()
        return heard[: found.end()]

    def login(self, wire: Wire | None = None) -> bytes:
        """
        CLIENTID (when the client has one) and LOGIN.
        """
        if self.client_id is not None:
            said = self.command(b"CLIENTID " + self.client_id, wire)
            assert b" OK " in said, said
        return self.command(b"LOGIN %b %b" % (self.user, self.password), wire)

    def start(self, *, grace: int | None = None) -> Session:
        """
        XCONTINUITY START: frames from now on.
        """
        said = self.command(b"XCONTINUITY START" + (b"" if grace is None else b" GRACE %d" % grace))
        found = _CODE.search(said)
        assert found is not None and b" OK " in said, said
        terms = parse_started(found.group(1).split(), Binding.NONE)
        self._session = Session(terms, self.policy, self.now)
        self._session.attach(self.now)
        self.pump()
        return self._session

    def begin(self, host: str = "192.0.2.1") -> RawClient:
        """
        Connect, log in, START.
        """
        self.connect(host)
        self.login()
        self.start()
        return self

    # In the layer

    def write(self, octets: bytes) -> None:
        """
        Octets of the inner stream; they are sent by L{pump} or L{send_frames}.
        """
        self.session.write(octets)

    def send_frames(self) -> bytes:
        """
        Send what the session has to send.

        @return: the same octets.
        """
        sent = b""
        while octets := self.session.frames(self.now):
            sent += octets
            self.link.send(octets)
        return sent

    def read_frames(self) -> bytes:
        """
        Read what came, and hand it on.

        @return: the octets that were handed on now.
        """
        self.events += self.session.receive(self.link.take(), self.now)
        got = b""
        while octets := self.session.next_delivery(self.now):
            got += octets
        self.stream += got
        return got

    def pump(self) -> None:
        """
        Exchange frames until nothing moves any more.  No time passes.
        """
        while True:
            sent = self.send_frames() if self.session.attached else b""
            self.site.settle()
            came = self.link.peek()
            if self.session.attached:
                self.read_frames()
            if not sent and not came:
                return

    def call(self, line: bytes) -> bytes:
        """
        A whole command inside the layer.

        @return: what the inner stream said from then on.
        """
        tag, before = self.new_tag(), len(self.stream)
        self.write(tag + b" " + line + b"\r\n")
        self.pump()
        said = self.stream[before:]
        assert re.search(rb"(?m)^" + tag + rb" ", said), f"no tagged response to {line!r}, but {said!r}"
        return said

    # Losing and coming back

    def lose(self, how: str = "fin") -> None:
        """
        The link is gone, for both ends: C{fin} or C{reset}; or C{silence}, which only the client knows of.
        """
        getattr(self.link, how)()
        if self._session is not None and self.session.attached:
            self.session.detach(self.now)
        self.site.settle()

    def attempt(
        self, *, number: int | None = None, literal: int | None = None, key: bytes | None = None, **changes: Any
    ) -> Attempt:
        """
        A RESUME to be sent.

        @param number: its attempt number; the next when None.
        @param literal: the most octets that go with it.
        @param key: prove with another key.
        @param changes: fields of its L{ResumeRequest} that are to be different; the proof is made over what is then there.
        """
        if number is not None:
            self.session.attempt = number - 1
        most = self.policy.resume_literal if literal is None else literal
        made = Attempt(self.session, b"", most, self.policy.resume_repeat)
        if changes or key is not None:
            request = replace(made.request, **changes)
            terms = self.session.terms if key is None else replace(self.session.terms, key=key)
            if "proof" not in changes:
                proof = client_proof(terms, request.attempt, request.received, request.sent, b"")
                request = replace(request, proof=proof)
            made.request = request
        return made

    @staticmethod
    def octets(request: ResumeRequest, tag: bytes = b"r1") -> bytes:
        """
        A RESUME as it stands on the wire.
        """
        return format_resume(tag, request)

    @staticmethod
    def read_answer(wire: Wire, tag: bytes = b"r1") -> Resumed | Refused | None:
        """
        The answer to RESUME; None when there is none yet.  What follows it is left on the wire.
        """
        found = re.search(rb"(?m)^" + tag + rb" (OK|NO) [^\r]*\r\n", wire.peek())
        if found is None:
            return None
        wire.taken += found.end()
        code = _CODE.search(found.group())
        assert code is not None, found.group()
        return parse_answer(found.group(1) == b"OK", code.group(1).split())

    def ask(self, attempt: Attempt, wire: Wire) -> Resumed | Refused | None:
        """
        Send a RESUME and read its answer.
        """
        wire.send(self.octets(attempt.request))
        self.site.settle()
        return self.read_answer(wire)

    def take_over(self, attempt: Attempt, answer: Resumed, wire: Wire) -> None:
        """
        RESUME was granted: go on with that wire.
        """
        attempt.granted(answer, self.now)
        self.wire = wire

    def resume(self, wire: Wire | None = None, *, host: str = "203.0.113.1", **how: Any) -> Resumed | Refused:
        """
        Come back: on a new wire when none is given.  When it is granted the client has gone on and frames were exchanged.

        @param how: as for L{attempt}.
        """
        wire = self.site.connect(host, greet=False) if wire is None else wire
        attempt = self.attempt(**how)
        answer = self.ask(attempt, wire)
        assert answer is not None, f"no answer to RESUME, but {wire.heard!r}"
        if isinstance(answer, Resumed):
            self.take_over(attempt, answer, wire)
            self.pump()
        return answer
