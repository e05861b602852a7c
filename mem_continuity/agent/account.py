"""
One account: a server, the networks by which it is reached, and the mail programs' connections that go there.

Invariants: all connections of an account have the same paths, and follow every change of them; there is always one path at least,
for when nothing is known of any network it is for the system to say; a session moves to a better network before it leaves the
one it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from mem_continuity.agent.end import ProgramEnd
from mem_continuity.agent.networks import Change, Kind, Network
from mem_continuity.client.paths import Path
from mem_continuity.client.roamer import Phase, Roamer
from mem_continuity.client.roaming import RoamingEndpoint
from mem_continuity.core.policy import AgentPolicy, Policy

_log = Logger("mem_continuity.agent")
_TOLD = {
    Kind.APPEARED: "network: {name} is there, {addresses}",
    Kind.LOST: "network: {name} is gone, {addresses}",
    Kind.RANKED: "network: another order",
    Kind.WOKE: "network: this machine was asleep",
}


class NetworkWatch(Protocol):
    """
    What an account needs of whoever watches the networks: L{mem_continuity.agent.networks.Networks}.
    """

    def ranked(self) -> Sequence[Network]:
        """
        The usable networks, the best first.
        """

    def subscribe(self, callback: Callable[[Change], None]) -> Callable[[], None]:
        """
        Call back after each change.

        @return: what ends that.
        """

    def start(self) -> None:
        """
        Begin to watch.
        """

    def stop(self) -> None:
        """
        Watch no more.
        """


class Account:
    """
    Made once from its part of the configuration.

    @ivar name: for people.
    @ivar server: what the server is called in logs.
    @ivar limits: of the agent and its roaming connections.
    @ivar policy: of what the program's side has in common with a gateway.
    @ivar tls: what STARTTLS is begun with towards a program; None when that cannot be had.
    @ivar ends: the programs' connections.
    """

    def __init__(
        self,
        name: str,
        server: str,
        reactor: Any,
        default: Path,
        limits: AgentPolicy,
        *,
        client_id: tuple[bytes, bytes] | None = None,
        prepare: bool = False,
        tls: Any = None,
        verbose: bool = False,
    ) -> None:
        """
        @param reactor: connects and tells time.
        @param default: the path to take when nothing is known of any network.
        @param client_id: type and value for CLIENTID.
        @param prepare: keep a second link ready on another network.
        @param verbose: log what becomes of each session, as it happens.
        """
        self.name = name
        self.server = server
        self.reactor = reactor
        self.limits = limits
        self.policy = Policy()
        self.tls = tls
        self.ends: list[ProgramEnd] = []
        self.endpoint = RoamingEndpoint([default], reactor=reactor, policy=limits, client_id=client_id, prepare=prepare)
        self._otherwise = default
        self._verbose = verbose
        self._count = 0
        self._watch: NetworkWatch | None = None
        self._path_of: Callable[[Network], Path] = lambda network: default
        self._unsubscribe: Callable[[], None] = lambda: None
        self._timer: IDelayedCall | None = None
        self._again: IDelayedCall | None = None
        self._again_after = limits.network_again

    # Networks

    def follow(self, watch: NetworkWatch, path_of: Callable[[Network], Path], otherwise: Path | None = None) -> None:
        """
        Go by the networks that somebody watches, from now on.

        @param path_of: makes a path of one of them; its name is that of the network.
        @param otherwise: the path to take while there is none; the account's default when None.
        """
        self._watch, self._path_of = watch, path_of
        self._otherwise = self._otherwise if otherwise is None else otherwise
        self._unsubscribe = watch.subscribe(self._changed)
        watch.start()
        self._take_paths(watch)
        self._return_later()

    def unfollow(self) -> None:
        """
        The end of L{follow}.
        """
        watch, self._watch = self._watch, None
        if watch is not None:
            self._unsubscribe()
            watch.stop()
        timers, self._timer, self._again = (self._timer, self._again), None, None
        for timer in timers:
            if timer is not None and timer.active():
                timer.cancel()

    def has_network(self) -> bool:
        """
        Whether any network is known, or nothing at all of networks.  Called by L{ProgramEnd}.
        """
        return self._watch is None or bool(self._watch.ranked())

    def _return_later(self) -> None:
        if self.limits.network_return:
            self._timer = self.reactor.callLater(self.limits.network_return, self._return)

    def _return(self) -> None:
        """
        A session that has left the best network because it was silent hears of nobody when that is well again.
        """
        self._return_later()
        self._move_all()

    def _move_all(self) -> None:
        best = self.endpoint.paths[0].name
        for end in list(self.ends):
            if end.roamer is not None and end.roamer.live and end.roamer.path != best:
                self._move(end, best)

    def _take_paths(self, watch: NetworkWatch) -> None:
        self.endpoint.paths = [self._path_of(one) for one in watch.ranked()] or [self._otherwise]

    def _changed(self, change: Change) -> None:
        watch = self._watch
        if watch is None:
            return
        self._take_paths(watch)
        self._again_after = self.limits.network_again
        if self._verbose:
            names = ", ".join(path.name for path in self.endpoint.paths)
            what = _TOLD[change.kind].format(name=change.name, addresses=", ".join(change.addresses))
            _log.info("{account}: {what}; networks: {names}", account=self.name, what=what, names=names)
        networks = watch.ranked()
        for end in list(self.ends):
            if end.roamer is None:
                end.networks_changed()
            elif end.roamer.phase in (Phase.OPENING, Phase.PLAIN):
                self._look_at_plain(end, networks)
            else:
                self._hint(end, end.roamer, change, bool(networks))

    def _look_at_plain(self, end: ProgramEnd, networks: Sequence[Network]) -> None:
        """
        A connection that cannot move is at its end when its address is.  While there is no network at all it is let be: the same
        one may come back with the same address.
        """
        link = None if end.roamer is None else end.roamer.link
        if link is None or not networks or link.path_name == self._otherwise.name:
            return
        host = getattr(link.transport.getHost(), "host", None)
        if not any(host in one.addresses for one in networks):
            end.network_gone()

    def _hint(self, end: ProgramEnd, roamer: Roamer, change: Change, has_network: bool) -> None:
        names = [path.name for path in self.endpoint.paths]
        if not roamer.live or roamer.link is None or not has_network:
            roamer.network_changed()  # where nothing else is known, a carrier that is gone for a moment does no harm
        elif change.kind is Kind.LOST:
            host = getattr(roamer.link.transport.getHost(), "host", None)
            if roamer.path not in names:
                roamer.link_is_dead()
            elif host in change.addresses:  # the network has another one by now
                self._move(end, None)
            elif roamer.prepared == change.name:
                roamer.network_changed()
        elif roamer.path not in names and roamer.path != self._otherwise.name:
            roamer.link_is_dead()  # its network had gone when there was no other yet
        else:
            roamer.network_changed()
            if roamer.path != names[0]:
                self._move(end, names[0])

    def _move(self, end: ProgramEnd, path: str | None) -> None:
        if end.roamer is not None:
            end.roamer.switch(path).addErrback(self._not_moved, end)

    def _not_moved(self, reason: Failure, end: ProgramEnd) -> None:
        # Whether the link that it has lives is asked by others.
        self.tell(end, "stays", f"by {end.path}: {reason.getErrorMessage()}")
        if self._again is None and self._watch is not None and self.limits.network_return:
            self._again = self.reactor.callLater(self._again_after, self._try_again)
            self._again_after = min(2 * self._again_after, self.limits.network_return)

    def _try_again(self) -> None:
        self._again = None
        self._move_all()

    # Programs

    def next_end(self) -> ProgramEnd:
        """
        A program connects.
        """
        self._count += 1
        return ProgramEnd(self, self._count)

    def joined(self, end: ProgramEnd) -> None:
        """
        A program's connection begins.  Called by L{ProgramEnd}.
        """
        self.ends.append(end)

    def left(self, end: ProgramEnd) -> None:
        """
        Nothing is left of a connection, on either side.  Called by L{ProgramEnd}.
        """
        if end in self.ends:
            self.ends.remove(end)

    def tell(self, end: ProgramEnd, word: str, text: str) -> None:
        """
        Something happened that people may want to follow.
        """
        if self._verbose:
            _log.info("{account} {number}: {word}: {text}", account=self.name, number=end.number, word=word, text=text)

    def describe(self) -> dict[str, Any]:
        """
        How it stands, as it can be written in JSON.
        """
        now = self.reactor.seconds()
        return {
            "account": self.name,
            "server": self.server,
            "networks": [path.name for path in self.endpoint.paths],
            "connections": [_described(end, now) for end in self.ends],
        }


def _described(end: ProgramEnd, now: float) -> dict[str, Any]:
    roamer = end.roamer
    conduit = None if roamer is None else roamer.conduit
    return {
        "number": end.number,
        "phase": "connecting" if roamer is None else roamer.phase.name.lower(),
        "seconds": round(max(0.0, now - end.since), 1),
        "logged_in": end.relaying,
        "network": None if roamer is None else roamer.path,
        "last_network": end.path,
        "prepared": None if roamer is None else roamer.prepared,
        "handovers": 0 if roamer is None else roamer.handovers,
        "kept_octets": 0 if conduit is None else conduit.session.sender.retained,
        "written_octets": 0 if conduit is None else conduit.session.sender.end,
        "received_octets": 0 if conduit is None else conduit.session.receiver.arrived,
    }


class AgentFactory(Factory):
    """
    The factory of the programs' connections of one account.
    """

    noisy = False

    def __init__(self, account: Account) -> None:
        self.account = account

    def buildProtocol(self, addr: IAddress | None) -> ProgramEnd:
        """
        @see: L{IProtocolFactory<twisted.internet.interfaces.IProtocolFactory>}
        """
        return self.account.next_end()

    def shutdown(self) -> Deferred[None]:
        """
        Say good-bye to the programs and end their sessions.  Called by
        L{MailService<mem_continuity.service.MailService>} when nothing listens any more.

        @return: fires when nothing is left, at the latest within C{farewell} and a moment.
        """
        account = self.account
        account.unfollow()
        for end in list(account.ends):
            end.close()
        if not account.ends:
            return succeed(None)
        return _Farewell(account).done


class _Farewell:
    """
    The wait for the ends of an account.
    """

    _LOOKS = 20
    """How often it is looked whether they are all gone.  Not a limit."""

    def __init__(self, account: Account) -> None:
        self.done: Deferred[None] = Deferred()
        self._account = account
        self._left = self._LOOKS
        self._wait()

    def _wait(self) -> None:
        self._account.reactor.callLater(self._account.limits.farewell / self._LOOKS, self._look)

    def _look(self) -> None:
        self._left -= 1
        if self._account.ends and self._left > 0:
            self._wait()
            return
        for end in list(self._account.ends):
            end.abort()
        self.done.callback(None)
