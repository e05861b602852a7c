"""
Clients that log in, select, lose their link and come back: the openings that tests of parking, GRAFT and logout share.
"""

from __future__ import annotations

import re

from mem_continuity.server.resident import Resident
from mem_continuity.server.served import Served
from tests.support.raw_client import RawClient
from tests.support.site import Site

CLIENT_ID = b"UUID 23bf83be-aad8-46aa-9f0b-39191ccd402f"
HOME, TRAIN = "192.0.2.1", "203.0.113.1"
"""Two addresses of one client."""

_ESEARCH = re.compile(rb'\* ESEARCH \(TAG "([^"]*)"\) UID(?: ALL ([0-9:,]+))?\r\n')


def logged_in(site: Site, host: str = HOME, *, user: bytes = b"joe", client_id: bytes | None = CLIENT_ID) -> RawClient:
    """
    A client that has named itself and has logged in.
    """
    client = RawClient(site, user=user, password={b"joe": b"secret", b"ann": b"hidden"}[user], client_id=client_id)
    client.connect(host)
    said = client.login()
    assert b" OK " in said, said
    return client


def plain(
    site: Site, host: str = HOME, *, select: bytes = b"SELECT INBOX", user: bytes = b"joe", client_id: bytes | None = CLIENT_ID
) -> RawClient:
    """
    A client that has a mailbox selected and has not asked for the layer.
    """
    client = logged_in(site, host, user=user, client_id=client_id)
    said = client.command(select)
    assert b" OK " in said, said
    return client


def framed(
    site: Site, host: str = HOME, *, select: bytes = b"SELECT INBOX", user: bytes = b"joe", client_id: bytes | None = CLIENT_ID
) -> RawClient:
    """
    A client in the layer, with a mailbox selected.
    """
    client = logged_in(site, host, user=user, client_id=client_id)
    client.start()
    said = client.call(select)
    assert b" OK " in said, said
    return client


def served_of(client: RawClient) -> Served:
    """
    The server's side of a client's link.
    """
    served = client.link.link.served
    assert served is not None, "nothing is bound to this link"
    return served


def resident_of(client: RawClient) -> Resident:
    """
    The same, for a site that serves mailboxes in this process.
    """
    served = served_of(client)
    assert isinstance(served, Resident)
    return served


def session_id_of(client: RawClient) -> bytes:
    """
    The handle of its record.
    """
    session_id = served_of(client).session_id
    assert session_id is not None, "it has no record"
    return session_id


def graft(client: RawClient, session_id: bytes = b"") -> bytes:
    """
    Ask for a GRAFT.

    @return: the whole answer.
    """
    return client.command(b"XCONTINUITY GRAFT" + (b" " + session_id if session_id else b""))


def uid_map(answer: bytes) -> list[int]:
    """
    The UIDs that an ESEARCH names, in its order: the n-th is that of message n.
    """
    found = _ESEARCH.search(answer)
    assert found is not None, f"no ESEARCH in {answer!r}"
    uids: list[int] = []
    for part in (found.group(2) or b"").split(b","):
        if part:
            first, _, last = part.partition(b":")
            uids += range(int(first), int(last or first) + 1)
    return uids
