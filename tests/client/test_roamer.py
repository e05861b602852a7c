"""
What a roamer does when links die, lie, and come late; on a clock, with wires that the test cuts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.client import ContinuityLost, Path, Roamer
from mem_continuity.client.link import LinkFailed
from mem_continuity.client.roaming import Phase
from mem_continuity.core.frames import FrameType, encode
from tests.client.handset import Client, Gate, Handset


class ComingBackTests(SynchronousTestCase):
    """
    The link is lost.
    """

    def test_by_the_best_path_that_works(self) -> None:
        handset = Handset()
        roamer = handset.begin()
        handset.gates["wlan"].mode = "shut"
        handset.wire("wlan").cut()
        handset.site.settle()
        self.assertEqual((roamer.phase, roamer.path, roamer.handovers), (Phase.LIVE, "xg", 1))
        handset.now(handset.client.noop())

    def test_a_black_hole_delays_by_its_head_start(self) -> None:
        handset = Handset(path_stagger=0.25)
        roamer = handset.begin()
        handset.gates["wlan"].mode = "black"
        handset.wire("wlan").cut()
        handset.site.settle()
        handset.sleep(0.2)
        self.assertIs(roamer.phase, Phase.AWAY)
        handset.sleep(0.1)
        self.assertEqual(roamer.path, "xg")
        self.assertEqual(handset.gates["wlan"].cancelled, 1)

    def test_what_fell_silent_is_tried_last(self) -> None:
        handset = Handset()
        roamer = handset.begin()
        roamer.link_is_dead()
        handset.site.settle()
        self.assertEqual((roamer.path, len(handset.gates["wlan"].tries)), ("xg", 1))

    def test_pauses_grow_and_a_hint_ends_them(self) -> None:
        handset = Handset(backoff_first=1.0, backoff_factor=2.0, backoff_most=4.0)
        roamer = handset.begin()
        for gate in handset.gates.values():
            gate.mode = "shut"
        began = handset.site.clock.seconds()
        handset.wire("wlan").cut()
        handset.site.settle()
        handset.sleep(12.0)
        tries = [at - began for at in handset.gates["wlan"].tries[1:]]
        for at, wanted in zip(tries, [0.0, 1.0, 3.0, 7.0, 11.0], strict=True):
            self.assertLess(abs(at - wanted), 0.3)
        handset.gates["xg"].mode = "open"
        roamer.network_changed()
        handset.site.settle()
        self.assertEqual(roamer.path, "xg")

    def test_a_hint_brings_a_path_back_into_a_race_that_hangs(self) -> None:
        handset = Handset()
        roamer = handset.begin()
        handset.gates["wlan"].mode, handset.gates["xg"].mode = "black", "shut"
        handset.wire("wlan").cut()
        handset.site.settle()
        handset.sleep(1.0)
        handset.gates["xg"].mode = "open"
        handset.sleep(1.0)
        self.assertIs(roamer.phase, Phase.AWAY)
        roamer.network_changed()
        handset.site.settle()
        self.assertEqual(roamer.path, "xg")

    def test_links_that_are_good_for_nothing_are_not_made_in_a_hurry(self) -> None:
        handset = Handset(backoff_first=1.0)
        roamer = handset.begin()
        for _ in range(4):
            for gate in handset.gates.values():
                if gate.wires and not gate.wires[-1].lost:
                    gate.wires[-1].cut()
            handset.site.settle()
        self.assertLessEqual(roamer.handovers, 2)
        handset.sleep(10.0)
        self.assertIs(roamer.phase, Phase.LIVE)

    def test_nobody_can_be_reached_for_too_long(self) -> None:
        handset = Handset(give_up=60.0)
        roamer = handset.begin()
        for gate in handset.gates.values():
            gate.mode = "black"
        handset.wire("wlan").cut()
        handset.site.settle()
        handset.sleep(59.0, 0.5)
        self.assertEqual(handset.client.losses, [])
        handset.sleep(2.0, 0.5)
        (why,) = handset.client.losses
        self.assertIsInstance(why, ContinuityLost)
        self.assertEqual((why.why, why.received), ("UNREACHABLE", None))
        self.assertIs(roamer.phase, Phase.ENDED)
        tries = len(handset.gates["wlan"].tries)
        self.assertEqual(handset.gates["wlan"].cancelled, tries - 1)
        handset.sleep(60.0, 0.5)
        self.assertEqual(len(handset.gates["wlan"].tries), tries)

    def test_the_session_is_gone(self) -> None:
        handset = Handset()
        roamer = handset.begin()
        site = handset.site
        site.factory.table.all()[0].end(b"ADMIN")
        site.factory.table._tombstones.clear()
        handset.wire("wlan").cut()
        site.settle()
        (why,) = handset.client.losses
        self.assertIs(roamer.phase, Phase.ENDED)
        self.assertIsInstance(why, ContinuityLost)
        self.assertEqual(handset.site.factory.table.parked, 0)


class MovedTests(SynchronousTestCase):
    """
    Who has displaced whom.
    """

    def test_by_somebody_else(self) -> None:
        handset = Handset()
        roamer = handset.begin()
        handset.wire("wlan").server_wrote(encode(FrameType.MOVED))
        handset.site.settle()
        (why,) = handset.client.losses
        self.assertEqual(why.why, "MOVED")
        self.assertIs(roamer.phase, Phase.ENDED)
        self.assertEqual(handset.gates["xg"].tries, [])

    def test_by_ourselves_when_the_answer_was_lost(self) -> None:
        handset = Handset()
        roamer = handset.begin()
        switching = roamer.switch("xg")
        handset.wire("xg").cut_after = (1, 1)
        switching.addErrback(lambda why: why.trap(LinkFailed))
        handset.sleep(2.0)
        self.assertEqual(handset.client.losses, [])
        self.assertIs(roamer.phase, Phase.LIVE)
        handset.now(handset.client.noop())
        self.assertEqual(len(handset.site.factory.table), 1)


class SwitchTests(SynchronousTestCase):
    """
    Planned moves.
    """

    def test_there_and_back(self) -> None:
        handset = Handset()
        roamer = handset.begin()
        for path in ("xg", "wlan"):
            handset.now(roamer.switch(path))
            self.assertEqual(roamer.path, path)
        self.assertTrue(handset.gates["wlan"].wires[0].lost)
        self.assertNotIn("away", [word for word, _ in handset.told])

    def test_a_refusal_leaves_the_present_link(self) -> None:
        handset = Handset()
        roamer = handset.begin()
        assert roamer.conduit is not None
        session = roamer.conduit.session
        session.terms = replace(session.terms, key=bytes(32))
        self.failureResultOf(self.settled(handset, roamer.switch("xg")), LinkFailed)
        self.assertEqual((roamer.phase, roamer.path), (Phase.LIVE, "wlan"))
        handset.now(handset.client.noop())

    def test_a_link_without_tls_gets_no_session_that_was_begun_under_it(self) -> None:
        """
        Not even a RESUME is said on it, whether or not the session is bound to its TLS connection.
        """
        handset = Handset()
        roamer = handset.begin()
        handset.gates["xg"].strip_tls()
        self.failureResultOf(self.settled(handset, roamer.switch("xg")), LinkFailed)
        self.assertEqual((roamer.phase, roamer.path), (Phase.LIVE, "wlan"))
        self.assertEqual(roamer.conduit.session.attempt if roamer.conduit else None, 0)
        handset.now(handset.client.noop())

    def test_the_present_link_is_lost_before_the_new_one_stands(self) -> None:
        handset = Handset()
        roamer = handset.begin()
        handset.gates["xg"].mode = "black"
        switching = roamer.switch("xg")
        self.failureResultOf(roamer.switch("xg"), LinkFailed)
        handset.wire("wlan").cut()
        handset.site.settle()
        self.assertEqual((roamer.phase, roamer.path), (Phase.LIVE, "wlan"))
        switching.cancel()
        self.failureResultOf(switching, CancelledError)
        self.assertEqual(handset.gates["xg"].cancelled, 1)

    def test_the_session_ends_meanwhile(self) -> None:
        handset = Handset()
        roamer = handset.begin()
        handset.gates["xg"].mode = "black"
        switching = roamer.switch("xg")
        handset.now(handset.client.logout())
        handset.site.settle()
        self.failureResultOf(switching, CancelledError)
        self.assertEqual(handset.gates["xg"].cancelled, 1)
        self.assertIs(roamer.phase, Phase.ENDED)

    def settled(self, handset: Handset, waiting: Deferred[None]) -> Deferred[None]:
        handset.site.settle()
        return waiting


class HintTests(SynchronousTestCase):
    """
    The networks change while a link is sought, or asked.
    """

    def asked_in_vain(self, **policy: Any) -> tuple[Handset, Roamer, Path]:
        """
        The link is lost, and RESUME was sent by the only other path, where nothing answers.

        @return: and the first path, which is not there any more.
        """
        handset = Handset(**policy)
        roamer = handset.begin()
        wlan = handset.endpoint.paths.pop(0)
        handset.gates["xg"].silent_from_now()
        handset.wire("wlan").cut()
        handset.sleep(0.5)
        return handset, roamer, wlan

    def test_another_network_comes_while_the_old_one_is_in_doubt(self) -> None:
        """
        The only path has fallen silent, and the connection that was begun by it hangs: it is not waited for.
        """
        handset = Handset()
        xg = handset.endpoint.paths.pop()
        roamer = handset.begin()
        handset.wire("wlan").silence()
        handset.gates["wlan"].mode = "black"
        answers: list[object] = []
        handset.client.noop().addBoth(answers.append)
        handset.sleep(1.0)
        self.assertEqual((roamer.phase, len(handset.gates["wlan"].tries)), (Phase.LIVE, 2))
        handset.endpoint.paths.append(xg)
        roamer.network_changed()
        handset.site.settle()
        self.assertEqual((roamer.path, len(answers), handset.gates["wlan"].cancelled), ("xg", 1, 1))

    def test_hints_that_tell_nothing_new_end_nothing(self) -> None:
        """
        Another link is sought by all networks that there are, but for the one in doubt; it is not begun anew at each word.
        """
        handset = Handset()
        roamer = handset.begin()
        handset.wire("wlan").silence()
        handset.gates["xg"].mode = "black"
        handset.client.noop().addBoth(lambda _: None)
        handset.sleep(1.0)
        for _ in range(5):
            roamer.network_changed()
            handset.sleep(0.1)
        self.assertEqual((roamer.phase, len(handset.gates["xg"].tries), handset.gates["xg"].cancelled), (Phase.LIVE, 1, 0))
        xg = handset.endpoint.paths.pop()
        handset.endpoint.paths.append(Path("third", Gate(handset.site)))
        roamer.network_changed()
        handset.site.settle()
        self.assertEqual((roamer.path, handset.gates[xg.name].cancelled), ("third", 1))

    def test_a_network_that_is_tried_goes(self) -> None:
        """
        And the one in doubt is the only one that is left.
        """
        handset = Handset()
        roamer = handset.begin()
        handset.wire("wlan").silence()
        handset.gates["xg"].mode = "black"
        handset.client.noop().addBoth(lambda _: None)
        handset.sleep(1.0)
        del handset.endpoint.paths[1]
        roamer.network_changed()
        handset.site.settle()
        self.assertEqual((roamer.phase, roamer.path, handset.gates["xg"].cancelled), (Phase.LIVE, "wlan", 1))
        self.assertEqual(roamer.handovers, 1)

    def test_one_other_is_sought_at_a_time_while_a_link_is_asked(self) -> None:
        """
        However many have a reason for it; and when the session is over, none.
        """
        handset, roamer, wlan = self.asked_in_vain(answer_doubt=2.0)
        handset.gates["wlan"].mode = handset.gates["xg"].mode = "black"
        handset.endpoint.paths.append(wlan)
        roamer.network_changed()
        handset.sleep(2.0)
        self.assertEqual([len(gate.tries) for gate in handset.gates.values()], [2, 2])
        assert roamer.conduit is not None
        roamer.conduit.end(b"ABORTED")
        self.assertEqual([gate.cancelled for gate in handset.gates.values()], [1, 1])

    def test_one_is_sought_anew_after_another_failed_at_once(self) -> None:
        handset, roamer, wlan = self.asked_in_vain(answer_doubt=2.0)
        handset.gates["wlan"].mode = handset.gates["xg"].mode = "shut"
        handset.endpoint.paths.append(wlan)
        roamer.network_changed()
        handset.sleep(0.1)
        self.assertIs(roamer.phase, Phase.AWAY)
        handset.gates["wlan"].mode = "open"
        roamer.network_changed()
        handset.site.settle()
        self.assertEqual((roamer.phase, roamer.path), (Phase.LIVE, "wlan"))

    def test_a_network_is_lost_while_a_link_on_it_is_asked(self) -> None:
        handset, roamer, wlan = self.asked_in_vain()
        self.assertIs(roamer.phase, Phase.AWAY)
        handset.endpoint.paths[:] = [wlan]
        roamer.network_changed()
        handset.sleep(0.5)
        self.assertEqual((roamer.phase, roamer.path), (Phase.LIVE, "wlan"))

    def test_another_network_comes_while_a_link_is_asked(self) -> None:
        handset, roamer, wlan = self.asked_in_vain()
        handset.endpoint.paths.append(wlan)
        roamer.network_changed()
        handset.sleep(0.5)
        self.assertEqual((roamer.phase, roamer.path), (Phase.LIVE, "wlan"))

    def test_nobody_tells_while_a_link_is_asked(self) -> None:
        handset = Handset(answer_doubt=2.0)
        roamer = handset.begin()
        handset.gates["wlan"].silent_from_now()
        handset.wire("wlan").cut()
        handset.sleep(1.9)
        self.assertIs(roamer.phase, Phase.AWAY)
        handset.sleep(0.5)
        self.assertEqual((roamer.phase, roamer.path), (Phase.LIVE, "xg"))


class ReserveTests(SynchronousTestCase):
    """
    A link stands ready.
    """

    def test_it_is_used_and_made_anew(self) -> None:
        handset = Handset(prepare=True, prepared_refresh=45.0)
        roamer = handset.begin()
        handset.site.settle()
        self.assertEqual(roamer.prepared, "xg")
        handset.sleep(46.0, 0.5)
        self.assertEqual(len(handset.gates["xg"].wires), 2)
        self.assertTrue(handset.gates["xg"].wires[0].lost)
        roamer.link_is_dead()
        handset.site.settle()
        self.assertEqual((roamer.path, len(handset.gates["xg"].wires)), ("xg", 2))
        self.assertEqual(roamer.prepared, "wlan")

    def test_it_died_unnoticed(self) -> None:
        handset = Handset(prepare=True, path_stagger=0.25)
        roamer = handset.begin()
        handset.site.settle()
        handset.wire("xg").silence()
        handset.wire("wlan").cut()
        handset.site.settle()
        handset.sleep(0.3)
        self.assertEqual((roamer.phase, roamer.path), (Phase.LIVE, "wlan"))
        handset.now(handset.client.noop())

    def test_nothing_is_left_of_it(self) -> None:
        handset = Handset(prepare=True)
        handset.begin()
        handset.site.settle()
        handset.now(handset.client.logout())
        handset.site.settle()
        self.assertTrue(handset.wire("xg").lost)


class WatchTests(SynchronousTestCase):
    """
    How often a link is asked whether it lives.
    """

    def pings(self, handset: Handset) -> int:
        ping = encode(FrameType.PING, bytes(8))[:4]
        return sum(event.octets.count(ping) for event in handset.site.trace if event.who == "C")

    def test_once_after_traffic(self) -> None:
        handset = Handset(probe_quiet=1.0, probe_idle=240.0)
        handset.begin()
        handset.sleep(3.0)
        before = self.pings(handset)
        handset.now(handset.client.noop())
        handset.sleep(0.9)
        self.assertEqual(self.pings(handset), before)
        handset.sleep(100.0, 0.5)
        self.assertEqual(self.pings(handset), before + 1)
        handset.sleep(200.0, 0.5)
        self.assertEqual(self.pings(handset), before + 2)

    def test_not_while_octets_come(self) -> None:
        handset = Handset(probe_quiet=1.0)
        handset.begin()
        handset.sleep(3.0)
        before = self.pings(handset)
        for _ in range(10):
            handset.now(handset.client.noop())
            handset.sleep(0.5)
        self.assertEqual(self.pings(handset), before)

    def test_a_doubt_seeks_another_link_and_keeps_this_one(self) -> None:
        handset = Handset()
        roamer = handset.begin()
        handset.sleep(2.0)
        handset.gates["xg"].mode = "shut"
        handset.wire("wlan").silence()
        asked = handset.client.noop()
        handset.sleep(2.0)
        self.assertEqual((roamer.phase, roamer.path), (Phase.LIVE, "wlan"))
        self.assertIn("doubt", [word for word, _ in handset.told])
        handset.sleep(2.0)
        self.assertEqual((roamer.phase, roamer.handovers), (Phase.LIVE, 1), "what gives no answer at all is dead")
        self.assertNotIn("ended", [word for word, _ in handset.told])
        handset.now(asked)


class OpeningTests(SynchronousTestCase):
    """
    Before there is a session.
    """

    def test_a_server_without_continuity(self) -> None:
        handset = Handset()
        # In the clear the server does not announce it.
        handset.gates["wlan"].strip_tls()
        roamer = handset.begin()
        self.assertEqual((roamer.phase, roamer.path), (Phase.PLAIN, "wlan"))
        handset.now(handset.client.noop())
        self.failureResultOf(roamer.switch("xg"), LinkFailed)
        handset.wire("wlan").cut()
        handset.site.settle()
        self.assertEqual((roamer.phase, roamer.path, len(handset.client.losses)), (Phase.ENDED, None, 1))
        self.assertEqual(handset.gates["xg"].tries, [])

    def test_connecting_is_cancelled(self) -> None:
        handset = Handset()
        for gate in handset.gates.values():
            gate.mode = "black"
        connecting = handset.endpoint.connect(Factory.forProtocol(Client))
        handset.sleep(1.0)
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        self.assertEqual([gate.cancelled for gate in handset.gates.values()], [1, 1])
        self.assertEqual(handset.site.clock.getDelayedCalls(), [])

    def test_no_path_works(self) -> None:
        handset = Handset(connect_timeout=5.0)
        handset.gates["wlan"].mode, handset.gates["xg"].mode = "shut", "black"
        connecting = handset.endpoint.connect(Factory.forProtocol(Client))
        handset.sleep(6.0)
        self.assertIn("no link by xg within 5.0 seconds", self.failureResultOf(connecting).getErrorMessage())

    def test_what_was_written_before_closing_is_still_said(self) -> None:
        handset = Handset()
        self.assertIsNotNone(handset.now(handset.endpoint.connect(Factory.forProtocol(lambda: handset.client))))

        def close(_: object) -> None:
            handset.client.sendLine(b"x1 CREATE last")
            handset.client.transport.loseConnection()  # type: ignore[union-attr]

        handset.client.login(b"joe", b"secret").addCallback(close)
        handset.sleep(2.0)
        self.assertIn(b"x1 CREATE last", handset.site.servers[0].heard)
        self.assertIsInstance(handset.client.losses[0], ConnectionDone)
        self.assertEqual(len(handset.site.factory.table), 0)
