"""
A record: what is found under a user and a client ID.

Records are plain data without keys, credentials or mail, so that they can be kept anywhere.  All texts are octets as the
client gave them; nothing in a record is ever put into a command or a response without being quoted for that place.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClientID:
    """
    The name that a client gives itself by C{CLIENTID <type> <value>}.  A selector, never a secret.
    """

    type: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Selection:
    """
    A mailbox in the selected state, as far as a record knows it.

    @ivar name: as the client named it.
    """

    name: bytes
    read_only: bool
    uid_validity: int | None


@dataclass(frozen=True, slots=True)
class Record:
    """
    One link of one client: where its session lives and the IMAP state it is in.

    @ivar session_id: a handle with the node's name in it.
    @ivar enabled: what was ENABLEd.
    @ivar since: seconds since the epoch at which the record was made.
    """

    session_id: bytes
    user: bytes
    client_id: ClientID
    since: float
    selection: Selection | None = None
    enabled: frozenset[bytes] = frozenset()
