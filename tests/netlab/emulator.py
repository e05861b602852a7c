"""
The process between the two ends of an emulated network: it reads IP packets from one TUN device and writes them to the
other, late, at a rate, not all of them, or none.

Run by L{tests.netlab.links.TunNetwork} as C{python -m tests.netlab.emulator <handset tun fd> <server tun fd> <control
fd>}. The control channel is a stream socket with one JSON object per line, one answer line for each: C{{"do": "shape",
"direction": "to_server", "shape": {...}}}, C{{"do": "state", "state": "silent"}}, C{{"do": "counters"}}.

Invariants: packets of one direction never overtake each other; a packet leaves the queue at the rate and arrives
C{delay_ms} later, so a change of the delay also moves what is under way; silence drops what is queued; the process
ends when its control channel does, however its parent died.

Timing: C{select} takes microseconds where C{epoll_wait} takes whole milliseconds; three descriptors do not need more.
The kernel lets a select be late by a thousandth of its wait, and an idle processor takes its time to wake.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import random
import select
import socket
import sys
import time
from collections import deque
from dataclasses import asdict
from typing import Any

from tests.netlab.errors import LabError
from tests.netlab.shape import Shape, Traffic

_LARGEST_PACKET = 65535
_BURST = 64
# What a device's queue may hold.
_BACKLOG = 10000
_PR_SET_TIMERSLACK = 29
_TIMER_SLACK_NS = 1000
_EXACT_WAIT = 0.002


class Lane:
    """
    One direction, without any I/O; time is handed in, in seconds.
    """

    def __init__(self, shape: Shape, salt: str) -> None:
        self._salt = salt
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._free_at = 0.0
        self._silent = False
        self._packets = self._octets = self._lost = self._overflowed = self._silenced = 0
        self.shape(shape)

    def shape(self, shape: Shape) -> None:
        """
        Behave like this from now on; the random numbers start anew.
        """
        self._delay = shape.delay_ms / 1000
        self._seconds_per_octet = 8 / shape.rate if shape.rate else 0.0
        self._longest_wait = shape.queue * self._seconds_per_octet
        self._loss = shape.loss
        self._random = random.Random(f"{shape.seed} {self._salt}").random

    def silence(self, silent: bool) -> None:
        """
        Fall silent, with all that is under way, or end the silence.
        """
        self._silent = silent
        if silent:
            self._silenced += len(self._under_way)
            self._under_way.clear()
            self._free_at = 0.0

    def offer(self, packet: bytes, now: float) -> None:
        """
        A packet comes in at this end.
        """
        if self._silent:
            self._silenced += 1
            return
        if self._loss and self._random() < self._loss:
            self._lost += 1
            return
        if self._seconds_per_octet:
            begin = self._free_at if self._free_at > now else now
            sent = begin + len(packet) * self._seconds_per_octet
            # The one in transmission counts as waiting; an empty queue takes any packet.
            if sent - now > self._longest_wait and begin > now:
                self._overflowed += 1
                return
            self._free_at = now = sent
        elif self._free_at > now:
            # The rate was lifted: stay behind those that were queued under it.
            now = self._free_at
        self._under_way.append((now, packet))

    def due(self) -> float | None:
        """
        When the next packet comes out; C{None} if none is under way.
        """
        return self._under_way[0][0] + self._delay if self._under_way else None

    def collect(self, now: float) -> list[bytes]:
        """
        The packets that come out at the other end by now.
        """
        # The sum, as in due(): the difference may be rounded to the other side.
        under_way, delay, packets = self._under_way, self._delay, []
        while under_way and under_way[0][0] + delay <= now:
            packets.append(under_way.popleft()[1])
        self._packets += len(packets)
        self._octets += sum(map(len, packets))
        return packets

    def traffic(self) -> Traffic:
        """
        What happened so far.
        """
        return Traffic(
            packets=self._packets,
            octets=self._octets,
            lost=self._lost,
            overflowed=self._overflowed,
            silenced=self._silenced,
        )


class Emulator:
    """
    Both lanes, two TUN descriptors and the control channel.
    """

    def __init__(self, handset: int, server: int, control: socket.socket) -> None:
        for descriptor in (handset, server):
            os.set_blocking(descriptor, False)
        self._control = control
        self._request = b""
        self._lanes = {"to_server": Lane(Shape(), "to_server"), "to_handset": Lane(Shape(), "to_handset")}
        self._routes = {
            handset: (self._lanes["to_server"], server),
            server: (self._lanes["to_handset"], handset),
        }

    def run(self) -> None:
        """
        Forward until the control channel is closed or a device is gone.
        """
        control = self._control.fileno()
        descriptors = [control, *self._routes]
        clock = time.monotonic
        while True:
            now = clock()
            wait: float | None = None
            for lane, out in self._routes.values():
                for packet in lane.collect(now):
                    # Refused by an interface that is down: the packet is lost, as on air.
                    with contextlib.suppress(OSError):
                        os.write(out, packet)
                due = lane.due()
                if due is not None and (wait is None or due - now < wait):
                    wait = due - now
            if wait is not None:
                # Writing took time; a long wait is made of two, because only short ones are exact.
                wait = max(0.0, wait - (clock() - now))
                if wait > _EXACT_WAIT:
                    wait -= _EXACT_WAIT / 2
            for readable in select.select(descriptors, (), (), wait)[0]:
                if readable == control:
                    # What was sent before the command is treated as before it.
                    now = clock()
                    if not (all(self._take(one, now, _BACKLOG) for one in self._routes) and self._obey()):
                        return
                elif not self._take(readable, clock(), _BURST):
                    return

    def _take(self, descriptor: int, now: float, most: int) -> bool:
        offer = self._routes[descriptor][0].offer
        try:
            for _ in range(most):
                offer(os.read(descriptor, _LARGEST_PACKET), now)
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True

    def _obey(self) -> bool:
        try:
            received = self._control.recv(65536)
        except OSError:
            return False
        if not received:
            return False
        *lines, self._request = (self._request + received).split(b"\n")
        for line in lines:
            try:
                answer = self._answer(json.loads(line))
            except (LabError, ValueError, TypeError, KeyError) as error:
                answer = {"error": f"the emulator does not understand {line!r}: {error}"}
            self._control.sendall(json.dumps(answer).encode() + b"\n")
        return True

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["do"]:
            case "shape":
                self._lanes[request["direction"]].shape(Shape(**request["shape"]))
                return {}
            case "state":
                for lane in self._lanes.values():
                    lane.silence(request["state"] == "silent")
                return {}
            case "counters":
                return {name: asdict(lane.traffic()) for name, lane in self._lanes.items()}
        raise ValueError("no such command")


def main(arguments: list[str]) -> None:
    """
    The process itself.
    """
    # dup: the lowest free numbers, as select() wants them below 1024.
    handset, server, control = (os.dup(int(argument)) for argument in arguments)
    # Better timing where it is to be had; it works without.
    with contextlib.suppress(OSError):
        os.nice(-10)
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, _TIMER_SLACK_NS, 0, 0, 0)
    gc.disable()
    with socket.socket(fileno=control) as channel:
        Emulator(handset, server, channel).run()


if __name__ == "__main__":
    main(sys.argv[1:])
