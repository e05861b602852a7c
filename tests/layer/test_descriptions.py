"""
Endpoint descriptions that are taken apart by Twisted and put together again.
"""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.endpoints import _parse
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.policy import Policy, limits_of
from mem_continuity.layer.descriptions import PREFIX, Options, join_description, limit_option

PARTS = st.text(alphabet=st.sampled_from(":=\\a é"), max_size=8)
NAMES = st.text(alphabet=st.sampled_from(":=\\a "), min_size=1, max_size=8)
"""Twisted takes names of parts in ASCII only."""


class DescriptionTests(SynchronousTestCase):
    """
    L{join_description} is the inverse of Twisted's parser.
    """

    @given(st.lists(PARTS, min_size=1, max_size=4), st.dictionaries(NAMES, PARTS, max_size=3))
    @example(["unix", "/run/a:b=c\\d"], {"mode": "600"})
    def test_round_trip(self, args: list[str], kwargs: dict[str, str]) -> None:
        """
        Whatever stands in a part, colons, equals signs and backslashes too, is there again after parsing.
        """
        self.assertEqual(_parse(join_description(args, kwargs)), (args, kwargs))

    @given(st.lists(PARTS, min_size=1, max_size=4))
    def test_nested(self, args: list[str]) -> None:
        """
        So it is with a description within a description.
        """
        outer, _ = _parse(join_description(["tls", join_description(args, {})], {}))
        self.assertEqual(_parse(outer[1]), (args, {}))


class OptionsTests(SynchronousTestCase):
    """
    L{Options} takes what is ours and leaves the rest.
    """

    def test_rest(self) -> None:
        options = Options({"interface": "127.0.0.1", "continuityGrace": "60"})
        self.assertEqual(options.rest, {"interface": "127.0.0.1"})
        self.assertEqual(options.policy(Policy), Policy(grace=60.0))
        options.done()

    def test_names_are_distinct(self) -> None:
        """
        No two limits have the same option.
        """
        names = [limit_option(limit) for limit in limits_of(Policy)]
        self.assertEqual(len(set(names)), len(names))
        self.assertTrue(all(name.startswith(PREFIX) for name in names))
        self.assertIn("continuityAckDelay", names)
