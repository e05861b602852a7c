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

from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.interface import InterfaceClass

if TYPE_CHECKING:
    from mem_continuity.server.resident import Resident

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

    @ivar user: the avatar's name, once the realm was asked.
    @ivar taken: the avatar that the realm gave, if a lost link had left it.
    """

    def __init__(self, served: Resident) -> None:
        self.served = served
        self.user: bytes | None = None
        self.taken: Lease | None = None

    def take_parked(self, user: bytes, interfaces: tuple[InterfaceClass, ...]) -> Lease | None:
        """
        The avatar of a parked session of the same client and user, if there is one with one of these interfaces.  From now on
        it is this session's, unless the login fails after all.
        """
        self.user = user
        if not self.served.over:
            self.taken = self.served.take_parked_lease(user, interfaces)
        return self.taken


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

    def __init__(self, portal: PortalLike, served: Resident) -> None:
        self._portal = portal
        self._served = served

    def login(self, credentials: Any, mind: Any, *interfaces: Any) -> Deferred[Login]:
        """
        Log in at the real portal, and note for whom.
        """
        realm = getattr(self._portal, "realm", None) if isinstance(self._portal, Portal) else None
        # Two sites in one factory have a user of the same name each: whoever gives the avatars tells them apart.
        self._served.authority = self._portal if realm is None else realm
        self._served.portal_asked = True
        ours: ContinuityMind | None = None
        if mind is None and isinstance(realm, ContinuityRealm):
            mind = ours = ContinuityMind(self._served)
        username = getattr(credentials, "username", None)
        result: Deferred[Login] = maybeDeferred(self._portal.login, credentials, mind, *interfaces)
        return result.addCallbacks(self._logged_in, self._refused, (username, ours), {}, (ours,))

    def _refused(self, reason: Failure, ours: ContinuityMind | None) -> Failure:
        if ours is not None and ours.taken is not None:
            self._served.give_back(ours.taken)
        return reason

    def _logged_in(self, login: Login, username: bytes | str | None, ours: ContinuityMind | None) -> Login:
        interface, avatar, logout = login
        served = self._served
        if ours is not None:
            served.user = ours.user
        else:
            served.user = None if username is None else _octets(username)
        taken = None if ours is None else ours.taken
        if taken is None or logout != taken.release:
            former, served.lease = served.lease, Lease(interface, avatar, logout)
            if former is not None:
                former.release()
        if served.over:
            served.inner_logged_out()  # the link was lost while the login went on: nobody else would
        return interface, avatar, served.inner_logged_out

    def __getattr__(self, name: str) -> Any:
        return getattr(self._portal, name)
