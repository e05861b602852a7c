"""
Is the link alive?  Asked when it matters, and never chattily.

Invariants:

- While octets come in nothing is asked: whatever comes is a sign of life.
- After traffic, when nothing has come in for C{probe_quiet}, one PING is sent; when that is answered there is none before the
  next traffic, or before C{probe_idle}.
- Silence after a PING is first a doubt, told to the owner, who may seek another link while this one is kept; only after
  C{probe_timeout} is the link given up, and by the session, not here.
- The patience before a doubt grows with the round trips that were seen, and while our own octets are under way: then the PING
  stands in line behind them, and the first sign of life is an acknowledgement, for which the peer may take its time.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from mem_continuity.core.policy import RoamingPolicy
from mem_continuity.layer.conduit import Conduit

_ROUND_TRIPS = 3.0
_FORGETTING = 0.9


class LinkWatch:
    """
    Watches the present link of one conduit.  Its owner puts L{received} and L{written} where the inner octets pass, and says
    L{attached} for each link.
    """

    def __init__(self, policy: RoamingPolicy, clock: IReactorTime, conduit: Conduit, doubted: Callable[[], object]) -> None:
        """
        @param doubted: called when a PING has found no answer in a time in which there should have been one.
        """
        self._policy = policy
        self._clock = clock
        self._conduit = conduit
        self._doubted = doubted
        self._timer: IDelayedCall | None = None
        self._act: Callable[[], None] = self._look
        self._spoke_at = float("-inf")
        self._stirred_at = float("-inf")
        self._asked_at = float("-inf")
        self._round_trip = 0.0

    def received(self, octets: bytes) -> None:
        """
        The inner protocol receives octets.
        """
        self._stir()

    def written(self, octets: bytes) -> None:
        """
        The inner protocol has written octets.
        """
        now = self._clock.seconds()
        if self._spoke_at < self._conduit.session.heard_at:
            self._spoke_at = now
        self._stir()

    def attached(self) -> None:
        """
        The session has a link, or another one.
        """
        self._stirred_at = self._clock.seconds()
        self._set(self._policy.probe_quiet, self._look)

    def ask(self) -> None:
        """
        Something has changed in the network: ask now.
        """
        if self._conduit.session.attached:
            self._ask()

    def stop(self) -> None:
        """
        The session is over.
        """
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    @property
    def silent(self) -> bool:
        """
        Whether nothing has come in since the last PING.
        """
        return self._conduit.session.heard_at < self._asked_at

    def _stir(self) -> None:
        now = self._clock.seconds()
        self._stirred_at = now
        if self._timer is None or (self._act == self._look and self._timer.getTime() > now + self._policy.probe_quiet):
            self._set(self._policy.probe_quiet, self._look)

    def _set(self, delay: float, act: Callable[[], None]) -> None:
        self._act = act
        if self._timer is None:
            self._timer = self._clock.callLater(delay, self._due)
        else:
            self._timer.reset(delay)

    def _due(self) -> None:
        self._timer = None
        if self._conduit.session.attached:  # otherwise there is nothing to watch before the next link
            self._act()

    def _look(self) -> None:
        silence = self._clock.seconds() - max(self._conduit.session.heard_at, self._spoke_at)
        if silence < self._policy.probe_quiet * 0.999:
            self._set(self._policy.probe_quiet - silence, self._look)
        else:
            self._ask()

    def _ask(self) -> None:
        self._asked_at = self._clock.seconds()
        patience = max(self._policy.probe_doubt, _ROUND_TRIPS * self._round_trip)
        if self._conduit.session.sender.retained:
            patience += self._policy.ack_delay  # the server's is not known; it is taken to be like ours
        self._set(patience, self._judge)
        self._conduit.probe(self._policy.probe_timeout)

    def _judge(self) -> None:
        if self.silent:
            self._set(self._policy.probe_timeout, self._judge)  # by then it is given up, unless it has answered
            self._doubted()
            return
        sample = self._conduit.session.answered_at - self._asked_at
        self._round_trip = max(sample, _FORGETTING * self._round_trip)
        if self._stirred_at > self._asked_at:
            self._set(self._policy.probe_quiet, self._look)
        else:
            self._set(self._policy.probe_idle, self._look)
