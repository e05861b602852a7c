"""
The ground itself: what is reached how, what a journey does to the networks, what a meter sees of it.
"""

from __future__ import annotations

import imaplib
import re
import tempfile
import time
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.programs.program import inventory
from tests.interop.programs.result import contents
from tests.netlab.namespaces import NETNS
from tests.roaming.ground import Ground, Way
from tests.roaming.journey import Journey
from tests.roaming.meter import Meter

MAILS = [b"From: <a@b.example>\r\nSubject: %d\r\n\r\n%s\r\n" % (number, b"text\r\n" * 500) for number in range(20)]


class GroundTests(SynchronousTestCase):
    timeout: ClassVar[float] = 60.0

    def setUp(self) -> None:
        self.ground = Ground()
        self.ground.__enter__()
        self.addCleanup(self.ground.__exit__, None, None, None)
        self.ground.deliver("joe", *MAILS)

    def program(self) -> imaplib.IMAP4:
        """
        One that talks to the agent.
        """
        target = self.ground.target("joe", Way.AGENT)
        with self.ground.lab.inside(self.ground.lab.handset):
            made = imaplib.IMAP4(target.host, target.port, timeout=30)
        self.addCleanup(made.sock.close)
        self.addCleanup(made.file.close)
        made.login(target.user, target.password)
        made.select()
        return made

    def test_ways(self) -> None:
        """
        Each leads to the same mail, with names and certificates that fit; the agent's in both kinds.
        """
        expected = self.ground.look("joe")
        self.assertEqual(contents(expected)["INBOX"].total(), len(MAILS))
        targets = [self.ground.target("joe", way) for way in Way]
        for target in [*targets, self.ground.target("joe", Way.AGENT, tls=True)]:
            with tempfile.TemporaryDirectory() as folder:
                self.assertEqual(inventory(target, Path(folder), self.ground.within), expected)
        self.assertEqual(len(re.findall(r" \d+: live: session begun by wlan", self.ground.agent_log())), 2)
        self.assertEqual(self.ground.look("ann")["INBOX"], ())

    def test_nothing_left(self) -> None:
        lab = self.ground.lab
        places = [folder / name for name in (lab.handset, lab.server) for folder in (NETNS, Path("/etc/netns"))]
        self.assertTrue(all(place.exists() for place in places))
        self.ground.__exit__(None, None, None)
        self.assertFalse(any(place.exists() for place in places))

    def test_journey(self) -> None:
        """
        Three handovers end on the other network, which works; the program's one connection has seen it all.
        """
        wlan, xg = self.ground.lab.networks.values()
        self.assertEqual((self.ground.present, self.ground.other), (wlan, xg))
        with Meter(self.ground, Way.AGENT) as meter:
            program = self.program()
            begun = time.monotonic()
            with Journey(self.ground, 3, pause=(0.3, 0.6), leaving=0.5, begin=lambda: meter.octets[1] > 20_000) as journey:
                self.assertFalse(journey.wait(0.3), "it has not begun")
                while not journey.wait(0.0):
                    self.assertEqual(program.uid("FETCH", "1:*", "(BODY.PEEK[])")[0], "OK")
            self.assertEqual((journey.done, len(journey.moments)), (3, 3))
            self.assertEqual(self.ground.present, xg)
            self.assertEqual((wlan.state, xg.state), ("up", "up"))
            self.assertEqual(program.noop()[0], "OK")
            (account,) = self.ground.agent_status()["accounts"]
            (connection,) = account["connections"]
            self.assertEqual((account["networks"], connection["handovers"]), (["xg"], 3))
            program.logout()
            elapsed = time.monotonic() - begun
        self.assertEqual((meter.connections, meter.lost), (1, 0))
        self.assertTrue(0.12 < meter.longest_stall < elapsed, meter.longest_stall)
        self.assertGreater(wlan.counters().to_handset.silenced + wlan.counters().to_server.silenced, 0)

    def test_a_journey_that_is_stopped(self) -> None:
        """
        Its handover is brought to its end at once; one that was not to be made yet is not made; an error on the way comes out.
        """
        with Journey(self.ground, 20, pause=(0.0, 0.0), leaving=1000.0) as journey:
            while not journey.moments:
                time.sleep(0.01)
        self.assertEqual((journey.done, self.ground.present.name), (1, "xg"))
        with Journey(self.ground, 20, pause=(0.0, 0.0), ready=lambda: False) as journey:
            self.assertFalse(journey.wait(0.2))
        self.assertEqual((journey.done, self.ground.present.name), (0, "xg"))
        failing = Journey(self.ground, 1, begin=lambda: bool(1 // 0)).start()
        self.assertRaises(ZeroDivisionError, failing.wait)
        self.assertEqual(failing.done, 0)

    def test_meter(self) -> None:
        """
        A wait of a second is seen in front of the agent; one in idleness is not; a connection that nobody ends properly is lost.
        """
        wlan = self.ground.present
        with Meter(self.ground, Way.AGENT) as meter:
            program = self.program()
            self.assertLess(meter.longest_stall, 0.9)
            meter.idle(True)
            wlan.silence()
            program.send(b"a1 NOOP\r\n")
            time.sleep(1.0)
            wlan.restore()
            self.assertEqual(program.readline()[:5], b"a1 OK")
            meter.idle(False)
            self.assertLess(meter.longest_stall, 0.9)
            wlan.silence()
            program.send(b"a2 NOOP\r\n")
            time.sleep(1.0)
            self.assertGreater(meter.longest_stall, 0.9)
            wlan.restore()
            self.assertEqual(program.readline()[:5], b"a2 OK")
            self.assertEqual((meter.connections, meter.lost), (1, 0))
            self.ground.agent.stop()
        self.assertEqual((meter.connections, meter.lost), (1, 1))

    def test_meter_of_the_networks(self) -> None:
        """
        Without the agent it looks on there, also on one that comes later.
        """
        with Meter(self.ground, Way.DIRECT) as meter:
            for expected in (1, 2):
                with tempfile.TemporaryDirectory() as folder:
                    inventory(self.ground.target("joe", Way.DIRECT), Path(folder), self.ground.within)
                self.assertEqual(meter.connections, expected)
                Journey(self.ground, 1, pause=(0.0, 0.0), leaving=0.0).start().wait()
        self.assertEqual((meter.connections, meter.lost), (2, 0))
        self.assertGreater(meter.octets[1], 2 * sum(map(len, MAILS)))
