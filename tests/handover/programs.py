"""
The two programs as a test sees them, and the network between them.

Invariants: every wait is bounded; what a program has said on stderr stands in the error of the test; all ends with the test.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import IO, Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.handover.server import SIZE, big_message, digest
from tests.netlab import Lab, Shape
from tests.netlab.fixtures import CHECKOUT
from tests.support.certificates import certificate_pem

PATIENCE = 12.0


class Program:
    """
    A program on the handset or the server.

    @ivar events: what it has told by itself, in order.
    """

    def __init__(self, lab: Lab, place: str, module: str, config: dict[str, Any]) -> None:
        self._errors: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the program
        self._process = lab.popen(
            place,
            [sys.executable, "-m", module],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self.events: list[dict[str, Any]] = []
        self._answers: dict[int, dict[str, Any]] = {}
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._number = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._send(config)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def _send(self, words: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words).encode() + b"\n")
        self._process.stdin.flush()

    def _next(self, until: float, what: str) -> None:
        try:
            line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            line = b""
        if not line:
            self._errors.seek(0)
            raise AssertionError(f"waited in vain for {what}; events: {self.events}; stderr: {self._errors.read()[-4000:]}")
        said = json.loads(line)
        if "answer" in said:
            self._answers[said["answer"]] = said
        else:
            self.events.append(said)

    def begin(self, do: str, **words: Any) -> int:
        """
        Ask; the answer is fetched with L{answer}.
        """
        self._number += 1
        self._send({"do": do, "number": self._number, **words})
        return self._number

    def answer(self, number: int) -> Any:
        """
        The result.

        @raise AssertionError: the program failed to do it, or does not answer.
        """
        until = time.monotonic() + PATIENCE
        while number not in self._answers:
            self._next(until, f"the answer to question {number}")
        said = self._answers.pop(number)
        if "error" in said:
            raise AssertionError(said["error"])
        return said["result"]

    def ask(self, do: str, **words: Any) -> Any:
        """
        Ask and wait for the result.
        """
        return self.answer(self.begin(do, **words))

    def wait(self, event: str, after: int = 0) -> dict[str, Any]:
        """
        Wait for an event.

        @param after: as many events of that name are passed over.
        """
        until = time.monotonic() + PATIENCE
        while True:
            found = [one for one in self.events if one["event"] == event]
            if len(found) > after:
                return found[after]
            self._next(until, f"the event {event} number {after}")

    def count(self, event: str) -> int:
        """
        How often this has been told so far.
        """
        return sum(one["event"] == event for one in self.events)

    def stop(self) -> None:
        """
        Gone at once, as after a power cut.
        """
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """
        End it and the thread that reads from it.
        """
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(3.0)
        except subprocess.TimeoutExpired:
            self.stop()
        self._reader.join(3.0)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()


class HandoverTestCase(SynchronousTestCase):
    """
    A lab, a server on it, and clients as they are wanted.
    """

    timeout = 60
    emulated: ClassVar[bool] = False
    shapes: ClassVar[dict[str, Shape]] = {}
    """L{Shape<tests.netlab.Shape>}s of an emulated lab, by network."""
    tls: ClassVar[bool] = True

    def setUp(self) -> None:
        self.lab = Lab(emulated=self.emulated, wlan=self.shapes.get("wlan"), xg=self.shapes.get("xg"))
        self.addCleanup(self.lab.close)
        self.wlan, self.xg = self.lab.networks.values()
        self.port = 0

    def start_server(self, **policy: Any) -> Program:
        """
        At the same port as the one before, if there was one.  A displaced link is not waited for long.
        """
        policy.setdefault("moved_deadline", 0.3)
        config = {
            "host": self.lab.server_address,
            "port": self.port,
            "pem": certificate_pem().decode(),
            "tls": self.tls,
            "policy": policy,
        }
        self.server = Program(self.lab, self.lab.server, "tests.handover.server", config)
        self.addCleanup(self.server.close)
        self.port = self.server.wait("listening")["port"]
        return self.server

    def start_client(self, *, by_device: bool = False, prepare: bool = False, **policy: Any) -> Program:
        """
        Connected, logged in, the mailbox selected.

        @param by_device: bound to interfaces, not to addresses.
        """
        key = "device" if by_device else "source"
        paths = [
            {"name": one.name, "host": one.reach, key: one.interface if by_device else one.handset_address}
            for one in (self.wlan, self.xg)
        ]
        config = {
            "paths": paths,
            "port": self.port,
            "pem": certificate_pem().decode(),
            "tls": self.tls,
            "prepare": prepare,
            "policy": policy,
        }
        self.client = Program(self.lab, self.lab.handset, "tests.handover.client", config)
        self.addCleanup(self.client.close)
        self.assertEqual(self.client.ask("connect"), "wlan")
        return self.client

    def eventually(self, program: Program, **wanted: Any) -> dict[str, Any]:
        """
        Ask for the state until it is as wanted.
        """
        until = time.monotonic() + 10.0
        while True:
            state: dict[str, Any] = program.ask("state")
            if all(state[name] == value for name, value in wanted.items()):
                return state
            if time.monotonic() > until:
                self.fail(f"wanted {wanted}, but the state is {state}")
            threading.Event().wait(0.05)

    def append_and_cut(self, client: Program, cut: Callable[[], Any]) -> None:
        """
        In the middle of an APPEND something happens; then the message is stored once, and the session has moved once.
        """
        self.server.ask("follow", marks=[MIDDLE])
        appending = client.begin("append")
        self.assertLess(self.server.wait("progress")["octets"], SIZE * 3 // 4)
        cut()
        client.answer(appending)
        self.assertEqual(self.server.ask("state")["stored"], [BIG])
        self.check_streams()
        self.check_server(handovers=1)

    def check_streams(self) -> None:
        """
        Everything has arrived, nothing that had arrived was sent again, and both sides agree where each resume went on.
        """
        self.client.ask("noop")
        client, server = self.client.ask("state")["stream"], self.server.ask("state")["stream"]
        for side, other in ((client, server), (server, client)):
            self.assertEqual(side["written"], other["received"])
            self.assertEqual(side["put on links"] - side["lost"], side["written"])
        self.assertEqual(server["offsets"], client["named"])
        self.assertEqual((server["skipped"], client["skipped"]), (0, 0))

    def check_server(self, *, handovers: int) -> None:
        """
        One session, one link, and so many handovers.
        """
        state = self.eventually(self.server, links=1)
        self.assertEqual((state["sessions"], state["parked"], state["logouts"]), (1, 0, 0))
        self.assertEqual(state["counts"].get("handovers", 0), handovers)
        self.assertEqual(state["counts"]["started"], 1)
        self.assertEqual(self.client.ask("state")["handovers"], handovers)


BIG = digest(big_message())
MIDDLE = SIZE // 8
"""Octets after which a test acts: when it comes to it some more have passed."""
