"""
The kernel of Linux as the source of what devices there are: an rtnetlink socket on the reactor.

A I{look} asks for links, addresses and routes one after the other; changes arrive on the same socket all the time.

Invariants:

- The table that is given out is always whole: a look fills another one, which takes its place when all has been said.  Changes
  go to both, so none is lost between them.
- Whatever is lost (an overrun, an interrupted look, a route that went silently with its address) is made good by another look,
  and a look that does not end by another socket.
- Nothing is believed that the kernel did not send.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mem_continuity.agent.devices import Device, IPAddress, Table
from mem_continuity.agent.netlink import GROUPS, Asked, DumpEnded, Message, Overrun, parse, request
from mem_continuity.core.policy import AgentPolicy

_DATAGRAM = 64 * 1024
"""Octets.  The kernel cuts a dump into 32 KiB at most; a change is shorter."""
_SOL_NETLINK = 270
_NETLINK_GET_STRICT_CHK = 12
"""Linux has both under these numbers (the option since 4.20); Python has no names for them."""


@implementer(IReadDescriptor)
class NetlinkSource:
    """
    What rtnetlink tells.  A L{Source<mem_continuity.agent.devices.Source>}; needs no privileges.

    @ivar looked: everything has been looked at once.
    @ivar looks: how many looks have been completed.
    """

    _log = Logger()

    def __init__(self, reactor: Any, targets: Sequence[IPAddress], policy: AgentPolicy) -> None:
        """
        @param reactor: has timers and takes file descriptors (C{IReactorTime}, C{IReactorFDSet}).
        @param targets: addresses of the server.
        """
        self.looked = False
        self.looks = 0
        self._reactor = reactor
        self._targets = targets
        self._policy = policy
        self._changed: Callable[[], None] = lambda: None
        self._socket: socket.socket | None = None
        self._port = 0
        self._sequence = 0
        self._table = self._new_table()
        self._fresh: Table | None = None
        self._asked = Asked.LINKS
        self._again = False
        self._overrun = False
        self._soon: IDelayedCall | None = None
        self._deadline: IDelayedCall | None = None

    def _new_table(self) -> Table:
        return Table(self._targets, self._policy)

    def start(self, changed: Callable[[], None]) -> None:
        """
        @see: L{Source.start<mem_continuity.agent.devices.Source.start>}
        @raise OSError: there is no rtnetlink, or a sandbox forbids it (C{RestrictAddressFamilies} of systemd without
            C{AF_NETLINK}; Android).
        """
        self._changed = changed
        self._open()

    def stop(self) -> None:
        """
        @see: L{Source.stop<mem_continuity.agent.devices.Source.stop>}
        """
        self._changed = lambda: None
        self._close()
        self.looked = False
        self._table = self._new_table()

    def devices(self) -> Iterable[Device]:
        """
        @see: L{Source.devices<mem_continuity.agent.devices.Source.devices>}
        """
        return self._table.devices()

    def _bound(self) -> socket.socket:
        family: int = getattr(socket, "AF_NETLINK", -1)
        made = socket.socket(family, socket.SOCK_RAW | getattr(socket, "SOCK_CLOEXEC", 0), getattr(socket, "NETLINK_ROUTE", 0))
        try:
            made.setblocking(False)
            with contextlib.suppress(OSError):  # an older kernel tells of all tables, which is more to read and comes to the same
                made.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
            made.bind((0, GROUPS))
        except BaseException:
            made.close()
            raise
        return made

    def _open(self) -> None:
        self._socket = self._bound()
        self._port = self._socket.getsockname()[0]
        self._reactor.addReader(self)
        self.look()

    def _close(self) -> None:
        for timer in (self._soon, self._deadline):
            if timer is not None and timer.active():
                timer.cancel()
        self._soon = self._deadline = self._fresh = None
        self._again = self._overrun = False
        made, self._socket = self._socket, None
        if made is not None:
            self._reactor.removeReader(self)
            made.close()

    def _reopen(self) -> None:
        """
        Begin anew with another socket; what is known stays until more is known.
        """
        self._close()
        try:
            self._open()
        except OSError as error:
            self._log.warn("The kernel cannot be asked for networks: {error}; trying again", error=str(error))
            self._deadline = self._reactor.callLater(self._policy.network_look, self._reopen)

    # Looking

    def look(self) -> None:
        """
        @see: L{Source.look<mem_continuity.agent.devices.Source.look>}; when one is under way another one follows.
        """
        if self._socket is None:
            return
        if self._fresh is not None:
            self._again = True
            return
        if self._soon is not None and self._soon.active():
            self._soon.cancel()
        self._soon = None
        self._fresh = self._new_table()
        self._deadline = self._reactor.callLater(self._policy.network_look, self._reopen)
        self._ask(Asked.LINKS)

    def _ask(self, what: Asked) -> None:
        assert self._socket is not None
        self._asked = what
        self._sequence = self._sequence % 0xFFFFFFFF + 1
        try:
            self._socket.send(request(what, self._sequence))
        except OSError as error:
            # The deadline helps.
            self._log.debug("Asking the kernel for {what} failed: {error}", what=what.name, error=str(error))

    def _look_soon(self) -> None:
        if self._fresh is not None:
            self._again = True
        elif self._soon is None:
            # Half of it, so that a look is over before anything is told that it would correct.
            self._soon = self._reactor.callLater(self._policy.network_settle / 2, self._look_now)

    def _look_now(self) -> None:
        self._soon = None
        self.look()

    def _part_ended(self, error: int) -> None:
        if error and self._asked is not Asked.ROUTES6:  # a kernel without IPv6 has none
            reason = errno.errorcode.get(error, str(error))
            self._log.debug("The kernel did not tell of {what}: {reason}", what=self._asked.name, reason=reason)
            return
        if self._asked is not Asked.ROUTES6:
            self._ask(Asked(self._asked + 1))
            return
        assert self._fresh is not None and self._deadline is not None
        self._table, self._fresh = self._fresh, None
        self._deadline.cancel()
        self._deadline = None
        self.looked = True
        self.looks += 1
        again, self._again = self._again, False
        if again:
            self._look_soon()

    # The socket

    def fileno(self) -> int:
        """
        @see: L{IReadDescriptor.fileno<twisted.internet.interfaces.IFileDescriptor.fileno>}
        """
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """
        @see: L{ILoggingContext.logPrefix<twisted.internet.interfaces.ILoggingContext.logPrefix>}
        """
        return "networks"

    def connectionLost(self, reason: Failure) -> None:
        """
        The reactor gives the socket up.
        """
        self._close()
        self._deadline = self._reactor.callLater(self._policy.network_look, self._reopen)

    def doRead(self) -> None:
        """
        Read what there is, up to a limit, and tell once of all of it.
        """
        seen = False
        for _ in range(self._policy.network_reads):
            if self._socket is None:
                return
            try:
                datagram, _, flags, sender = self._socket.recvmsg(_DATAGRAM)
            except BlockingIOError:
                if self._overrun:
                    # Only now the kernel would tell of another overrun, so only a look that begins now misses nothing.
                    self._overrun = False
                    self._look_soon()
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    self._log.warn("Reading of networks failed: {error}; beginning anew", error=str(error))
                    self._reopen()
                    break
                self._overrun = True
                self._look_soon()
                continue
            if sender[0] != 0:
                continue
            seen = True
            if flags & socket.MSG_TRUNC:
                self._look_soon()
            for message in parse(datagram):
                self._take(message)
        if seen:
            self._changed()

    def _take(self, message: Message) -> None:
        said = message.said
        if isinstance(said, Overrun):
            self._look_soon()
        elif message.port != self._port:
            if said is None or isinstance(said, DumpEnded):
                return
            if self._fresh is not None:
                self._fresh.apply(said)
            if self._table.apply(said):
                self._look_soon()
        elif self._fresh is not None and message.sequence == self._sequence:
            if message.interrupted:
                self._again = True
            if isinstance(said, DumpEnded):
                self._part_ended(said.error)
            elif said is not None:
                self._fresh.apply(said)
