"""
How a program talks with the test that has started it: a line of JSON each way, questions on stdin, answers and events on stdout.

Invariants: each question is answered once, with its number; an error in the program becomes an answer, not silence; when the test
goes away the program ends.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as running_reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

reactor: Any = running_reactor


class Talk(LineOnlyReceiver):
    """
    @ivar actions: what can be asked, by name: called with the question's other words, may return a Deferred.
    """

    delimiter = b"\n"
    MAX_LENGTH = 1 << 20

    def __init__(self, actions: dict[str, Callable[..., Any]]) -> None:
        self.actions = actions

    def lineReceived(self, line: bytes) -> None:
        question = json.loads(line)
        number = question.pop("number")
        asked = maybeDeferred(self.actions[question.pop("do")], **question)
        asked.addCallbacks(
            lambda result: self.say(answer=number, result=result),
            lambda why: self.say(answer=number, error=_describe(why)),
        )

    def say(self, **words: Any) -> None:
        """
        A line to the test; the moment is added.
        """
        self.sendLine(json.dumps({**words, "at": time.monotonic()}).encode())

    def event(self, event: str, **words: Any) -> None:
        """
        Something has happened.
        """
        self.say(event=event, **words)

    def connectionLost(self, reason: Any = None) -> None:
        if reactor.running:
            reactor.stop()


def _describe(why: Failure) -> str:
    return f"{why.type.__name__ if why.type else ''}: {why.getErrorMessage()}"


def read_config() -> dict[str, Any]:
    """
    The first line, and not an octet more: what follows is for L{run}.
    """
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        config: dict[str, Any] = json.loads(stdin.readline())
    return config


def run(talk: Talk) -> None:
    """
    Talk until the test goes away.
    """
    StandardIO(talk)
    reactor.run()
    sys.exit(0)
