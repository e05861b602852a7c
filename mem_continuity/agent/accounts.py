"""
The accounts of an agent, as its owner describes them: a server each, and where the mail program finds it on this host.

Invariants: a description is judged whole, once, at the start; every error is a L{ValueError} of one line that says where it
stands and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mem_continuity.core.policy import Policy
from mem_continuity.gateway.upstream import Upstream, parse_upstream
from mem_continuity.layer.descriptions import read_toml

DEFAULT_LISTEN = "tcp:10143:interface=127.0.0.1"
"""Where a program finds the account when nothing else is said: in the clear, for it does not leave this host."""

_LONGEST = Policy().client_id_value
_NAME = re.compile(r"[A-Za-z0-9._@+-]{1,64}")
_KEYS = {"client_id", "ignored", "listen", "metered", "networks", "prepare", "server"}


@dataclass(frozen=True)
class AccountSpec:
    """
    One account.

    @ivar name: for people, and for the client ID that is kept under it.
    @ivar listen: descriptions of server endpoints.
    @ivar networks: patterns of network devices in the order in which they are preferred; empty for the system's order.
    @ivar metered: patterns of devices that cost money, and so come last.
    @ivar ignored: patterns of devices that are never used.
    @ivar client_id: type and value; None for one that is made once.
    @ivar prepare: keep a second link ready on another network.
    """

    name: str
    server: Upstream
    listen: tuple[str, ...] = (DEFAULT_LISTEN,)
    networks: tuple[str, ...] = ()
    metered: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    client_id: tuple[bytes, bytes] | None = None
    prepare: bool = False


def parse_server(text: str) -> Upstream:
    """
    Understand the description of a server: C{tls:HOST[:PORT]}, C{starttls:HOST[:PORT]} or C{tcp:HOST[:PORT]}, with the options of
    L{parse_upstream<mem_continuity.gateway.upstream.parse_upstream>}, but for C{proxy} and C{id}, which are for gateways.

    @raise ValueError: it cannot be used.
    """
    try:
        server = parse_upstream(text)
    except ValueError as error:
        raise ValueError(str(error).removeprefix("upstream ")) from None
    if server.kind == "unix":
        raise ValueError(f"{text!r}: a socket of this host needs no agent; write tls:, starttls: or tcp:")
    if server.proxy or server.tell:
        raise ValueError(f"{text!r}: proxy= and id= are for gateways; leave them out")
    return server


def parse_client_id(text: str) -> tuple[bytes, bytes]:
    """
    Understand C{TYPE/VALUE}.

    @return: both, for CLIENTID.
    @raise ValueError: it is something else.
    """
    kind, _, value = text.partition("/")
    if not kind or not value or not text.isascii() or not text.isprintable():
        raise ValueError(f"a client ID is TYPE/VALUE in printable ASCII, as in UUID/23bf83be, not {text!r}")
    if len(value) > _LONGEST:
        raise ValueError(f"a client ID has at most {_LONGEST} characters behind TYPE/; servers take no longer ones")
    return kind.encode("ascii"), value.encode("ascii")


def read_accounts(path: str) -> list[AccountSpec]:
    """
    Read a file in TOML::

        [accounts.work]
        server = "tls:imap.example.org"
        listen = "tcp:10143:interface=127.0.0.1"      # or several, as a list
        networks = ["wlan*", "wwan*"]                 # optional, the preferred ones first
        metered = ["usb*"]                            # optional: after all others that are not named
        ignored = ["docker*"]                         # optional
        client_id = "UUID/23bf83be"                   # optional
        prepare = true                                # optional

    @raise ValueError: it cannot be used; the text names the file and the place.
    """
    content = read_toml(path, "the accounts file")
    try:
        return _accounts(content)
    except ValueError as error:
        raise ValueError(f"the accounts file {path!r}: {error}") from None


def _accounts(content: Mapping[str, Any]) -> list[AccountSpec]:
    wrong = sorted(set(content) - {"accounts"})
    if wrong:
        raise ValueError(f"there is no {wrong[0]!r}; write [accounts.NAME]")
    tables = content.get("accounts", {})
    if not isinstance(tables, dict) or not tables:
        raise ValueError('there is no account; add [accounts.NAME] with a line such as server = "tls:imap.example.org"')
    found = []
    for name, table in tables.items():
        try:
            found.append(_account(name, table))
        except ValueError as error:
            raise ValueError(f"accounts.{name}: {error}") from None
    places: dict[str, str] = {}
    for spec in found:
        for one in spec.listen:
            if one in places:
                raise ValueError(f"{places[one]} and {spec.name} listen on the same {one}; give one of them another port")
            places[one] = spec.name
    return found


def _account(name: str, table: object) -> AccountSpec:
    if not _NAME.fullmatch(name):
        raise ValueError("a name is of letters, digits and . _ @ + -")
    if not isinstance(table, dict):
        raise ValueError(f'write [accounts.{name}] and below it a line such as server = "tls:imap.example.org"')
    wrong = sorted(set(table) - _KEYS)
    if wrong:
        raise ValueError(f"there is no {wrong[0]!r}; there are {', '.join(sorted(_KEYS))}")
    server, client_id, prepare = table.get("server"), table.get("client_id"), table.get("prepare", False)
    if not isinstance(server, str):
        raise ValueError('server is missing; add a line such as server = "tls:imap.example.org"')
    if not isinstance(prepare, bool):
        raise ValueError("prepare is true or false")
    if client_id is not None and not isinstance(client_id, str):
        raise ValueError('client_id is a text, as in "UUID/23bf83be"')
    return AccountSpec(
        name,
        parse_server(server),
        _texts(table, "listen") or (DEFAULT_LISTEN,),
        _texts(table, "networks"),
        _texts(table, "metered"),
        _texts(table, "ignored"),
        None if client_id is None else parse_client_id(client_id),
        prepare,
    )


def _texts(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if key == "listen" and isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise ValueError(f"{key} is a list of texts")
    if key == "listen" and key in table and not value:
        raise ValueError("listen has nothing in it; a mail program would not find the account")
    return tuple(value)
