"""
A client of Marionette, by which Mozilla's programs are driven from outside.

On the wire each message is its length in octets as a decimal number, a colon, and JSON: first a greeting, then commands
C{[0, id, name, parameters]} and their answers C{[1, id, error, result]} in turn (Mozilla, "Marionette protocol", level 3).
Mozilla's own client, C{marionette_driver}, is not used: it brings a runner of browsers with it, and this is all that is needed.

Invariants: one command at a time, each within a deadline; scripts run with the rights of the program itself, in one sandbox, so
what one of them leaves behind is there for the next; a dialog that the program shows is dismissed at the next command.
"""

from __future__ import annotations

import json
import socket
from typing import Any

_LEVEL = 3
_LONGEST = 9
"""Digits of a length."""


class MarionetteError(Exception):
    """
    The program does not understand, or a script of ours failed there; the text has what it said.
    """


class Marionette:
    """
    A session with one program.

    @param connection: to the port where it listens; closed by L{close}.
    @param patience: seconds for an answer.
    @raise MarionetteError: that is something else.
    @raise OSError: the connection is lost, or nothing is said in time.
    """

    def __init__(self, connection: socket.socket, patience: float = 60.0) -> None:
        self._connection = connection
        self._reader = connection.makefile("rb")
        self._number = 0
        connection.settimeout(patience)
        greeting = self._read()
        if not isinstance(greeting, dict) or greeting.get("marionetteProtocol") != _LEVEL:
            raise MarionetteError(f"this is not Marionette of level {_LEVEL}: {greeting!r}")
        timeouts = {"script": int(patience * 1000)}
        self.ask("WebDriver:NewSession", timeouts=timeouts, unhandledPromptBehavior="dismiss")
        self.ask("Marionette:SetContext", value="chrome")

    def ask(self, command: str, **parameters: Any) -> Any:
        """
        Give a command.

        @return: its result.
        @raise MarionetteError: it failed.
        @raise OSError: the connection is lost, or there is no answer in time.
        """
        self._number += 1
        octets = json.dumps([0, self._number, command, parameters]).encode("utf-8")
        self._connection.sendall(b"%d:%b" % (len(octets), octets))
        kind, number, error, result = self._read()
        if (kind, number) != (1, self._number):
            raise MarionetteError(f"an answer to something else: {[kind, number]}, not {[1, self._number]}")
        if error is not None:
            raise MarionetteError(f"{command}: {error.get('error')}: {error.get('message')}\n{error.get('stacktrace', '')}")
        return result

    def run(self, script: str, *arguments: Any) -> Any:
        """
        Run a script with all rights.  Where it returns a promise, that is waited for.

        @param script: the body of a function in JavaScript.
        @param arguments: what it finds as C{arguments}; plain values.
        @return: what it returned.
        @raise MarionetteError: it threw something.
        @raise OSError: as L{ask}.
        """
        answer = self.ask("WebDriver:ExecuteScript", script=script, args=list(arguments), sandbox="system", newSandbox=False)
        return answer["value"]

    def quit(self) -> None:
        """
        End the program as its user would.

        @raise MarionetteError: it refuses.
        @raise OSError: as L{ask}.
        """
        self.ask("Marionette:Quit", flags=["eAttemptQuit"])

    def close(self) -> None:
        """
        Close the connection; the program stays.
        """
        self._reader.close()
        self._connection.close()

    def _read(self) -> Any:
        digits = b""
        while (octet := self._reader.read(1)) != b":":
            if not octet.isdigit() or len(digits) == _LONGEST:
                raise ConnectionError("closed by the program") if not octet else MarionetteError("no length of a message")
            digits += octet
        octets = self._reader.read(int(digits))
        if len(octets) != int(digits):
            raise ConnectionError("closed by the program, in a message")
        return json.loads(octets)
