"""
What an upstream is: the IMAP server behind the gateway, as its operator describes it in one line.

Descriptions are written in the manner of Twisted's endpoint strings: parts between colons, options as C{name=value}, a backslash
before a colon, an equals sign or a backslash that is meant as such::

    tls:imap.example.org            starttls:10.0.0.2:authority=/etc/old.pem
    tcp:localhost:1143:proxy=yes    unix:/run/dovecot/imap

Invariants: a description is judged whole, once, at the start: L{parse_upstream} gives an upstream that can be connected to, or a
L{ValueError} of one line; passwords never go in the clear beyond this machine unless C{insecure=yes} says so.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from functools import cached_property

from twisted.internet.interfaces import IOpenSSLClientConnectionCreator

from mem_continuity.gateway.trust import make_creator, parse_pin, read_authority
from mem_continuity.layer.descriptions import NamedOptions, split_description

_PORTS = {"tls": 993, "starttls": 143, "tcp": 143}
_SECURED = ("tls", "starttls")
_ALWAYS = ("proxy", "id")
_OPTIONS = {
    "tls": ("authority", "name", "pin", "verify", *_ALWAYS),
    "starttls": ("authority", "name", "pin", "verify", *_ALWAYS),
    "tcp": ("insecure", *_ALWAYS),
    "unix": _ALWAYS,
}
_FORMS = "tls:HOST[:PORT], starttls:HOST[:PORT], tcp:HOST[:PORT] or unix:PATH"
_MOST_HOST = 253
"""Characters of the longest name of a host."""


@dataclass(frozen=True)
class Upstream:
    """
    One IMAP server that the gateway passes users on to.  Made by L{parse_upstream}.

    @ivar kind: C{tls}, C{starttls}, C{tcp} or C{unix}.
    @ivar host: a name or an address, without brackets; empty for C{unix}.
    @ivar port: 0 for C{unix}.
    @ivar path: of the socket, for C{unix}.
    @ivar name: what the certificate is verified for, and SNI asks for.
    @ivar authority: PEM of an own certificate authority, as it was read at the start; C{None} for what the platform trusts.
    @ivar pins: SHA-256 digests of the public keys that it may have; empty for any.
    @ivar pin_only: the certificate is not verified beyond its pin.
    @ivar proxy: it is told the client's address by a PROXY header.
    @ivar tell: it is told the client's address by ID (C{id=yes}).
    """

    kind: str
    host: str = ""
    port: int = 0
    path: str = ""
    name: str = ""
    authority: bytes | None = field(default=None, repr=False)
    pins: tuple[bytes, ...] = ()
    pin_only: bool = False
    proxy: bool = False
    tell: bool = False

    @property
    def secured(self) -> bool:
        """
        Whether the connection is under TLS, from its beginning or by STARTTLS.
        """
        return self.kind in _SECURED

    @cached_property
    def creator(self) -> IOpenSSLClientConnectionCreator:
        """
        What TLS connections to it are made from: one context for all.
        """
        return make_creator(self.name, self.authority, self.pin_only)

    @property
    def label(self) -> str:
        """
        What logs call it: where it is, without options.
        """
        if self.kind == "unix":
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind}:{host}:{self.port}"

    def __str__(self) -> str:
        return self.label


def parse_upstream(text: str) -> Upstream:
    """
    Understand a description.  Called by the options -> services step and by
    L{read_routes<mem_continuity.gateway.routing.read_routes>}.

    @param text: see above; options are C{authority} (a file of certificates in PEM form), C{name} (what the certificate has to be
        for), C{pin} (SHA-256 of the public key, repeated or separated by commas), C{verify} (C{full}, or C{pin} to verify
        nothing else), C{proxy}, C{id} and C{insecure} (yes or no).
    @raise ValueError: it cannot be used; the text is one line that says what is wrong and what to do.
    """
    try:
        return _parse(text)
    except ValueError as error:
        raise ValueError(f"upstream {text!r}: {error}") from None


def _parse(text: str) -> Upstream:
    parts = split_description(text)
    positional = [value for name, value in parts if name is None]
    kind = positional[0].lower() if positional else ""
    if kind not in _OPTIONS:
        raise ValueError(f"write {_FORMS}")
    named = [(name, value) for name, value in parts if name is not None]
    options = NamedOptions(kind, _OPTIONS[kind], named, repeated="pin")
    if kind == "unix":
        upstream = Upstream(kind, path=_path(positional[1:]), proxy=options.flag("proxy"), tell=options.flag("id"))
    else:
        host, port = _place(kind, positional[1:])
        upstream = _over_tcp(kind, host, port, options)
    return upstream


def _over_tcp(kind: str, host: str, port: int, options: NamedOptions) -> Upstream:
    proxy, tell = options.flag("proxy"), options.flag("id")
    if kind == "tcp":
        if not options.flag("insecure") and not _is_here(host):
            raise ValueError("tcp: sends passwords in the clear; over a network write tls: or starttls:, or add :insecure=yes")
        return Upstream(kind, host, port, proxy=proxy, tell=tell)
    name = options.text("name") or host.partition("%")[0]
    _check_host(name, "name")
    pins = tuple(parse_pin(one) for one in options.all("pin"))
    verify = options.text("verify") or "full"
    if verify not in ("full", "pin"):
        raise ValueError(f"verify is full or pin, not {verify!r}")
    path = options.text("authority")
    if verify == "pin" and not pins:
        raise ValueError("verify=pin needs a pin; add pin= with the SHA-256 of the server's public key")
    if verify == "pin" and path is not None:
        raise ValueError("verify=pin asks no authority; leave authority= or verify=pin out")
    authority = None if path is None else read_authority(path)
    upstream = Upstream(kind, host, port, "", name, authority, pins, verify == "pin", proxy, tell)
    assert upstream.creator is not None  # made now, so that what is wrong with it is found now
    return upstream


def _path(positional: list[str]) -> str:
    if len(positional) != 1 or not positional[0] or "\0" in positional[0]:
        raise ValueError("write unix:PATH; a colon in the path stands behind a backslash")
    return positional[0]


def _place(kind: str, positional: list[str]) -> tuple[str, int]:
    if not 1 <= len(positional) <= 2:
        raise ValueError(f"write {kind}:HOST[:PORT]; an IPv6 address stands in brackets, and options have the form name=value")
    host, port = positional[0], _PORTS[kind]
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            raise ValueError("brackets are for IPv6 addresses; write the host without them")
    _check_host(host, "the host")
    if len(positional) == 2:
        digits = positional[1]
        port = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 6 else 0
        if not 0 < port < 65536:
            raise ValueError(f"the port is a whole number from 1 to 65535, not {digits!r}")
    return host, port


def _check_host(host: str, what: str) -> None:
    if ":" in host:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError(f"{what} has a colon but is no IPv6 address: {host!r}") from None
    wrong = not host.isprintable() or any(one in " /@[]\\,;" for one in host)
    if not host or wrong or host.startswith(".") or len(host) > _MOST_HOST:
        raise ValueError(f"{what} is the name of a host or an address, not {host!r}")


def _is_here(host: str) -> bool:
    """
    Whether what is sent to a host stays on this machine.
    """
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower() == "localhost"
