"""
The lab of those who are not root: two loopback addresses, and a small relay for each network that can stop relaying.

Only for the demonstration's fall-back.  What differs from L{tests.netlab.Lab}: one TCP relay per network takes the
place of the packets, so a silent network still completes a TCP handshake (the kernel does) and then says nothing;
L{LoopbackLab.publish} must name each port; a server sees the right address of its client, but another port; nothing
can be shaped or detached.

Invariants: a silent relay closes nothing, accepts nothing, reads nothing; what it had read goes on when the silence
ends.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from tests.netlab.base import BaseLab, Network
from tests.netlab.errors import LabError
from tests.netlab.shape import Counters, Direction, Shape, State, Traffic

_CHUNK = 65536
_JOIN_TIMEOUT = 5.0


class _Half:
    """
    One of the two sockets of a relayed connection; C{pending} waits to be sent on it.
    """

    def __init__(self, connection: socket.socket, direction: Direction) -> None:
        self.connection = connection
        self.direction = direction
        self.pending = b""
        self.readable = True
        self.ended = False
        self.other: _Half = self


class _Relay(threading.Thread):
    """
    The thread of one network.
    """

    def __init__(self, network: LoopbackNetwork, target: str) -> None:
        super().__init__(name=f"relay-{network.name}", daemon=True)
        self._network = network
        self._target = target
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._jobs: deque[Callable[[], None]] = deque()
        self._listeners: dict[socket.socket, int] = {}
        self._halves: set[_Half] = set()
        self._stopped = False
        self.silent = False
        self.carried: dict[Direction, list[int]] = {"to_server": [0, 0], "to_handset": [0, 0]}

    def do(self, job: Callable[[], None]) -> None:
        """
        Have a job done in the thread, between two turns, and wait for it.
        """
        done = threading.Event()
        self._jobs.extend((job, done.set))
        self._wake.send(b"!")
        if not done.wait(_JOIN_TIMEOUT):
            raise LabError(f"the relay of {self._network.name} does not answer: is the lab closed?")

    def listen(self, port: int) -> None:
        """
        Relay this port.
        """
        try:
            listener = socket.create_server((self._network.reach, port))
        except OSError as error:
            raise LabError(f"cannot listen at {self._network.reach} port {port}: {error}; take another port") from error
        listener.setblocking(False)
        self.do(lambda: self._listeners.__setitem__(listener, port))

    def stop(self) -> None:
        """
        Close all, and end the thread.
        """

        def stop() -> None:
            self._stopped = True

        self.do(stop)
        self.join(_JOIN_TIMEOUT)
        self._wake.close()

    def run(self) -> None:
        while not self._stopped:
            for key, events in self._turn():
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        self._woken.recv(_CHUNK)
                    while self._jobs:
                        self._jobs.popleft()()
                elif isinstance(key.data, int):
                    self._accept(key.data, key.fileobj)
                elif key.data in self._halves:
                    self._move(key.data, events)
        self._selector.close()
        for half in self._halves:
            half.connection.close()
        for listener in self._listeners:
            listener.close()
        self._woken.close()

    def _turn(self) -> list[tuple[selectors.SelectorKey, int]]:
        # Few descriptors, and a fall-back: what is watched is said anew each time.
        wanted: dict[socket.socket, tuple[int, object]] = {self._woken: (selectors.EVENT_READ, None)}
        if not self.silent:
            wanted.update({listener: (selectors.EVENT_READ, port) for listener, port in self._listeners.items()})
            for half in self._halves:
                events = selectors.EVENT_WRITE if half.pending else 0
                if half.readable and not half.other.pending:
                    events |= selectors.EVENT_READ
                if events:
                    wanted[half.connection] = events, half
        self._selector.close()
        self._selector = selectors.DefaultSelector()
        for connection, (events, data) in wanted.items():
            self._selector.register(connection, events, data)
        return self._selector.select()

    def _accept(self, port: int, listener: Any) -> None:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        far = socket.socket()
        try:
            far.bind((self._network.handset_address, 0))
            far.connect((self._target, port))
        except OSError:
            far.close()
            near.close()
            return
        left, right = _Half(near, "to_handset"), _Half(far, "to_server")
        left.other, right.other = right, left
        for half in (left, right):
            half.connection.setblocking(False)
            half.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._halves.add(half)

    def _move(self, half: _Half, events: int) -> None:
        other = half.other
        try:
            if events & selectors.EVENT_WRITE:
                half.pending = half.pending[half.connection.send(half.pending) :]
            if events & selectors.EVENT_READ:
                data = half.connection.recv(_CHUNK)
                half.readable = bool(data)
                other.pending += data
                if data:
                    carried = self.carried[other.direction]
                    carried[0] += 1
                    carried[1] += len(data)
            for one in (half, other):
                if not one.other.readable and not one.pending and not one.ended:
                    one.ended = True
                    one.connection.shutdown(socket.SHUT_WR)
            over = half.ended and other.ended
        except BlockingIOError:
            over = False
        except OSError:
            over = True
        if over:
            for one in (half, other):
                self._halves.discard(one)
                one.connection.close()


class LoopbackNetwork(Network):
    """
    One relay.  C{packets} are the pieces it moved, C{octets} are payload: there are no packets to be counted here.
    """

    def __init__(self, number: int, name: str, target: str) -> None:
        address = f"127.0.{number}.1"
        super().__init__(name, "lo", f"127.0.{number}.2", address, address)
        self._relay = _Relay(self, target)
        self._relay.start()

    @property
    def state(self) -> State:
        return "silent" if self._relay.silent else "up"

    def silence(self) -> None:
        self._set_silent(True)

    def restore(self) -> None:
        self._set_silent(False)

    def _set_silent(self, silent: bool) -> None:
        def change() -> None:
            self._relay.silent = silent

        self._relay.do(change)

    def publish(self, port: int) -> None:
        """
        Relay this port of the server.
        """
        self._relay.listen(port)

    def shape(self, shape: Shape, direction: Direction | None = None) -> None:
        raise LabError("loopback has no delay and no rate: use Lab(emulated=True), as root")

    def detach(self) -> None:
        raise LabError("loopback cannot be detached: use Lab, as root, or silence it")

    def attach(self) -> None:
        raise LabError("loopback cannot be attached: use Lab, as root, or restore it")

    def counters(self) -> Counters:
        there, back = self._relay.carried["to_server"], self._relay.carried["to_handset"]
        return Counters(
            to_server=Traffic(packets=there[0], octets=there[1]), to_handset=Traffic(packets=back[0], octets=back[1])
        )

    def close(self) -> None:
        """
        End the relay, with its connections.
        """
        self._relay.stop()


class LoopbackLab(BaseLab):
    """
    C{wlan} is 127.0.1.2 to 127.0.1.1, C{xg} is 127.0.2.2 to 127.0.2.1; the server listens at 127.0.0.1, and not at
    0.0.0.0.
    """

    handset = "handset"
    server = "server"
    server_address = "127.0.0.1"

    def __init__(self) -> None:
        super().__init__()
        self._links = [
            LoopbackNetwork(number, name, self.server_address) for number, name in enumerate(("wlan", "xg"), 1)
        ]
        self.networks.update({link.name: link for link in self._links})

    def inside(self, place: str) -> contextlib.AbstractContextManager[None]:
        self._check(place)
        return contextlib.nullcontext()

    def popen(self, place: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        self._check(place)
        process = subprocess.Popen(argv, **options)
        self._processes.append(process)
        return process

    def _check(self, place: str) -> None:
        if place not in (self.handset, self.server) or not self._links:
            raise LabError(f"there is no {place!r} in this lab, or it is closed: take lab.handset or lab.server")

    def publish(self, port: int) -> None:
        for link in self._links:
            link.publish(port)

    def close(self) -> None:
        super().close()
        links, self._links = self._links, []
        for link in links:
            link.close()
