"""
The bound of upstream connections.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.policy import Policy
from mem_continuity.gateway.slots import Slot, Slots


class SlotsTests(SynchronousTestCase):
    """
    L{Slots} with room for two, and one to spare.
    """

    def setUp(self) -> None:
        self.slots = Slots(Policy(upstream_connections=2, upstream_spare=1))

    def take(self) -> Slot:
        slot = self.slots.take()
        assert slot is not None
        return slot

    def test_bound(self) -> None:
        first, second, third = self.take(), self.take(), self.take()
        self.assertEqual([slot.provisional for slot in (first, second, third)], [False, False, True])
        self.assertIsNone(self.slots.take())
        self.assertTrue(first.confirm(None))
        self.assertFalse(third.confirm(None))
        third.release()
        self.assertEqual((self.slots.held, self.slots.waiting, self.slots.counted), (2, 0, 2))

    def test_come_back(self) -> None:
        """
        A client of a full gateway comes back: old and new count as one until either goes, and a third needs room of its own.
        """
        for old_goes in (True, False):
            slots = self.slots = Slots(Policy(upstream_connections=2, upstream_spare=2))
            old, _, new, other = self.take(), self.take(), self.take(), self.take()
            self.assertTrue(new.confirm(old))
            self.assertFalse(new.provisional)
            self.assertEqual((slots.counted, slots.pairs), (2, 1))
            self.assertFalse(other.confirm(old))
            self.assertFalse(other.confirm(new))
            (old if old_goes else new).release()
            self.assertEqual((slots.counted, slots.pairs), (2, 0))
            self.assertTrue(other.confirm(new if old_goes else old))

    def test_gone(self) -> None:
        """
        One that was given back cannot be replaced, and by then there is room anyway.
        """
        old, other, new = self.take(), self.take(), self.take()
        old.release()
        self.assertTrue(new.confirm(old))
        self.assertEqual((self.slots.pairs, self.slots.counted), (0, 2))
        newer = self.take()
        self.assertFalse(newer.confirm(old))
        other.release()
        self.assertTrue(newer.confirm(None))

    def test_not_replaced(self) -> None:
        """
        A provisional one, one of elsewhere, and itself, are no older links.
        """
        self.slots = Slots(Policy(upstream_connections=1, upstream_spare=2))
        self.take()
        new, newer = self.take(), self.take()
        elsewhere = Slots(Policy()).take()
        for wrong in (newer, new, elsewhere):
            self.assertFalse(new.confirm(wrong))
        self.assertEqual(self.slots.pairs, 0)

    def test_room_by_a_pair(self) -> None:
        """
        A link that came in while there was room, and replaces another, makes room.
        """
        old, new = self.take(), self.take()
        self.assertTrue(new.confirm(old))
        self.assertEqual(self.slots.counted, 1)
        self.assertFalse(self.take().provisional)
        self.assertTrue(new.confirm(old))
        self.assertEqual(self.slots.counted, 2)

    def test_once(self) -> None:
        slot = self.take()
        slot.release()
        slot.release()
        self.assertEqual(self.slots.held, 0)
        self.assertRaises(ValueError, slot.confirm, None)

    def test_nothing_to_spare(self) -> None:
        slots = Slots(Policy(upstream_connections=1, upstream_spare=0))
        self.assertIsNotNone(slots.take())
        self.assertIsNone(slots.take())


class SlotsMachine(RuleBasedStateMachine):
    """
    Whatever is done in whatever order.
    """

    slots_held: Bundle[Slot] = Bundle("slots_held")

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots(Policy(upstream_connections=3, upstream_spare=2))
        self.all: list[Slot] = []

    @rule(target=slots_held)
    def take(self) -> Slot:
        slot = self.slots.take()
        if slot is None:
            assert self.slots.held == 5 and self.all
            return self.all[0]
        self.all.append(slot)
        return slot

    @rule(slot=slots_held, other=st.none() | slots_held)
    def confirm(self, slot: Slot, other: Slot | None) -> None:
        if slot.held:
            before = self.slots.counted
            good = slot.confirm(other)
            assert good or (slot.provisional and before == 3)

    @rule(slot=consumes(slots_held))
    def release(self, slot: Slot) -> None:
        slot.release()

    @invariant()
    def bounds(self) -> None:
        slots, held = self.slots, [slot for slot in self.all if slot.held]
        twins = [slot for slot in held if slot._twin is not None]
        assert slots.held == len(held) <= 5
        assert slots.waiting == sum(slot.provisional for slot in held)
        assert 2 * slots.pairs == len(twins)
        assert all(slot._twin is not None and slot._twin.held and slot._twin._twin is slot for slot in twins)
        assert 0 <= slots.counted <= 3

    def teardown(self) -> None:
        for slot in self.all:
            slot.release()
        assert (self.slots.held, self.slots.waiting, self.slots.pairs) == (0, 0, 0)


class SlotsMachineTests(SynchronousTestCase):
    """
    L{SlotsMachine}, which Trial does not find by itself.
    """

    timeout = 60

    def test_any_order(self) -> None:
        run_state_machine_as_test(SlotsMachine, settings=settings(max_examples=100, stateful_step_count=40, deadline=None))
