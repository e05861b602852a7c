"""
How many links one address may have at a time.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.policy import Policy
from tests.support.raw_client import RawClient
from tests.support.site import Site


class CrowdTests(SynchronousTestCase):
    """
    A site that takes two links of each address.
    """

    def setUp(self) -> None:
        self.site = Site(Policy(links_per_address=2))

    def test_one_more_is_refused(self) -> None:
        """
        It is told so and closed, others are not disturbed, and each that goes makes room.
        """
        wires = [self.site.connect() for _ in range(3)]
        other = self.site.connect("203.0.113.9")
        self.assertEqual(wires[2].heard, b"* BYE [LIMIT] too many connections from your address\r\n")
        self.assertEqual(wires[2].ended, "closed")
        for wire in (*wires[:2], other):
            self.assertTrue(wire.heard.startswith(b"* OK"))
            self.assertEqual(wire.ended, "")
        self.assertEqual(self.site.factory.table.counts["limit_links_per_address"], 1)
        wires[0].fin()
        self.site.settle()
        self.assertTrue(self.site.connect().heard.startswith(b"* OK"))

    def test_resumed_links_count(self) -> None:
        """
        A link that a session came back on is one, too, and is given back like any other.
        """
        for _ in range(5):
            client = RawClient(self.site).begin("198.51.100.7")
            client.lose()
            client.resume(host="198.51.100.7")
            client.lose()
        self.assertEqual(self.site.factory.table.counts["limit_links_per_address"], 0)
        self.assertEqual(dict(self.site.factory._crowd), {})
