"""
What C{--listen} takes: Twisted's server endpoint strings, and C{tls:} for TLS with the operator's certificate.

C{tls:PORT[:interface=ADDRESS][:backlog=N][:proxied=yes]}, or C{tls:systemd=INDEX[:proxied=yes]} for a socket that systemd has
opened.  That TLS stands on the descriptor (L{mem_continuity.layer.tls_endpoints}).

Invariant: nothing listens before C{listen} of an endpoint is called, and every error in a description is found before that.
"""

from __future__ import annotations

from socket import socket
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint

from mem_continuity.core.policy import Policy
from mem_continuity.layer.descriptions import NamedOptions, split_description
from mem_continuity.layer.tls_contexts import server_context
from mem_continuity.layer.tls_endpoints import TLSServerEndpoint

_OPTIONS = ("interface", "backlog", "proxied", "systemd")
_BACKLOG = 1024


def server_endpoint(reactor: Any, description: str, pem: bytes | None, policy: Policy) -> IStreamServerEndpoint:
    """
    The endpoint of a description.  Called by the options -> services step.

    @param pem: key and certificates for C{tls:}; None when there are none, and then C{tls:} is an error.
    @raise ValueError: it cannot be used; the text says why.  For a description that is not C{tls:} Twisted and its plugins may
        raise anything.
    """
    parts = split_description(description)
    if parts[0] != (None, "tls"):
        endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
        return endpoint
    if pem is None:
        raise ValueError("tls: needs a certificate")
    positional = [value for name, value in parts[1:] if name is None]
    options = NamedOptions("tls", _OPTIONS, [(name, value) for name, value in parts if name is not None])
    index = options.text("systemd")
    if (index is None) != (len(positional) == 1):
        raise ValueError("tls: takes a port, as in tls:993, or a socket of systemd, as in tls:systemd=0")
    return TLSServerEndpoint(
        reactor,
        _number("the port", positional[0], 65535) if index is None else 0,
        server_context(pem),
        interface=options.text("interface") or "",
        backlog=_number("backlog", options.text("backlog") or str(_BACKLOG), 2**31 - 1),
        proxied=options.flag("proxied"),
        policy=policy,
        sock=None if index is None else _inherited(reactor, _number("systemd", index, 2**31 - 1)),
    )


def _number(what: str, text: str, most: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > most:
        raise ValueError(f"{what} is a number up to {most}, not {text!r}")
    return int(text)


def _inherited(reactor: Any, index: int) -> socket:
    """
    A socket that systemd has opened for us (sd_listen_fds(3)).

    Twisted takes the environment's word for them, and out of the environment, when its endpoints are loaded; so it is asked.
    """
    try:
        found: Any = serverFromString(reactor, f"systemd:domain=INET:index={index}")
    except IndexError:
        raise ValueError(f"systemd has given no socket of number {index}; see systemd.socket(5)") from None
    return socket(fileno=found.fileno)
