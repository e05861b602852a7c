"""
GRAFT when something is in the way: a source in the middle of something, a mailbox that is not what it was, an account that takes
its time, fails, or that nobody waits for any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import capturedLogs
from twisted.mail.imap4 import MailboxException
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.handshake import Resumed
from tests.support.comebacks import TRAIN, framed, graft, logged_in, plain, uid_map
from tests.support.mailboxes import Mailbox
from tests.support.raw_client import RawClient
from tests.support.site import Site

GRAFTED = b" OK [XCONTINUITY GRAFTED INBOX READ-WRITE]"


class TroubleCase(SynchronousTestCase):
    """
    A site with two messages.
    """

    def setUp(self) -> None:
        self.site = Site()
        self.addCleanup(self.site.factory.shutdown)
        self.box = self.site.mailbox()
        self.box.deliver(b"one\r\n")
        self.box.deliver(b"two\r\n")


class BusySourceTests(TroubleCase):
    """
    What is in the middle of something is never parted from its mailbox: the newcomer gets a view of its own.
    """

    def fetching(self, source: RawClient, write: Callable[[bytes], object]) -> Deferred[Any]:
        """
        Let a FETCH begin that is not answered yet.
        """
        answer: Deferred[Any] = Deferred()
        self.box.fetch = lambda messages, uid: answer  # type: ignore[method-assign,assignment,return-value]
        write(b"f1 FETCH 1 UID\r\n")
        self.site.settle()
        del self.box.fetch
        return answer

    def assert_own_view(self) -> RawClient:
        client = logged_in(self.site, TRAIN)
        answer = graft(client)
        self.assertIn(GRAFTED, answer)
        self.assertEqual(uid_map(answer), [1, 2])
        self.assertIs(self.site.servers[1].account, self.site.accounts[1])
        return client

    def test_live_plain_in_a_command(self) -> None:
        """
        The command is answered on its own link.
        """
        source = plain(self.site)
        answer = self.fetching(source, source.link.send)
        self.assert_own_view()
        answer.callback([(1, self.box.messages[0])])
        self.site.settle()
        self.assertIn(b"* 1 FETCH (UID 1)\r\nf1 OK ", source.link.take())
        self.assertEqual(self.box.listeners, self.site.servers)

    def test_framed_in_a_command(self) -> None:
        """
        A parked session in the middle of a command still is there for its RESUME.
        """
        source = framed(self.site)
        source.write(b"f1 FETCH 1 UID\r\n")
        answer = self.fetching(source, lambda octets: source.send_frames())
        source.lose("reset")
        self.assert_own_view()
        answer.callback([(1, self.box.messages[0])])
        self.assertIsInstance(source.resume(), Resumed)
        self.assertIn(b"* 1 FETCH (UID 1)\r\nf1 OK ", source.stream)

    def test_plain_lost_in_a_command(self) -> None:
        """
        Of a plain link that is lost in the middle of a command nothing is kept.
        """
        source = plain(self.site)
        answer = self.fetching(source, source.link.send)
        source.lose("reset")
        self.assertEqual(self.site.logouts, ["joe"])
        self.assertIn(b" NO [XCONTINUITY GONE]", graft(logged_in(self.site, TRAIN)))
        answer.callback([])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_in_a_literal(self) -> None:
        """
        A session that was cut in the middle of a client's literal, or is in one now, goes to nobody but its own RESUME.
        """
        for parked in (False, True):
            site = Site()
            source = framed(site)
            source.write(b"p1 APPEND INBOX () {20}\r\n")
            source.pump()
            source.write(b"0123456789")
            source.pump()
            if parked:
                source.lose("reset")
            client = logged_in(site, TRAIN)
            self.assertIn(GRAFTED, graft(client))
            self.assertIs(site.servers[1].account, site.accounts[1])
            client.command(b"NOOP")
            self.assertEqual((site.mailbox().stored, site.logouts), ([], []))
            if parked:
                source.resume()
            source.write(b"9876543210\r\n")
            source.pump()
            self.assertEqual(site.mailbox().stored, [b"01234567899876543210"])
            site.factory.shutdown()

    def test_plain_lost_in_a_literal(self) -> None:
        """
        Of a plain link that is lost there nothing is kept, also when the literal needs no invitation.
        """
        for suffix in (b"{20}", b"{20+}"):
            site = Site()
            source = plain(site)
            source.link.send(b"p1 APPEND INBOX () " + suffix + b"\r\n0123456789")
            site.settle()
            source.lose("reset")
            self.assertEqual((site.logouts, site.factory.table.parked), (["joe"], 0))
            self.assertIn(b" NO [XCONTINUITY GONE]", graft(logged_in(site, TRAIN)))
            self.assertEqual(site.mailbox().stored, [])
            site.factory.shutdown()


class AccountTests(TroubleCase):
    """
    Accounts of all kinds.
    """

    def setUp(self) -> None:
        super().setUp()
        self.source = plain(self.site)
        self.source.lose("reset")
        self.account = self.site.accounts[0]
        self.client = logged_in(self.site, TRAIN)

    def select_gives(self, result: Callable[[], Any]) -> list[tuple[Any, Any]]:
        asked: list[tuple[Any, Any]] = []

        def select(name: Any, rw: Any = 1) -> Any:
            asked.append((name, rw))
            return result()

        self.account.select = select  # type: ignore[method-assign]
        return asked

    def ask(self) -> bytes:
        """
        A GRAFT that may have to wait for its answer.
        """
        self.client.link.take()
        self.client.link.send(b"g1 XCONTINUITY GRAFT\r\ng2 NOOP\r\n")
        self.site.settle()
        return self.client.link.take()

    def test_view_of_its_own(self) -> None:
        """
        An account that makes an object for each SELECT: the one that was kept goes on, the other was only looked at.
        """
        views: list[Mailbox] = []

        def select() -> Mailbox:
            views.append(Mailbox())
            return views[-1]

        asked = self.select_gives(select)
        said = self.ask()
        self.assertEqual(asked, [("INBOX", 1)])
        self.assertEqual(uid_map(said), [1, 2])
        self.assertIs(self.site.servers[1].mbox, self.box)
        self.assertEqual(([view.closed for view in views], self.box.closed), ([1], 0))

    def test_examined(self) -> None:
        """
        Read-only is asked for as it was, also when the mailbox is opened anew.
        """
        source = framed(self.site, select=b"EXAMINE INBOX", client_id=b"UUID second")
        source.write(b"p1 APPEND INBOX () {3}\r\n")
        source.pump()
        self.client = logged_in(self.site, TRAIN, client_id=b"UUID second")
        self.account = self.site.accounts[-1]
        asked = self.select_gives(lambda: self.box)
        self.ask()
        self.assertEqual(asked, [("INBOX", 0)])

    def test_takes_its_time(self) -> None:
        """
        What the client sends meanwhile waits.
        """
        answer: Deferred[Any] = Deferred()
        self.select_gives(lambda: answer)
        self.assertEqual(self.ask(), b"")
        answer.callback(self.box)
        said = self.client.link.take()
        self.assertEqual(uid_map(said), [1, 2])
        self.assertLess(said.index(b"g1 OK"), said.index(b"g2 OK"))

    def test_nobody_waits(self) -> None:
        """
        The link that asked is gone when the account answers: nothing moves, and the next one can still GRAFT.
        """
        answer: Deferred[Any] = Deferred()
        view = Mailbox()
        self.select_gives(lambda: answer)
        self.ask()
        self.client.lose("reset")
        answer.callback(view)
        self.assertEqual((view.closed, self.box.closed, self.box.listeners), (1, 0, []))
        del self.account.select
        self.client = logged_in(self.site, TRAIN)
        self.assertIn(GRAFTED, self.ask())
        self.client.command(b"LOGOUT")
        self.site.clock.advance(1501)
        self.assertEqual(len(self.site.logouts), len(self.site.logins))

    def test_two_at_once(self) -> None:
        """
        Two links ask for the same session: one gets it, the other a view of its own, and nobody's mailbox is closed.
        """
        answers: list[Deferred[Any]] = []

        def select() -> Deferred[Any]:
            answers.append(Deferred())
            return answers[-1]

        self.select_gives(select)
        clients = [self.client, logged_in(self.site, TRAIN)]
        for client in clients:
            client.link.take()
            client.link.send(b"g1 XCONTINUITY GRAFT\r\n")
        for answer in answers:
            answer.callback(self.box)
        self.site.settle()
        for client in clients:
            said = client.link.take()
            self.assertIn(b"g1" + GRAFTED, said)
            self.assertEqual(uid_map(said), [1, 2])
        self.assertEqual(self.box.listeners, self.site.servers[1:])
        self.assertIs(self.site.servers[1].account, self.account)
        self.assertIsNot(self.site.servers[2].account, self.account)
        self.assertEqual(self.box.closed, 0)

    def test_source_resumes_meanwhile(self) -> None:
        """
        The source was parked when GRAFT began and is live in a command when the account answers: it keeps what it has.
        """
        source = framed(self.site, client_id=b"UUID second")
        source.lose("reset")
        account, answer = self.site.accounts[-1], Deferred[Any]()
        account.select = lambda name, rw=1: answer  # type: ignore[method-assign]
        self.client = logged_in(self.site, TRAIN, client_id=b"UUID second")
        self.ask()
        self.assertIsInstance(source.resume(), Resumed)
        del account.select
        source.write(b"p1 APPEND INBOX () {3}\r\n")
        source.pump()
        answer.callback(self.box)
        self.site.settle()
        self.assertIn(GRAFTED, self.client.link.take())
        source.write(b"abc\r\n")
        source.pump()
        self.assertEqual(self.box.stored, [b"abc"])
        self.assertIn(b"p1 OK ", source.stream)

    def test_missing(self) -> None:
        """
        None, or Twisted's exception for it: the mailbox is gone, the client is told so and stays authenticated.
        """
        for missing in (lambda: None, lambda: fail(MailboxException("no such mailbox"))):
            self.select_gives(missing)
            self.assertIn(b"g1 NO [XCONTINUITY MISSING INBOX]", self.ask())
            self.assertEqual(self.box.closed, 1)  # nobody will ask for it again
            self.assertIn(b" OK ", self.client.command(b"SELECT INBOX"))
            self.client.command(b"LOGOUT")
            source = plain(self.site)
            source.lose()
            self.box.closed = 0
            self.account = self.site.accounts[-1]
            self.client = logged_in(self.site, TRAIN)

    def test_fails(self) -> None:
        """
        An account with a fault: logged, answered with NO, and the client goes on.
        """
        self.select_gives(lambda: fail(RuntimeError("the disk is on fire")))
        said = self.ask()
        self.assertIn(b"g1 NO [SERVERBUG] ", said)
        self.assertNotIn(b"fire", said)
        self.assertIn(b"g2 OK", said)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual((self.site.factory.table.parked, self.box.closed), (1, 0))

    def test_mailbox_fails(self) -> None:
        """
        A mailbox that cannot be listened to, or told of: the client is told NO and is where a login left it.
        """
        for method in ("addListener", "getUID", "isWriteable"):

            def broken(*_: Any) -> None:
                raise RuntimeError("the disk is on fire")

            setattr(self.box, method, broken)
            self.assertIn(b"g1 NO [SERVERBUG] ", self.ask())
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
            delattr(self.box, method)
            server = self.site.servers[-1]
            self.assertEqual((server.state, server.mbox, self.box.listeners, self.box.closed), ("auth", None, [], 1))
            self.assertIn(b" OK ", self.client.command(b"SELECT INBOX"))
            self.box.closed = 0
            self.client.lose()
            self.client = logged_in(self.site, TRAIN)

    def test_mailbox_fails_when_it_is_left(self) -> None:
        """
        A mailbox that does not let go of its listener when the link is lost: nothing is kept, the avatar is logged out.
        """

        def broken(*_: Any) -> None:
            raise RuntimeError("removeListener")

        client = plain(self.site, client_id=b"UUID second")
        self.box.removeListener = broken  # type: ignore[method-assign,assignment]
        client.lose()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual((len(self.site.servers[-1].losses), self.site.logouts), (1, ["joe"]))
        del self.box.removeListener

    def test_says_something_when_it_is_adopted(self) -> None:
        """
        What a mailbox tells its new listener comes before the snapshot, which counts it already.
        """
        add = self.box.addListener

        def add_and_tell(listener: Any) -> None:
            add(listener)
            self.box.deliver(b"found just now\r\n")

        self.box.addListener = add_and_tell  # type: ignore[method-assign]
        said = self.ask()
        self.assertEqual(uid_map(said), [1, 2, 3])
        self.assertEqual(said.count(b"* 3 EXISTS\r\n"), 2)
        self.assertTrue(said.startswith(b"* 3 EXISTS\r\n* FLAGS"), said)
        self.assertLess(said.rindex(b"EXISTS"), said.index(b"g1 OK"))


class NameTests(SynchronousTestCase):
    """
    Names that are patterns to somebody.
    """

    def test_names(self) -> None:
        """
        Wildcards, what is special in regular expressions, and another case than the account's own: found as SELECT finds them.
        """
        for name in ("a+b", "a(b", "[x]", "st*r", "p%c", "Work", "WORK", "a.b/c", "Entwürfe"):
            site = Site()
            site.mailboxes["joe"] = {"INBOX": Mailbox(), name.upper(): Mailbox(11), "OTHER": Mailbox()}
            site.mailboxes["joe"][name.upper()].deliver(b"one\r\n")
            written = b'"' + name.encode("imap4-utf-7") + b'"'
            with capturedLogs() as events:
                plain(site, select=b"SELECT " + written).lose()
                answer = graft(logged_in(site, TRAIN))
            self.assertIn(b" OK [XCONTINUITY GRAFTED ", answer)
            self.assertEqual(uid_map(answer), [1])
            self.assertFalse([event for event in events if event.get("log_failure")])
            site.factory.shutdown()

    def test_deferred_account(self) -> None:
        """
        An account that always answers by a Deferred.
        """
        site = Site()
        source = plain(site)
        account = site.accounts[0]
        select = account.select
        account.select = lambda name, rw=1: succeed(select(name, rw))  # type: ignore[method-assign]
        source.lose()
        self.assertIn(GRAFTED, graft(logged_in(site, TRAIN)))
        site.factory.shutdown()
