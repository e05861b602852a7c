"""
Passwords that are kept only as salted hashes (scrypt, RFC 7914), in a small file.

The file has a line C{user:scrypt:N:r:p:salt:hash} for each user, the last two in base64.

Invariants: a password is never kept and never logged.  An unknown user takes as long as a wrong password.  The hashing
is done away from the reactor, in threads of its own: those of the reactor are for what waits for the disk.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from zope.interface import implementer

from mem_continuity.core.policy import Policy
from mem_continuity.mailhost.index import replace_file

#: RFC 7914, section 2: about 40 ms and 16 MiB for each attempt.
_N, _R, _P = 2**14, 8, 1
_MOST_MEMORY = 64 * 1024 * 1024
_MOST_P = 16
_DIGEST = 32


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """
    A salted hash.
    """

    n: int
    r: int
    p: int
    salt: bytes
    digest: bytes

    @classmethod
    def of(cls, password: str) -> PasswordHash:
        """
        Hash a new password.
        """
        salt = secrets.token_bytes(16)
        return cls(_N, _R, _P, salt, _scrypt(password.encode("utf-8"), salt, _N, _R, _P))

    @classmethod
    def parse(cls, text: str) -> PasswordHash:
        """
        Read what L{__str__} wrote.

        @raise ValueError: it is something else; the text says what is wrong.
        """
        kind, *fields = text.split(":")
        if kind != "scrypt" or len(fields) != 5:
            raise ValueError("this is not like user:scrypt:N:r:p:salt:hash")
        try:
            n, r, p = (int(one) for one in fields[:3])
            salt, digest = (base64.b64decode(one, validate=True) for one in fields[3:])
        except ValueError:
            raise ValueError("N, r and p must be whole numbers, salt and hash base64") from None
        if n < 2 or n & (n - 1):
            raise ValueError(f"N is {n}, but it must be a power of two, 2 at least")
        if r < 1 or not 1 <= p <= _MOST_P:
            raise ValueError(f"r is {r} and p is {p}, but they must be 1 at least, and p {_MOST_P} at most")
        if 128 * n * r > _MOST_MEMORY // 2:
            raise ValueError(f"N = {n} and r = {r} take more than {_MOST_MEMORY // 2 // 2**20} MiB of memory")
        if len(digest) != _DIGEST:
            raise ValueError(f"the hash has {len(digest)} octets instead of {_DIGEST}")
        return cls(n, r, p, salt, digest)

    def __str__(self) -> str:
        encoded = [base64.b64encode(one).decode("ascii") for one in (self.salt, self.digest)]
        return ":".join(["scrypt", str(self.n), str(self.r), str(self.p), *encoded])

    def fits(self, password: bytes) -> bool:
        """
        Whether this is the password; takes time, always the same.
        """
        return hmac.compare_digest(_scrypt(password, self.salt, self.n, self.r, self.p), self.digest)


def _scrypt(password: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=_MOST_MEMORY, dklen=_DIGEST)


def read_passwords(path: Path) -> dict[bytes, PasswordHash]:
    """
    Read a file of hashes.

    @raise OSError: it cannot be read.
    @raise ValueError: a line makes no sense; the text says which.
    """
    users = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            user, _, rest = line.partition(":")
            try:
                users[user.encode("utf-8")] = PasswordHash.parse(rest)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
    return users


def write_passwords(path: Path, users: dict[str, PasswordHash]) -> None:
    """
    Write a file of hashes that only its owner can read.

    @raise OSError: it cannot be written.
    """
    replace_file(path, "".join(f"{user}:{one}\n" for user, one in users.items()).encode("utf-8"))


@implementer(ICredentialsChecker)
class HashedPasswords:
    """
    Checks names and passwords, from LOGIN and from AUTHENTICATE alike.
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, users: dict[bytes, PasswordHash], reactor: IReactorTime, policy: Policy | None = None) -> None:
        """
        @param users: name to hash.
        @param reactor: where it takes calls from threads, the hashing is done in some.
        @param policy: C{login_threads} and C{login_queue} are used from it.
        """
        policy = policy or Policy()
        self._users = users
        self._reactor = reactor
        # It starts its threads when there is work.
        self._threads = ThreadPoolExecutor(policy.login_threads, "passwords")
        self._most = policy.login_threads + policy.login_queue
        self._at_work = 0
        self._nobody = PasswordHash(_N, _R, _P, secrets.token_bytes(16), secrets.token_bytes(32))

    def close(self) -> None:
        """
        End the threads.  Called when the service has stopped; who waits still, and who comes later, is refused.
        """
        self._threads.shutdown(cancel_futures=True)

    def requestAvatarId(self, credentials: IUsernamePassword) -> Deferred[bytes | tuple[()]]:
        """
        Called by a portal.

        @return: the user's name; fails with L{UnauthorizedLogin}.
        """
        user, password = _octets(credentials.username), _octets(credentials.password)
        known = self._users.get(user)
        one = known or self._nobody

        def decide(fits: bool) -> bytes | tuple[()]:
            if known is None or not fits:
                raise UnauthorizedLogin("the name or the password is wrong")
            return user

        return self._in_thread(lambda: one.fits(password)).addCallback(decide)

    def _in_thread(self, work: Callable[[], bool]) -> Deferred[bool]:
        reactor = self._reactor
        if not IReactorFromThreads.providedBy(reactor):
            return maybeDeferred(work)
        if self._at_work >= self._most:
            return fail(UnauthorizedLogin("too many logins at once"))
        try:
            future = self._threads.submit(work)
        except RuntimeError:
            return fail(UnauthorizedLogin("the server is stopping"))
        self._at_work += 1

        def cancel(_: Deferred[bool]) -> None:
            # Who is gone needs no answer: what has not begun need not begin.
            future.cancel()

        answer: Deferred[bool] = Deferred(cancel)

        def done() -> None:
            self._at_work -= 1
            if answer.called:
                return
            if future.cancelled():
                answer.errback(UnauthorizedLogin("the server is stopping"))
            elif (error := future.exception()) is not None:
                answer.errback(error)
            else:
                answer.callback(future.result())

        future.add_done_callback(lambda _: reactor.callFromThread(done))
        return answer


def _octets(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8")
