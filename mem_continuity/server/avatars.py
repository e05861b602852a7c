"""
Who is logged in on a session, and the drop-in for cred: a portal facade for each protocol, and L{ContinuityRealm}.

A protocol asks its portal with C{mind=None}, so a realm cannot see which link asks.  Each served protocol is therefore given a
facade in place of its portal, which asks the real portal with a L{ContinuityMind} when the realm behind it understands one.

Invariants:

- A L{Lease} logs out exactly once, whoever had it last.
- A logout that a protocol holds goes to its own session and not to a lease: when the lease has gone to another session, it
  does nothing.
- An avatar is handed on only within one user, one client ID and one interface, and only after the real portal (or the realm
  behind it) has accepted the new login.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from twisted.cred.credentials import IUsernamePassword
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from zope.interface import implementer
from zope.interface.interface import InterfaceClass

if TYPE_CHECKING:
    from mem_continuity.server.served import Served

Login = tuple[InterfaceClass, Any, Callable[[], object]]
"""What a portal's login gives: interface, avatar, logout."""


class PortalLike(Protocol):
    """
    What a protocol uses of a portal.
    """

    def login(self, credentials: Any, mind: Any, *interfaces: Any) -> Any: ...


class Lease:
    """
    A live avatar together with its one logout.
    """

    _log = Logger()

    def __init__(self, interface: InterfaceClass, avatar: Any, logout: Callable[[], object]) -> None:
        self.interface = interface
        self.avatar = avatar
        self._logout: Callable[[], object] | None = logout

    def release(self) -> None:
        """
        Log out; a second call does nothing.
        """
        logout, self._logout = self._logout, None
        if logout is None:
            return
        maybeDeferred(logout).addErrback(lambda failure: self._log.failure("A logout failed.", failure))


class ContinuityMind:
    """
    The mind with which a L{ContinuityRealm} is asked: the session that logs in.
    """

    def __init__(self, served: Served) -> None:
        self.served = served

    def take_parked(self, user: bytes, interfaces: tuple[InterfaceClass, ...]) -> Lease | None:
        """
        The avatar of a parked session of the same client and user, if there is one with one of these interfaces.  From now on
        it is this session's.
        """
        if self.served.over:
            return None
        self.served.user = user
        return self.served.take_parked_lease(interfaces)


def _octets(avatar_id: bytes | str | tuple[()]) -> bytes:
    if isinstance(avatar_id, str):
        return avatar_id.encode("utf-8", "surrogateescape")
    return avatar_id if isinstance(avatar_id, bytes) else b""


@implementer(IRealm)
class ContinuityRealm:
    """
    A realm around a site's own: a client that lost its link and logs in again under the same client ID gets its live avatar.

    With logins that do not come through L{continuous<mem_continuity.server.factory.continuous>}, or name no client, it is the
    site's realm and nothing else.
    """

    def __init__(self, realm: Any) -> None:
        """
        @param realm: the site's L{IRealm} provider.
        """
        self.realm = realm

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        """
        @see: L{IRealm.requestAvatar}
        """
        if not isinstance(mind, ContinuityMind):
            return self.realm.requestAvatar(avatarId, mind, *interfaces)
        if avatarId != ():
            lease = mind.take_parked(_octets(avatarId), interfaces)
            if lease is not None:
                return lease.interface, lease.avatar, lease.release
        return self.realm.requestAvatar(avatarId, None, *interfaces)


class PortalFacade:
    """
    The portal that one served protocol sees.  Everything but C{login} is the real portal's.
    """

    def __init__(self, portal: PortalLike, served: Served) -> None:
        self._portal = portal
        self._served = served

    def login(self, credentials: Any, mind: Any, *interfaces: Any) -> Deferred[Login]:
        """
        Log in at the real portal, and note for whom.
        """
        realm = getattr(self._portal, "realm", None)
        if mind is None and isinstance(self._portal, Portal) and isinstance(realm, ContinuityRealm):
            mind = ContinuityMind(self._served)
        username = credentials.username if IUsernamePassword.providedBy(credentials) else None
        if username is None:
            username = getattr(credentials, "username", None)
        result: Deferred[Login] = maybeDeferred(self._portal.login, credentials, mind, *interfaces)
        return result.addCallback(self._logged_in, username)

    def _logged_in(self, login: Login, username: bytes | str | None) -> Login:
        interface, avatar, logout = login
        served = self._served
        if served.user is None and username is not None:
            served.user = _octets(username)
        lease = served.lease
        if lease is None or lease.avatar is not avatar:
            served.lease = Lease(interface, avatar, logout)
        if served.over:
            served.inner_logged_out()  # the link was lost while the login went on: nobody else would
        return interface, avatar, served.inner_logged_out

    def __getattr__(self, name: str) -> Any:
        return getattr(self._portal, name)
