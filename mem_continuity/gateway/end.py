"""
The inner end of a gateway: what stands where a site of its own has an C{IMAP4Server}.

Until somebody has logged in, a L{Front<mem_continuity.imap.front.Front>} speaks to both sides.  From then on octets pass
untouched both ways, in whatever pieces they come.

Invariants:

- There is at most one upstream connection, and each gives its slot back exactly once, when it is closed.
- Each side is the producer of what is written to the other, so a slow reader on either side stops the other and nothing piles up.
- What the client sent before it closed is still handed to the upstream, within C{moved_deadline}; as a server would have read it.
- Nothing is put into the stream of somebody who is logged in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, ITLSTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from mem_continuity.gateway.brake import Brake
from mem_continuity.gateway.connecting import connect_upstream
from mem_continuity.gateway.errors import Trouble, UpstreamError
from mem_continuity.gateway.hold import Hold
from mem_continuity.gateway.reselecting import Reselecting
from mem_continuity.gateway.routing import NOBODY
from mem_continuity.gateway.source import Source
from mem_continuity.imap.actions import (
    Action,
    BeginTLS,
    Close,
    Failed,
    LoggedIn,
    LoginFailed,
    Route,
    ToClient,
    ToServer,
)
from mem_continuity.imap.front import Front
from mem_continuity.imap.reselection import Outcome, Reselection, Result
from mem_continuity.imap.responses import capability_words

if TYPE_CHECKING:
    from mem_continuity.gateway.link import UpstreamLink
    from mem_continuity.gateway.relayed import Relayed
    from mem_continuity.gateway.site import GatewaySite
    from mem_continuity.gateway.slots import Slot
    from mem_continuity.gateway.upstream import Upstream


class GatewayEnd(Protocol):
    """
    One client's way to an upstream.  Made by the gateway's factory for each link that needs one.

    @ivar served: the session that this is the inner end of; set by L{Relayed<mem_continuity.gateway.relayed.Relayed>}.
    @ivar upstream: where it is, or was, connected to.
    @ivar relaying: somebody is logged in; octets pass untouched.
    @ivar capabilities: what the upstream told with its answer to the login, in upper case; empty when it told nothing.
    """

    _log = Logger()
    transport: Any

    def __init__(self, site: GatewaySite) -> None:
        self.served: Relayed | None = None
        self.upstream: Upstream | None = None
        self.relaying = False
        self.capabilities: frozenset[bytes] = frozenset()
        self._site = site
        self._front = Front(site.policy, self._secure, self._can_start_tls, site.front)
        self._hold: Hold | None = None
        self._connecting: Deferred[None] | None = None
        self._deadline: IDelayedCall | None = None
        self._login_deadline: IDelayedCall | None = None
        self._reselecting: Reselecting | None = None
        self._pumping = False
        self._over = False

    # The client's side

    def connectionMade(self) -> None:
        """
        A client is there: greet it, or let the upstream do so.
        """
        self._brake = Brake(self.transport)
        self._login_deadline = self._site.reactor.callLater(self._site.policy.preamble_time, self._too_slow)
        upstream = self._site.upstream
        if upstream is not None:
            self._connect(upstream)
        else:
            self._front.greet()
            self._pump()

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the client, before login.
        """
        self._front.client_data(data)
        self._pump()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The client is gone, or the session is over.
        """
        self._over = True
        self._stop_login_deadline()
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        self._drop()
        self._give_up_reselecting()

    @property
    def slot(self) -> Slot | None:
        """
        What this end holds of the upstream connections there may be.
        """
        return None if self._hold is None else self._hold.slot

    def _secure(self) -> bool:
        return self._site.is_secure(self.transport) or self._site.takes_passwords_of(self.transport.getPeer())

    def _can_start_tls(self) -> bool:
        return (
            self._site.tls is not None
            and ITLSTransport.providedBy(self.transport)
            and not self._site.is_secure(self.transport)
        )

    # The dialogue before login

    def _pump(self) -> None:
        if self._pumping or (self._site.upstream is not None and self._hold is None):
            self._pace()
            return  # what the client sends before the upstream is there waits in the front
        self._pumping = True
        try:
            while not self._over:
                action = self._front.next_action()
                if action is None:
                    break
                self._carry_out(action)
        finally:
            self._pumping = False
        if self.relaying:
            return
        self._pace()
        self._watch_answer()
        if self._front.over and not self._over:
            self._relay()

    def _pace(self) -> None:
        if not self._over:
            self._brake.pace(self._front.held > self._site.policy.preamble_buffer)

    def _too_slow(self) -> None:
        # The link's own deadline is for its preamble, which any command can end.
        self._login_deadline = None
        self._front.expire(b"no login in time")
        self._pump()
        if not self._over:
            self._finish()

    def _stop_login_deadline(self) -> None:
        deadline, self._login_deadline = self._login_deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()

    def _carry_out(self, action: Action) -> None:
        if isinstance(action, ToClient):
            if self._front.over:
                self._learn(action.octets)
            self.transport.write(action.octets)
        elif isinstance(action, ToServer):
            if self._hold is not None:
                self._hold.write(action.octets)
        elif isinstance(action, BeginTLS):
            self.transport.startTLS(self._site.tls)
        elif isinstance(action, Route):
            self._route(action.claimed)
        elif isinstance(action, LoggedIn):
            self._logged_in(action)
        elif isinstance(action, LoginFailed):
            if self._site.upstream is None:
                self._drop()
                self._front.detach()
        elif isinstance(action, Failed):
            self._log.info("A client's connection is closed before login: {why}", why=action.text)
            self._finish()
        elif isinstance(action, Close):
            self._finish()

    def _logged_in(self, action: LoggedIn) -> None:
        slot, served = self.slot, self.served
        if slot is None or slot.confirm(None if served is None else served.slot_of_older_link(action.user)):
            return
        self._site.full()
        self._front.deny(b"[LIMIT] There are too many connections to the mail server")
        self._drop()

    def _learn(self, octets: bytes) -> None:
        """
        Many servers tell their capabilities with the answer to a login.
        """
        for line in octets.splitlines(keepends=True):
            words = capability_words(line)
            if words is not None:
                self.capabilities = frozenset(word.upper() for word in words)

    def _watch_answer(self) -> None:
        """
        While the upstream owes an answer, wait for it only so long; each octet either way begins the wait anew.
        """
        self._stop_deadline()
        if self._front.waiting and not self._front.over and not self._over:
            self._deadline = self._site.reactor.callLater(self._site.policy.upstream_answer, self._no_answer)

    def _no_answer(self) -> None:
        self._deadline = None
        self._log.warn("Upstream {upstream} does not answer.", upstream=self.upstream)
        self._unavailable(Trouble.SLOW.error("no answer"))

    def _stop_deadline(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()

    # The upstream's side

    def _route(self, claimed: bytes) -> None:
        asked = self._site.route(claimed)
        asked.addCallbacks(self._routed, self._not_routed)

    def _routed(self, upstream: Upstream | None) -> None:
        if self._over:
            return
        if upstream is None:
            self._front.refuse(NOBODY)
            self._pump()
            return
        self._connect(upstream)

    def _not_routed(self, failure: Failure) -> None:
        self._log.failure("Looking for a user's upstream failed.", failure)
        if not self._over:
            self._unavailable(Trouble.UNREACHABLE.error("not routed"))

    def _connect(self, upstream: Upstream) -> None:
        self.upstream = upstream
        slot = self._site.slots.take()
        if slot is None:
            self._site.full()
            self._unavailable(Trouble.REFUSED.error("no slot", "there are too many connections to the mail server"))
            return
        source = Source.of(self.transport, secure=self._site.is_secure(self.transport))
        connecting = connect_upstream(
            self._site.reactor, upstream, self._site.policy, source, want_capabilities=self._site.upstream is None
        )
        self._connecting = connecting.addCallbacks(self._connected, self._not_connected, (slot,), {}, (slot,))

    def _connected(self, link: UpstreamLink, slot: Slot) -> None:
        self._connecting = None
        site = self._site
        received, lost = self._upstream_received, self._upstream_lost
        hold = Hold(link, slot, received, lost, site.reactor, site.policy.moved_deadline)
        if self._over:
            hold.drop()
            return
        self._hold = hold
        if self._site.upstream is None:
            self._front.attach(link.capabilities)
        else:
            self._front.server_data(link.greeting)
        hold.listen(self.transport, self._brake)
        self._pump()

    def _not_connected(self, failure: Failure, slot: Slot) -> None:
        self._connecting = None
        slot.release()
        if self._over or failure.check(CancelledError):
            return
        error: BaseException | None = failure.value
        if not isinstance(error, UpstreamError):
            self._log.failure("Connecting to upstream {upstream} failed.", failure, upstream=self.upstream)
            error = Trouble.UNREACHABLE.error("it failed")
        else:
            self._log.warn("Upstream {error}", error=error.detail)  # it begins with the name
        self._site.counts["upstream_failed"] += 1
        self._unavailable(error)

    def _unavailable(self, error: UpstreamError) -> None:
        """
        Say that there is no upstream: by a BYE, or to the login that waits for one.
        """
        if self._site.upstream is None:
            self._drop()
            self._front.refuse(b"[UNAVAILABLE] " + error.public)
            self._pump()
            return
        self.transport.write(b"* BYE [UNAVAILABLE] " + error.public + b"\r\n")
        self._finish()

    def _upstream_received(self, octets: bytes) -> None:
        self._front.server_data(octets)
        self._pump()

    def _upstream_lost(self) -> None:
        hold, self._hold = self._hold, None
        if hold is None or self._over:
            return
        self._stop_deadline()
        self.transport.unregisterProducer()
        self._brake.resumeProducing()
        if self._site.upstream is None and not self._front.over:
            if self._front.waiting:
                self._front.refuse(b"[UNAVAILABLE] " + Trouble.LOST.error("").public)
            else:
                self._front.detach()
            self._pump()
            return
        self._site.counts["upstream_lost"] += 1
        self._give_up_reselecting()
        self.transport.loseConnection()

    def _drop(self) -> None:
        """
        Let go of the upstream connection.
        """
        self._stop_deadline()
        hold, self._hold = self._hold, None
        if hold is not None:
            self.transport.unregisterProducer()
            hold.drop()
            self._brake.resumeProducing()

    def _finish(self) -> None:
        """
        Nothing more is said to this client.
        """
        self._over = True
        self._stop_login_deadline()
        self._drop()
        self.transport.loseConnection()

    # Relaying

    def _relay(self) -> None:
        """
        Somebody is logged in.  From here on nothing stands between the two transports.
        """
        self.relaying = True
        self._stop_deadline()
        self._stop_login_deadline()
        hold = self._hold
        if hold is not None:
            self.dataReceived = hold.write  # type: ignore[method-assign, assignment]
            hold.turn_to(self.transport.write)

    def _is_through(self) -> bool:
        # What a client has pipelined behind its login is carried out while the answer to that is being handed on.
        if self._front.over and not (self.relaying or self._over):
            while (action := self._front.next_due()) is not None:
                self._carry_out(action)
            self._relay()
        return self.relaying

    def reselect(self, reselection: Reselection) -> Deferred[Result]:
        """
        Put the upstream connection into the selected state of a record.  Called for a GRAFT, while the client waits for its
        answer and has sent nothing else.

        @return: fires with what became of it; never fails.
        """
        hold = self._hold
        if hold is None or not self._is_through() or self._reselecting is not None:
            return succeed(Result(Outcome.UNABLE))
        site = self._site
        self._reselecting = Reselecting(hold, reselection, site.reactor, site.policy.upstream_answer, self._reselected)
        return self._reselecting.begin()

    def _reselected(self, rest: bytes, usable: bool) -> None:
        self._reselecting = None
        if self._over or self._hold is None:
            return
        if not usable:
            self._finish()
            return
        self._hold.turn_to(self.transport.write)
        if rest:
            self.transport.write(rest)

    def _give_up_reselecting(self) -> None:
        reselecting, self._reselecting = self._reselecting, None
        if reselecting is not None:
            reselecting.give_up()
