"""
Goal 9: handovers per second and core of the server: sessions that have lost their links come back all at once.

The load comes from this process, the server has a process of its own; its processor seconds are what counts, so that the
figure is per core whatever else the machine does.  Each handover is a TCP connection, a TLS 1.3 handshake (P-256) and a RESUME
that is granted.

  full      full handshakes, with the hybrid ML-KEM key share that OpenSSL offers by itself, and with P-256 alone
  tickets   with TLS session tickets, P-256 key share
  storm     wall-clock time until all are back, at most 64 at once; on two cores the load generator has one of them
  TLS alone the same connections to a bare server: handshake, greeting, close
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Cooperator
from zope.interface import implementer

from bench._client import connect, creator, endpoint, now
from bench._command import Options, command, sleep
from bench._process import ServerProcess
from bench._report import Report
from mem_continuity.client.tickets import TicketKeeper
from mem_continuity.core.handshake import Binding, Resumed, Terms, format_resume, parse_answer, parse_started
from mem_continuity.core.policy import RoamingPolicy
from mem_continuity.core.resumption import Attempt
from mem_continuity.core.session import Session
from mem_continuity.layer.sockets import exported_binding

_AT_ONCE = 64


@implementer(IHandshakeListener)
class Raw(Protocol):
    """
    Lines as they come, without a roaming endpoint, so that the generator costs less than what it measures.

    @ivar ready: fires when TLS stands; what is written then goes out together with the last octets of the handshake.
    """

    def __init__(self) -> None:
        self.transport: Any = None
        self.ready: Deferred[None] = Deferred()
        self._buffer = b""
        self._mark = b""
        self._waiting: Deferred[bytes] | None = None

    def handshakeCompleted(self) -> None:
        self.ready.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        self._look()

    def _look(self) -> None:
        waiting = self._waiting
        if waiting is None:
            return
        *lines, _ = self._buffer.split(b"\r\n")
        for line in lines:
            if line.startswith(self._mark):
                self._buffer, self._waiting = b"", None
                waiting.callback(line)
                return

    def connectionLost(self, reason: Any = None) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(reason)

    def ask(self, octets: bytes, mark: bytes) -> Deferred[bytes]:
        """
        Write, and wait for a line that begins so.
        """
        self._mark, self._waiting = mark, Deferred()
        waiting = self._waiting
        if octets:
            self.transport.write(octets)
        self._look()
        return waiting


def _words(line: bytes) -> list[bytes]:
    return line[line.index(b"[") + 13 : line.index(b"]")].split()


class Storm:
    """
    Many sessions of one server.
    """

    def __init__(self, server: ServerProcess, tickets: bool, lean: bool) -> None:
        self._server = server
        self._creator = creator(lean=lean)
        self._tickets = tickets
        self._ways: dict[int, IStreamClientEndpoint] = {}
        self._policy = RoamingPolicy()
        self._sessions: dict[int, Session] = {}
        self._links: list[Raw] = []

    async def begin(self, number: int) -> None:
        """
        Log in, start the layer, lose the link.
        """
        link = await self._connect(number)
        await link.ask(b"", b"* OK")
        await link.ask(b"a LOGIN user%d secret\r\n" % number, b"a OK")
        words = _words(await link.ask(b"b XCONTINUITY START\r\n", b"b OK"))
        terms: Terms = parse_started(words, Binding.TLS_EXPORTER)
        self._sessions[number] = Session(terms, self._policy, now())
        link.transport.abortConnection()

    async def come_back(self, number: int) -> None:
        """
        RESUME on a new link, which stays.
        """
        session = self._sessions[number]
        link = await self._connect(number)
        await link.ready
        attempt = Attempt(session, exported_binding(link.transport), 0, 0)
        line = await link.ask(format_resume(b"r", attempt.request), b"r ")
        answer = parse_answer(line.startswith(b"r OK"), _words(line))
        if not isinstance(answer, Resumed):
            raise RuntimeError(f"not resumed: {line!r}")
        self._links.append(link)

    async def _connect(self, number: int) -> Raw:
        if number not in self._ways:  # every client has its own tickets
            tls = TicketKeeper(self._creator) if self._tickets else self._creator
            self._ways[number] = endpoint(self._server, tls)
        link: Any = await self._ways[number].connect(Factory.forProtocol(Raw))
        assert isinstance(link, Raw)
        return link

    async def parked(self) -> None:
        """
        Until the server knows that all links are gone.
        """
        while self._server.ask("stats")["parked"] < len(self._sessions):
            await sleep(0.05)

    def drop(self) -> None:
        """
        Lose all links.
        """
        for link in self._links:
            link.transport.abortConnection()
        self._links.clear()

    @property
    def size(self) -> int:
        """
        How many sessions there are.
        """
        return len(self._sessions)


async def at_most(count: int, work: Callable[[int], Coroutine[Any, Any, None]]) -> None:
    """
    So many in all, and not too many at once.
    """
    numbers = iter(range(count))
    cooperator = Cooperator(started=True)
    workers = (Deferred.fromCoroutine(work(number)) for number in numbers)
    running = [cooperator.coiterate(workers) for _ in range(min(_AT_ONCE, count))]
    for one in running:
        await one


async def timed(server: ServerProcess, count: int, work: Callable[[int], Coroutine[Any, Any, None]]) -> tuple[float, float]:
    """
    @return: wall-clock seconds, and the server's processor seconds.
    """
    cpu, begun = server.ask("stats")["cpu"], now()
    await at_most(count, work)
    took = now() - begun
    return took, server.ask("stats")["cpu"] - cpu


async def measure(options: Options, report: Report) -> None:
    """
    Full handshakes, tickets, and TLS alone.
    """
    count = options.pick(30, 500, 1000, 10000)
    for name, tickets, lean, goal in (
        ("full handshakes", False, False, 1500.0),
        ("full handshakes, P-256 key share", False, True, 1500.0),
        ("with tickets", True, True, 2500.0),
    ):
        with ServerProcess("continuous", tickets=tickets) as server:
            storm = Storm(server, tickets, lean)
            await at_most(count, storm.begin)
            await storm.parked()
            took, used = await timed(server, count, storm.come_back)
            each = f"{used / count * 1e6:.0f} µs each"
            report.add(f"handovers, {name}", count / used, "/s/core", goal, at_least=True, note=each)
            whole = 5.0 * count / 10000
            report.add(f"storm of {count} back, {name}", took, "s", whole, note="the goal is 5 s for 10,000")
            handed = server.ask("stats")["counts"].get("handovers", 0)
            if handed != count:
                raise RuntimeError(f"{handed} handovers of {count}")
            storm.drop()
        with ServerProcess("bare", tickets=tickets) as server:
            way = endpoint(server, creator(tickets=tickets, lean=lean))

            async def greet(number: int, way: Any = way) -> None:
                (await connect(way)).abort()

            _, used = await timed(server, count, greet)
            each = f"{used / count * 1e6:.0f} µs each, greeting and close"
            report.add(f"TLS alone, {name}", count / used, "/s/core", note=each)


if __name__ == "__main__":
    command("handover (goal 9): handovers per second and core", __doc__, measure)
