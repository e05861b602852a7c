"""
The ID command (RFC 2971) of a client on its way to a server that may trust whoever hands it on.

Some servers take fields whose names begin with C{x-}, such as where a client comes from, from those that they trust.  A client's
own word for that would be taken for the gateway's, so such fields do not pass.

Invariant: what passes is either the very octets of the client, without a trace of such a name, or made anew from what was
understood.
"""

from __future__ import annotations

from collections.abc import Sequence

from mem_continuity.imap.lexer import CommandSyntaxError, quote, split_arguments

_OURS = b"x-"
_ESCAPE = b"\\"  # behind which a letter means itself, for a server that is not strict


def without_origin(pieces: Sequence[bytes]) -> bytes:
    """
    What may stand behind C{ID}.

    @param pieces: see L{split_arguments}.
    @return: the arguments in one line, without a literal, with the space before them.
    @raise CommandSyntaxError: there is something in it that has to be understood, and it cannot be.
    """
    if len(pieces) == 1 and _OURS not in pieces[0].lower() and _ESCAPE not in pieces[0]:
        return pieces[0]
    first, last = pieces[0], pieces[-1]
    if not first.startswith(b" (") or not last.endswith(b")"):
        raise CommandSyntaxError("ID takes a list of strings in pairs")
    inner = [*pieces]
    inner[-1] = inner[-1][:-1]
    inner[0] = b" " + inner[0][2:]
    words = split_arguments(inner)
    if len(words) % 2:
        raise CommandSyntaxError("ID takes a list of strings in pairs")
    pairs = zip(words[::2], words[1::2], strict=True)
    kept = [_string(word) for name, value in pairs if not name.lower().startswith(_OURS) for word in (name, value)]
    return b" (" + b" ".join(kept) + b")" if kept else b" NIL"


def _string(word: bytes) -> bytes:
    text = quote(word)
    return text if text.startswith(b'"') else b"NIL"  # it would need a literal
