"""
Clients' sides of SASL mechanisms, no more than a test needs.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Callable

Answers = list[Callable[[bytes], bytes]]


def always(octets: bytes) -> Callable[[bytes], bytes]:
    """
    An answer to any challenge.
    """
    return lambda _: octets


def plain(user: str, password: str, for_user: str = "") -> bytes:
    """
    RFC 4616.
    """
    return f"{for_user}\0{user}\0{password}".encode()


def login(user: str, password: str) -> Answers:
    """
    The one without an RFC.
    """
    return [lambda _: user.encode(), lambda _: password.encode()]


def cram_md5(user: str, password: str) -> Answers:
    """
    RFC 2195.
    """
    return [lambda challenge: f"{user} {hmac.new(password.encode(), challenge, 'md5').hexdigest()}".encode()]


def digest_md5(user: str, password: str) -> Answers:
    """
    RFC 2831.
    """

    def answer(challenge: bytes) -> bytes:
        found = re.search(rb'nonce="([^"]*)"', challenge)
        nonce = found[1] if found else b""
        uri, own, count = b"imap/localhost", b"0123456789abcdef", b"00000001"
        secret = hashlib.md5(f"{user}::{password}".encode()).digest() + b":" + nonce + b":" + own
        halves = [hashlib.md5(one).hexdigest().encode() for one in (secret, b"AUTHENTICATE:" + uri)]
        said = hashlib.md5(b":".join([halves[0], nonce, count, own, b"auth", halves[1]])).hexdigest().encode()
        return b'username="%s",realm="",nonce="%s",cnonce="%s",nc=%s,qop=auth,digest-uri="%s",response=%s' % (
            user.encode(),
            nonce,
            own,
            count,
            uri,
            said,
        )

    return [answer]


class Scram:
    """
    RFC 5802 and 7677, without channel binding.
    """

    def __init__(self, user: str, password: str, algorithm: str) -> None:
        self._algorithm = algorithm
        self._password = password.encode()
        self._bare = f"n={user},r=0123456789abcdef".encode()
        self.first = b"n,," + self._bare

    def _mac(self, key: bytes, octets: bytes) -> bytes:
        return hmac.new(key, octets, self._algorithm).digest()

    def proof(self, challenge: bytes) -> bytes:
        """
        The answer to the server's first message.
        """
        said = dict(part.split(b"=", 1) for part in challenge.split(b","))
        salted = hashlib.pbkdf2_hmac(self._algorithm, self._password, b64decode(said[b"s"]), int(said[b"i"]))
        key = self._mac(salted, b"Client Key")
        final = b"c=biws,r=" + said[b"r"]
        signed = self._mac(hashlib.new(self._algorithm, key).digest(), self._bare + b"," + challenge + b"," + final)
        return final + b",p=" + b64encode(bytes(a ^ b for a, b in zip(key, signed, strict=True)))


def bearer(user: str, token: str) -> bytes:
    """
    OAUTHBEARER, RFC 7628.
    """
    return f"n,a={user},\1host=localhost\1port=143\1auth=Bearer {token}\1\1".encode()


def xoauth2(user: str, token: str) -> bytes:
    """
    What was there before it.
    """
    return f"user={user}\1auth=Bearer {token}\1\1".encode()
