"""
Tests of L{mem_continuity.agent.sleep}: with clocks that are set by hand, and the real ones.
"""

from __future__ import annotations

import time

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.agent.sleep import SleepWatch, elapsed
from mem_continuity.core.policy import AgentPolicy

POLICY = AgentPolicy(sleep_look=2.0, sleep_least=1.0, sleep_stopped=10.0)


class SleepTests(SynchronousTestCase):
    """
    A machine that sleeps and wakes.
    """

    def setUp(self) -> None:
        self.reactor = Clock()
        self.slept = 1000.0
        self.stopped = 0.0
        self.woken = 0
        self.watch = SleepWatch(self.reactor, self.woke, POLICY, self.elapsed, self.awake)
        self.watch.start()

    def woke(self) -> None:
        self.woken += 1

    def awake(self) -> float:
        return self.reactor.seconds() + self.stopped

    def elapsed(self) -> float:
        return self.awake() + self.slept

    def run_for(self, seconds: float) -> None:
        self.reactor.pump([0.5] * round(seconds * 2))

    def test_awake(self) -> None:
        self.run_for(600)
        self.assertEqual(self.woken, 0)

    def test_slept(self) -> None:
        """
        Told once, by the next look at the latest.
        """
        self.run_for(3)
        self.slept += 3600
        self.run_for(POLICY.sleep_look)
        self.assertEqual(self.woken, 1)
        self.run_for(60)
        self.assertEqual(self.woken, 1)

    def test_each_time(self) -> None:
        for times in range(1, 4):
            self.slept += 1.5
            self.run_for(10)
            self.assertEqual(self.woken, times)

    def test_short(self) -> None:
        """
        Clocks that differ by less are no sleep, however often.
        """
        for _ in range(10):
            self.slept += 0.5
            self.run_for(2)
        self.assertEqual(self.woken, 0)

    def test_backwards(self) -> None:
        """
        A clock of the day that is put back, where that is what there is.
        """
        self.slept -= 3600
        self.run_for(10)
        self.assertEqual(self.woken, 0)

    def test_stopped(self) -> None:
        """
        The process stood still, and no clock did.
        """
        self.stopped += 9
        self.run_for(4)
        self.assertEqual(self.woken, 0)
        self.stopped += 15
        self.run_for(4)
        self.assertEqual(self.woken, 1)

    def test_asked(self) -> None:
        """
        Whoever was woken by something else need not wait for the timer.
        """
        self.slept += 60
        self.watch.look()
        self.assertEqual(self.woken, 1)
        self.run_for(10)
        self.assertEqual(self.woken, 1)

    def test_stop(self) -> None:
        """
        Then there is no timer, and nothing is told.
        """
        self.watch.stop()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.slept += 60
        self.watch.look()
        self.assertEqual((self.woken, self.reactor.getDelayedCalls()), (0, []))

    def test_stop_on_waking(self) -> None:
        """
        Whoever is called may end it.
        """
        watch = SleepWatch(self.reactor, lambda: watch.stop(), POLICY, self.elapsed, self.awake)
        watch.start()
        self.watch.stop()
        self.slept += 60
        self.run_for(4)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_real_clocks(self) -> None:
        """
        The clocks of this host do not drift apart while it is awake.
        """
        apart = elapsed() - time.monotonic()
        self.assertLess(abs(elapsed() - time.monotonic() - apart), 0.5)
