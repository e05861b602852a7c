"""
How many upstream connections there may be.

While a client comes back, the new link has an upstream connection already and the old one still has its own: the two count as
one, or a full gateway could not be come back to.  Who comes is known at login only, so a connection may be begun
I{provisionally} beyond the bound.

Invariants: counted are the connections held for good, less one for each pair; that is never above C{upstream_connections}.  All
together, provisional ones and pairs included, are never more than C{upstream_spare} above it: that many descriptors are enough.
A slot is in one pair at most; it is given back once, whatever is called how often.
"""

from __future__ import annotations

from mem_continuity.core.policy import Policy


class Slot:
    """
    The right to one upstream connection.  Made by L{Slots.take}.

    @ivar provisional: it was taken beyond the bound, and has to be confirmed.
    @ivar held: it was not given back yet.
    """

    __slots__ = ("_slots", "_twin", "held", "provisional")

    def __init__(self, slots: Slots, provisional: bool) -> None:
        self._slots = slots
        self._twin: Slot | None = None
        self.held = True
        self.provisional = provisional

    def confirm(self, replaces: Slot | None) -> bool:
        """
        Somebody has logged in on this connection.

        @param replaces: the slot of an older link of the same client; C{None} when there is none.
        @return: whether the connection may stay.  If not, the login is to be denied with C{[LIMIT]}, and the slot released.
        @raise ValueError: this slot was given back.
        """
        return self._slots._confirm(self, replaces)

    def release(self) -> None:
        """
        The connection is gone.  A second call does nothing.
        """
        self._slots._release(self)


class Slots:
    """
    The slots of one gateway.

    @ivar held: connections in all.
    @ivar pairs: how many pairs of an old and a new connection there are.
    @ivar waiting: how many of them are provisional.
    """

    def __init__(self, policy: Policy) -> None:
        self._bound = policy.upstream_connections
        self._most = policy.upstream_connections + policy.upstream_spare
        self.held = 0
        self.pairs = 0
        self.waiting = 0

    @property
    def counted(self) -> int:
        """
        What the bound is for.
        """
        return self.held - self.waiting - self.pairs

    def take(self) -> Slot | None:
        """
        A slot for a new connection; C{None} when there is not even a provisional one.
        """
        if self.held >= self._most:
            return None
        slot = Slot(self, self.counted >= self._bound)
        self.held += 1
        self.waiting += slot.provisional
        return slot

    def _confirm(self, slot: Slot, replaces: Slot | None) -> bool:
        if not slot.held:
            raise ValueError("the slot was given back")
        if slot._twin is None and replaces is not None and self._may_pair(slot, replaces):
            slot._twin, replaces._twin = replaces, slot
            self.pairs += 1
        elif slot.provisional and self.counted >= self._bound:
            return False
        self.waiting -= slot.provisional
        slot.provisional = False
        return True

    def _may_pair(self, slot: Slot, other: Slot) -> bool:
        return other is not slot and other._slots is self and other.held and not other.provisional and other._twin is None

    def _release(self, slot: Slot) -> None:
        if not slot.held:
            return
        slot.held = False
        self.held -= 1
        self.waiting -= slot.provisional
        twin, slot._twin = slot._twin, None
        if twin is not None:
            twin._twin = None
            self.pairs -= 1
