"""
Which upstream a user has, read from a file.

How a user is looked for: by the whole name, then by the domain behind the last C{@}, then the default.  The case of ASCII letters
does not count, as it does not for most servers; all other octets are as they are.  Two entries that differ in case only and
lead to different upstreams are refused when the file is read, so that no spelling can be a surprise.

Invariants: the file is read once and judged whole; every error is a L{ValueError} that names the file and the key; nobody can
tell from the answer whether a user is known here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from zope.interface import implementer

from mem_continuity.gateway.upstream import Upstream, parse_upstream
from mem_continuity.interfaces import IUpstreamRouter
from mem_continuity.layer.descriptions import read_toml

NOBODY = b"[AUTHENTICATIONFAILED] Authentication failed"
"""What follows NO for a user who has no upstream: what a wrong password gets."""

_MECHANISM = re.compile(r"[A-Z0-9_-]{1,20}")
"""RFC 4422 section 3.1."""

_SECTIONS = {"default", "upstreams", "users", "domains", "front"}
_FRONT = {"mechanisms", "separator"}


def _fold(entries: Mapping[bytes, Upstream]) -> dict[bytes, Upstream]:
    """
    @raise ValueError: two keys are the same but for their case, and mean different upstreams.
    """
    folded: dict[bytes, Upstream] = {}
    for key, upstream in entries.items():
        if folded.setdefault(key.lower(), upstream) != upstream:
            text = key.decode("utf-8", "replace")
            raise ValueError(f"{text!r} stands there twice, in different case and with different upstreams; leave one out")
    return folded


@implementer(IUpstreamRouter)
class StaticRouter:
    """
    A router that knows its answers beforehand.

    @ivar upstreams: all that it may ever answer.
    @ivar mechanisms: the SASL mechanisms to offer before login; C{None} when the file does not say.
    """

    def __init__(
        self,
        users: Mapping[bytes, Upstream],
        domains: Mapping[bytes, Upstream],
        default: Upstream | None,
        separator: bytes = b"",
        mechanisms: tuple[bytes, ...] | None = None,
    ) -> None:
        """
        @param users: by whole name.
        @param domains: by what stands behind the last C{@}.
        @param separator: what stands between a user and a master user who logs in for them, as in C{joe*master}; what precedes
            it is looked for.  Empty when there is no such thing.
        @raise ValueError: two keys differ in case only.
        """
        self.mechanisms = mechanisms
        self._folded = _fold(users)
        self._domains = _fold(domains)
        self._default = default
        self._separator = separator
        ends = [] if default is None else [default]
        self.upstreams = tuple(dict.fromkeys([*ends, *self._folded.values(), *self._domains.values()]))

    def route(self, user: bytes) -> Upstream | None:
        """
        @see: L{IUpstreamRouter<mem_continuity.interfaces.IUpstreamRouter.route>}
        """
        if self._separator:
            user = user.partition(self._separator)[0]
        name = user.lower()
        _, at, domain = name.rpartition(b"@")
        found = self._folded.get(name)
        if found is None and at:
            found = self._domains.get(domain)
        return self._default if found is None else found


def read_routes(path: str) -> StaticRouter:
    """
    Read a file in TOML::

        default = "main"            # without it, users who are not named below have no upstream
        [upstreams]
        main = "tls:imap.example.org"
        old = "starttls:10.0.0.2:authority=/etc/old.pem"
        [users]
        "joe@example.org" = "old"
        [domains]
        "example.com" = "old"
        [front]                     # optional: what is said before login
        mechanisms = ["PLAIN", "LOGIN"]
        separator = "*"             # joe*master is where joe is

    Called by the options -> services step.

    @raise ValueError: it cannot be used; the text is one line with the file, the key and what to do.
    """
    content = read_toml(path, "the routes file")
    try:
        return _Routes(content).router()
    except ValueError as error:
        raise ValueError(f"the routes file {path!r}: {error}") from None


class _Routes:
    """
    The content of a file.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content
        _only(content, _SECTIONS, "")
        self._upstreams = {name: _within(f"upstreams.{name}", parse_upstream, text) for name, text in self._texts("upstreams")}
        if not self._upstreams:
            raise ValueError('there is no upstream; add [upstreams] with a line such as main = "tls:imap.example.org"')

    def router(self) -> StaticRouter:
        default = self._content.get("default")
        front = self._section("front")
        _only(front, _FRONT, "front.")
        separator = front.get("separator", "")
        if not isinstance(separator, str):
            raise ValueError('front.separator is a text, as in "*"')
        return StaticRouter(
            self._table("users"),
            self._table("domains"),
            None if default is None else self._named("default", default),
            separator.encode("utf-8"),
            _mechanisms(front.get("mechanisms")),
        )

    def _section(self, name: str) -> Mapping[str, Any]:
        section = self._content.get(name, {})
        if not isinstance(section, dict):
            raise ValueError(f"{name} is a section; write [{name}] on a line of its own")
        return section

    def _texts(self, name: str) -> list[tuple[str, str]]:
        found = list(self._section(name).items())
        for key, value in found:
            if not isinstance(value, str):
                raise ValueError(f"{name}.{key} is a text in quotes; a name with a dot in it stands in quotes as well")
        return found

    def _table(self, name: str) -> dict[bytes, Upstream]:
        table = {key.encode("utf-8"): self._named(f"{name}.{key}", value) for key, value in self._texts(name)}
        for key in table:
            if not key or (name == "domains" and b"@" in key):
                raise ValueError(f"{name}.{key.decode()} is no name of {'a domain' if name == 'domains' else 'a user'}")
        _within(name, _fold, table)
        return table

    def _named(self, key: str, value: object) -> Upstream:
        if not isinstance(value, str) or value not in self._upstreams:
            raise ValueError(f"{key} is {value!r}, but the upstreams are {', '.join(sorted(self._upstreams))}")
        return self._upstreams[value]


_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


def _within(key: str, make: Callable[[_Given], _Made], given: _Given) -> _Made:
    try:
        return make(given)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _only(table: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise ValueError(f"there is no {where}{key}; there are {', '.join(where + one for one in sorted(known))}")


def _mechanisms(value: object) -> tuple[bytes, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(one, str) and _MECHANISM.fullmatch(one) for one in value):
        raise ValueError('front.mechanisms is a list of SASL mechanisms in upper case, as in ["PLAIN", "LOGIN"]')
    return tuple(one.encode("ascii") for one in value)
