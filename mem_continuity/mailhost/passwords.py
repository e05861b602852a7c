"""
Passwords that are kept only as salted hashes (scrypt, RFC 7914), in a small file.

The file has a line C{user:scrypt:N:r:p:salt:hash} for each user, the last two in base64.

Invariants: a password is never kept and never logged.  An unknown user takes as long as a wrong password.  The hashing
is done away from the reactor.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from mem_continuity.mailhost.index import replace_file

#: RFC 7914, section 2: about 40 ms and 16 MiB for each attempt.
_N, _R, _P = 2**14, 8, 1
_MOST_MEMORY = 64 * 1024 * 1024


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

        @raise ValueError: it is something else.
        """
        kind, n, r, p, salt, digest = text.split(":")
        if kind != "scrypt" or 128 * int(n) * int(r) > _MOST_MEMORY // 2:
            raise ValueError("this is no scrypt hash, or one that takes too much memory")
        octets = [base64.b64decode(one, validate=True) for one in (salt, digest)]
        return cls(int(n), int(r), int(p), *octets)

    def __str__(self) -> str:
        encoded = [base64.b64encode(one).decode("ascii") for one in (self.salt, self.digest)]
        return ":".join(["scrypt", str(self.n), str(self.r), str(self.p), *encoded])

    def fits(self, password: bytes) -> bool:
        """
        Whether this is the password; takes time, always the same.
        """
        return hmac.compare_digest(_scrypt(password, self.salt, self.n, self.r, self.p), self.digest)


def _scrypt(password: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=_MOST_MEMORY, dklen=32)


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

    def __init__(self, users: dict[bytes, PasswordHash], reactor: IReactorTime) -> None:
        """
        @param users: name to hash.
        @param reactor: its threads do the hashing, where it has some.
        """
        self._users = users
        self._reactor = reactor
        self._nobody = PasswordHash(_N, _R, _P, secrets.token_bytes(16), secrets.token_bytes(32))

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
        if IReactorThreads.providedBy(self._reactor):
            return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work)
        return maybeDeferred(work)


def _octets(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8")
