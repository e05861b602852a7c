"""
The first connection to a server, when networks come and go meanwhile.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.agent.reaching import Reaching


class ReachingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.tries: list[Deferred[Any]] = []
        self.cancelled = 0
        self.networks = 0
        self.failures: list[Failure] = []
        self.reaching = Reaching(self.clock, 10.0, self.connect, lambda: self.networks > 0, self.failures.append)

    def connect(self) -> Deferred[Any]:
        self.tries.append(Deferred(self.cancel))
        return self.tries[-1]

    def cancel(self, _: object) -> None:
        self.cancelled += 1

    def test_a_network_comes_in_time(self) -> None:
        self.reaching.begin()
        self.tries[0].errback(ConnectError())
        self.clock.advance(9.0)
        self.assertEqual((len(self.tries), self.failures), (1, []))
        self.networks = 1
        self.reaching.networks_changed()
        self.assertEqual(len(self.tries), 2)
        self.tries[1].callback(None)
        self.assertEqual((self.failures, self.clock.getDelayedCalls()), ([], []))

    def test_no_network_comes(self) -> None:
        self.reaching.begin()
        self.tries[0].errback(ConnectError())
        self.clock.advance(10.1)
        (failure,) = self.failures
        failure.trap(ConnectError)
        self.networks = 1
        self.reaching.networks_changed()
        self.assertEqual(len(self.tries), 1)

    def test_a_server_that_cannot_be_reached(self) -> None:
        """
        Though there is a network: the program hears of it at once.
        """
        self.networks = 1
        self.reaching.begin()
        self.tries[0].errback(ConnectError())
        self.assertEqual((len(self.failures), self.clock.getDelayedCalls()), (1, []))

    def test_a_connection_hangs_on_a_network_that_is_gone(self) -> None:
        self.networks = 1
        self.reaching.begin()
        self.reaching.networks_changed()
        self.assertEqual((len(self.tries), self.cancelled, self.failures), (2, 1, []))
        self.tries[1].errback(ConnectError())
        self.assertEqual(len(self.failures), 1)

    def test_the_last_network_goes(self) -> None:
        """
        What hangs is left alone: the same network may come back.
        """
        self.networks = 1
        self.reaching.begin()
        self.networks = 0
        self.reaching.networks_changed()
        self.assertEqual((len(self.tries), self.cancelled), (1, 0))

    def test_the_program_goes(self) -> None:
        for waits in (False, True):
            with self.subTest(waits=waits):
                self.setUp()
                self.reaching.begin()
                if waits:
                    self.tries[0].errback(ConnectError())
                self.reaching.stop()
                self.networks = 1
                self.reaching.networks_changed()
                self.assertEqual((len(self.tries), self.cancelled), (1, int(not waits)))
                self.assertEqual((self.failures, self.clock.getDelayedCalls()), ([], []))
