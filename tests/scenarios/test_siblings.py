"""
Several links of one client (scenario 29); what it means for sockets is in L{tests.server.test_suspects}.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.handshake import Resumed
from tests.support.comebacks import TRAIN, framed, logged_in
from tests.support.raw_client import RawClient
from tests.support.site import Site


class Siblings(SynchronousTestCase):
    """
    A client ID names an installation, not a connection.
    """

    def new_site(self, **options: Any) -> Site:
        site = Site(**options)
        self.addCleanup(site.factory.shutdown)
        return site

    def test_scenario_29_five_links_of_one_client(self) -> None:
        """
        All live.  One comes back from another address: within seconds the dead siblings are parked, the healthy stay.
        """
        site = self.new_site()
        clients: list[RawClient] = [framed(site) for _ in range(5)]
        self.assertEqual(len({client.session.terms.session_id for client in clients}), 5)
        for client in clients:
            self.assertIn(b" OK ", client.call(b"NOOP"))
        self.assertEqual(site.factory.table.counts["suspected"], 0)
        dead, healthy = clients[1:3], clients[3:]
        for client in dead:
            client.link.silence()
        clients[0].lose("silence")
        self.assertIsInstance(clients[0].resume(host=TRAIN), Resumed)
        self.assertEqual(site.factory.table.counts["suspected"], 4)
        for client in healthy:
            client.pump()  # their mail programs answer the PING
        site.clock.advance(site.policy.suspect_timeout)
        self.assertEqual([client.link.ended for client in dead], ["aborted", "aborted"])
        self.assertEqual(site.factory.table.parked, 2)
        for client in (clients[0], *healthy):
            self.assertEqual(client.link.ended, "")
            self.assertIn(b" OK ", client.call(b"NOOP"))
        for client in dead:
            client.session.detach(client.now)
            self.assertIsInstance(client.resume(host=TRAIN), Resumed)
        self.assertEqual((site.logouts, len(site.servers), site.factory.table.parked), ([], 5, 0))

    def test_scenario_29_by_a_login(self) -> None:
        """
        A login from another address asks the siblings as well; one from the same address does not, nor does another client's.
        """
        site = self.new_site()
        sibling, stranger, other_user = framed(site), framed(site, client_id=b"UUID x"), framed(site, user=b"ann")
        logged_in(site)
        self.assertEqual(site.factory.table.counts["suspected"], 0)
        for client in (sibling, stranger, other_user):
            client.link.silence()
        logged_in(site, TRAIN)
        site.clock.advance(site.policy.suspect_timeout)
        self.assertEqual([client.link.ended for client in (sibling, stranger, other_user)], ["aborted", "", ""])

    def test_scenario_29_two_addresses_at_once(self) -> None:
        """
        A client that uses two addresses all the time keeps all its links.
        """
        site = self.new_site()
        clients = [framed(site, host) for host in ("192.0.2.1", "2001:db8::1", "192.0.2.1", "2001:db8::1")]
        for _ in range(20):
            for client in clients:
                client.pump()
            site.clock.advance(1)
        logged_in(site, "2001:db8::1")
        for _ in range(20):
            for client in clients:
                client.pump()
            site.clock.advance(1)
        self.assertEqual([client.link.ended for client in clients], [""] * 4)
