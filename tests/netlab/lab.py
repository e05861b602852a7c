"""
The lab of namespaces: C{with Lab() as lab:}.

Invariants: whatever ends the process, short of SIGKILL, first removes its labs: the end of the C{with} block, an
exception, the interpreter's exit, SIGTERM (unless somebody else handles it, who then lets the interpreter exit).  What
a SIGKILL leaves behind, the next lab removes; emulators end by themselves then.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

from tests.netlab.base import BaseLab
from tests.netlab.errors import LabError
from tests.netlab.links import TunNetwork, VethNetwork
from tests.netlab.namespaces import available, create, delete, inside, ip, next_serial, remove_stale, sysctl
from tests.netlab.shape import Shape

_open: list[Lab] = []


class Lab(BaseLab):
    """
    Two machines and two networks, as root, on Linux::

        handset 10.77.1.2 ── wlan ── 10.77.1.1 server
                10.77.2.2 ──  xg  ── 10.77.2.1        and, on both, 10.77.0.1

    A socket of the handset takes the network whose address it is bound to; an unbound one takes C{wlan} while it is
    attached.

    @param emulated: links over TUN with L{Shape}s, instead of plain veth pairs.
    @param wlan: how the emulated C{wlan} behaves, in both directions.
    @param xg: likewise.
    @param mtu: of all interfaces, in octets.
    @raise LabError: no namespaces here (see L{available}), or something cannot be set up; then nothing is left behind.
    """

    server_address = "10.77.0.1"

    def __init__(
        self, *, emulated: bool = False, wlan: Shape | None = None, xg: Shape | None = None, mtu: int = 1500
    ) -> None:
        super().__init__()
        if not emulated and (wlan or xg):
            raise LabError("only an emulated network has a shape: make the lab with emulated=True")
        if not 576 <= mtu <= 65535:
            raise LabError(f"the MTU is {mtu}, but it must be between 576 and 65535 octets")
        reason = available()
        if reason is not None:
            raise LabError(reason)
        remove_stale()
        self._owner = os.getpid()
        self._namespaces: list[str] = []
        self._links: list[VethNetwork | TunNetwork] = []
        _register(self)
        try:
            serial = next_serial()
            self.handset = self._create("handset", serial)
            self.server = self._create("server", serial)
            ip("-n", self.server, "address", "add", f"{self.server_address}/32", "dev", "lo")
            air = "" if emulated else self._create("air", serial)
            for number, (name, shape) in enumerate((("wlan", wlan), ("xg", xg)), 1):
                link: VethNetwork | TunNetwork
                ends = self.handset, self.server
                if emulated:
                    link = TunNetwork(*ends, number, name, self.server_address, mtu, shape or Shape())
                else:
                    link = VethNetwork(*ends, air, number, name, self.server_address, mtu)
                self._links.append(link)
                self.networks[name] = link
        except BaseException:
            self.close()
            raise

    def _create(self, role: str, serial: int) -> str:
        name = create(role, serial)
        self._namespaces.append(name)
        return name

    def inside(self, place: str) -> contextlib.AbstractContextManager[None]:
        return inside(self._known(place))

    def popen(self, place: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        # "ip netns exec" becomes the command, so that the process id is the command's own.
        process = subprocess.Popen(["ip", "netns", "exec", self._known(place), *argv], **options)
        self._processes.append(process)
        return process

    def publish(self, port: int) -> None:
        pass

    def sysctl(self, place: str, key: str, value: str) -> None:
        """
        Set a kernel variable of the handset or the server, for instance C{net.ipv4.tcp_fastopen}.

        @raise LabError: it cannot be set.
        """
        sysctl(self._known(place), key, value)

    def _known(self, place: str) -> str:
        if place not in self._namespaces:
            raise LabError(f"there is no {place!r} in this lab, or it is closed: take lab.handset or lab.server")
        return place

    def close(self) -> None:
        # A forked child inherits the object and the exit handler, but not the lab.
        if os.getpid() != self._owner:
            return
        # Whatever fails, the rest is done; the last callback comes first.
        with contextlib.ExitStack() as stack:
            stack.callback(_unregister, self)
            while self._namespaces:
                stack.callback(delete, self._namespaces.pop())
            while self._links:
                stack.callback(self._links.pop().close)
            stack.callback(super().close)


def _register(lab: Lab) -> None:
    if not _open:
        atexit.register(_close_all)
        _handle_sigterm(signal.SIG_DFL, _exit_on_signal)
    _open.append(lab)


def _unregister(lab: Lab) -> None:
    if lab not in _open:
        return
    _open.remove(lab)
    if not _open:
        atexit.unregister(_close_all)
        _handle_sigterm(_exit_on_signal, signal.SIG_DFL)


def _handle_sigterm(expected: Any, wanted: Any) -> None:
    # A handler of somebody else stays; only the main thread may ask.
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == expected:
        signal.signal(signal.SIGTERM, wanted)


def _exit_on_signal(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _close_all() -> None:
    for lab in tuple(_open):
        lab.close()
