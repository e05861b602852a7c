"""
Hashed passwords: their file, and where the hashing is done.
"""

from __future__ import annotations

import base64
import threading
from pathlib import Path
from typing import Any

from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet import reactor
from twisted.internet.defer import DeferredList, inlineCallbacks
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mem_continuity.core.policy import Policy
from mem_continuity.mailhost.passwords import HashedPasswords, PasswordHash, read_passwords, write_passwords

SALT, DIGEST = (base64.b64encode(b"x" * length).decode() for length in (16, 32))


class FileTests(SynchronousTestCase):
    """
    The file of hashes.
    """

    def test_written_and_read(self) -> None:
        path = Path(self.mktemp())
        write_passwords(path, {"joe": PasswordHash.of("right")})
        (one,) = read_passwords(path).values()
        self.assertTrue(one.fits(b"right"))
        self.assertFalse(one.fits(b"wrong"))

    def test_refused(self) -> None:
        for line, expected in (
            (f"scrypt:0:8:1:{SALT}:{DIGEST}", "N is 0"),
            (f"scrypt:1:8:1:{SALT}:{DIGEST}", "N is 1"),
            (f"scrypt:3:8:1:{SALT}:{DIGEST}", "N is 3, but it must be a power of two"),
            (f"scrypt:-1:8:1:{SALT}:{DIGEST}", "N is -1"),
            (f"scrypt:16384:0:1:{SALT}:{DIGEST}", "r is 0"),
            (f"scrypt:16384:8:1000000:{SALT}:{DIGEST}", "p is 1000000"),
            (f"scrypt:{2**30}:8:1:{SALT}:{DIGEST}", "memory"),
            (f"scrypt:x:8:1:{SALT}:{DIGEST}", "whole numbers"),
            (f"scrypt:16384:8:1:{SALT}:?", "base64"),
            (f"scrypt:16384:8:1:{SALT}:{SALT}", "16 octets instead of 32"),
            ("scrypt:16384", "not like user:scrypt"),
            (f"bcrypt:16384:8:1:{SALT}:{DIGEST}", "not like user:scrypt"),
        ):
            path = Path(self.mktemp())
            path.write_text(f"# users\njoe:{line}\n")
            text = str(self.assertRaises(ValueError, read_passwords, path))
            self.assertIn(expected, text)
            self.assertIn(f"{path}, line 2: ", text)


class ThreadTests(TestCase):
    """
    Hashing, under the reactor.
    """

    timeout = 30

    def setUp(self) -> None:
        policy = Policy(login_threads=1, login_queue=2)
        self.checker = HashedPasswords({b"joe": PasswordHash.of("right")}, reactor, policy)
        self.addCleanup(self.checker.close)

    def ask(self, password: bytes = b"right", user: bytes = b"joe") -> Any:
        return self.checker.requestAvatarId(UsernamePassword(user, password))

    def threads(self) -> list[str]:
        return [one.name for one in threading.enumerate() if one.name.startswith("passwords")]

    @inlineCallbacks
    def test_not_in_the_threads_of_the_reactor(self) -> Any:
        self.patch(reactor, "getThreadPool", lambda: self.fail("those are for the disk"))
        user = yield self.ask()
        self.assertEqual(user, b"joe")
        for password, name in ((b"wrong", b"joe"), (b"right", b"nobody")):
            yield self.assertFailure(self.ask(password, name), UnauthorizedLogin)
        self.assertEqual(len(self.threads()), 1)
        self.checker.close()
        self.assertEqual(self.threads(), [])
        yield self.assertFailure(self.ask(), UnauthorizedLogin)

    @inlineCallbacks
    def test_queue_is_bounded(self) -> Any:
        answers = yield DeferredList([self.ask() for _ in range(5)], consumeErrors=True)
        self.assertEqual([is_right for is_right, _ in answers], [True, True, True, False, False])
        again = yield self.ask()
        self.assertEqual(again, b"joe")

    @inlineCallbacks
    def test_nobody_waits_any_more(self) -> Any:
        asked = [self.ask() for _ in range(3)]
        asked[2].cancel()
        self.failureResultOf(asked[2])
        self.checker.close()
        answers = yield DeferredList(asked[:2], consumeErrors=True)
        for is_right, result in answers:
            if not is_right:
                self.assertTrue(result.check(UnauthorizedLogin), result)
