"""
Why an upstream cannot be had.

Invariant: C{str()} of an error is fit for a client's eyes: no address, no name of a file, nothing that a client sent.  What the
operator needs stands in L{UpstreamError.detail}, for the log.
"""

from __future__ import annotations

import re
from enum import Enum

_NOT_SHOWN = re.compile(rb"[^\x20-\x7e]")
_CODE = re.compile(r"\[[^\]]*\] ?")
_MOST_TEXT = 200
"""Characters of an upstream's own text that are passed on."""


class Trouble(Enum):
    """
    The kinds of trouble; the value is what the client is told when there is nothing better to say.
    """

    UNREACHABLE = "the mail server cannot be reached"
    SLOW = "the mail server does not answer in time"
    CERTIFICATE = "the mail server's certificate is not to be trusted"
    INSECURE = "no secure connection to the mail server can be made"
    REFUSED = "the mail server refuses the connection"
    UNFIT = "the mail server cannot be used"
    LOST = "the mail server closed the connection"

    def error(self, detail: str, text: str = "") -> UpstreamError:
        """
        An error of this kind.

        @param text: for the client, when there is something better to say.
        """
        return UpstreamError(text or self.value, self, detail)


class UpstreamError(Exception):
    """
    No link to an upstream came about.

    @ivar text: for the client; printable ASCII in one line, without a response code.
    @ivar kind: for deciding.
    @ivar detail: for the log.
    """

    def __init__(self, text: str, kind: Trouble = Trouble.UNFIT, detail: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.kind = kind
        self.detail = detail or text

    @property
    def public(self) -> bytes:
        """
        L{text} as it goes over the wire.
        """
        return self.text.encode("ascii")


def sanitised(octets: bytes) -> str:
    """
    What an upstream said, as one short line of printable ASCII.
    """
    return _NOT_SHOWN.sub(b"?", octets.strip()[:_MOST_TEXT]).decode("ascii")


def text_of(line: bytes) -> str:
    """
    The human-readable text of a status response (RFC 9051 section 7.1), without its response code.

    @param line: such as C{* BYE [UNAVAILABLE] Come back later}; anything.
    """
    said = line.split(b" ", 2)[2:]
    return _CODE.sub("", sanitised(said[0]), count=1) if said else ""
