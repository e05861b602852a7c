"""
Goal 3: how many octets a resume puts on the wire, cold and on a prepared link, with an idle session.

The goal counts what TCP carries (TLS records and all within); what the IP packets add to that, handshake and acknowledgements
of TCP included, is given beside it.

  default   TLS as OpenSSL offers it: with a hybrid ML-KEM key share since OpenSSL 3.5, 1.2 kB up and 1.1 kB down by itself
  P-256     the client offers P-256 only
  ticket    P-256 and a TLS session ticket

Needs root, for the lab's network namespaces.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from bench._client import Route, connect, creator, endpoint, roaming
from bench._command import Options, command, sleep
from bench._process import ServerProcess
from bench._report import Report
from mem_continuity.client import Path, roamer_of
from tests.netlab import Counters, Lab, Network, Shape

_ACKED_AND_RECEIVED = struct.Struct("=QQ")
_AT = 120


def tcp_octets(protocol: Any) -> tuple[int, int]:
    """
    What a protocol's TCP connection has carried so far: up and acknowledged, down.
    """
    info = protocol.transport.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    up, down = _ACKED_AND_RECEIVED.unpack_from(info, _AT)
    return up, down


def ip_octets(before: Counters, after: Counters) -> tuple[int, int]:
    """
    What a network has carried in between: up, down.
    """
    return after.to_server.octets - before.to_server.octets, after.to_handset.octets - before.to_handset.octets


async def cold(lab: Lab, server: ServerProcess, tls: Any, settle: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """
    A resume by a new connection.

    @return: octets of TCP and of IP, up and down.
    """
    route = Route({name: endpoint(server, tls, lab, network) for name, network in lab.networks.items()}, "wlan")
    talker = await connect(roaming([Path("route", route)]))
    await talker.log_in()
    await sleep(settle)
    route.now = "xg"
    before = lab.networks["xg"].counters()
    roamer_of(talker).link_is_dead()
    await sleep(settle)
    found = tcp_octets(talker), ip_octets(before, lab.networks["xg"].counters())
    talker.abort()
    await sleep(0.1)
    return found


async def prepared(lab: Lab, server: ServerProcess, settle: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """
    A resume on a link that stood ready.
    """
    paths = [Path(name, endpoint(server, creator(), lab, network)) for name, network in lab.networks.items()]
    talker = await connect(roaming(paths, prepare=True))
    await talker.log_in()
    await sleep(settle)
    other: Network = next(one for name, one in lab.networks.items() if name != roamer_of(talker).path)
    reserve = roamer_of(talker).reserve
    link = reserve.take()
    if link is None:
        raise RuntimeError("no link was prepared")
    reserve.put(link)
    first = tcp_octets(link)
    before = other.counters()
    roamer_of(talker).link_is_dead()
    await sleep(settle / 2)
    up, down = tcp_octets(talker)
    found = (up - first[0], down - first[1]), ip_octets(before, other.counters())
    talker.abort()
    return found


async def measure(options: Options, report: Report) -> None:
    """
    All kinds.
    """
    settle = options.pick(0.4, 1.5, 1.5)
    shape = Shape(delay_ms=5)
    with Lab(emulated=True, wlan=shape, xg=shape) as lab, ServerProcess("continuous", lab=lab, tickets=True) as server:
        # Without tickets on the client's side the server's are waste: twice 250 octets down.
        for name, tls in (
            ("cold, default", creator()),
            ("cold, P-256", creator(lean=True)),
            ("cold, P-256, ticket", creator(tickets=True, lean=True)),
        ):
            if "ticket" in name:
                visitor = await connect(endpoint(server, tls, lab, lab.networks["xg"]))
                await visitor.ask(b"NOOP")
                visitor.abort()
            _add(report, name, *await cold(lab, server, tls, settle), 1200, 2200)
        _add(report, "prepared", *await prepared(lab, server, settle), 200, 200)


def _add(report: Report, name: str, tcp: tuple[int, int], ip: tuple[int, int], up: float, down: float) -> None:
    for way, octets, packets, goal in (("up", tcp[0], ip[0], up), ("down", tcp[1], ip[1], down)):
        report.add(f"{name}, {way}", octets, "octets", goal, note=f"{packets} with TCP and IP")


if __name__ == "__main__":
    command("octets (goal 3): octets of a resume", __doc__, measure)
