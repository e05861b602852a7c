"""
How a connection is made to leave by one network: bound to its device, or where the system does not allow that, to an address.

A device chooses the network by itself and for both families; an address alone leaves the choice to the routing table, and is
right only for as long as the host has it.
"""

from __future__ import annotations

import socket

from twisted.internet.abstract import isIPv6Address

from mem_continuity.agent.networks import Network

_BIND_TO_DEVICE: int | None = getattr(socket, "SO_BINDTODEVICE", None)


def may_bind(device: str) -> bool:
    """
    Whether a connection can be bound to a device.  Linux lets everybody do so since 5.7, before it wants C{CAP_NET_RAW}.
    """
    if _BIND_TO_DEVICE is None:
        return False
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, _BIND_TO_DEVICE, device.encode() + b"\0")
    except OSError:
        return False
    return True


def binding_of(network: Network, host: str) -> tuple[str | None, str | None]:
    """
    What to bind a connection to a server to: at most one of both.  To be asked again whenever the networks have changed.

    @param host: the server's, a name or a literal address, which the address has to suit.
    @return: the name of a device and an address of this host, as C{device} and C{source} of
        L{DeviceEndpoint<mem_continuity.client.paths.DeviceEndpoint>}.
    """
    if network.index == 0:
        return None, None
    if may_bind(network.name):
        return network.name, None
    by_version = {":" in address: address for address in reversed(network.addresses)}
    # A server that is given by name most likely has an address of version 4; with another one it is not reached this way.
    wanted = isIPv6Address(host) or False not in by_version
    return None, by_version.get(wanted)
