"""
The bounds on sessions, records, tombstones and failures: what goes first, that it is counted and logged,
and that nothing is left.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.handshake import Refusal, Refused, Resumed
from mem_continuity.core.policy import KIB, Policy
from mem_continuity.server.table import Failures
from tests.support.comebacks import TRAIN, framed, logged_in, plain, served_of
from tests.support.raw_client import RawClient
from tests.support.site import Site


def rest_of(site: Site) -> dict[str, Any]:
    """
    Everything that a table holds, apart from tombstones and counts.
    """
    table = site.factory.table
    held = {name: getattr(table, name) for name in ("_served", "_clients", "_users", "_parked")}
    return {**{name: len(kept) for name, kept in held.items()}, "retained": table.retained, "records": len(table._directory)}  # type: ignore[arg-type]


NOTHING = {"_served": 0, "_clients": 0, "_users": 0, "_parked": 0, "retained": 0, "records": 0}


class FailureTests(SynchronousTestCase):
    """
    L{Failures}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.policy = Policy(resume_failures=3, resume_failure_time=60, peers=2)
        self.failures = Failures(self.policy, self.clock)

    def note(self, peer: str = "a", times: int = 1) -> None:
        for _ in range(times):
            self.failures.note(peer)

    def test_up_to_the_limit(self) -> None:
        """
        The last failure that is allowed is the limit's, and one peer's failures are not another's.
        """
        self.note(times=2)
        self.assertFalse(self.failures.too_many("a"))
        self.note()
        self.assertTrue(self.failures.too_many("a"))
        self.assertFalse(self.failures.too_many("b"))

    def test_the_window_passes(self) -> None:
        """
        The window begins at the first failure, and when it is over the count begins anew.
        """
        self.note(times=2)
        self.clock.advance(59)
        self.note()
        self.assertTrue(self.failures.too_many("a"))
        self.clock.advance(1)
        self.assertFalse(self.failures.too_many("a"))
        self.note(times=2)
        self.assertFalse(self.failures.too_many("a"))

    def test_the_oldest_peer_is_forgotten(self) -> None:
        """
        Memory is bounded by C{peers}; who failed last is remembered.
        """
        self.note("a", 3)
        self.note("b", 3)
        self.note("a")
        self.note("c", 3)
        self.assertEqual([self.failures.too_many(peer) for peer in "abc"], [True, False, True])


class LimitCase(SynchronousTestCase):
    """
    A site with small limits.
    """

    def site_with(self, **limits: Any) -> Site:
        site = Site(Policy(**limits))
        self.addCleanup(site.factory.shutdown)
        return site

    def park(self, *clients: RawClient) -> None:
        """
        They lose their links, a second apart.
        """
        for client in clients:
            client.lose("reset")
            client.site.clock.advance(1)

    def assert_evicted(self, client: RawClient, limit: str, events: Any) -> None:
        """
        It went for this limit: counted, logged with its ID, its protocol told once, and its client can learn its count.
        """
        site, session_id = client.site, client.session.terms.session_id
        self.assertEqual(site.factory.table.counts[f"limit_{limit}"], 1)
        logged = [event for event in events if event.get("limit") == limit]
        self.assertEqual([event["session_id"] for event in logged], [session_id])
        self.assertIsNone(site.factory.table.served(session_id))
        heard = client.session.sender.end
        self.assertEqual(client.resume(), Refused(Refusal.ENDED, heard))

    def assert_lives(self, *clients: RawClient) -> None:
        for client in clients:
            if client.session.attached:
                self.assertIn(b" OK ", client.call(b"NOOP"))
            else:
                self.assertIsInstance(client.resume(), Resumed)


