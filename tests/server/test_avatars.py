"""
Who is logged in: leases, the realm around a site's realm, and the facade that stands for a portal; and what a lost link leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import Anonymous, IAnonymous, UsernamePassword
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, fail, succeed
from twisted.mail.interfaces import IAccountIMAP
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import Interface, implementer
from zope.interface.verify import verifyObject

from mem_continuity.core.policy import Policy
from mem_continuity.server import ContinuityRealm
from mem_continuity.server.avatars import Lease, PortalFacade
from tests.support.comebacks import TRAIN, framed, graft, logged_in, plain, resident_of, served_of
from tests.support.raw_client import RawClient
from tests.support.site import Server, Site


class LeaseTests(SynchronousTestCase):
    """
    L{Lease}.
    """

    def test_once(self) -> None:
        """
        Released twice, logged out once; also when the logout is its own reason for the second.
        """
        calls: list[int] = []

        def logout() -> None:
            calls.append(1)
            lease.release()

        lease = Lease(IAccountIMAP, object(), logout)
        lease.release()
        lease.release()
        self.assertEqual(calls, [1])

    def test_a_logout_that_fails(self) -> None:
        """
        At once or later: it is logged, and whoever let go is not disturbed.
        """

        def broken() -> None:
            raise RuntimeError("logout")

        for logout in (broken, lambda: fail(RuntimeError("logout"))):
            Lease(IAccountIMAP, object(), logout).release()
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


@implementer(IRealm)
class Recorder:
    """
    A realm that notes what it is asked.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        self.asked.append((avatarId, mind, *interfaces))
        return interfaces[0], object(), lambda: None


class RealmTests(SynchronousTestCase):
    """
    L{ContinuityRealm}.
    """

    def test_it_is_a_realm(self) -> None:
        """
        And where it is asked by somebody else than our facade, it is the site's.
        """
        inner = Recorder()
        realm = ContinuityRealm(inner)
        self.assertTrue(verifyObject(IRealm, realm))
        mind = object()
        realm.requestAvatar(b"joe", mind, IAccountIMAP)
        realm.requestAvatar((), None, IAccountIMAP)
        self.assertEqual(inner.asked, [(b"joe", mind, IAccountIMAP), ((), None, IAccountIMAP)])

    def test_the_mind_is_not_passed_on(self) -> None:
        """
        The site's realm is asked with the mind that a protocol asks with, which is none.
        """
        inner, site = Recorder(), Site()
        site.portal.realm = ContinuityRealm(inner)
        logged_in(site)
        self.assertEqual(inner.asked, [(b"joe", None, IAccountIMAP)])
        site.factory.shutdown()

    def hand_over(self, **second: Any) -> Site:
        """
        A link is lost, and somebody logs in.
        """
        site = Site(continuity_realm=True)
        self.addCleanup(site.factory.shutdown)
        logged_in(site).lose()
        logged_in(site, TRAIN, **second)
        return site

    def test_to_whom(self) -> None:
        """
        Only to the same user under the same client ID.
        """
        self.assertEqual(self.hand_over().logins, ["joe"])
        self.assertEqual(self.hand_over(client_id=None).logins, ["joe", "joe"])
        self.assertEqual(self.hand_over(client_id=b"UUID other").logins, ["joe", "joe"])
        self.assertEqual(self.hand_over(user=b"ann").logins, ["joe", "ann"])

    def test_only_with_the_password(self) -> None:
        """
        The client ID opens nothing.
        """
        site = Site(continuity_realm=True)
        logged_in(site).lose()
        client = RawClient(site, password=b"wrong")
        client.connect()
        self.assertIn(b" NO ", client.login())
        self.assertEqual((site.factory.table.parked, site.logins, site.logouts), (1, ["joe"], []))
        self.flushLoggedErrors()
        site.factory.shutdown()

    def test_one_avatar_for_one_login(self) -> None:
        """
        Several lost links leave several avatars; each login takes one, the oldest first.
        """
        site = Site(continuity_realm=True)
        for client in [logged_in(site) for _ in range(3)]:
            client.lose()
        for _ in range(4):
            logged_in(site, TRAIN)
        first = site.accounts[:3]
        self.assertEqual([server.account for server in site.servers[3:]], [*first, site.accounts[3]])
        self.assertEqual(len(site.logins), 4)
        site.factory.shutdown()
        site.settle()
        self.assertEqual(len(site.logouts), 4)

    def test_another_interface(self) -> None:
        """
        An avatar is handed on for the interface that it was made for.
        """

        class IOther(Interface):
            pass

        site = Site(continuity_realm=True)
        logged_in(site).lose()
        site.portal.realm = ContinuityRealm(Recorder())
        client = RawClient(site)
        client.connect()
        client.command(b"CLIENTID " + (client.client_id or b""))
        served = resident_of(client)
        served.client_id = client.link.link.client_id
        facade = PortalFacade(site.portal, served)
        interface, _, _ = self.successResultOf(facade.login(UsernamePassword(b"joe", b"secret"), None, IOther))
        self.assertIs(interface, IOther)
        self.assertEqual(site.factory.table.parked, 1)
        site.factory.shutdown()

    def test_names_as_text(self) -> None:
        """
        A checker that gives the avatar's name as text serves as well.
        """
        site = Site(continuity_realm=True)
        inner = Recorder()
        site.portal.realm = ContinuityRealm(inner)
        users: dict[Any, bytes] = {"jöe": b"x"}
        client = RawClient(site)
        client.connect()
        served = resident_of(client)
        served.client_id = client.link.link.client_id
        facade = PortalFacade(site.portal, served)
        site.checker.users.update(users)
        self.successResultOf(facade.login(UsernamePassword("jöe", b"x"), None, IAccountIMAP))  # type: ignore[arg-type]
        self.assertEqual(served.user, "jöe".encode())
        site.factory.shutdown()


