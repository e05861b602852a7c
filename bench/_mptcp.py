"""
MPTCP of the kernel (RFC 8684), as a network manager on the handset sets it up: one endpoint for each network that is attached.

Invariants: everything but the endpoints and the limits on their number is at the kernel's defaults; a figure counts only when
the connection was MPTCP to the end (L{fell_back}).
"""

from __future__ import annotations

import socket
import struct
import subprocess
from pathlib import Path

from tests.netlab import Lab, Network

_SOL_MPTCP = 284
_MPTCP_INFO = 1
_FALLBACK = 1
_COUNTERS = (
    *("MPCapableSYNACKRX", "MPJoinSynAckRx", "MPCapableFallbackSYNACK", "MPFallbackTokenInit"),
    *("MPTCPRetrans", "SubflowStale"),
)
_SUBFLOWS = "8"


def available() -> bool:
    """
    Whether this kernel has it, switched on.
    """
    file = Path("/proc/sys/net/mptcp/enabled")
    return file.exists() and file.read_text("ascii").strip() == "1"


class PathManager:
    """
    What a network manager does on the handset.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        for place in (lab.handset, lab.server):
            self._mptcp(place, f"limits set subflow {_SUBFLOWS} add_addr_accepted {_SUBFLOWS}")

    def _mptcp(self, place: str, words: str) -> None:
        subprocess.run(["ip", "-n", place, "mptcp", *words.split()], check=True, capture_output=True, text=True)

    def begin(self, networks: list[Network], backup: bool) -> None:
        """
        The networks that are attached, and no others.

        @param backup: those behind the first are only used when that one does not do.
        """
        self._mptcp(self._lab.handset, "endpoint flush")
        for number, one in enumerate(networks):
            self.add(one, backup and number > 0)

    def add(self, network: Network, backup: bool = False) -> None:
        """
        A network was attached.
        """
        words = f"endpoint add {network.handset_address} dev {network.interface} id {_id(network)} subflow fullmesh"
        self._mptcp(self._lab.handset, words + " backup" * backup)

    def demote(self, network: Network) -> None:
        """
        There is a better one now.
        """
        self._mptcp(self._lab.handset, f"endpoint change id {_id(network)} backup")

    def remove(self, network: Network) -> None:
        """
        A network was detached.
        """
        self._mptcp(self._lab.handset, f"endpoint delete id {_id(network)}")


def _id(network: Network) -> int:
    return 1 + ("wlan", "xg").index(network.name)


def fell_back(sock: socket.socket) -> bool:
    """
    Whether a connection is not MPTCP, or is so no more.
    """
    try:
        info = sock.getsockopt(_SOL_MPTCP, _MPTCP_INFO, 96)
    except OSError:
        return True
    flags: int = struct.unpack_from("I", info, 8)[0]
    return bool(flags & _FALLBACK)


def counters(lab: Lab) -> dict[str, int]:
    """
    What the handset's kernel has counted, as C{nstat} shows it.
    """
    with lab.inside(lab.handset):
        lines = Path("/proc/thread-self/net/netstat").read_text("ascii").splitlines()
    names, values = (line.split()[1:] for line in lines if line.startswith("MPTcpExt:"))
    found = dict(zip(names, map(int, values), strict=True))
    return {name: found.get(name, 0) for name in _COUNTERS}
