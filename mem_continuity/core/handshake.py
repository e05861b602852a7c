"""
START, RESUME and GRAFT as they stand on the wire, and the proofs of a RESUME.

Everything here is a function of its arguments: octets to values (C{parse_...}), values to octets (C{format_...}), and
HMAC-SHA-256 over an encoding in which no two different sets of values look alike (every field carries its length).

The channel binding is the C{tls-exporter} of RFC 9266, which is unique to a link only under TLS 1.3 (or with extended master
secrets, which cannot be asked for here): a link of an older TLS has none.  Its kind is fixed at START and is part of what is
proved, so a RESUME cannot be talked down to a weaker kind.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
import secrets
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from mem_continuity.core.frames import MOST_OFFSET

KEY_LENGTH = 32
"""Octets of a session's key."""

BINDING_LABEL = b"EXPORTER-Channel-Binding"
"""RFC 9266, section 4.2: the exporter's label; there is no context value."""

BINDING_LENGTH = 32
"""RFC 9266, section 4.2: octets asked of the exporter."""

_CLIENT_LABEL = b"XCONTINUITY client resume"
_SERVER_LABEL = b"XCONTINUITY server resume"
_CLIENT_DRAIN_LABEL = b"XCONTINUITY client drain"
_SERVER_DRAIN_LABEL = b"XCONTINUITY server drain"
_MOST_ATTEMPT = 2**32 - 1
_SESSION_ID = re.compile(rb"[A-Za-z0-9_-]{1,32}\.[A-Za-z0-9_-]{8,64}")
_NODE = re.compile(rb"[A-Za-z0-9_-]{1,32}")


class HandshakeError(ValueError):
    """
    What came is not in the grammar; the text says what is wrong and is fit for a BAD response.
    """


class Binding(Enum):
    """
    What a RESUME is bound to, beside the key.
    """

    NONE = b"none"
    TLS_EXPORTER = b"tls-exporter"


class Refusal(Enum):
    """
    Why a RESUME was not granted: the word after XCONTINUITY in a NO response.
    """

    GONE = b"GONE"
    ENDED = b"ENDED"
    STALE = b"STALE"
    BEHIND = b"BEHIND"
    RETRY = b"RETRY"


@dataclass(frozen=True, slots=True)
class Terms:
    """
    What both sides know of a session from START on.

    @ivar grace: seconds that a parked session waits.
    @ivar window: octets kept unacknowledged, per direction.
    """

    session_id: bytes
    key: bytes
    grace: int
    window: int
    binding: Binding

    def __repr__(self) -> str:
        return f"<Terms {self.session_id.decode('ascii')} grace={self.grace} window={self.window} {self.binding.name}>"


@dataclass(frozen=True, slots=True)
class ResumeRequest:
    """
    The first command on a new link.

    @ivar received: octets of the server's stream that the client has handed on or has in hand.
    @ivar sent: the offset of the literal's first octet in the client's stream.
    @ivar literal: octets of the client's stream from C{sent} on.
    @ivar drain: the old link still works, and both sides are to read it to its end: the attempt by which it was granted, 0 for
        the link of START.  None when it is not to count any more.
    """

    session_id: bytes
    attempt: int
    received: int
    sent: int
    proof: bytes
    literal: bytes = b""
    drain: int | None = None


@dataclass(frozen=True, slots=True)
class Resumed:
    """
    The answer OK.

    @ivar received: how much of the client's stream the server has handed on or has in hand, before the literal.
    @ivar start: granted to a request with C{drain}: where the server's stream goes on on this link; what is before it comes by
        the old one.  None otherwise: it goes on where the client said, and the old link counts no more.
    """

    received: int
    proof: bytes
    start: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """
    The answer NO.

    @ivar number: the server's count of received octets for ENDED and BEHIND, seconds for RETRY, otherwise None.
    """

    refusal: Refusal
    number: int | None = None


def valid_node(node: bytes) -> bool:
    """
    Whether a name can stand in a session ID before the dot.
    """
    return _NODE.fullmatch(node) is not None


