"""
Client endpoints as descriptions: C{continuity:} for a connection that roams, C{device:} for TCP through one network interface.

C{continuity:tls:imap.example.org:993:continuityVia=wlan0,wwan0} connects as C{tls:imap.example.org:993} does, by the first of
these networks that works, and moves on to another when it fails.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping
from typing import Any

from twisted.internet.endpoints import clientFromString

from mem_continuity.client.paths import DeviceEndpoint, Path
from mem_continuity.client.roaming import RoamingEndpoint
from mem_continuity.core.policy import RoamingPolicy
from mem_continuity.layer.descriptions import Options, join_description, require_description

_INTERFACE_NAME = 15
"""Octets of the longest name of a network interface: IFNAMSIZ of Linux without its NUL."""


def device_endpoint(
    reactor: Any,
    interface: str = "",
    host: str = "",
    port: str = "",
    *,
    timeout: str = "30",
    bindAddress: str | None = None,
    **unknown: object,
) -> DeviceEndpoint:
    """
    Make the endpoint of C{device:INTERFACE:HOST:PORT[:timeout=SECONDS][:bindAddress=ADDRESS]}.  Called by the plugin.

    @raise ValueError: a part is missing or cannot be used.
    """
    if unknown or not interface or not host or not port:
        raise ValueError("write device:INTERFACE:HOST:PORT, optionally with :timeout=SECONDS and :bindAddress=ADDRESS")
    _check_interface(interface)
    if bindAddress is not None and not _is_address(bindAddress):
        raise ValueError(f"device: bindAddress is an IPv4 or IPv6 address, not {bindAddress!r}")
    number = _number("the port", port)
    if number != int(number) or not 0 < number < 65536:
        raise ValueError(f"device: the port is a whole number from 1 to 65535, not {port!r}")
    seconds = _number("timeout", timeout)
    if not seconds > 0:
        raise ValueError(f"device: timeout is a number of seconds above 0, not {timeout!r}")
    return DeviceEndpoint(reactor, host, int(number), device=interface, source=bindAddress, timeout=seconds)


def _number(what: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"device: {what} is a number, not {text!r}")
    return number


def _check_interface(name: str) -> None:
    if len(name.encode("utf-8")) > _INTERFACE_NAME or "/" in name or not name.isprintable() or " " in name:
        raise ValueError(f"{name!r} can be neither an address nor the name of a network interface")


def _is_address(text: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
        return True
    return False


def _named(args: tuple[object, ...], kwargs: Mapping[str, object], position: int, name: str) -> object:
    found = kwargs.get(name, args[position] if len(args) > position else None)
    if found is None:
        raise ValueError(f"{args[0]}: has no {name}; write {args[0]}:HOST:PORT")
    return found


def _by_address(args: tuple[object, ...], kwargs: Mapping[str, object], address: str) -> str:
    if str(args[0]).lower() not in ("tcp", "tls", "ssl"):
        raise ValueError(f"continuityVia goes with tls:, tcp: or ssl:, not with {args[0]}:")
    return join_description(args, {**kwargs, "bindAddress": address})


def _by_interface(args: tuple[object, ...], kwargs: Mapping[str, object], interface: str) -> str:
    _check_interface(interface)
    kind = str(args[0]).lower()
    if kind not in ("tcp", "tls"):
        raise ValueError(f"continuityVia with an interface goes with tls: or tcp:, not with {args[0]}:")
    host, port = _named(args, kwargs, 1, "host"), _named(args, kwargs, 2, "port")
    below = {key: kwargs[key] for key in ("timeout", "bindAddress") if key in kwargs}
    device = join_description(["device", interface, host, port], below)
    if kind == "tcp":
        return device
    return join_description(args, {**kwargs, "endpoint": device})


def _paths(reactor: Any, args: tuple[object, ...], kwargs: Mapping[str, object], via: str | None) -> list[Path]:
    if via is None:
        return [Path("default", clientFromString(reactor, join_description(args, kwargs)))]
    given = [name for name in ("endpoint", "bindAddress") if name in kwargs]
    if given:
        raise ValueError(f"continuityVia and {given[0]} both say which way to go; leave one out")
    found = []
    for name in via.split(","):
        if not name:
            raise ValueError("continuityVia is a list of interfaces and source addresses, as in wlan0,wwan0 or 192.0.2.5")
        build = _by_address if _is_address(name) else _by_interface
        found.append(Path(name, clientFromString(reactor, build(args, kwargs, name))))
    if len({path.name for path in found}) < len(found):
        raise ValueError(f"continuityVia names a way twice: {via}")
    return found


def _client_id(text: str | None) -> tuple[bytes, bytes] | None:
    if text is None:
        return None
    kind, _, value = text.partition("/")
    if not kind or not value or not text.isascii() or not text.isprintable():
        raise ValueError(f"continuityClientID is TYPE/VALUE in printable ASCII, as in UUID/23bf83be, not {text!r}")
    return kind.encode("ascii"), value.encode("ascii")


def client_endpoint(reactor: Any, args: tuple[object, ...], kwargs: Mapping[str, object]) -> RoamingEndpoint:
    """
    Make the endpoint of a C{continuity:} description.  Called by the plugin.

    @param args: the positional parts behind the prefix.
    @param kwargs: the named parts.
    @raise ValueError: an option is wrong, or what follows the prefix is no client endpoint.
    """
    require_description(args, "continuity:tls:imap.example.org:993")
    options = Options(kwargs)
    policy = options.policy(RoamingPolicy)
    via = options.text("Via")
    client_id = _client_id(options.text("ClientID"))
    prepare = options.flag("Prepare", False)
    options.done()
    paths = _paths(reactor, args, options.rest, via)
    return RoamingEndpoint(paths, reactor=reactor, policy=policy, client_id=client_id, prepare=prepare)
