"""
Who logs in, learned by watching one LOGIN or AUTHENTICATE command with its dialogue as it passes.

Invariants: what is told is read strictly by the grammar, since a message that a server could understand differently
tells nothing; nothing raises; of what passes only names are kept, never a password, a token or a proof; memory is
bounded by one line.

What a name is worth depends on the mechanism.  Where the server has checked a secret of the very user who is named,
the name is an identity once the server says OK.  Where a token decides (OAUTHBEARER, XOAUTH2) the name is only a
claim, which not every server compares with the token.

To be certain, the whole dialogue must have the shape that the mechanism gives it: if a server disregards an initial
response and asks again, what it was told then is not what was read here, and the number of responses shows it.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from dataclasses import dataclass, field

from mem_continuity.imap.lexer import CommandLine, CommandSyntaxError, literal_suffix, parse_astring

#: The commands that are watched.
LOGIN_COMMANDS = frozenset((b"LOGIN", b"AUTHENTICATE"))

_AUTHENTICATE = re.compile(rb" ([A-Z0-9_-]{1,20})(?: ([A-Za-z0-9+/=]+))?", re.IGNORECASE)

# RFC 5801 section 4 (gs2-header), RFC 5802 section 7, RFC 7628 section 3.1, RFC 2831 section 7.1
_SASLNAME = rb"((?:[^=,\x00]|=2C|=3D)+)"
_GS2_HEADER = rb"(?:n|y|p=[A-Za-z0-9.-]+),(?:a=" + _SASLNAME + rb")?,"
_SCRAM_FIRST = re.compile(_GS2_HEADER + rb"n=" + _SASLNAME + rb",r=[\x21-\x2b\x2d-\x7e]+(?:,[A-Za-z]=[^\x00,]+)*")
_OAUTH_FIRST = re.compile(_GS2_HEADER + rb"\x01(?:[A-Za-z]+=[^\x00\x01]*\x01)*\x01")
_XOAUTH2_FIRST = re.compile(rb"user=([^\x00\x01]+)\x01auth=[^\x00\x01]+\x01\x01")
_CRAM_MD5 = re.compile(rb"([^\x00\r\n]+) [0-9a-f]{32}", re.IGNORECASE)
_DIRECTIVE = re.compile(
    rb'[ \t\r\n]*([A-Za-z0-9-]+)=(?:"((?:[^"\\\x00]|\\[^\x00])*)"|([^][\x00-\x20\x7f-\xff()<>@,;:\\"/?={}]+))[ \t\r\n]*(,|\Z)'
)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Names:
    """
    What a first response says.

    @ivar own: the authentication identity.
    @ivar other: the authorization identity: whom the user wants to act for; empty when it was not given.
    @ivar realm: where the user is known, if that was told apart from the name.
    """

    own: bytes
    other: bytes = b""
    realm: bytes = b""

    def claimed(self) -> bytes:
        return self.other or self.own

    def identity(self) -> bytes:
        """
        A key that no other combination of names has: no name has a NUL in it.
        """
        other = b"" if self.other == self.own else self.other
        if self.realm:
            return b"%b\0%b\0%b" % (other, self.own, self.realm)
        return b"%b\0%b" % (other, self.own) if other else self.own


@dataclass(frozen=True, slots=True)
class _Mechanism:
    """
    @ivar read: takes the names out of the first response; C{None} when it is not well-formed.
    @ivar vouched: a successful login says that the names are true.
    @ivar initial: the first response may be an initial one (RFC 4422 section 5: the client speaks first), or servers take it so.
    @ivar least: so many responses must have been given,
    @ivar most: and at most so many, those beyond C{least} empty.
    """

    read: Callable[[bytes], _Names | None] = field(repr=False)
    vouched: bool = True
    initial: bool = True
    least: int = 1
    most: int = 1


def _is_name(value: bytes) -> bool:
    """
    May this be somebody's name: not empty, without NUL, UTF-8.
    """
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return value != b"" and b"\0" not in value


def _plain(response: bytes) -> _Names | None:
    """
    RFC 4616 section 2.
    """
    parts = response.split(b"\0")
    if len(parts) != 3 or not _is_name(parts[1]):
        return None
    return _Names(parts[1], parts[0]) if not parts[0] or _is_name(parts[0]) else None


def _login(response: bytes) -> _Names | None:
    """
    draft-murchison-sasl-login: the first response is the name and nothing else.
    """
    return _Names(response) if _is_name(response) else None


def _cram_md5(response: bytes) -> _Names | None:
    """
    RFC 2195 section 2.  Servers do not agree on which space ends the name, so it must have none.
    """
    found = _CRAM_MD5.fullmatch(response)
    name = b"" if found is None else found.group(1)
    return _Names(name) if _is_name(name) and name.split() == [name] else None


def _digest_md5(response: bytes) -> _Names | None:
    """
    RFC 2831 section 2.1.2.  The octets of a name mean the same to everybody if it is ASCII, or said to be UTF-8.
    """
    said: dict[bytes, bytes] = {}
    place = 0
    while True:
        found = _DIRECTIVE.match(response, place)
        if found is None:
            return None
        key = found.group(1).lower()
        if key in said:
            return None
        said[key] = found.group(3) if found.group(2) is None else _QUOTED_PAIR.sub(rb"\1", found.group(2))
        place = found.end()
        if not found.group(4):
            break
    names = (said.get(b"username", b""), said.get(b"authzid", b""), said.get(b"realm", b""))
    certain = all(name.isascii() for name in names) or said.get(b"charset", b"").lower() == b"utf-8"
    well = _is_name(names[0]) and all(not name or _is_name(name) for name in names)
    return _Names(*names) if certain and well else None


def _saslname(value: bytes | None) -> bytes:
    return b"" if value is None else value.replace(b"=2C", b",").replace(b"=3D", b"=")


def _scram(response: bytes) -> _Names | None:
    """
    RFC 5802 section 7, C{client-first-message}.
    """
    found = _SCRAM_FIRST.fullmatch(response)
    if found is None or not _is_name(response):
        return None
    return _Names(_saslname(found.group(2)), _saslname(found.group(1)))


def _oauthbearer(response: bytes) -> _Names | None:
    """
    RFC 7628 section 3.1.
    """
    found = _OAUTH_FIRST.fullmatch(response)
    name = b"" if found is None else _saslname(found.group(1))
    return _Names(name) if _is_name(name) else None


def _xoauth2(response: bytes) -> _Names | None:
    """
    As Google and Microsoft describe it.
    """
    found = _XOAUTH2_FIRST.fullmatch(response)
    name = b"" if found is None else found.group(1)
    return _Names(name) if _is_name(name) else None


_MECHANISMS = {
    b"PLAIN": _Mechanism(_plain),
    b"LOGIN": _Mechanism(_login, least=2, most=2),
    b"CRAM-MD5": _Mechanism(_cram_md5, initial=False),
    b"DIGEST-MD5": _Mechanism(_digest_md5, initial=False, most=2),
    b"OAUTHBEARER": _Mechanism(_oauthbearer, vouched=False),
    b"XOAUTH2": _Mechanism(_xoauth2, vouched=False),
}
_SCRAM = _Mechanism(_scram, least=2, most=3)


def _mechanism(name: bytes) -> _Mechanism | None:
    return _SCRAM if name.startswith(b"SCRAM-") else _MECHANISMS.get(name)


def tells_first(mechanism: bytes) -> bool:
    """
    Can the first response of a client be asked for before there is a server, and does it tell whom to look for?

    @param mechanism: a SASL mechanism's name in upper case.
    """
    known = _mechanism(mechanism)
    return known is not None and known.initial


def decode_response(text: bytes) -> bytes | None:
    """
    A response as it stands on the wire (RFC 9051 section 9, C{base64}); C{None} unless every decoder reads the same in it.
    """
    try:
        octets = b64decode(text, validate=True)
    except Base64Error:
        return None
    return octets if b64encode(octets) == text else None


@dataclass(frozen=True, slots=True)
class Authenticate:
    """
    The first line of AUTHENTICATE.

    @ivar mechanism: in upper case.
    @ivar initial: the initial response as it stands on the wire, which is a secret; C{None} when there is none.
    """

    mechanism: bytes
    initial: bytes | None = field(repr=False)


def parse_authenticate(rest: bytes) -> Authenticate | None:
    """
    Read what follows AUTHENTICATE strictly by RFC 9051 section 9 (a mechanism's name is an atom, RFC 4422 section 3.1).

    @param rest: L{CommandLine.rest}.
    @return: C{None} when it is anything else.
    """
    found = _AUTHENTICATE.fullmatch(rest)
    return None if found is None else Authenticate(found.group(1).upper(), found.group(2))


class LoginWatch:
    """
    Watches one command.  Made by L{ServerPreamble<mem_continuity.imap.preamble.ServerPreamble>} and
    L{Front<mem_continuity.imap.front.Front>} with its first line; told what else passes to the server.
    """

    __slots__ = ("_behind_name", "_bound", "_literal", "_login_user", "_mechanism", "_names", "_odd", "_responses")

    def __init__(self, command: CommandLine, bound: int) -> None:
        """
        @param command: LOGIN or AUTHENTICATE; of any other nothing is learned.
        @param bound: the longest name that is read, in octets.
        """
        self._bound = bound
        self._mechanism: _Mechanism | None = None
        self._names: _Names | None = None
        self._responses = 0
        self._odd = False
        self._behind_name = False
        self._literal: bytearray | None = None
        self._login_user: bytes | None = None
        if command.name == b"LOGIN":
            self._begin_login(command.rest)
        elif command.name == b"AUTHENTICATE":
            self._begin_authenticate(command.rest)

    @property
    def claimed(self) -> bytes | None:
        """
        Whom the client says it is: good to find its server by, and for nothing else.
        """
        if self._names is not None:
            return self._names.claimed()
        return None if self._odd else self._login_user

    @property
    def user(self) -> bytes | None:
        """
        Whom the server vouches for if it has just said OK: a key for records.  C{None} when that is not certain.
        Who acts for somebody else, or is known in a realm, has a key of his own, with NULs between the names.
        """
        if self._odd:
            return None
        if self._mechanism is None:
            return self._login_user
        if self._names is None or not self._mechanism.vouched or self._responses < self._mechanism.least:
            return None
        return self._names.identity()

    def literal_passes(self, octets: bytes, ended: bool) -> None:
        """
        Octets of a literal pass.

        @param ended: it has no more.
        """
        if self._literal is None:
            return
        self._literal += octets
        if ended:
            self._login_user = bytes(self._literal) if b"\0" not in self._literal else None
            self._literal = None
            self._behind_name = True

    def line_passes(self, line: bytes) -> None:
        """
        Another line of the client passes, that behind a literal or one of the dialogue.

        @param line: without its CRLF.
        """
        if self._mechanism is None:
            if self._behind_name and not line.startswith(b" "):
                self._odd = True  # the name may go on in it, for a server that is not strict
            self._behind_name = False
        elif line == b"*":
            self._odd, self._names = True, None
        elif not self._odd:
            self._respond(self._mechanism, line)

    def _begin_login(self, rest: bytes) -> None:
        literal = literal_suffix(rest)
        if literal is not None and rest.startswith(b" {") and rest.count(b" ") == 1:
            self._literal = bytearray() if literal[0] <= self._bound else None
            return
        try:
            user, end = parse_astring(rest, 1)
        except CommandSyntaxError:
            return
        if rest[:1] == b" " and rest[end : end + 1] == b" ":
            self._login_user = user

    def _begin_authenticate(self, rest: bytes) -> None:
        asked = parse_authenticate(rest)
        mechanism = None if asked is None else _mechanism(asked.mechanism)
        if asked is None or mechanism is None:
            self._odd = True
            return
        self._mechanism = mechanism
        if asked.initial is not None:
            # RFC 4959: an initial response that is empty is sent as "="
            self._odd = not mechanism.initial
            if not self._odd:
                self._respond(mechanism, b"" if asked.initial == b"=" else asked.initial)

    def _respond(self, mechanism: _Mechanism, text: bytes) -> None:
        self._responses += 1
        response = decode_response(text)
        if self._responses == 1:
            self._names = None if response is None else mechanism.read(response)
            self._odd = self._names is None
        elif response is None or self._responses > mechanism.most or (self._responses > mechanism.least and response):
            self._odd = True
