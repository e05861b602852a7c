"""
How long a mail program waits for its server: seen in the TCP segments between the two, by somebody who takes no part.

Invariants: only new octets count, never those sent again; a wait ends with octets of the server, so a program that thinks, or
sits idle until its user does something, waits for nobody; times are those at which the kernel had the segments.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
import threading
import time
from types import TracebackType
from typing import Self

from tests.roaming.flows import Flows
from tests.roaming.ground import Ground, Way

_EVERY_PROTOCOL = 0x0003
_SO_TIMESTAMPNS = 35
_SO_RCVBUFFORCE = 33
_BUFFER = 64 << 20
_TIMESPEC = struct.Struct("@ll")
_LINGER = 1.0
"""Seconds for a server to end what its program has ended."""
_ENOUGH = 256
"""Octets of a packet: the headers, and a look at how a line begins."""


class Meter:
    """
    Looks on from the beginning of the block to its end, in a thread of its own.
    """

    def __init__(self, ground: Ground, way: Way) -> None:
        """
        @param way: how the program goes: it is watched in front of the agent, or, where there is none, on the networks.
        """
        self._ground = ground
        ports = {
            Way.AGENT: ground.agent.ports,
            Way.DIRECT: [ground.dovecot.imaps_port, ground.dovecot.imap_port],
            Way.GATEWAY: ground.gateway.ports,
        }[way]
        self._interfaces = ["lo"] if way is Way.AGENT else [one.interface for one in ground.lab.networks.values()]
        self._flows = Flows(ports)
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, name="meter", daemon=True)
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._wake, self._woken = (stack.enter_context(one) for one in socket.socketpair())
            with self._ground.lab.inside(self._ground.lab.handset):
                for interface in self._interfaces:
                    made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
                    self._sockets.append(stack.enter_context(made))
                    made.setblocking(False)
                    made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
                    made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
                    made.bind((interface, _EVERY_PROTOCOL))
            self._stack = stack.pop_all()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        until = time.monotonic() + _LINGER
        while self._ending() and time.monotonic() < until:
            time.sleep(0.01)
        self._wake.send(b".")
        self._thread.join()
        self._stack.close()
        if error is None and self._error is not None:
            raise self._error

    def _ending(self) -> bool:
        with self._lock:
            return any(one.ending for one in self._flows.all)

    def _run(self) -> None:
        try:
            while True:
                readable = select.select([*self._sockets, self._woken], (), ())[0]
                for one in self._sockets:
                    if one in readable:
                        self._take(one)
                if self._woken in readable:
                    for one in self._sockets:
                        self._take(one)
                    return
        except BaseException as error:
            self._error = error

    def _take(self, one: socket.socket) -> None:
        while True:
            try:
                packet, extra, _, address = one.recvmsg(_ENOUGH, 64)
            except BlockingIOError:
                return
            except OSError as error:
                # Told once when its interface goes down; it goes on when that comes up.
                if error.errno != errno.ENETDOWN:
                    raise
                continue
            # Each packet of loopback is seen twice: as it leaves, and as it arrives.
            if address[0] == "lo" and address[2] == socket.PACKET_OUTGOING:
                continue
            seconds, nanoseconds = _TIMESPEC.unpack(extra[0][2][: _TIMESPEC.size])
            with self._lock:
                self._flows.packet(packet, seconds + nanoseconds / 1e9)

    def idle(self, on: bool) -> None:
        """
        From now on the program waits for what may never come, or no more: such waits are left out.
        """
        with self._lock:
            self._flows.idle(on, time.time())

    def program_ended(self) -> None:
        """
        The program is gone, with what it had open.
        """
        with self._lock:
            self._flows.abandon(time.time())

    @property
    def longest_stall(self) -> float:
        """
        Seconds.  A wait that has not ended yet counts as well.
        """
        with self._lock:
            return self._flows.longest(time.time())

    @property
    def connections(self) -> int:
        """
        How many TCP connections the program made, or tried to.
        """
        with self._lock:
            return len(self._flows.all)

    @property
    def lost(self) -> int:
        """
        How many of them ended otherwise than by both sides' will: see L{tests.roaming.flows.Flow.lost}.
        """
        with self._lock:
            return sum(one.lost for one in self._flows.all)

    @property
    def octets(self) -> tuple[int, int]:
        """
        New octets so far, of the program and of the server; of TLS where there is TLS.
        """
        with self._lock:
            return sum(one.client.octets for one in self._flows.all), sum(one.server.octets for one in self._flows.all)
