"""
Real dialogues over TLS on loopback: Python's imaplib and Twisted's client against the mailhost, and against an unmodified
C{IMAP4Server} on the same mailboxes.
"""

from __future__ import annotations

import datetime
import hashlib
import imaplib
import ssl
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import Portal
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, serverFromString, wrapClientTLS
from twisted.internet.protocol import Factory
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.threads import deferToThread
from twisted.mail.imap4 import IMAP4Client, IMAP4Server, MessageSet
from twisted.trial import util
from twisted.trial.unittest import TestCase

from mem_continuity.core.policy import Policy
from mem_continuity.mailhost import MaildirRealm, MailhostFactory
from mem_continuity.mailhost.certificate import check_certificate, make_certificate
from mem_continuity.mailhost.passwords import HashedPasswords, PasswordHash

PASSWORD = 'se"cr\\et'
BIG = b"Subject: big\r\n\r\n" + b"".join(b"%015d\r\n" % number for number in range(20 * 1024 * 1024 // 17))


class StockFactory(Factory):
    """
    Twisted's server as it is.
    """

    noisy = False

    def __init__(self, portal: Portal) -> None:
        self.portal = portal

    def buildProtocol(self, addr: object) -> Any:
        session: Any = IMAP4Server()
        session.portal = self.portal
        return session


class Client(IMAP4Client):
    """
    Twisted's client; long answers are kept in memory, since it does not close its temporary files.
    """

    def messageFile(self, octets: int) -> BytesIO:
        return BytesIO()


class DialogueCase(TestCase):
    """
    A server on a fresh folder.
    """

    timeout = 60
    # Twisted's own CertificateOptions still hands pyOpenSSL's objects to pyOpenSSL.
    suppress = [util.suppress(category=DeprecationWarning, message="Passing pyOpenSSL")]  # noqa: RUF012
    policy = Policy(folder_interval=0.1, message_size=64 * 1024 * 1024)

    def setUp(self) -> Deferred[None]:  # type: ignore[override]
        self.root = Path(self.mktemp())
        self.pem = Path(self.mktemp())
        make_certificate(self.pem, datetime.datetime.now(datetime.UTC))
        self.realm = MaildirRealm(self.root, reactor, self.policy)
        users = {b"joe": PasswordHash.of(PASSWORD)}
        checker = HashedPasswords(users, reactor, self.policy)
        self.addCleanup(checker.close)
        self.portal = Portal(self.realm, [checker])
        return self.listen(MailhostFactory(self.portal, reactor, self.policy))

    @inlineCallbacks
    def listen(self, factory: Any) -> Any:
        where = f"ssl:0:interface=127.0.0.1:privateKey={self.pem}:certKey={self.pem}"
        port = yield serverFromString(reactor, where).listen(factory)
        self.port = port.getHost().port
        self.addCleanup(port.stopListening)

    def imaplib(self) -> imaplib.IMAP4_SSL:
        context = ssl.create_default_context(cafile=str(self.pem))
        client = imaplib.IMAP4_SSL("localhost", self.port, ssl_context=context, timeout=30)
        self.assertEqual(client.login("joe", PASSWORD)[0], "OK")
        return client

    def content(self, answer: tuple[str, Any]) -> tuple[bytes, bytes]:
        """
        The line and the literal of a FETCH of one message.
        """
        line, octets = answer[1][0]
        return line, octets

    def in_thread(self, dialogue: Callable[[], None]) -> Deferred[None]:
        return deferToThread(dialogue)

    @inlineCallbacks
    def twisted_client(self, password: bytes = PASSWORD.encode()) -> Any:
        trust = Certificate.loadPEM(self.pem.read_bytes())
        endpoint = wrapClientTLS(
            optionsForClientTLS("localhost", trust), HostnameEndpoint(reactor, "127.0.0.1", self.port)
        )
        client = yield connectProtocol(endpoint, Client())
        yield client.login(b"joe", password)
        return client


class ImaplibTests(DialogueCase):
    """
    Python's client.
    """

    def test_append_and_fetch_20_megabytes(self) -> Deferred[None]:
        def dialogue() -> None:
            client = self.imaplib()
            client.select()
            answer, (text,) = client.append("INBOX", "(\\Flagged)", '"17-Jul-1996 02:44:25 -0700"', BIG)
            self.assertEqual(answer, "OK")
            self.assertIn(b"APPENDUID", text)
            _, (size,) = client.fetch("1", "(RFC822.SIZE FLAGS INTERNALDATE)")
            self.assertIn(b"RFC822.SIZE %d" % len(BIG), size)
            self.assertIn(b'"17-Jul-1996 09:44:25 +0000"', size)
            _, octets = self.content(client.fetch("1", "(BODY.PEEK[])"))
            self.assertEqual(hashlib.sha256(octets).digest(), hashlib.sha256(BIG).digest())
            line, octets = self.content(client.uid("FETCH", "1", "(BODY.PEEK[TEXT]<1000000.500>)"))
            self.assertEqual(octets, BIG[16:][1000000:1000500])
            self.assertIn(b"<1000000>", line)
            _, (flags,) = client.fetch("1", "(FLAGS)")
            self.assertNotIn(b"Seen", flags)
            client.logout()
            self.assertEqual(len(list((self.root / "joe").glob("cur/*"))), 1)
            self.assertEqual(list((self.root / "joe").glob("tmp/*")), [])

        return self.in_thread(dialogue)

    def test_two_sessions(self) -> Deferred[None]:
        def dialogue() -> None:
            one, other = self.imaplib(), self.imaplib()
            one.select()
            other.select()
            for number in range(3):
                one.append("INBOX", None, None, b"Subject: %d\r\n\r\n" % number)
            other.noop()
            self.assertEqual(other.response("EXISTS")[1][-1], b"3")
            other.store("1", "+FLAGS", "(\\Deleted)")
            self.assertEqual(other.expunge()[1], [b"1"])
            # The other session still has its numbers: the first is left out, the third is the third.
            _, data = one.fetch("1:3", "(UID)")
            self.assertEqual([line for line in data if isinstance(line, bytes) and b"UID" in line], [b"2 (UID 2)", b"3 (UID 3)"])
            self.assertEqual(one.response("EXPUNGE")[1], [None])
            one.noop()
            self.assertEqual(one.response("EXPUNGE")[1], [b"1"])
            self.assertEqual(one.fetch("1:*", "(UID)")[1], [b"1 (UID 2)", b"2 (UID 3)"])
            one.logout()
            other.logout()

        return self.in_thread(dialogue)

    def test_dropped_mail_is_announced(self) -> Deferred[None]:
        def dialogue() -> None:
            client = self.imaplib()
            client.select()
            client.send(b"i IDLE\r\n")
            self.assertTrue(client.readline().startswith(b"+"))
            maildir = self.root / "joe"
            (maildir / "tmp" / "x").write_bytes(b"Subject: dropped\n\nbody\n")
            (maildir / "tmp" / "x").rename(maildir / "new" / "x")
            self.assertEqual([client.readline(), client.readline()], [b"* 1 EXISTS\r\n", b"* 1 RECENT\r\n"])
            (maildir / "cur" / "x:2,").unlink()
            self.assertEqual(client.readline(), b"* 1 EXPUNGE\r\n")
            client.send(b"DONE\r\n")
            self.assertTrue(client.readline().startswith(b"i OK"))
            client.logout()

        return self.in_thread(dialogue)

    def test_folders(self) -> Deferred[None]:
        def dialogue() -> None:
            client = self.imaplib()
            self.assertEqual(client.create('"Entw&APw-rfe und \\"so\\""')[0], "OK")
            inbox = b'(\\HasNoChildren) "." "INBOX"'
            self.assertEqual(client.list()[1], [inbox, b'(\\HasNoChildren) "." "Entw&APw-rfe und \\"so\\""'])
            answer = client.status('"Entw&APw-rfe und \\"so\\""', "(MESSAGES UIDNEXT)")
            self.assertEqual(answer, ("OK", [b'"Entw&APw-rfe und \\"so\\"" (MESSAGES 0 UIDNEXT 1)']))
            self.assertEqual(client.select("../../etc")[0], "NO")
            self.assertEqual(client.select('"&broken"')[0], "NO")
            self.assertEqual(client.append("Nope", None, None, b"x")[0], "NO")
            client.select()
            client.append("INBOX", None, None, b"Subject: x\r\n\r\n")
            client.create("A.B")
            self.assertIn(b"COPYUID", client.copy("1:*", "A.B")[1][0])
            self.assertEqual(client.status("A.B", "(MESSAGES)")[1], [b'"A.B" (MESSAGES 1)'])
            self.assertEqual(client.rename("A", "C")[0], "OK")
            self.assertEqual(client.delete("C.B")[0], "OK")
            client.literal = b"x"  # type: ignore[assignment]
            self.assertEqual(client.search("UTF-8", "SUBJECT"), ("OK", [b"1"]))
            self.assertEqual(client.uid("SEARCH", "UID 1:*"), ("OK", [b"1"]))
            self.assertEqual(client.unselect()[0], "OK")
            client.logout()

        return self.in_thread(dialogue)

    def test_wrong_password_and_plain_authentication(self) -> Deferred[None]:
        def dialogue() -> None:
            context = ssl.create_default_context(cafile=str(self.pem))
            client = imaplib.IMAP4_SSL("localhost", self.port, ssl_context=context, timeout=30)
            for user in ("joe", "nobody"):
                with self.assertRaises(imaplib.IMAP4.error):
                    client.login(user, "wrong")
            self.assertEqual(client.authenticate("PLAIN", lambda _: b"\0joe\0" + PASSWORD.encode())[0], "OK")
            client.logout()

        return self.in_thread(dialogue)

    def test_literals_sent_ahead(self) -> Deferred[None]:
        """
        Pipelined commands with non-synchronizing literals run one after the other, and literals are no commands.
        """

        def dialogue() -> None:
            client = self.imaplib()
            client.select()
            literal = b"x1 LOGOUT\r\nx2 LOGOUT\r\n"
            one = b"a%d APPEND {5+}\r\nINBOX {%d+}\r\n" + literal + b"\r\n"
            client.send(
                b"".join(one % (number, len(literal)) for number in range(5))
                + b"b FETCH 1:* (BODY[])\r\nc APPEND INBOX {2+}\r\nhi\r\n"
                + b"d APPEND INBOX {100000000000+}\r\n"
            )
            seen = b""
            while b"\r\nc OK" not in seen:
                more = client.read(1)
                self.assertTrue(more, seen)
                seen += more
            self.assertEqual(seen.count(literal), 5)
            self.assertNotIn(b"BAD", seen)
            self.assertNotIn(b"BYE", seen)
            client.shutdown()

        return self.in_thread(dialogue)

    def test_nonsense(self) -> Deferred[None]:
        """
        Each is answered by BAD or NO, and nothing is logged: an error in the log would fail this test.
        """

        def dialogue() -> None:
            client = self.imaplib()
            client.select()
            for line in (
                b'CREATE "unclosed', b"CREATE {x}", b"CREATE {99999}", b"FETCH", b"FETCH 1 (NOPE)", b"FETCH x (FLAGS)",
                b"FETCH 1 BODY[", b"STORE 1", b"SEARCH", b"SEARCH (", b"SEARCH NOPE", b"STATUS INBOX", b"STATUS INBOX (X)",
                b"STATUS INBOX ()", b"APPEND INBOX", b"APPEND INBOX {99999999999}", b"APPEND INBOX (x", b"COPY 1",
                b"SELECT", b'SELECT ""', b"LIST", b"UID NOPE 1", b"UID EXPUNGE", b"RENAME a", b"RENAME a b", b"DELETE inbox",
                b"CREATE inbox", b"SUBSCRIBE a/b", b"SELECT &&&", b"FETCH 0 (FLAGS)", b"SEARCH CHARSET X ALL",
            ):  # fmt: skip
                client.send(b"n " + line + b"\r\n")
                answer = client.readline()
                while answer.startswith(b"*"):
                    answer = client.readline()
                self.assertIn(answer[:5], (b"n BAD", b"n NO "), (line, answer))
                if line.startswith(b"SELECT"):
                    client.send(b"s SELECT INBOX\r\n")
                    while not (answer := client.readline()).startswith(b"s OK"):
                        self.assertTrue(answer.startswith(b"*"), answer)
            client.logout()

        return self.in_thread(dialogue)

    def test_lost_in_the_middle_of_a_message(self) -> Deferred[None]:
        def dialogue() -> None:
            client = self.imaplib()
            client.send(b"a APPEND INBOX {1000000}\r\n")
            client.readline()
            client.send(b"x" * 500000)
            client.shutdown()
            other = self.imaplib()
            other.select()
            while list((self.root / "joe").glob("tmp/*")):
                other.noop()
            self.assertEqual(other.response("EXISTS")[1], [b"0"])
            other.logout()

        return self.in_thread(dialogue)


class TwistedClientTests(DialogueCase):
    """
    Twisted's client.
    """

    @inlineCallbacks
    def test_many_small_answers(self) -> Any:
        store = self.realm.store("joe")
        for number in range(300):
            (store.path / "new" / f"{number:05}").write_bytes(b"Subject: %d\r\n\r\nbody\r\n" % number)
        client = yield self.twisted_client()
        selected = yield client.select(b"INBOX")
        self.assertEqual(selected["EXISTS"], 300)
        answer = yield client.fetchEnvelope(MessageSet(1, None))
        self.assertEqual([answer[number]["ENVELOPE"][1] for number in (1, 150, 300)], ["0", "149", "299"])
        yield client.logout()

    @inlineCallbacks
    def test_an_unmodified_server(self) -> Any:
        """
        Mailboxes work below Twisted's own server, with two sessions.
        """
        checker = InMemoryUsernamePasswordDatabaseDontUse(joe=b"simple")
        yield self.listen(StockFactory(Portal(self.realm, [checker])))
        one, other = yield gatherResults([self.twisted_client(b"simple"), self.twisted_client(b"simple")])
        for client in (one, other):
            yield client.select(b"INBOX")
        yield one.append(b"INBOX", BytesIO(BIG), ("\\Flagged",))
        yield one.append(b"INBOX", BytesIO(b"Subject: x\r\n\r\nsmall"))
        yield other.noop()
        answer = yield other.fetchSpecific(MessageSet(1, 1), peek=True)
        self.assertEqual(hashlib.sha256(answer[1][0][-1].encode()).digest(), hashlib.sha256(BIG).digest())
        yield one.setFlags(MessageSet(1), ["\\Deleted"])
        gone = yield one.expunge()
        self.assertEqual(gone, [1])
        left = yield other.fetchUID(MessageSet(1, 2))
        self.assertEqual(left, {2: {"UID": "2"}})
        gone = yield other.expunge()
        self.assertEqual(gone, [1])
        found = yield other.search("ALL")
        self.assertEqual(found, [1])
        yield gatherResults([one.logout(), other.logout()])


class CertificateTests(TestCase):
    """
    The certificate of a first start.
    """

    def test_made(self) -> None:
        path = Path(self.mktemp())
        make_certificate(path, datetime.datetime.now(datetime.UTC))
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(len(check_certificate(path).split(":")), 32)

    def test_not_usable(self) -> None:
        path = Path(self.mktemp())
        path.write_text("nothing")
        self.assertIn("no certificate", str(self.assertRaises(ValueError, check_certificate, path)))
        other = Path(self.mktemp())
        for one in (path, other):
            make_certificate(one, datetime.datetime.now(datetime.UTC))
        key, certificate = path.read_text().split("-----BEGIN CERTIFICATE")
        path.write_text("-----BEGIN CERTIFICATE" + certificate)
        self.assertIn("no private key", str(self.assertRaises(ValueError, check_certificate, path)))
        path.write_text(key + "-----BEGIN CERTIFICATE" + other.read_text().split("-----BEGIN CERTIFICATE")[1])
        self.assertIn("does not belong", str(self.assertRaises(ValueError, check_certificate, path)))
