"""
The limits: L{mem_continuity.core.policy}.
"""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.policy import Limit, Policy, PolicyError, RoamingPolicy, limits_of

KINDS: tuple[type[Policy] | type[RoamingPolicy], ...] = (Policy, RoamingPolicy)
ALL = [(kind, limit) for kind in KINDS for limit in limits_of(kind)]


class LimitTests(SynchronousTestCase):
    def test_every_limit_says_all_there_is_to_say(self) -> None:
        self.assertGreater(len(ALL), 40)
        for kind, limit in ALL:
            where = f"{kind.__name__}.{limit.name}"
            self.assertTrue(limit.unit.strip(), where)
            self.assertGreater(len(limit.reason), 10, where)
            self.assertLessEqual(limit.least, limit.default, where)
            self.assertGreaterEqual(limit.least, 0, where)
            self.assertIs(type(limit.least), type(limit.default), where)

    def test_the_limits_are_the_fields_in_their_order(self) -> None:
        for kind in KINDS:
            self.assertEqual([limit.name for limit in limits_of(kind)], [one.name for one in fields(kind)])
            made = kind()
            for limit in limits_of(kind):
                self.assertEqual(getattr(made, limit.name), limit.default)

    def test_what_both_sides_have_means_the_same(self) -> None:
        ours = {limit.name: limit for limit in limits_of(Policy)}
        for limit in limits_of(RoamingPolicy):
            if limit.name in ours:
                self.assertEqual(limit.unit, ours[limit.name].unit, limit.name)

    def test_a_policy_never_changes(self) -> None:
        for kind, limit in ALL:
            self.assertRaises(FrozenInstanceError, setattr, kind(), limit.name, limit.default)

    def test_the_parts_fit_together(self) -> None:
        for policy in (Policy(), RoamingPolicy()):
            self.assertLessEqual(policy.first_data, policy.frame_payload)
            self.assertLessEqual(policy.frame_payload, policy.frame_limit)
            self.assertLess(policy.frame_limit, 2**24)
        self.assertLess(Policy().grace, 1800)
        self.assertLessEqual(RoamingPolicy().resume_literal, Policy().preamble_literal)


class CheckTests(SynchronousTestCase):
    def assert_refused(self, kind: type[Policy] | type[RoamingPolicy], limit: Limit, value: Any) -> None:
        fault = self.assertRaises(PolicyError, kind, **{limit.name: value})
        for part in (limit.name, limit.unit, str(limit.least), repr(value)):
            self.assertIn(part, str(fault))

    @given(st.sampled_from(ALL), st.integers(0, 2**40))
    def test_whole_numbers(self, one: tuple[type[Policy] | type[RoamingPolicy], Limit], more: int) -> None:
        kind, limit = one
        least: Any = limit.least
        self.assertEqual(getattr(kind(**{limit.name: least}), limit.name), least)
        self.assert_refused(kind, limit, limit.least - 1 - more)

    def test_what_is_no_number(self) -> None:
        junk: Any
        for kind, limit in ALL:
            for junk in (None, "5", True, float("nan"), b"5", [], 5j):
                self.assert_refused(kind, limit, junk)

    def test_values_are_taken(self) -> None:
        self.assertEqual(Policy(grace=60, window=8192).window, 8192)
        self.assertEqual(RoamingPolicy(probe_timeout=0.5).probe_timeout, 0.5)

    def test_a_count_must_be_a_whole_number(self) -> None:
        for kind, limit in ALL:
            if isinstance(limit.default, int):
                self.assert_refused(kind, limit, limit.default + 0.5)

    def test_a_number_must_be_finite(self) -> None:
        for kind, limit in ALL:
            self.assert_refused(kind, limit, float("inf"))

    def test_a_frame_that_has_no_header_is_refused(self) -> None:
        """
        A frame's length has three octets: a longer DATA frame would be read as a frame of another type.
        """
        for kind in KINDS:
            for name in ("frame_payload", "first_data"):
                self.assertRaises(PolicyError, kind, **{name: 2**24})
