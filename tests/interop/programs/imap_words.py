"""
The little of IMAP that scripts on top of C{imaplib} need.
"""

from __future__ import annotations

import imaplib
import re
import ssl
from typing import Any

from tests.interop.programs.target import PATIENCE, Target

_LISTED = re.compile(rb'\((?P<attributes>[^)]*)\) (?:"(?:[^"\\]|\\.)*"|NIL) (?P<name>.*)', re.DOTALL)


def connect(target: Target) -> imaplib.IMAP4:
    """
    A connection that is logged in; to be used in a C{with}.

    @raise OSError: the server cannot be reached, or its certificate is not the right one.
    @raise imaplib.IMAP4.error: it refuses.
    """
    client: imaplib.IMAP4
    if target.authority is None:
        client = imaplib.IMAP4(target.host, target.port, PATIENCE)
    else:
        context = ssl.create_default_context(cafile=target.authority)
        client = imaplib.IMAP4_SSL(target.host, target.port, ssl_context=context, timeout=PATIENCE)
    try:
        client.login(target.user, target.password)
    except BaseException:
        client.shutdown()
        raise
    return client


def quoted(name: str) -> str:
    """
    A name as a quoted string.
    """
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def names_of(listed: list[Any]) -> list[str]:
    """
    Names of the mailboxes that can be selected, sorted, from what C{imaplib} gives for LIST.

    @raise ValueError: an answer is not one.
    """
    found = []
    for answer in listed:
        line = answer[0] if isinstance(answer, tuple) else answer
        if line is None or (isinstance(answer, bytes) and not line):
            continue
        match = _LISTED.fullmatch(line)
        if match is None:
            raise ValueError(f"not an answer to LIST: {line!r}")
        if b"\\noselect" in match["attributes"].lower() or b"\\nonexistent" in match["attributes"].lower():
            continue
        name = match["name"]
        if isinstance(answer, tuple):
            name = answer[1]
        elif name.startswith(b'"'):
            name = re.sub(rb"\\(.)", rb"\1", name[1:-1])
        found.append(name.decode("ascii"))
    return sorted(found)
