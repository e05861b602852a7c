"""
The two kinds of real network: L{VethNetwork}, plain and fast, and L{TunNetwork}, emulated.

Silence is made where neither end can notice.

 - Plain: a third namespace C{air} holds one bridge per network, with a veth pair to each end.  Taking the bridge down
   drops all frames, while both ends keep their carrier.  Neighbour entries are permanent, because a failed ARP would
   be reported to the sender's socket.
 - Emulated: the emulator reads the packets and throws them away.

Invariants: the handset has one routing table per network, chosen by the source address, and that table never leads to
another network: with the interface down its traffic is refused, not diverted.  In the main table C{wlan} comes before
C{xg}.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.netlab.base import Network, stop_processes
from tests.netlab.errors import LabError
from tests.netlab.namespaces import TUN, inside, ip
from tests.netlab.shape import Counters, Direction, Shape, State, Traffic

_CHECKOUT = Path(__file__).resolve().parents[2]
_CONTROL_TIMEOUT = 10.0
_ETHERNET_HEADER = 14
_TUNSETIFF = 0x400454CA
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
# Room for a full window between two turns of the emulator: a drop here would be counted by nobody.
_TUN_QUEUE = 10000


class _RoutedNetwork(Network):
    """
    Addresses and routes, the same for both kinds.
    """

    def __init__(self, handset: str, server: str, number: int, name: str, reach: str, mtu: int) -> None:
        super().__init__(name, name, f"10.77.{number}.2", f"10.77.{number}.1", reach)
        self._handset = handset
        self._server = server
        self._number = number
        self._mtu = mtu
        self._state: State = "up"

    def _configure(self) -> None:
        ip(
            "-n",
            self._server,
            batch=[
                f"address add {self.server_address}/24 dev {self.interface}",
                f"link set {self.interface} mtu {self._mtu} up",
            ],
        )
        table = 100 + self._number
        ip(
            "-n",
            self._handset,
            batch=[
                f"rule add from {self.handset_address} lookup {table} priority {table}",
                f"route add unreachable default table {table} metric 9000",
            ],
        )
        self.attach()

    @property
    def state(self) -> State:
        return self._state

    def attach(self) -> None:
        table = 100 + self._number
        # "replace": attaching what is attached changes nothing.
        ip(
            "-n",
            self._handset,
            batch=[
                f"address replace {self.handset_address}/24 dev {self.interface}",
                f"link set {self.interface} mtu {self._mtu} up",
                f"route replace default via {self.server_address} dev {self.interface} metric {table}",
                f"route replace default via {self.server_address} dev {self.interface} table {table}",
            ],
        )

    def detach(self) -> None:
        ip(
            "-n",
            self._handset,
            batch=[f"link set {self.interface} down", f"address flush dev {self.interface}"],
        )

    def close(self) -> None:
        """
        Give back what does not vanish with the namespaces.
        """


class VethNetwork(_RoutedNetwork):
    """
    The plain kind.  Its octets are those of IP packets, but large segments travel in one piece (offloading), so that
    C{packets} are fewer than on a wire.

    @param air: the namespace in the middle.
    """

    def __init__(self, handset: str, server: str, air: str, number: int, name: str, reach: str, mtu: int) -> None:
        super().__init__(handset, server, number, name, reach, mtu)
        self._air = air
        self._bridge = f"br-{name}"
        self._ports = {"handset": f"h-{name}", "server": f"s-{name}"}
        self._ethernet = {"handset": f"02:77:00:00:{number:02x}:02", "server": f"02:77:00:00:{number:02x}:01"}
        # Without snooping the bridge sends nothing of its own.
        batch = [f"link add {self._bridge} type bridge mcast_snooping 0"]
        for end, namespace in (("handset", handset), ("server", server)):
            port, address = self._ports[end], self._ethernet[end]
            batch += [
                f"link add {port} type veth peer name {name} address {address} netns {namespace}",
                f"link set {port} mtu {mtu} master {self._bridge} up",
            ]
        ip("-n", air, batch=[*batch, f"link set {self._bridge} mtu {mtu} up"])
        self._configure()
        neighbour = f"{self.handset_address} lladdr {self._ethernet['handset']} dev {name} nud permanent"
        ip("-n", server, "neighbour", "replace", *neighbour.split())

    def attach(self) -> None:
        super().attach()
        neighbour = f"{self.server_address} lladdr {self._ethernet['server']} dev {self.interface} nud permanent"
        ip("-n", self._handset, "neighbour", "replace", *neighbour.split())

    def silence(self) -> None:
        ip("-n", self._air, "link", "set", self._bridge, "down")
        self._state = "silent"

    def restore(self) -> None:
        ip("-n", self._air, "link", "set", self._bridge, "up")
        self._state = "up"

    def shape(self, shape: Shape, direction: Direction | None = None) -> None:
        raise LabError(f"the network {self.name} is a plain one: make the lab with emulated=True to shape it")

    def counters(self) -> Counters:
        shown = json.loads(ip("-n", self._air, "-j", "-s", "link", "show"))
        links = {link["ifname"]: link["stats64"] for link in shown}
        return Counters(
            to_server=self._traffic(links, "handset", "server"), to_handset=self._traffic(links, "server", "handset")
        )

    def _traffic(self, links: dict[str, dict[str, dict[str, int]]], begin: str, end: str) -> Traffic:
        arrived, left = links[self._ports[begin]]["rx"], links[self._ports[end]]["tx"]
        return Traffic(
            packets=left["packets"],
            octets=left["bytes"] - _ETHERNET_HEADER * left["packets"],
            silenced=max(0, arrived["packets"] - left["packets"]),
        )


class TunNetwork(_RoutedNetwork):
    """
    The emulated kind: a TUN device at each end, and an emulator process of its own between them.
    """

    def __init__(self, handset: str, server: str, number: int, name: str, reach: str, mtu: int, shape: Shape) -> None:
        super().__init__(handset, server, number, name, reach, mtu)
        self._control, theirs = socket.socketpair()
        self._control.settimeout(_CONTROL_TIMEOUT)
        self._answers = self._control.makefile("rb")
        self._process: subprocess.Popen[bytes] | None = None
        with contextlib.ExitStack() as stack:
            failed = stack.enter_context(contextlib.ExitStack())
            failed.callback(self.close)
            stack.enter_context(theirs)
            descriptors = []
            for namespace in (handset, server):
                descriptors.append(_open_tun(namespace, name))
                stack.callback(os.close, descriptors[-1])
            descriptors.append(theirs.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.netlab.emulator", *map(str, descriptors)],
                cwd=_CHECKOUT,
                stdin=subprocess.DEVNULL,
                pass_fds=descriptors,
                # Not in reach of the terminal's Ctrl-C: the lab decides when it ends.
                start_new_session=True,
            )
            theirs.close()
            self.shape(shape)
            self._configure()
            failed.pop_all()

    def silence(self) -> None:
        self._ask({"do": "state", "state": "silent"})
        self._state = "silent"

    def restore(self) -> None:
        self._ask({"do": "state", "state": "up"})
        self._state = "up"

    def shape(self, shape: Shape, direction: Direction | None = None) -> None:
        directions: tuple[Direction, ...] = ("to_server", "to_handset") if direction is None else (direction,)
        for one in directions:
            self._ask({"do": "shape", "direction": one, "shape": asdict(shape)})

    def counters(self) -> Counters:
        answer = self._ask({"do": "counters"})
        return Counters(to_server=Traffic(**answer["to_server"]), to_handset=Traffic(**answer["to_handset"]))

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            self._control.sendall(json.dumps(request).encode() + b"\n")
            line = self._answers.readline()
        except (OSError, ValueError) as error:
            raise LabError(f"the emulator of {self.name} does not answer (is the lab closed?): {error}") from error
        if not line:
            raise LabError(f"the emulator of {self.name} has ended; what it said is on standard error")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LabError(answer["error"])
        return answer

    def close(self) -> None:
        # Closing the channel is what tells the process to end; the signal is for one that hangs.
        self._answers.close()
        self._control.close()
        if self._process is not None:
            stop_processes([self._process])


def _open_tun(namespace: str, name: str) -> int:
    # The device belongs to the namespace in which the descriptor was opened, and lives as long as the descriptor.
    with inside(namespace):
        try:
            descriptor = os.open(TUN, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise LabError(f"{TUN} cannot be opened: {error}; load the kernel module tun") from error
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
        ip("-n", namespace, "link", "set", name, "txqueuelen", str(_TUN_QUEUE))
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, OSError):
            raise LabError(f"the TUN device {name} cannot be made: {error}; it needs root") from error
        raise
    return descriptor
