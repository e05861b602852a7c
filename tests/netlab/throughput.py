"""
What the lab itself can do: C{python -m tests.netlab.throughput} prints TCP rates and UDP round trips.

For whoever reads figures that were measured in a lab: nothing can be faster than this.  It is no test, it asserts
nothing.
"""

from __future__ import annotations

import socket
import statistics
import threading
import time

from tests.netlab import Lab, Network, Shape

_CHUNK = 262144


def transfer(lab: Lab, network: Network, seconds: float) -> tuple[float, float]:
    """
    Send over one TCP connection from the server to the handset, two threads of this process, for that long.

    @return: payload in Mbit/s, and the processor seconds of this process per second.
    """
    with lab.inside(lab.server):
        listener = socket.create_server((lab.server_address, 0))
    with lab.inside(lab.handset):
        handset = socket.create_connection(
            (network.reach, listener.getsockname()[1]), timeout=10, source_address=(network.handset_address, 0)
        )
    server, _ = listener.accept()
    listener.close()
    deadline = time.monotonic() + seconds

    def send() -> None:
        data = bytes(_CHUNK)
        while time.monotonic() < deadline:
            server.sendall(data)
        server.close()

    sender = threading.Thread(target=send)
    begun, used = time.monotonic(), time.process_time()
    sender.start()
    buffer = bytearray(_CHUNK)
    received = 0
    while count := handset.recv_into(buffer):
        received += count
    elapsed = time.monotonic() - begun
    sender.join()
    handset.close()
    return received * 8 / elapsed / 1e6, (time.process_time() - used) / elapsed


def round_trips(lab: Lab, network: Network, count: int) -> list[float]:
    """
    UDP round trips in milliseconds, one after the other.
    """
    with lab.inside(lab.server):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((lab.server_address, 0))
    with lab.inside(lab.handset):
        handset = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        handset.bind((network.handset_address, 0))
    with server, handset:
        for one in (server, handset):
            one.settimeout(10)
        handset.connect((network.reach, server.getsockname()[1]))
        found = []
        for _ in range(count):
            begun = time.monotonic()
            handset.send(b"?")
            _, address = server.recvfrom(16)
            server.sendto(b"!", address)
            handset.recv(16)
            found.append((time.monotonic() - begun) * 1000)
    return found


def _report(title: str, lab: Lab, count: int, seconds: float) -> None:
    network = lab.networks["wlan"]
    times = sorted(round_trips(lab, network, count))
    rate, used = transfer(lab, network, seconds)
    traffic = network.counters().to_handset
    p50, p99 = statistics.median(times), times[int(count * 0.99)]
    print(
        f"{title:<34} RTT min {times[0]:7.3f}  p50 {p50:7.3f}  p99 {p99:7.3f} ms"
        f"   TCP {rate:8.1f} Mbit/s   endpoints {used:4.2f} CPU   overflowed {traffic.overflowed}"
    )


def main() -> None:
    """
    Print all figures.
    """
    with Lab() as lab:
        _report("plain", lab, 1000, 2)
    for title, shape, mtu in (
        ("20 Mbit/s x 60 ms", Shape(rate=20e6, delay_ms=30), 1500),
        ("100 Mbit/s x 20 ms", Shape(rate=100e6, delay_ms=10), 1500),
        ("100 Mbit/s x 20 ms, queue 1 MiB", Shape(rate=100e6, delay_ms=10, queue=1048576), 1500),
        ("unlimited, 20 ms", Shape(delay_ms=10), 1500),
        ("unlimited", Shape(), 1500),
        ("unlimited, MTU 9000", Shape(), 9000),
    ):
        with Lab(emulated=True, wlan=shape, mtu=mtu) as lab:
            _report(title, lab, 1000 if not shape.delay_ms else 50, 5)


if __name__ == "__main__":
    main()
