"""
The agent on a handset with two networks of the kernel's own: it watches them by itself, and the mail program notices nothing.
"""

from __future__ import annotations

import sys
import time

from tests.agent.process import ROOT
from tests.agent.real_networks_case import RealNetworksCase
from tests.handover.server import big_message


class RealNetworksTests(RealNetworksCase):
    def test_a_network_goes_and_comes(self) -> None:
        """
        In the middle of a FETCH: the session follows what the kernel tells of networks, away from one and back to it.
        """
        program = self.program()
        self.eventually_so(lambda: self.on(self.wlan.interface))
        self.assertEqual(self.fetch(program, self.wlan.detach), big_message())
        self.eventually_so(lambda: self.on(self.xg.interface))
        self.assertEqual(self.fetch(program, self.wlan.attach), big_message())
        self.eventually_so(lambda: self.on(self.wlan.interface))
        self.assertEqual([one["handovers"] for one in self.state()["connections"]], [2])
        self.assertEqual(program.logout()[0], "BYE")

    def test_a_network_falls_silent(self) -> None:
        """
        Nobody tells of it: the session is on the other within seconds.
        """
        program = self.program()
        self.eventually_so(lambda: self.on(self.wlan.interface))
        self.assertEqual(self.fetch(program, self.wlan.silence), big_message())
        self.eventually_so(lambda: self.on(self.xg.interface))
        self.assertEqual(program.noop()[0], "OK")

    def test_no_network_at_all(self) -> None:
        """
        For a while: the program waits, and its command is answered when there is one again.
        """
        program = self.program()
        self.xg.detach()
        self.wlan.detach()
        program.send(b"n1 NOOP\r\n")
        self.eventually_so(lambda: self.state()["connections"][0]["phase"] == "away")
        self.xg.attach()
        while (line := program.readline()).startswith(b"* OK Still here"):
            continue
        self.assertEqual(line, b"n1 OK NOOP No operation performed\r\n")
        self.assertEqual(self.state()["connections"][0]["network"], self.xg.interface)


class NameServerTests(RealNetworksCase):
    """
    The server is known by a name, and so is nothing else but by a name server on the way.
    """

    def host(self) -> str:
        return "mail.example"

    def within(self) -> list[str]:
        address = str(self.lab.server_address)
        (self.folder / "resolv.conf").write_text(f"nameserver {address}\n", "utf-8")
        words = [sys.executable, "-m", "tests.agent.name_server", address, address]
        self.names = self.lab.popen(self.lab.server, words, cwd=ROOT)
        self.addCleanup(self.names.wait, 10.0)
        self.addCleanup(self.names.kill)
        mount = f'mount --bind {self.folder}/resolv.conf "$(readlink -f /etc/resolv.conf)" && exec "$0" "$@"'
        return ["unshare", "--mount", "sh", "-c", mount]

    def test_the_name_server_is_gone(self) -> None:
        """
        With the network: the session is on the other one all the same, as soon as ever.
        """
        program = self.program()
        self.eventually_so(lambda: self.on(self.wlan.interface))
        self.names.kill()
        self.wlan.detach()
        before = time.monotonic()
        self.eventually_so(lambda: self.on(self.xg.interface))
        self.assertLess(time.monotonic() - before, 3.0)
        self.assertEqual(program.noop()[0], "OK")