class FacadeTests(SynchronousTestCase):
    """
    L{PortalFacade}.
    """

    def setUp(self) -> None:
        self.site = Site()
        self.addCleanup(self.site.factory.shutdown)

    def test_everything_else_is_the_portals(self) -> None:
        """
        What sites ask of their portal beside login.
        """
        logged_in(self.site)
        facade = self.site.servers[0].portal
        self.assertIsInstance(facade, PortalFacade)
        self.assertIs(facade.realm, self.site.portal.realm)
        self.assertEqual(facade.listCredentialsInterfaces(), self.site.portal.listCredentialsInterfaces())
        with self.assertRaises(AttributeError):
            _ = facade.nothing_of_that_name

    def test_a_portal_of_the_sites_own(self) -> None:
        """
        What is no L{Portal} but has C{login} is asked as the protocol would have asked it.
        """
        asked: list[Any] = []

        class Own:
            realm = ContinuityRealm(Recorder())

            def login(self, credentials: Any, mind: Any, *interfaces: Any) -> Any:
                asked.append((credentials.username, mind, interfaces))
                return succeed((interfaces[0], "avatar", lambda: None))

        def build(addr: Any) -> Any:
            made = type(self.site).buildProtocol(self.site, addr)
            made.portal = Own()
            return made

        self.site.buildProtocol = build  # type: ignore[method-assign]
        client = logged_in(self.site)
        self.assertEqual(asked, [(b"joe", None, (IAccountIMAP,))])
        self.assertEqual(served_of(client).user, b"joe")

    def test_a_portal_that_cannot_be_replaced(self) -> None:
        """
        The login works, no avatar is kept, and RESUME works all the same.
        """

        class Sealed(Server):
            @property  # type: ignore[override]
            def portal(self) -> Portal:
                return self.site_portal

            @portal.setter
            def portal(self, portal: Portal) -> None:
                if hasattr(self, "site_portal"):
                    raise AttributeError("sealed")
                self.site_portal = portal

        self.site.protocol_class = Sealed
        client = framed(self.site)
        self.assertIsNone(resident_of(client).lease)
        client.lose()
        client.resume()
        self.assertIn(b" OK ", client.call(b"NOOP"))

    def test_anonymous(self) -> None:
        """
        A login without a name has no record, so there is nothing to find for another anonymous.
        """
        portal = Portal(ContinuityRealm(Recorder()))

        @implementer(ICredentialsChecker)
        class Checker:
            credentialInterfaces = (IAnonymous,)

            def requestAvatarId(self, credentials: Any) -> Any:
                return ()

        portal.registerChecker(Checker(), IAnonymous)
        client = RawClient(self.site)
        client.connect()
        served = resident_of(client)
        self.successResultOf(PortalFacade(portal, served).login(Anonymous(), None, IAccountIMAP))
        self.assertIsNone(served.user)


class SlowLoginTests(SynchronousTestCase):
    """
    A checker that takes its time.
    """

    def slow(self, site: Site) -> list[Callable[[], None]]:
        """
        Logins are answered only when the returned functions are called.
        """
        waiting: list[Callable[[], None]] = []
        checker: Any = site.checker
        check = checker.requestAvatarId

        def later(credentials: Any) -> Deferred[Any]:
            answer: Deferred[Any] = Deferred()
            waiting.append(lambda: check(credentials).chainDeferred(answer))
            return answer

        checker.requestAvatarId = later
        return waiting

    def begin(self, site: Site) -> RawClient:
        client = RawClient(site)
        client.connect(TRAIN)
        client.command(b"CLIENTID " + (client.client_id or b""))
        client.link.send(b"l1 LOGIN joe secret\r\n")
        site.settle()
        return client

    def test_link_lost_meanwhile(self) -> None:
        """
        Nobody holds the avatar of a login that came too late: it is logged out; and one that was kept stays where it is.
        """
        for continuity_realm in (False, True):
            site = Site(Policy(grace=100), continuity_realm=continuity_realm)
            plain(site).lose()
            waiting = self.slow(site)
            self.begin(site).lose()
            waiting.pop()()
            self.assertEqual(site.factory.table.parked, 1)
            self.assertEqual((site.logins, site.logouts), (["joe", "joe"], ["joe"]))
            self.assertEqual(site.mailbox().closed, 0)
            site.clock.advance(100)
            self.assertEqual((site.logouts, site.mailbox().closed), (["joe", "joe"], 1))
            site.factory.shutdown()

    def test_grace_over_meanwhile(self) -> None:
        """
        The kept avatar is gone when the login is through: the site's realm makes a new one.
        """
        site = Site(Policy(grace=100, preamble_time=1000), continuity_realm=True)
        plain(site).lose()
        waiting = self.slow(site)
        client = self.begin(site)
        site.clock.advance(100)
        waiting.pop()()
        site.settle()
        self.assertIn(b"l1 OK ", client.link.take())
        self.assertEqual((site.logins, site.logouts), (["joe", "joe"], ["joe"]))
        self.assertIn(b" NO [XCONTINUITY GONE]", graft(client))
        site.factory.shutdown()