def valid_session_id(value: bytes) -> bool:
    """
    Whether this has the form of a session ID: a node's name, a dot, random characters.
    """
    return _SESSION_ID.fullmatch(value) is not None


def new_session_id(node: bytes) -> bytes:
    """
    A handle that no other session of any node has: 128 random bits behind the node's name.

    @raise ValueError: the node's name has other characters than letters, digits, hyphen and underscore, or over 32.
    """
    if not valid_node(node):
        raise ValueError(f"a node's name is 1 to 32 letters, digits, '-' or '_', not {node!r}")
    return node + b"." + urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=")


def new_key() -> bytes:
    """
    256 random bits.
    """
    return secrets.token_bytes(KEY_LENGTH)


def _number(text: bytes, most: int, what: str) -> int:
    if not text.isdigit() or len(text) > 20 or int(text) > most:
        raise HandshakeError(f"{what} is not a number from 0 to {most}")
    return int(text)


def _decode(text: bytes, what: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise HandshakeError(f"{what} is not base64") from None


# START


def parse_start(arguments: Sequence[bytes]) -> int | None:
    """
    The arguments after START.

    @return: the grace in seconds that the client asks for, or None.
    @raise HandshakeError: something else was there.
    """
    if not arguments:
        return None
    if len(arguments) == 2 and arguments[0].upper() == b"GRACE":
        return _number(arguments[1], 2**31 - 1, "the grace period")
    raise HandshakeError("START takes nothing, or GRACE and a number of seconds")


def format_started(terms: Terms) -> bytes:
    """
    The response code of a granted START, brackets included.
    """
    return b"[XCONTINUITY %b %b %d %d]" % (terms.session_id, b64encode(terms.key), terms.grace, terms.window)


def parse_started(code: Sequence[bytes], binding: Binding) -> Terms:
    """
    The words of a response code after XCONTINUITY, as terms.

    @raise HandshakeError: they are not what START gives.
    """
    if len(code) != 4 or not valid_session_id(code[0]):
        raise HandshakeError("the answer to START is not a session ID, a key and two numbers")
    key = _decode(code[1], "the key")
    if len(key) != KEY_LENGTH:
        raise HandshakeError("the key does not have 256 bits")
    window = _number(code[3], MOST_OFFSET, "the window")
    if not window:
        raise HandshakeError("a window of no octets cannot work")
    return Terms(code[0], key, _number(code[2], 2**31 - 1, "the grace period"), window, binding)


# RESUME


def parse_resume(arguments: Sequence[bytes], literal: bytes | None) -> ResumeRequest:
    """
    The arguments after RESUME.

    @raise HandshakeError: a part is missing, too many, or out of range.
    """
    if len(arguments) not in (5, 7) or literal is None:
        raise HandshakeError("RESUME takes a session ID, an attempt, two offsets, a proof, perhaps DRAIN and a number, a literal")
    session_id, attempt, received, sent, proof = arguments[:5]
    if len(arguments) == 7 and arguments[5].upper() != b"DRAIN":
        raise HandshakeError("after the proof of RESUME there is DRAIN or nothing")
    if not valid_session_id(session_id):
        raise HandshakeError("that is no session ID")
    request = ResumeRequest(
        session_id,
        _number(attempt, _MOST_ATTEMPT, "the attempt"),
        _number(received, MOST_OFFSET, "the count of received octets"),
        _number(sent, MOST_OFFSET, "the offset of the literal"),
        _decode(proof, "the proof"),
        literal,
        _number(arguments[6], _MOST_ATTEMPT, "the attempt of the old link") if len(arguments) == 7 else None,
    )
    if request.sent + len(literal) > MOST_OFFSET:
        raise HandshakeError("the literal ends beyond the last offset")
    return request


def format_resume(tag: bytes, request: ResumeRequest) -> bytes:
    """
    The whole command with its literal, ready for the first flight.
    """
    return b"%b XCONTINUITY RESUME %b %d %d %d %b%b {%d+}\r\n%b\r\n" % (
        tag,
        request.session_id,
        request.attempt,
        request.received,
        request.sent,
        b64encode(request.proof),
        b"" if request.drain is None else b" DRAIN %d" % request.drain,
        len(request.literal),
        request.literal,
    )


def format_resumed(resumed: Resumed) -> bytes:
    """
    The response code of a granted RESUME, brackets included.
    """
    start = b"" if resumed.start is None else b" %d" % resumed.start
    return b"[XCONTINUITY %d %b%b]" % (resumed.received, b64encode(resumed.proof), start)


def format_refused(refused: Refused) -> bytes:
    """
    The response code of a refused RESUME, brackets included.
    """
    number = b"" if refused.number is None else b" %d" % refused.number
    return b"[XCONTINUITY %b%b]" % (refused.refusal.value, number)


def parse_answer(ok: bool, code: Sequence[bytes]) -> Resumed | Refused:
    """
    The answer to a RESUME.

    @param ok: whether the tagged response was OK.
    @param code: the words after XCONTINUITY in its response code.
    @raise HandshakeError: no such answer.
    """
    if ok:
        if len(code) not in (2, 3):
            raise HandshakeError("the answer to RESUME is not a count, a proof, and perhaps an offset")
        start = _number(code[2], MOST_OFFSET, "the offset where the server goes on") if len(code) == 3 else None
        return Resumed(_number(code[0], MOST_OFFSET, "the server's count"), _decode(code[1], "the server's proof"), start)
    try:
        refusal = Refusal(code[0].upper() if code else b"")
    except ValueError:
        raise HandshakeError("the server refused RESUME in an unknown way") from None
    if refusal in (Refusal.GONE, Refusal.STALE):
        return Refused(refusal)
    if len(code) != 2:
        raise HandshakeError(f"{refusal.name} comes with a number")
    return Refused(refusal, _number(code[1], MOST_OFFSET, f"the number of {refusal.name}"))


# GRAFT


def parse_graft(arguments: Sequence[bytes]) -> bytes | None:
    """
    The arguments after GRAFT.

    @return: the session ID that is named, or None.
    @raise HandshakeError: something else was there.
    """
    if not arguments:
        return None
    if len(arguments) == 1 and valid_session_id(arguments[0]):
        return arguments[0]
    raise HandshakeError("GRAFT takes nothing, or one session ID")


# Proofs


def _prove(key: bytes, *values: bytes) -> bytes:
    encoded = b"".join(len(value).to_bytes(4, "big") + value for value in values)
    return hmac.new(key, encoded, hashlib.sha256).digest()


def client_proof(terms: Terms, attempt: int, received: int, sent: int, exported: bytes, drain: int | None = None) -> bytes:
    """
    What the client proves with.

    @param exported: the exporter's octets of this very link; empty for L{Binding.NONE}.
    @param drain: as in the request.
    """
    numbers = [b"%d" % attempt, b"%d" % received, b"%d" % sent]
    if drain is not None:
        numbers.append(b"%d" % drain)
    label = _CLIENT_LABEL if drain is None else _CLIENT_DRAIN_LABEL
    return _prove(terms.key, label, terms.session_id, *numbers, terms.binding.value, exported)


def server_proof(
    terms: Terms,
    attempt: int,
    received: int,
    sent: int,
    exported: bytes,
    server_received: int,
    start: int | None = None,
) -> bytes:
    """
    What the server proves with: the same values and its own count, and with DRAIN where its stream goes on.
    """
    numbers = [b"%d" % attempt, b"%d" % received, b"%d" % sent, b"%d" % server_received]
    if start is not None:
        numbers.append(b"%d" % start)
    label = _SERVER_LABEL if start is None else _SERVER_DRAIN_LABEL
    return _prove(terms.key, label, terms.session_id, *numbers, terms.binding.value, exported)


def same(one: bytes, other: bytes) -> bool:
    """
    Whether two proofs are equal, in a time that does not depend on where they differ.
    """
    return hmac.compare_digest(one, other)
