"""
What is said on a fresh connection to an upstream, before the client's octets go there: its greeting is heard, perhaps STARTTLS,
ID and CAPABILITY are said, and nothing else.

Invariants: nothing is said before the greeting has been heard whole; at most one command waits for its answer; memory is bounded
by one line; what came in the clear before STARTTLS is not used under TLS, but for the bare text of the greeting; an upstream that
takes everybody for logged in (PREAUTH) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from mem_continuity.gateway.errors import Trouble, sanitised, text_of
from mem_continuity.gateway.source import Source, identity
from mem_continuity.imap.lexer import CRLF
from mem_continuity.imap.responses import Piece, ResponseStream, capability_words, status_of

_TLS_TAG, _ID_TAG, _CAPABILITY_TAG = b"g1", b"g2", b"g3"
_CODE = re.compile(rb"(\* [^ ]+ )\[[^\]]*\] ?")


class Say(NamedTuple):
    """
    To be sent to the upstream.
    """

    octets: bytes


class StartTLS(NamedTuple):
    """
    TLS is to be begun on the connection; L{Greeting.secured} is to be called when it stands.
    """


class Ready(NamedTuple):
    """
    All is said.

    @ivar greeting: the greeting, a line with its CRLF, fit to be shown to a client.
    @ivar capabilities: its words in upper case; empty when none were told.
    @ivar rest: octets that came behind.
    """

    greeting: bytes
    capabilities: frozenset[bytes]
    rest: bytes


Step = Say | StartTLS | Ready


class Greeting:
    """
    One dialogue.  After L{Ready} or an error nothing more is to be fed.
    """

    def __init__(self, starttls: bool, source: Source | None, want_capabilities: bool, bound: int) -> None:
        """
        @param source: who is to be told by ID; C{None} for no ID.
        @param want_capabilities: ask for capabilities when the greeting does not tell them.
        @param bound: octets of the longest line that is read.
        """
        self._starttls = starttls
        self._identity = identity(_ID_TAG, source)
        self._want = want_capabilities
        self._bound = bound
        self._stream = ResponseStream(bound)
        self._greeting = b""
        self._capabilities: frozenset[bytes] = frozenset()
        self._clear = starttls
        self._hear: Callable[[Piece], list[Step]] = self._hear_greeting
        self._done = False

    def feed(self, octets: bytes) -> list[Step]:
        """
        Take octets of the upstream.

        @return: what is to be done, in order.
        @raise UpstreamError: the upstream cannot be used.
        """
        self._stream.feed(octets)
        steps: list[Step] = []
        while not self._done and (piece := self._stream.next_piece()) is not None:
            steps += self._hear(piece)
        return steps

    def secured(self) -> list[Step]:
        """
        TLS stands, after L{StartTLS}.
        """
        self._clear = False
        return self._say_id()

    def _hear_greeting(self, piece: Piece) -> list[Step]:
        condition = status_of(piece.octets)
        if not piece.whole:
            raise Trouble.UNFIT.error(f"its greeting is longer than {self._bound} octets: {_shown(piece)}")
        self._heed_bye(piece)
        if condition == (b"*", b"PREAUTH"):
            raise Trouble.UNFIT.error("it greets with PREAUTH, which would let everybody in; make it ask for a login")
        if condition != (b"*", b"OK") or not self._stream.between:
            raise Trouble.UNFIT.error(f"it does not greet as an IMAP server, but says {_shown(piece)}")
        self._greeting = piece.octets
        if self._starttls:
            self._greeting = _CODE.sub(rb"\1", piece.octets, count=1)
            self._hear = self._hear_tls
            return [Say(_TLS_TAG + b" STARTTLS" + CRLF)]
        self._tell(capability_words(piece.octets))
        return self._say_id()

    def _hear_tls(self, piece: Piece) -> list[Step]:
        condition = self._answer(piece, _TLS_TAG)
        if condition is None:
            return []
        if condition != b"OK":
            raise Trouble.INSECURE.error(f"it refuses STARTTLS: {_shown(piece)}")
        if not self._stream.between or self._stream.take_rest():
            raise Trouble.INSECURE.error("octets in the clear follow its OK to STARTTLS; somebody may have put them there")
        self._hear = _nothing
        return [StartTLS()]

    def _say_id(self) -> list[Step]:
        if not self._identity:
            return self._say_capability()
        self._hear = self._hear_id
        return [Say(self._identity)]

    def _hear_id(self, piece: Piece) -> list[Step]:
        # A server that does not know ID says BAD, and works all the same.
        return [] if self._answer(piece, _ID_TAG) is None else self._say_capability()

    def _say_capability(self) -> list[Step]:
        if not self._want or self._capabilities:
            return self._ready()
        self._hear = self._hear_capability
        return [Say(_CAPABILITY_TAG + b" CAPABILITY" + CRLF)]

    def _hear_capability(self, piece: Piece) -> list[Step]:
        condition = self._answer(piece, _CAPABILITY_TAG)
        if piece.first and piece.whole:
            self._tell(capability_words(piece.octets))
        return [] if condition is None else self._ready()

    def _tell(self, words: list[bytes] | None) -> None:
        if words is not None:
            self._capabilities = _as_set(tuple(words))

    def _ready(self) -> list[Step]:
        self._done = True
        return [Ready(self._greeting, self._capabilities, self._stream.take_rest())]

    def _answer(self, piece: Piece, tag: bytes) -> bytes | None:
        """
        The condition of the answer to a command of ours; C{None} for everything else.
        """
        self._heed_bye(piece)
        found = status_of(piece.octets) if piece.first else None
        return found[1] if found is not None and found[0] == tag else None

    def _heed_bye(self, piece: Piece) -> None:
        if piece.first and status_of(piece.octets) == (b"*", b"BYE"):
            # In the clear anybody on the way may have said it, so the client is not told.
            text = "" if self._clear else text_of(piece.octets)
            raise Trouble.REFUSED.error(f"it says {_shown(piece)}", text)


@lru_cache(maxsize=64)
def _as_set(words: tuple[bytes, ...]) -> frozenset[bytes]:
    # All links to one upstream hear the same, and keep it as long as they live.
    return frozenset(word.upper() for word in words)


def _nothing(piece: Piece) -> list[Step]:
    raise AssertionError(f"octets in the clear while TLS begins: {_shown(piece)}")


def _shown(piece: Piece) -> str:
    return repr(sanitised(piece.octets))
