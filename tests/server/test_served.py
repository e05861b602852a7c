"""
A served session: what a lost link leaves of it, what its record knows, and how the inner protocol is told of its end.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.protocols.basic import LineReceiver
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.policy import Policy
from mem_continuity.directory.memory import MemoryDirectory
from mem_continuity.directory.record import ClientID, Record, Selection
from tests.support.comebacks import CLIENT_ID, framed, logged_in, plain, served_of
from tests.support.site import Site


class RecordTests(SynchronousTestCase):
    """
    The record follows what the client selects.
    """

    def setUp(self) -> None:
        self.directory = MemoryDirectory()
        self.site = Site(directory=self.directory)
        self.addCleanup(self.site.factory.shutdown)
        self.site.mailbox(name="WORK")

    def record(self) -> Record:
        (record,) = self.directory.find(b"joe", ClientID(*CLIENT_ID.split()))
        return record

    def test_followed(self) -> None:
        """
        In plain and in framed mode alike.
        """
        for start in (False, True):
            client = logged_in(self.site)
            if start:
                client.start()
            call = client.call if start else client.command
            self.assertIsNone(self.record().selection)
            call(b"SELECT INBOX")
            self.assertEqual(self.record().selection, Selection(b"INBOX", False, 7))
            call(b"EXAMINE Work")
            self.assertEqual(self.record().selection, Selection(b"Work", True, 7))
            call(b"SELECT nothing-of-that-name")
            self.assertIsNone(self.record().selection)
            call(b"SELECT INBOX")
            call(b"CLOSE")
            self.assertIsNone(self.record().selection)
            call(b"LOGOUT")
            self.assertEqual(len(self.directory), 0)

    def test_of_whom(self) -> None:
        """
        It names the user, the client and the session, and nothing that opens it.
        """
        client = framed(self.site)
        record = self.record()
        self.assertEqual((record.user, record.session_id), (b"joe", client.session.terms.session_id))
        self.assertNotIn(client.session.terms.key.hex(), repr(record))
        self.assertNotIn(b"secret", repr(record).encode())


class EndTests(SynchronousTestCase):
    """
    What C{connectionLost} is told.
    """

    def loss(self, site: Site) -> Exception:
        ((failure,),) = [server.losses for server in site.servers]
        reason: Exception = failure.value
        return reason

    def test_reasons(self) -> None:
        """
        A close of its own is clean, as on a socket; an abort is one; whatever else ends a session is a loss and says what.
        """
        for act, kind, word in (
            (lambda site: site.servers[0].transport.loseConnection(), ConnectionDone, "clean"),
            (lambda site: site.servers[0].transport.abortConnection(), ConnectionAborted, ""),
            (lambda site: site.factory.shutdown(), ConnectionLost, "SHUTDOWN"),
        ):
            site = Site()
            framed(site)
            act(site)
            site.settle()
            self.assertIsInstance(self.loss(site), kind)
            self.assertIn(word, str(self.loss(site)))
            site.factory.shutdown()

    def test_grace(self) -> None:
        """
        Nobody came back.
        """
        site = Site(Policy(grace=10))
        framed(site).lose()
        self.assertEqual(site.servers[0].losses, [])
        site.clock.advance(10)
        self.assertIn("GRACE", str(self.loss(site)))

    def test_plain_links_tell_the_truth(self) -> None:
        """
        Without the layer the protocol is told what the connection was, at once, also when something of it is kept.
        """
        for how, kind in (("fin", ConnectionDone), ("reset", ConnectionAborted)):
            for client_id in (CLIENT_ID, None):
                site = Site()
                plain(site, client_id=client_id).lose(how)
                self.assertIsInstance(self.loss(site), kind)
                site.factory.shutdown()


class OtherProtocolTests(SynchronousTestCase):
    """
    What is served need not be Twisted's C{IMAP4Server}.
    """

    def served(self, made: Protocol) -> Site:
        site = Site()
        site.buildProtocol = lambda addr: made  # type: ignore[method-assign]
        self.addCleanup(site.factory.shutdown)
        return site

    def test_a_server_of_ones_own(self) -> None:
        """
        A line protocol that speaks just enough IMAP, has no portal and no mailbox: it can be STARTed and resumed; a plain link
        leaves nothing, for nobody can see whether it stands between two commands.
        """

        class Tiny(LineReceiver):
            lost = 0

            def connectionMade(self) -> None:
                self.sendLine(b"* OK tiny")

            def lineReceived(self, line: bytes) -> None:
                tag, _, rest = line.partition(b" ")
                self.sendLine(tag + b" OK " + rest)

            def connectionLost(self, reason: Any = None) -> None:
                self.lost += 1

        for start in (True, False):
            tiny = Tiny()
            site = self.served(tiny)
            client = logged_in(site)
            self.assertEqual(served_of(client).user, b"joe")
            if start:
                client.start()
            client.lose()
            self.assertEqual((tiny.lost, site.factory.table.parked), (0, 1) if start else (1, 0))
            if start:
                client.resume()
                self.assertIn(b" OK NOOP", client.call(b"NOOP"))