class EvictionTests(LimitCase):
    """
    The longest-parked goes first.
    """

    def test_parked(self) -> None:
        """
        Which was parked first counts, not which was made first.
        """
        site = self.site_with(parked=2)
        first, second, third = framed(site), framed(site, user=b"ann"), framed(site)
        with capturedLogs() as events:
            self.park(second, first, third)
        self.assertEqual(site.factory.table.parked, 2)
        self.assertEqual(site.logouts, ["ann"])
        self.assertEqual([len(server.losses) for server in site.servers], [0, 1, 0])
        self.assert_evicted(second, "parked", events)
        self.assert_lives(first, third)

    def test_none_may_park(self) -> None:
        """
        A limit of none ends each session with its link.
        """
        site = self.site_with(parked=0)
        client = framed(site)
        with capturedLogs() as events:
            self.park(client)
        self.assertEqual(site.logouts, ["joe"])
        self.assert_evicted(client, "parked", events)
        self.assertEqual(rest_of(site), NOTHING)

    def test_parked_per_user(self) -> None:
        """
        One user's parked sessions push out each other, and nobody else's.
        """
        site = self.site_with(parked_per_user=2)
        stranger = framed(site, user=b"ann")
        clients = [framed(site) for _ in range(3)]
        with capturedLogs() as events:
            self.park(stranger, clients[1], clients[0], clients[2])
        self.assertEqual(site.logouts, ["joe"])
        self.assert_evicted(clients[1], "parked_per_user", events)
        self.assert_lives(stranger, clients[0], clients[2])

    def test_parked_plainly(self) -> None:
        """
        What is parked for a GRAFT counts like what is parked for a RESUME, and its mailbox is closed when it goes.
        """
        site = self.site_with(parked_per_user=1)
        one, other = plain(site), framed(site)
        one.lose()
        self.assertEqual((site.logouts, site.mailbox().closed), ([], 0))
        self.park(other)
        self.assertEqual((site.logouts, site.mailbox().closed), (["joe"], 1))
        self.assert_lives(other)

    def test_retained(self) -> None:
        """
        The octets of all parked sessions are bounded, also when they grow while parked.
        """
        site = self.site_with(retained=100 * KIB, window=64 * KIB)
        clients = [framed(site, user=user) for user in (b"joe", b"ann", b"joe")]
        table = site.factory.table
        with capturedLogs() as events:
            for number, client in enumerate(clients):
                client.lose()
                site.servers[number].transport.write(b"." * 40 * KIB)
                self.assertLessEqual(table.retained, 140 * KIB)
                site.clock.advance(1)
                self.assertLessEqual(table.retained, 100 * KIB)
        self.assertEqual(table.retained // KIB, 80)  # and some responses that were not acknowledged
        self.assert_evicted(clients[0], "retained", events)
        self.assert_lives(*clients[1:])
        self.assertEqual(table.retained, 0)

    def test_retained_is_what_is_kept(self) -> None:
        """
        The sum that is maintained equals the sum over the parked, whatever they do.
        """
        site = self.site_with(window=64 * KIB)
        table = site.factory.table
        clients = [framed(site) for _ in range(4)]
        for step in range(40):
            client = clients[step * 7 % 4]
            if client.session.attached:
                served = served_of(client)
                if step % 3:
                    served.transport.write(b"* 1 EXISTS\r\n" * step)  # some of it is never acknowledged
                client.lose()
                served.transport.write(b"* 2 EXISTS\r\n" * step)
            else:
                self.assertIsInstance(client.resume(), Resumed)
            kept = [one.retained for one in table.all() if one.parked]
            self.assertEqual(table.retained, sum(kept))
        site.factory.shutdown()
        self.assertEqual(rest_of(site), NOTHING)

    def test_records_per_client(self) -> None:
        """
        One client ID has so many records; the longest-parked goes, which need not be the oldest; live ones stay.
        """
        site = self.site_with(records_per_client=3)
        clients = [framed(site) for _ in range(3)]
        self.park(clients[1], clients[0])
        with capturedLogs() as events:
            framed(site)
        self.assert_evicted(clients[1], "records_per_client", events)
        self.assert_lives(clients[2], clients[0])

    def test_records(self) -> None:
        """
        All clients together have so many.
        """
        site = self.site_with(records=2)
        one, other = framed(site), framed(site, user=b"ann", client_id=b"UUID other")
        self.park(other, one)
        with capturedLogs() as events:
            logged_in(site, client_id=b"UUID third")
        self.assert_evicted(other, "records", events)
        self.assert_lives(one)


class RefusalTests(LimitCase):
    """
    START is refused when nothing can make room.
    """

    def assert_refused(self, client: RawClient, limit: str) -> None:
        said = client.command(b"XCONTINUITY START")
        self.assertIn(b" NO [LIMIT] ", said)
        self.assertEqual(client.site.factory.table.counts[f"limit_{limit}"], 1)
        self.assertIn(b" OK ", client.command(b"SELECT INBOX"))  # it goes on as an ordinary connection

    def test_sessions(self) -> None:
        """
        With all live the newcomer is refused; a parked one makes room.
        """
        site = self.site_with(sessions=2)
        clients = [framed(site, client_id=None) for _ in range(2)]
        self.assert_refused(logged_in(site, client_id=None), "sessions")
        self.park(clients[1])
        self.assert_lives(framed(site, client_id=None), clients[0])
        self.assertEqual(site.factory.table.counts["limit_sessions"], 2)
        self.assertEqual(len(site.factory.table), 2)

    def test_sessions_per_user(self) -> None:
        """
        The same for one user, whose crowd is not another's.
        """
        site = self.site_with(sessions_per_user=2)
        clients = [framed(site, client_id=None) for _ in range(2)]
        self.assert_refused(logged_in(site, client_id=None), "sessions_per_user")
        self.assert_lives(framed(site, client_id=None, user=b"ann"))
        self.park(clients[0])
        self.assert_lives(framed(site, client_id=None), clients[1])

    def test_who_named_itself_is_not_counted_twice(self) -> None:
        """
        The link that asks has a record already when the client named itself: the last free place is its own.
        """
        for limits in ({"sessions": 1}, {"sessions_per_user": 1}):
            site = self.site_with(**limits)
            self.assert_lives(framed(site))
            self.assert_refused(logged_in(site), *limits)


class TombstoneTests(LimitCase):
    """
    What is left of ended sessions.
    """

    def ended(self, site: Site) -> RawClient:
        client = framed(site)
        client.call(b"LOGOUT")
        return client

    def test_number(self) -> None:
        """
        The oldest is forgotten first: its client is told GONE, as if it had never been.
        """
        site = self.site_with(tombstones=2)
        clients = [self.ended(site) for _ in range(3)]
        ended = [Refused(Refusal.ENDED, client.session.sender.end) for client in clients]
        self.assertEqual([client.resume() for client in clients], [Refused(Refusal.GONE), *ended[1:]])

    def test_time(self) -> None:
        """
        They are forgotten after their time.
        """
        site = self.site_with(tombstone_time=100)
        client = self.ended(site)
        site.clock.advance(99)
        self.assertEqual(client.resume(), Refused(Refusal.ENDED, client.session.sender.end))
        site.clock.advance(1)
        self.assertEqual(client.resume(), Refused(Refusal.GONE))
        self.assertEqual(len(site.factory.table._tombstones), 0)

    def test_none(self) -> None:
        """
        A limit of none keeps none.
        """
        site = self.site_with(tombstones=0)
        client = self.ended(site)
        self.assertEqual(client.resume(), Refused(Refusal.GONE))

    def test_nothing_else_is_left(self) -> None:
        """
        When all have said LOGOUT, were given up, or lost their links without a name, the table is empty.
        """
        site = self.site_with(grace=10)
        self.ended(site)
        plain(site, TRAIN, client_id=None).lose()
        plain(site).command(b"LOGOUT")
        for client in (plain(site), framed(site), logged_in(site)):
            client.lose()
        self.assertEqual(site.factory.table.parked, 3)
        site.clock.advance(10)
        self.assertEqual(rest_of(site), NOTHING)
        self.assertEqual(sorted(site.logouts), sorted(site.logins))
        self.assertEqual([call for call in site.clock.getDelayedCalls() if call.active()], [])
