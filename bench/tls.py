"""
TLS on the descriptor beside Twisted's own, in one run: what a session costs in memory, octets and round trips in time.

  memory    RSS of the server process for each session: idle, and after each has taken 1 MB
  bulk      one session, down and up: rate, and processor time of the server
  echo      one session, 64 octets there and back, one after the other
  handshake full handshakes, each with a close, for each processor second of the server

The server is a process of its own; the client is the same for both, on the descriptor.  TLS 1.3, TLS_AES_128_GCM_SHA256, a P-256
certificate, no tickets.  RSS is taken after a garbage collection and malloc_trim.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from OpenSSL.SSL import Context
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from bench._command import Options, command, sleep
from bench._process import ROOT, ServerProcess
from bench._report import Report
from mem_continuity.layer.tls_contexts import client_context
from mem_continuity.layer.tls_endpoints import TLSClientEndpoint
from tests.support.certificates import certificate_pem

reactor: Any = _reactor
_MB = 1_000_000
_PING = b"p" * 64
_PIECE = b"u" * 262_144
_TRANSPORTS = (("stock", "Twisted's TLS"), ("descriptor", "on the descriptor"))


class TLSProcess(ServerProcess):
    """
    A L{bench._tls_server}.
    """

    def __init__(self, transport: str) -> None:
        self.address = "127.0.0.1"
        argv = [sys.executable, "-m", "bench._tls_server", "--transport", transport]
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(certificate_pem())
            file.flush()
            options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": ROOT}
            self._process = subprocess.Popen([*argv, "--pem", file.name], **options)
            self._buffer = b""
            try:
                self.port: int = self._answer()["port"]
            except BaseException:
                self.close()
                raise

    @property
    def cpu(self) -> float:
        """
        Processor seconds so far.
        """
        found: float = self.ask("stats")["cpu"]
        return found

    async def rss(self) -> float:
        """
        Octets, once it has come to rest.
        """
        await sleep(0.3)
        self.ask("stats", trim=True)
        await sleep(0.2)
        found: float = self.ask("stats", trim=True)["rss"]
        return found


class Client(Protocol):
    """
    Counts what it hears.
    """

    def __init__(self) -> None:
        self._left = 0
        self._heard: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()

    @property
    def wire(self) -> Any:
        """
        The transport.
        """
        return self.transport

    def hear(self, count: int) -> Deferred[None]:
        """
        When so many more octets are here.
        """
        self._left, self._heard = count, Deferred()
        return self._heard

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the server.
        """
        self._left -= len(data)
        if self._left <= 0 and not self._heard.called:
            self._heard.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        It is over.
        """
        self.lost.callback(None)

    async def down(self, size: int) -> None:
        """
        Take so many octets.
        """
        heard = self.hear(size)
        self.wire.write(b"D%d\n" % size)
        await heard

    async def up(self, size: int) -> None:
        """
        Give so many octets.
        """
        heard = self.hear(1)
        self.wire.write(b"U%d\n" % size)
        for _ in range(size // len(_PIECE)):
            self.wire.write(_PIECE)
        self.wire.write(_PIECE[: size % len(_PIECE)])
        await heard


def _context() -> Context:
    context = client_context(certificate_pem())
    context.set_tls13_ciphersuites(b"TLS_AES_128_GCM_SHA256")
    return context


class Dialler:
    """
    Makes clients of one server.
    """

    def __init__(self, server: TLSProcess) -> None:
        self._endpoint = TLSClientEndpoint(reactor, server.address, server.port, _context(), "localhost")

    async def connect(self) -> Client:
        """
        One more.
        """
        made: Any = await self._endpoint.connect(Factory.forProtocol(Client))
        assert isinstance(made, Client)
        return made

    async def wave(self, count: int) -> list[Client]:
        """
        So many at the same time.
        """
        found: list[Client] = await gatherResults([Deferred.fromCoroutine(self.connect()) for _ in range(count)])
        return found


async def memory(transport: str, count: int, wave: int) -> tuple[float, float]:
    """
    @return: octets a session, idle and after traffic; the first wave is a warm-up and not counted.
    """
    with TLSProcess(transport) as server:
        dialler = Dialler(server)
        clients = await dialler.wave(wave)
        await _all_down(clients)
        first = await server.rss()
        for _ in range(count // wave):
            clients += await dialler.wave(wave)
        idle = (await server.rss() - first) / count
        for start in range(wave, len(clients), wave):
            await _all_down(clients[start : start + wave])
        traffic = (await server.rss() - first) / count
        for one in clients:
            one.wire.abortConnection()
        await gatherResults([one.lost for one in clients])
    return idle, traffic


async def _all_down(clients: list[Client]) -> None:
    await gatherResults([Deferred.fromCoroutine(one.down(_MB)) for one in clients])


async def bulk(transport: str, size: int, repeat: int) -> list[tuple[float, float]]:
    """
    @return: octets a second and the server's processor seconds for each octet; down, then up; medians.
    """
    found = []
    with TLSProcess(transport) as server:
        dialler = Dialler(server)
        for way in ("down", "up"):
            runs = []
            for _ in range(repeat):
                client = await dialler.connect()
                cpu, began = server.cpu, time.perf_counter()
                await getattr(client, way)(size)
                took = time.perf_counter() - began
                runs.append((size / took, (server.cpu - cpu) / size))
                client.wire.abortConnection()
                await client.lost
            found.append((statistics.median(run[0] for run in runs), statistics.median(run[1] for run in runs)))
    return found


async def echo(transport: str, count: int) -> tuple[float, float, float]:
    """
    @return: seconds of a round trip, p50 and p99; processor seconds of the server for one.
    """
    with TLSProcess(transport) as server:
        client = await Dialler(server).connect()
        client.wire.write(b"E")
        times = []
        for number in range(count + count // 10):
            if number == count // 10:
                cpu = server.cpu
            began = time.perf_counter()
            heard = client.hear(len(_PING))
            client.wire.write(_PING)
            await heard
            times.append(time.perf_counter() - began)
        used = (server.cpu - cpu) / count
        client.wire.abortConnection()
        await client.lost
    times = sorted(times[count // 10 :])
    return times[len(times) // 2], times[len(times) * 99 // 100], used


async def handshakes(transport: str, count: int, wave: int) -> float:
    """
    @return: full handshakes, with their closes, for each processor second of the server.
    """
    with TLSProcess(transport) as server:
        dialler = Dialler(server)
        await _come_and_go(dialler, wave)
        cpu = server.cpu
        for _ in range(count // wave):
            await _come_and_go(dialler, wave)
        return count / (server.cpu - cpu)


async def _come_and_go(dialler: Dialler, count: int) -> None:
    clients = await dialler.wave(count)
    for one in clients:
        one.wire.loseConnection()
    await gatherResults([one.lost for one in clients])


async def measure(options: Options, report: Report) -> None:
    """
    Each figure for both transports, one after the other.
    """
    sessions, wave = options.pick((20, 10), (500, 50), (1000, 50), (4000, 100))
    size, repeat = options.pick((5 * _MB, 1), (100 * _MB, 3), (300 * _MB, 5))
    pings = options.pick(200, 5000, 20000)
    shakes = options.pick(20, 500, 2000)
    for transport, name in _TRANSPORTS:
        idle, traffic = await memory(transport, sessions, wave)
        report.add(f"memory, idle: {name}", idle / 1000, "kB")
        report.add(f"memory, after 1 MB each: {name}", traffic / 1000, "kB")
    for transport, name in _TRANSPORTS:
        for way, (rate, cpu) in zip(("down", "up"), await bulk(transport, size, repeat), strict=True):
            report.add(f"bulk {way}: {name}", rate / _MB, "MB/s")
            report.add(f"bulk {way}, processor of the server: {name}", cpu * 1e9, "s/GB")
    for transport, name in _TRANSPORTS:
        middle, slow, cpu = await echo(transport, pings)
        report.add(f"echo, p50: {name}", middle * 1e6, "µs")
        report.add(f"echo, p99: {name}", slow * 1e6, "µs")
        report.add(f"echo, processor of the server: {name}", cpu * 1e6, "µs")
    for transport, name in _TRANSPORTS:
        report.add(f"handshakes: {name}", await handshakes(transport, shakes, 10), "/s/core")
    report.note(f"{sessions} sessions, {size // _MB} MB in bulk, {pings} round trips, {shakes} handshakes")


if __name__ == "__main__":
    command("tls: on the descriptor beside Twisted's own", __doc__, measure)
