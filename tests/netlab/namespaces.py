"""
Network namespaces of Linux: made, entered and removed.

Invariants: each name is C{mc-<pid>-<serial>-<role>}, so that whoever comes later can tell whose it was; a namespace is
removed as stale only when the process of that id is gone.  Entering concerns the calling thread alone, and it always
leaves again: sockets and files opened meanwhile stay in the namespace they were created in.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.netlab.errors import LabError

NETNS = Path("/run/netns")
TUN = Path("/dev/net/tun")

_NAME = re.compile(r"mc-(\d+)-(\d+)-[a-z]+")
_CLONE_NEWNET = 0x40000000
_COMMAND_TIMEOUT = 20.0

_serials = itertools.count(1)
_own: set[str] = set()
_lock = threading.Lock()


def ip(*arguments: str, batch: list[str] | None = None) -> str:
    """
    Run C{ip} of iproute2; with C{batch} it reads these command lines and stops at the first that fails.

    @return: what it printed.
    @raise LabError: the command failed; with its own words.
    """
    command = ["ip", *arguments, *(["-batch", "-"] if batch is not None else [])]
    given = None if batch is None else "\n".join(batch) + "\n"
    try:
        done = subprocess.run(command, input=given, text=True, capture_output=True, timeout=_COMMAND_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"{' '.join(command)} did not run: {error}; iproute2 is needed") from error
    if done.returncode:
        raise LabError(f"{' '.join(command)} failed: {done.stderr.strip() or done.returncode}")
    return done.stdout


def available() -> str | None:
    """
    Why L{tests.netlab.Lab} cannot be had here, in words for people; C{None} if it can.  Asked by the demonstration,
    which then falls back to L{tests.netlab.LoopbackLab}; tests do not ask, they fail.
    """
    if sys.platform != "linux":
        return "network namespaces are Linux only"
    if os.geteuid() != 0:
        return "network namespaces need root: run it with sudo, or in a container with CAP_NET_ADMIN and CAP_SYS_ADMIN"
    if shutil.which("ip") is None:
        return "the command ip is missing: install iproute2"
    if not TUN.exists():
        return f"{TUN} is missing: load the kernel module tun, or give the container that device"
    try:
        delete(create("probe", next(_serials)))
    except LabError as error:
        return f"network namespaces cannot be made here: {error}"
    return None


def next_serial() -> int:
    """
    A number that no other lab of this process has.
    """
    return next(_serials)


def create(role: str, serial: int) -> str:
    """
    Make a namespace with its loopback interface up and without IPv6.

    @return: its name.
    @raise LabError: it cannot be made.
    """
    name = f"mc-{os.getpid()}-{serial}-{role}"
    with _lock:
        _own.add(name)
    try:
        ip("netns", "add", name)
        # Router solicitations would blur the counters.
        sysctl(name, "net.ipv6.conf.all.disable_ipv6", "1", missing_ok=True)
        sysctl(name, "net.ipv6.conf.default.disable_ipv6", "1", missing_ok=True)
        # Two networks to one address: the reverse path is not unique.
        sysctl(name, "net.ipv4.conf.all.rp_filter", "0")
        sysctl(name, "net.ipv4.conf.default.rp_filter", "0")
        # A connection must not inherit what an earlier one learned about the path.
        sysctl(name, "net.ipv4.tcp_no_metrics_save", "1")
        ip("-n", name, "link", "set", "lo", "up")
    except BaseException:
        delete(name)
        raise
    return name


def delete(name: str) -> None:
    """
    Remove a namespace; it is no error when it is gone already.
    """
    if (NETNS / name).exists():
        with contextlib.suppress(LabError):
            ip("netns", "delete", name)
    with _lock:
        _own.discard(name)


def remove_stale() -> list[str]:
    """
    Remove the namespaces that labs of dead processes left behind, and end what still runs in them.

    @return: their names.
    """
    removed = []
    for path in NETNS.iterdir() if NETNS.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match is None or not _is_stale(path.name, int(match[1])):
            continue
        with contextlib.suppress(LabError):
            for pid in ip("netns", "pids", path.name).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGTERM)
        delete(path.name)
        removed.append(path.name)
    return removed


def _is_stale(name: str, pid: int) -> bool:
    if pid == os.getpid():
        # A process id comes round again: then it is not one of ours.
        with _lock:
            return name not in _own
    return not Path(f"/proc/{pid}").exists()


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """
    Let the calling thread work in a namespace, and bring it back.  See L{tests.netlab.Lab.inside}.

    @raise LabError: there is no such namespace, or it may not be entered.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            target = os.open(NETNS / name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise LabError(f"there is no network namespace {name} (is its lab closed?): {error}") from error
        try:
            _setns(target)
        finally:
            os.close(target)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def _setns(descriptor: int) -> None:
    # os.setns() came with Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise LabError(f"setns failed: {os.strerror(ctypes.get_errno())}; it needs root (CAP_SYS_ADMIN)")


def sysctl(name: str, key: str, value: str, *, missing_ok: bool = False) -> None:
    """
    Set a kernel variable of a namespace, for instance C{net.ipv4.tcp_fastopen}.

    @param missing_ok: a kernel without that variable is no error.
    @raise LabError: it cannot be set.
    """
    path = Path("/proc/sys") / key.replace(".", "/")
    with inside(name):
        if missing_ok and not path.exists():
            return
        try:
            path.write_text(value)
        except OSError as error:
            raise LabError(f"cannot set {key} to {value}: {error}") from error
