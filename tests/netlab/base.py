"""
What every lab offers, whatever it is made of.

Invariants: a lab ends each process that it started, by its own id, and closing twice is harmless; addresses and names
are fixed from the beginning to the end.
"""

from __future__ import annotations

import contextlib
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from tests.netlab.shape import Counters, Direction, Shape, State

_TERMINATE_TIMEOUT = 3.0


class Network(ABC):
    """
    One network between the handset and the server.

    @ivar name: C{wlan} or C{xg}.
    @ivar interface: the name of its interface, at both ends.
    @ivar handset_address: bind to it, and the traffic takes this network.
    @ivar server_address: the server's own address on this network.
    @ivar reach: the address to connect to, from C{handset_address}, in order to reach the server over this network; the
        same on all networks in L{tests.netlab.Lab}, and the relay of the network in L{tests.netlab.LoopbackLab}.
    """

    def __init__(self, name: str, interface: str, handset_address: str, server_address: str, reach: str) -> None:
        self.name = name
        self.interface = interface
        self.handset_address = handset_address
        self.server_address = server_address
        self.reach = reach

    @property
    @abstractmethod
    def state(self) -> State:
        """
        C{"up"} or C{"silent"}.
        """

    @abstractmethod
    def silence(self) -> None:
        """
        From now on nothing comes through, in both directions, and nobody is told: no RST, no FIN, no ICMP, no carrier
        lost.
        """

    @abstractmethod
    def restore(self) -> None:
        """
        End the silence.
        """

    @abstractmethod
    def shape(self, shape: Shape, direction: Direction | None = None) -> None:
        """
        Change how an emulated network behaves, at once, also for packets that are under way.

        @param direction: only this one; both by default.
        @raise LabError: this kind of network has no such abilities.
        """

    @abstractmethod
    def detach(self) -> None:
        """
        The handset leaves this network and knows it: its interface goes down, its address and its routes vanish.

        @raise LabError: this kind of network cannot.
        """

    @abstractmethod
    def attach(self) -> None:
        """
        The handset comes back to this network, with the address it had.

        @raise LabError: this kind of network cannot.
        """

    @abstractmethod
    def counters(self) -> Counters:
        """
        What it has carried since it was made.
        """


class BaseLab(ABC):
    """
    A handset, a server, and networks between them.  A context manager.

    @ivar handset: the handset's name for L{inside} and L{popen}.
    @ivar server: the server's name likewise.
    @ivar server_address: the server's one address, for its listening sockets.
    @ivar networks: C{wlan} and C{xg}, in this order.
    """

    handset: str
    server: str
    server_address: str
    networks: dict[str, Network]

    def __init__(self) -> None:
        self.networks = {}
        self._processes: list[subprocess.Popen[Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def inside(self, place: str) -> contextlib.AbstractContextManager[None]:
        """
        C{with lab.inside(lab.handset):} sockets are created on the handset, here in this process.  They stay there
        when the block is left, connections accepted by a listening socket likewise, so that one reactor serves both
        machines::

            with lab.inside(lab.server):
                port = reactor.listenTCP(0, factory, interface=lab.server_address)
            with lab.inside(lab.handset):
                reactor.connectTCP(wlan.reach, port.getHost().port, client, bindAddress=(wlan.handset_address, 0))

        It concerns the calling thread only, and what is created within the block: no C{await} or C{yield} inside.

        @param place: L{handset} or L{server}.
        @raise LabError: the lab is closed.
        """

    @abstractmethod
    def popen(self, place: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """
        Start a process on the handset or the server.  It is ended when the lab is closed, and its pipes are closed.

        @param place: L{handset} or L{server}.
        @param options: as for L{subprocess.Popen}.
        @raise LabError: the lab is closed.
        """

    @abstractmethod
    def publish(self, port: int) -> None:
        """
        Make a port at L{server_address} reachable over every network at L{Network.reach}.  Needed on loopback only,
        harmless elsewhere.

        @raise LabError: the port is in use.
        """

    def close(self) -> None:
        """
        End all processes, then the networks.  Harmless when repeated.
        """
        processes, self._processes = self._processes, []
        stop_processes(processes)


def stop_processes(processes: Sequence[subprocess.Popen[Any]]) -> None:
    """
    End processes of ours, kindly first, and close their pipes.
    """
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    for process in processes:
        try:
            process.wait(_TERMINATE_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_TERMINATE_TIMEOUT)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
