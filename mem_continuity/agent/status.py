"""
How an agent stands, for people: a socket in its folder for state answers whoever may open it with one JSON document.

Invariants: the socket is for the owner of the folder alone; what it tells has no name of a user, no key and nothing of the mail.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from mem_continuity.options import state_folder
from mem_continuity.service import one_line

_log = Logger("mem_continuity.agent")
SOCKET_NAME = "status.sock"
LONGEST_NAME = 100
"""Octets: Unix sockets have room for little more in their names."""
_PATIENCE = 10.0


def default_data() -> str:
    """
    The folder for state, as the XDG base directory specification has it.
    """
    return state_folder("mem-continuity-agent")


def socket_path(data: Path) -> Path:
    """
    Where the agent of a folder answers.

    @raise ValueError: the folder's name is too long for that.
    """
    path = data / SOCKET_NAME
    if len(os.fsencode(path)) > LONGEST_NAME:
        raise ValueError(f"the name of the folder {data} is too long for a socket in it; choose another with --data")
    return path


class _Answer(Protocol):
    def connectionMade(self) -> None:
        transport: Any = self.transport
        factory: Any = self.factory
        transport.write(json.dumps(factory.describe(), indent=1).encode("utf-8") + b"\n")
        transport.loseConnection()


class _Answers(Factory):
    noisy = False

    def __init__(self, describe: Callable[[], dict[str, Any]]) -> None:
        self.describe = describe

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        made = _Answer()
        made.factory = self
        return made


class StatusService(Service):
    """
    Answers.
    """

    def __init__(self, reactor: Any, path: Path, describe: Callable[[], dict[str, Any]]) -> None:
        """
        @param path: of the socket.  Nobody else uses its folder, so what lies there is left over.
        @param describe: gives what is told.
        """
        self._reactor = reactor
        self._path = path
        self._answers = _Answers(describe)
        self._port: IListeningPort | None = None

    def startService(self) -> None:
        """
        Begin to answer, where that is possible.
        """
        super().startService()
        try:
            self._path.unlink(missing_ok=True)
            self._port = self._reactor.listenUNIX(str(self._path), self._answers, mode=0o600)
        except (OSError, CannotListenError) as error:
            # Mail does not depend on it.
            _log.warn("Nobody can ask how it stands: {error}", error=one_line(error))

    def stopService(self) -> Deferred[Any]:
        """
        Answer no more.

        @return: fires when the socket is gone.
        """
        super().stopService()
        port, self._port = self._port, None
        return maybeDeferred(lambda: None if port is None else port.stopListening())


def ask(data: Path) -> dict[str, Any]:
    """
    Ask the agent of a folder how it stands.

    @raise ValueError: there is none, or it does not answer.
    """
    octets = b""
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(_PATIENCE)
            asking.connect(str(socket_path(data)))
            while more := asking.recv(1 << 16):
                octets += more
    except (FileNotFoundError, ConnectionRefusedError):
        raise ValueError(f"no agent runs with the folder {data}; start one, or say with --data which folder it has") from None
    except OSError as error:
        raise ValueError(f"the agent of the folder {data} does not answer: {error.strerror or error}") from None
    try:
        found: dict[str, Any] = json.loads(octets)
    except ValueError:
        raise ValueError(f"what the agent of the folder {data} answers cannot be read") from None
    return found


def in_words(found: dict[str, Any]) -> str:
    """
    The same for reading: a line for each account and each connection.
    """
    lines = []
    for account in found["accounts"]:
        lines.append(f"{account['account']}: {account['server']}, networks: {', '.join(account['networks'])}")
        for one in account["connections"]:
            if one["network"]:
                where = f" by {one['network']}"
            else:
                where = f" (last by {one['last_network']})" if one["last_network"] else ""
            moved = "1 handover" if one["handovers"] == 1 else f"{one['handovers']} handovers"
            kept = f"{one['kept_octets']} octets kept"
            lines.append(f"  {one['number']}: {one['phase']}{where} for {_span(one['seconds'])}, {moved}, {kept}")
        if not account["connections"]:
            lines.append("  no mail program is connected")
    return "\n".join(lines)


def _span(seconds: float) -> str:
    """
    A time in two units at most.
    """
    if seconds < 60:
        return f"{seconds:g} s"
    minutes, hours = round(seconds) // 60, round(seconds) // 3600
    return f"{minutes} min {round(seconds) % 60} s" if minutes < 60 else f"{hours} h {minutes % 60} min"
