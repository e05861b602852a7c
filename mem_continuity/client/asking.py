"""
What a fresh link says before it carries a session: perhaps STARTTLS, then RESUME; and what it hears meanwhile.

Invariants: at most one question waits for its answer, and each wait ends: by the answer, by time, or with the link.  What the
server sent in the clear is not used under TLS.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum, auto

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mem_continuity.core.handshake import HandshakeError, Refused, Resumed, format_resume, parse_answer
from mem_continuity.core.policy import RoamingPolicy
from mem_continuity.core.resumption import Attempt

_CODE = re.compile(rb"\[XCONTINUITY ([^\]]*)\]", re.IGNORECASE)
_TAG = b"mcr"
_TLS_TAG = b"mct"


class Mode(Enum):
    """
    What a link's octets are.
    """

    IDLE = auto()
    OPENING = auto()
    ASKING = auto()
    PLAIN = auto()
    FRAMED = auto()
    FENCED = auto()


class LinkFailed(Exception):
    """
    A link did not come to what it was made for; the text says why.
    """


class Asking:
    """
    The dialogue of one link.

    @ivar heard: octets of the server that are not read yet.
    """

    _log = Logger()

    def __init__(
        self, policy: RoamingPolicy, clock: IReactorTime, write: Callable[[bytes], object], abort: Callable[[], object]
    ) -> None:
        """
        @param abort: breaks the link off.
        """
        self.heard = b""
        self._policy = policy
        self._clock = clock
        self._write = write
        self._abort = abort
        self._answer: Deferred[Resumed | Refused] | None = None
        self._secured: Deferred[None] | None = None
        self._start_tls: Callable[[], object] = lambda: None
        self._timer: IDelayedCall | None = None
        self._over = False

    def secure(self, start_tls: Callable[[], object]) -> Deferred[None]:
        """
        Say STARTTLS.

        @param start_tls: called when the server agrees.
        @return: fires when TLS stands (L{secured}); fails with L{LinkFailed} when the server will not.
        """
        self._start_tls = start_tls
        self._secured = Deferred()
        waiting = self._secured
        self._write(_TLS_TAG + b" STARTTLS\r\n")
        return waiting

    def secured(self) -> bool:
        """
        TLS stands.

        @return: whether anybody waited for that here.
        """
        secured, self._secured = self._secured, None
        if secured is None:
            return False
        secured.callback(None)
        return True

    def resume(self, attempt: Attempt) -> Deferred[Resumed | Refused]:
        """
        Say RESUME.

        @return: fires with the answer; fails with L{LinkFailed} when none comes within C{answer_timeout}, or with
            L{HandshakeError} when it cannot be read.
        """
        self._answer = Deferred()
        waiting = self._answer
        self._timer = self._clock.callLater(self._policy.answer_timeout, self._no_answer)
        self._write(format_resume(_TAG, attempt.request))
        return waiting

    def read(self, octets: bytes) -> None:
        """
        Octets of the server.
        """
        self.heard += octets
        while not self._over:
            line, found, rest = self.heard.partition(b"\r\n")
            if not found:
                if len(self.heard) > self._policy.preamble_line:
                    self._log.warn("The server sends no lines; the link is dropped.")
                    self.give_up("the server sends no lines")
                return
            self.heard = rest
            tag, _, said = line.partition(b" ")
            if tag == _TAG:
                self._read_answer(said)
            elif tag == _TLS_TAG:
                self._read_tls_answer(said)
            elif tag == b"*" and said.upper().startswith(b"BYE"):
                self.give_up("the server said BYE")

    def _read_answer(self, said: bytes) -> None:
        code = _CODE.search(said)
        words = [] if code is None else code.group(1).split()
        try:
            answer = parse_answer(said.upper().startswith(b"OK "), words)
        except HandshakeError:
            self._answered(Failure())
        else:
            self._answered(answer)

    def _read_tls_answer(self, said: bytes) -> None:
        if self._secured is None:
            return
        if said.upper().startswith(b"OK"):
            self.heard = b""  # what came in the clear is not used under TLS
            self._start_tls()
        else:
            secured, self._secured = self._secured, None
            secured.errback(Failure(LinkFailed("the server refused STARTTLS")))

    def _answered(self, answer: Resumed | Refused | Failure) -> None:
        self._stop_timer()
        waiting, self._answer = self._answer, None
        if waiting is not None:
            waiting.callback(answer)

    def _no_answer(self) -> None:
        self._timer = None
        self.give_up("no answer to RESUME")

    def give_up(self, why: str) -> None:
        """
        Break the link off; what waits for an answer fails.
        """
        self._abort()
        self.stop(Failure(LinkFailed(why)))

    def stop(self, reason: Failure) -> None:
        """
        Nothing more is read here; what waits for an answer fails.
        """
        self._over = True
        secured, self._secured = self._secured, None
        if secured is not None:
            secured.errback(reason)
        self._answered(reason)

    def take_rest(self) -> bytes:
        """
        The layer begins: nothing more is read here.

        @return: octets that came behind the answer.
        """
        self._over = True
        rest, self.heard = self.heard, b""
        return rest

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
