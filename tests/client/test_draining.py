"""
A planned move while the old link still brings something: on a clock, with wires that are slow, fall silent, and break.
"""

from __future__ import annotations

from math import inf
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.client.link import LinkFailed
from mem_continuity.client.roamer import Phase, Roamer
from mem_continuity.core.frames import FrameType, encode
from mem_continuity.core.resumption import ResumeFailed
from mem_continuity.core.session import Session
from tests.client.handset import Handset


class DrainingTests(SynchronousTestCase):
    """
    From the first to the second network, with an answer under way on the first.
    """

    def begin(self, slow: float = 0.3, **policy: Any) -> tuple[Handset, Roamer]:
        """
        An answer has been written to the old link and takes its time.
        """
        handset = Handset(**policy)
        roamer = handset.begin()
        handset.wire("wlan").slow = slow
        self.answers: list[object] = []
        self.ask(handset)
        handset.site.settle()
        self.assertEqual(self.answers, [])
        return handset, roamer

    def ask(self, handset: Handset) -> None:
        handset.client.noop().addBoth(self.answers.append)

    def served(self, handset: Handset) -> Session:
        (served,) = handset.site.factory.table.all()
        assert served.conduit is not None
        return served.conduit.session

    def test_the_old_link_is_read_to_its_end(self) -> None:
        handset, roamer = self.begin()
        switching = roamer.switch("xg")
        handset.site.settle()
        self.successResultOf(switching)
        self.assertEqual((roamer.phase, roamer.path, len(self.answers)), (Phase.LIVE, "xg", 0))
        self.assertFalse(handset.wire("wlan").lost)
        handset.sleep(0.35)
        self.assertEqual((roamer.path, len(self.answers)), ("xg", 1))
        for session in (self.served(handset), roamer.conduit.session if roamer.conduit else None):
            assert session is not None
            self.assertEqual(session.sender.taken, session.sender.end, "nothing was sent again")
        self.assertNotIn("away", [word for word, _ in handset.told])
        self.assertTrue(handset.wire("wlan").lost)

    def test_what_is_written_meanwhile_goes_by_the_new_link(self) -> None:
        """
        It is answered there, and that answer waits for what comes by the old one.
        """
        handset, roamer = self.begin()
        roamer.switch("xg")
        handset.site.settle()
        before = handset.wire("wlan").carried[0]
        self.ask(handset)
        handset.site.settle()
        self.assertEqual(handset.wire("wlan").carried[0], before)
        self.assertEqual(self.answers, [])
        handset.sleep(0.35)
        self.assertEqual(len(self.answers), 2)
        self.assertEqual(self.served(handset).receiver.skipped, 0)

    def test_what_is_written_before_the_answer_goes_by_the_old_link(self) -> None:
        """
        And counts there, until the client has said MOVED.
        """
        handset = Handset()
        roamer = handset.begin()
        self.answers = []
        wire = handset.wire("wlan")
        roamer.switch("xg")
        before = wire.carried[0]
        self.ask(handset)
        handset.site.settle()
        self.assertGreater(wire.carried[0], before + len(encode(FrameType.MOVED)))
        self.assertEqual((roamer.path, len(self.answers)), ("xg", 1))
        self.assertEqual(self.served(handset).receiver.skipped, 0)

    def test_an_old_link_that_brings_nothing_is_given_up(self) -> None:
        """
        And the new one with it: the next brings what is missing.
        """
        handset, roamer = self.begin(slow=inf, drain_quiet=0.5)
        roamer.switch("xg")
        handset.sleep(0.4)
        self.assertEqual((roamer.phase, len(self.answers)), (Phase.LIVE, 0))
        handset.sleep(0.2)
        self.assertEqual((roamer.phase, len(self.answers), roamer.handovers), (Phase.LIVE, 1, 2))
        self.assertEqual(handset.client.losses, [])

    def test_the_network_of_an_old_link_that_failed_is_tried_last(self) -> None:
        """
        The new link was given up with it, and has done nothing wrong.
        """
        handset, roamer = self.begin(slow=inf, drain_quiet=0.5)
        roamer.switch("xg")
        handset.gates["wlan"].mode = "black"
        handset.sleep(0.6)
        self.assertEqual((roamer.phase, roamer.path, len(self.answers)), (Phase.LIVE, "xg", 1))
        self.assertEqual(len(handset.gates["wlan"].tries), 1)

    def test_the_network_of_a_new_link_that_failed_is_tried_as_ever(self) -> None:
        handset, roamer = self.begin()
        roamer.switch("xg")
        handset.site.settle()
        handset.gates["xg"].mode = "black"
        handset.wire("xg").cut()
        handset.site.settle()
        self.assertEqual((roamer.phase, roamer.path, len(self.answers)), (Phase.LIVE, "wlan", 1))
        self.assertEqual(len(handset.gates["xg"].tries), 1)

    def test_an_old_link_that_is_slow_without_end_is_given_up(self) -> None:
        """
        Octet by octet, so that it never is quiet.
        """
        handset, roamer = self.begin(slow=inf, drain=2.0, drain_quiet=0.5)
        old = roamer.link
        assert old is not None
        roamer.switch("xg")
        handset.site.settle()
        ping = encode(FrameType.PING, bytes(8))
        for number in range(19):
            handset.sleep(0.1)
            old.dataReceived(ping[number % len(ping) :][:1])
        self.assertEqual(len(self.answers), 0)
        handset.sleep(0.3)
        self.assertEqual((roamer.phase, len(self.answers), roamer.handovers), (Phase.LIVE, 1, 2))

    def test_the_old_link_breaks(self) -> None:
        handset, roamer = self.begin(slow=inf)
        roamer.switch("xg")
        handset.site.settle()
        handset.wire("wlan").client_lost()
        handset.site.settle()
        self.assertEqual((roamer.phase, len(self.answers), roamer.handovers), (Phase.LIVE, 1, 2))
        self.assertEqual(handset.client.losses, [])

    def test_the_old_link_breaks_at_the_server(self) -> None:
        """
        In front of what the client has put on it: the server lets the new one go, too, and what is missing comes again.
        """
        handset = Handset()
        roamer = handset.begin()
        self.answers = []
        wire = handset.wire("wlan")
        roamer.switch("xg").addErrback(lambda why: why.trap(ResumeFailed))
        wire.cut_after = (0, wire.carried[0] + 5)
        self.ask(handset)
        handset.site.settle()
        handset.sleep(1.0)
        self.assertEqual((roamer.phase, len(self.answers)), (Phase.LIVE, 1))
        self.assertEqual(handset.client.losses, [])
        self.assertEqual(len(handset.site.factory.table), 1)

    def test_the_new_link_breaks(self) -> None:
        handset, roamer = self.begin()
        roamer.switch("xg")
        handset.site.settle()
        handset.wire("xg").cut()
        handset.sleep(0.5)
        self.assertEqual((roamer.phase, len(self.answers)), (Phase.LIVE, 1))
        self.assertEqual(handset.client.losses, [])
        self.assertTrue(handset.gates["wlan"].wires[0].lost)

    def test_the_answer_is_lost(self) -> None:
        """
        MOVED has come by the old link meanwhile; it was ourselves who asked for that.
        """
        handset = Handset()
        roamer = handset.begin()
        switching = roamer.switch("xg")
        handset.wire("xg").cut_after = (1, 1)
        switching.addErrback(lambda why: why.trap(LinkFailed))
        handset.sleep(2.0)
        self.assertEqual((roamer.phase, handset.client.losses), (Phase.LIVE, []))
        handset.now(handset.client.noop())

    def test_one_at_a_time(self) -> None:
        handset, roamer = self.begin()
        roamer.switch("xg")
        handset.site.settle()
        self.failureResultOf(roamer.switch("wlan"), LinkFailed)
        handset.sleep(0.35)
        handset.now(roamer.switch("wlan"))
        self.assertEqual(roamer.path, "wlan")

    def test_the_session_ends_on_the_old_link(self) -> None:
        """
        LOGOUT was said before: its answer and the end come by the old link.
        """
        handset = Handset()
        roamer = handset.begin()
        handset.wire("wlan").slow = 0.3
        handset.client.logout().addBoth(lambda _: None)
        handset.site.settle()
        roamer.switch("xg").addErrback(lambda _: None)
        handset.sleep(0.35)
        self.assertIs(roamer.phase, Phase.ENDED)
        handset.sleep(0.1)
        self.assertTrue(handset.wire("xg").lost)
        self.assertTrue(handset.wire("wlan").lost)

    def test_an_old_link_in_silence_is_not_waited_for(self) -> None:
        """
        Nothing was heard of it lately, and it has not answered when the new one stands.
        """
        handset = Handset()
        roamer = handset.begin()
        handset.sleep(30.0, 1.0)
        handset.wire("wlan").slow = inf
        self.answers = []
        self.ask(handset)
        handset.sleep(0.25, 0.25)
        switching = roamer.switch("xg")
        handset.site.settle()
        self.successResultOf(switching)
        self.assertEqual((roamer.path, len(self.answers)), ("xg", 1))

    def test_the_server_does_not_close_what_is_still_read(self) -> None:
        """
        And not before its time has come either, if the client forgets it.
        """
        handset, roamer = self.begin(slow=inf, drain=10.0, drain_quiet=10.0, probe_timeout=60.0)
        roamer.switch("xg").addErrback(lambda _: None)
        handset.sleep(4.9)
        wire = handset.wire("wlan")
        self.assertEqual(wire.ended, "")
        handset.sleep(0.2)
        self.assertEqual(wire.ended, "aborted")
