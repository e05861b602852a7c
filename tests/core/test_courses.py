"""
Courses of events between two sides that are worth a name, most of them with a number in the list of scenarios.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.frames import FrameType, encode
from mem_continuity.core.handshake import Refusal, Refused
from mem_continuity.core.states import Answered, State
from tests.core.network import FRAMING_FAULTS, Link
from tests.core.two_sides import EVERYTHING, World


def cut_at(run: Callable[[World], None], place: int) -> tuple[World, bool]:
    """
    A run whose first link dies when so many octets have come through, both directions counted together.

    @return: what became of it, and whether the run was long enough to be cut.
    """
    world = World(base=2**32 - 30)
    first = world.links[0]
    left = place
    original = world.move

    def counting(link: Link, to: str, most: int = EVERYTHING) -> int:
        nonlocal left
        if link is not first or first.dead:
            return original(link, to, most)
        taken = original(link, to, min(most, left)) if left else 0
        left -= taken
        if not left:
            first.die()
            for side in world.sides.values():
                world.notice(side)
        return taken

    world.move = counting  # type: ignore[method-assign]
    run(world)
    world.settle()
    return world, first.dead


def dialogue(world: World) -> None:
    """
    Commands and answers, some on their way at once.
    """
    for question, answer in ((12, 30), (7, 90), (60, 1), (1, 45)):
        world.write(world.client, question)
        world.flow()
        world.write(world.server, answer)
        world.write(world.client, 5)
        world.flow()


class CourseTests(SynchronousTestCase):
    def assert_exact(self, world: World) -> None:
        self.assertTrue(world.done)
        for side in world.sides.values():
            self.assertEqual(side.got, world.other(side).wrote)
            self.assertEqual(side.session.sender.retained, 0)

    def test_scenario_02_the_higher_of_two_tries_wins_in_any_order(self) -> None:
        world = World()
        world.links[0].die()
        world.notice(world.client)
        world.write(world.client, 100)
        fifth = world.attempt()
        sixth = world.attempt()
        world.move(sixth, "server")
        world.move(fifth, "server")
        self.assertEqual(world.refusals, [Refused(Refusal.STALE)])
        self.assertIs(world.server.link, sixth)
        world.move(fifth, "client")
        world.move(sixth, "client")
        self.assertIs(world.client.link, sixth)
        world.settle()
        self.assertEqual(world.grants, 1)
        self.assert_exact(world)

    def test_scenario_03_of_two_tries_in_one_turn_one_wins(self) -> None:
        for turn in range(200):
            world = World()
            world.write(world.client, 50)
            world.drop(world.client)
            links = [world.attempt(), world.attempt()]
            for link in links if turn % 2 else links[::-1]:
                world.move(link, "server")
            self.assertIs(world.server.link, links[1])
            self.assertEqual(len(world.refusals), 1 - turn % 2)
            world.settle()
            self.assert_exact(world)

    def test_scenario_04_late_octets_of_the_old_link_count_nowhere(self) -> None:
        world = World()
        world.write(world.client, 500)
        world.pump(world.client)
        old = world.links[0]
        world.drop(world.client)
        link = world.attempt()
        world.move(link, "server")
        arrived = world.server.session.receiver.arrived
        self.assertEqual(world.move(old, "server"), 0)
        self.assertEqual(world.server.session.receiver.arrived, arrived)
        world.settle()
        self.assert_exact(world)

    def test_scenario_05_octets_unread_on_the_old_link_are_sent_again(self) -> None:
        world = World()
        world.write(world.client, 3000)
        world.pump(world.client)
        world.move(world.links[0], "server", 1000)
        world.drop(world.client)
        link = world.attempt()
        self.assertEqual(link.attempt and link.attempt.request.literal, b"")  # too much to send unasked
        world.move(link, "server")
        world.move(link, "client")
        self.assertEqual(world.client.session.sender.acknowledged, world.server.session.receiver.arrived)
        self.assertLess(world.server.session.receiver.arrived, 1001)
        world.settle()
        self.assert_exact(world)

    def test_scenario_07_links_that_come_and_go(self) -> None:
        world = World()
        for turn in range(50):
            world.write(world.server, 700)
            world.write(world.client, 90)
            world.advance(0.2)
            world.pump(world.server, 1)
            world.pump(world.client, 1)
            link = world.client.link
            if link is not None:
                world.move(link, "server", 37 * turn)
                world.move(link, "client", 411)
            world.deliver(world.client, 1)
            link = world.attempt()  # planned: the old one still stands
            world.move(link, "server")
            world.move(link, "client")
            world.check()
        self.assertEqual(world.grants, 50)
        world.settle()
        self.assert_exact(world)

    def test_an_old_link_that_works_is_read_to_its_end(self) -> None:
        """
        Nothing is sent again in either direction, whatever comes first: the answer, what the old link still brings, or a part.
        """
        for size in (0, 1, 3000):
            for first in (0, 500, 1700, EVERYTHING):
                with self.subTest(size=size, first=first):
                    world = World()
                    old = world.links[0]
                    for side in world.sides.values():
                        world.write(side, size)
                        world.pump(side)
                    link = world.attempt(drain=True)
                    world.write(world.client, 50)
                    world.pump(world.client)  # by the old link
                    world.move(link, "server")
                    self.assertIs(world.server.link, link)
                    for side in world.sides.values():
                        world.write(side, 2000)
                        world.pump(side)
                    world.move(old, "client", first)
                    world.move(link, "client")
                    self.assertIs(world.client.link, link)
                    world.write(world.client, 50)
                    world.pump(world.client)  # by the new one
                    world.move(link, "server")
                    world.move(old, "server", first)
                    world.move(old, "client")
                    world.move(old, "server")
                    self.assertEqual((world.client.former, world.server.former), (None, None))
                    world.settle()
                    self.assert_exact(world)
                    self.assertEqual((world.grants, world.drains, world.lost_tries), (1, 1, 0))
                    for side in world.sides.values():
                        self.assertEqual(side.session.sender.taken, side.wrote)

    def test_one_move_after_the_other(self) -> None:
        """
        Each names the link that it leaves, so each old link is read to its end.
        """
        world = World()
        for turn in range(1, 5):
            for side in world.sides.values():
                world.write(side, 300)
                world.pump(side)
            link = world.attempt(drain=True)
            world.move(link, "server")
            world.move(link, "client")
            world.flow()
            world.flow()
            self.assertEqual((world.client.link, world.drains, world.client.former), (link, turn, None))
        world.settle()
        self.assert_exact(world)
        self.assertEqual(world.grants, 4)

    def test_a_move_does_not_stand_still(self) -> None:
        """
        A command that is written while another link is asked for is answered by the time of one round trip.
        """
        world = World()
        old = world.links[0]
        link = world.attempt(drain=True)
        world.write(world.client, 10)
        world.pump(world.client)
        world.move(link, "server")
        world.move(old, "server", 14)
        world.deliver(world.server)
        self.assertEqual(world.server.got, 10)
        world.write(world.server, 20)
        world.pump(world.server)
        world.move(old, "client")
        world.move(link, "client")
        world.deliver(world.client)
        self.assertEqual((world.client.got, world.drains), (20, 1))
        world.settle()
        self.assert_exact(world)

    def test_acknowledgements_are_faster_than_the_request(self) -> None:
        """
        They say more than the count that it names.
        """
        world = World()
        world.write(world.server, 900)
        world.pump(world.server)
        link = world.attempt(drain=True)
        world.move(world.links[0], "client")
        world.deliver(world.client)
        world.advance(1.0)
        world.pump(world.client)
        world.move(world.links[0], "server")
        self.assertEqual(world.server.session.sender.acknowledged, 900)
        world.move(link, "server")
        world.move(link, "client")
        self.assertEqual((world.client.link, world.drains), (link, 1))
        world.settle()
        self.assert_exact(world)

    def test_acknowledgements_open_the_window_before_the_request_comes(self) -> None:
        """
        The server goes on with the old link a window beyond them, which is more than a window beyond what was asked for.
        """
        world = World()
        old, window = world.links[0], 4096
        world.write(world.server, 3 * window)
        world.pump(world.server)
        link = world.attempt(drain=True)
        for _ in range(2):
            world.move(old, "client")
            world.deliver(world.client)
            world.pump(world.client)
            world.move(old, "server")
            world.pump(world.server)
        self.assertEqual(world.server.session.sender.sent, 3 * window)
        world.move(link, "server")
        world.move(link, "client")
        self.assertEqual((world.client.link, world.drains, world.lost_tries), (link, 1, 0))
        world.settle()
        self.assert_exact(world)
        self.assertEqual(world.server.session.sender.taken, 3 * window)

    def test_an_old_link_that_dies_while_it_is_read(self) -> None:
        """
        The new one is of no use then, for octets are missing before it; the next brings them.
        """
        for place in range(0, 900, 100):
            for name in ("client", "server"):
                world = World()
                old = world.links[0]
                side = world.sides[name]
                world.write(world.other(side), 900)
                world.pump(world.other(side))
                link = world.attempt(drain=True)
                world.move(link, "server")
                world.move(link, "client")
                for one in world.sides.values():
                    world.write(one, 900)
                    world.pump(one)
                world.move(link, "server")
                world.move(link, "client")
                world.move(old, name, place)
                old.die()
                world.notice(side)
                self.assertEqual((side.link, world.drains), (None, 1))
                world.settle()
                self.assert_exact(world)
                self.assertEqual(world.grants, 2)

    def test_the_end_of_the_old_link_is_faster_than_the_answer(self) -> None:
        world = World()
        old = world.links[0]
        world.write(world.server, 900)
        world.pump(world.server)
        link = world.attempt(drain=True)
        world.move(link, "server")
        world.move(old, "client")
        self.assertTrue(world.moved_early)
        world.write(world.client, 30)
        world.pump(world.client)
        world.move(link, "client")
        self.assertEqual((world.client.link, world.client.former), (link, None))
        world.settle()
        self.assert_exact(world)
        self.assertEqual((world.grants, world.drains), (1, 1))

    def test_the_answer_is_lost_when_the_old_link_has_ended(self) -> None:
        world = World()
        link = world.attempt(drain=True)
        world.move(link, "server")
        world.move(world.links[0], "client")
        link.die()
        world.notice(world.client)
        world.give_up()
        self.assertIsNone(world.client.link)
        world.settle()
        self.assert_exact(world)
        self.assertEqual(world.grants, 2)

    def test_an_old_link_that_is_dead_at_the_server_only(self) -> None:
        """
        Then nothing comes by it, and the new one goes on where the client is.
        """
        world = World()
        world.write(world.server, 900)
        world.pump(world.server)
        world.drop(world.server)
        link = world.attempt(drain=True)
        world.write(world.client, 90)
        world.pump(world.client)  # into the void
        world.links[0].pipes["client"].clear()
        world.move(link, "server")
        world.move(link, "client")
        self.assertEqual((world.client.link, world.drains), (link, 0))
        world.settle()
        self.assert_exact(world)

    def test_scenario_10_a_planned_switch_cut_at_every_octet(self) -> None:
        """
        The old link dies at each octet that it brings or takes, before, while and after another one is asked for.
        """

        def switched(world: World) -> None:
            world.write(world.server, 60)
            world.flow()
            world.write(world.server, 60)
            world.write(world.client, 20)
            world.pump(world.server)
            world.pump(world.client)
            link = world.attempt(drain=True)
            world.move(link, "server")
            for side in world.sides.values():
                world.write(side, 60)
                world.pump(side)
            world.move(link, "client")
            world.flow()
            world.flow()

        place, cut = 1, True
        while cut and place < 1000:
            world, cut = cut_at(switched, place)
            self.assert_exact(world)
            self.assertEqual((world.client.wrote, world.server.wrote), (80, 180))
            place += 1
        self.assertGreater(place, 200)
        self.assertEqual((world.grants, world.drains), (1, 1))

    def test_scenario_08_the_answer_to_a_resume_is_lost(self) -> None:
        for size in (0, 100, 5000):
            world = World()
            world.write(world.server, 3000)
            world.write(world.client, size)
            world.pump(world.server)
            world.move(world.links[0], "client", 900)
            world.links[0].die()
            world.notice(world.client)
            for _ in range(3):
                link = world.attempt()
                world.move(link, "server")
                world.pump(world.server)
                world.move(link, "client", 20)
                link.die()
                world.notice(world.client)
            self.assertEqual(world.grants, 3)
            world.settle()
            self.assertEqual((world.grants, world.refusals), (4, []))
            self.assert_exact(world)

    def test_scenario_09_a_resume_that_comes_octet_by_octet(self) -> None:
        world = World()
        world.links[0].die()
        world.notice(world.client)
        world.write(world.client, 300)
        link = world.attempt()
        while not world.grants:
            self.assertEqual(world.move(link, "server", 1), 1)
        while world.client.link is not link:
            self.assertEqual(world.move(link, "client", 1), 1)
        self.assertEqual(world.grants, 1)
        world.settle()
        self.assert_exact(world)

    def test_scenario_10_cut_at_every_octet(self) -> None:
        place = 1
        cut = True
        while cut:
            world, cut = cut_at(dialogue, place)
            self.assert_exact(world)
            self.assertEqual((world.client.wrote, world.server.wrote), (100, 166))
            self.assertEqual(world.grants, int(cut))
            place += 1
        self.assertGreater(place, 266)

    def test_scenario_11_cut_again_during_the_replay(self) -> None:
        world = World()
        world.write(world.server, 4000)
        world.write(world.client, 4000)
        world.pump(world.server)
        world.pump(world.client)
        for turn in range(40):
            world.links[-1].die()
            world.notice(world.client)
            link = world.attempt()
            world.move(link, "server")
            world.move(link, "client")
            world.pump(world.server)
            world.pump(world.client)
            world.move(link, "client", 53 * turn % 300)
            world.move(link, "server", 31 * turn % 300)
            world.check()
        world.settle()
        self.assert_exact(world)

    def test_scenario_12_cut_between_the_commit_and_the_first_data(self) -> None:
        for stage in range(3):
            world = World()
            world.write(world.server, 100)
            world.write(world.client, 2000)
            world.pump(world.client)
            world.links[0].die()
            world.notice(world.client)
            link = world.attempt()
            world.move(link, "server")
            if stage:
                world.move(link, "client")
            if stage == 2:
                world.pump(world.client)
                world.pump(world.server)
            link.die()
            world.notice(world.client)
            world.settle()
            self.assert_exact(world)

    def test_scenario_20_a_literal_goes_on_at_the_right_octet(self) -> None:
        world = World(window=65536)
        world.write(world.client, 50000)
        while world.client.session.sender.queued:
            world.pump(world.client, 3)
            world.move(world.client.link or world.links[-1], "server", 2999)
            world.deliver(world.server, 1)
            world.reconnect()
        world.settle()
        self.assert_exact(world)
        self.assertLessEqual(world.repeated, 1024 * world.grants)

    def test_scenario_23_a_long_fetch_stops_at_the_window_while_the_link_is_gone(self) -> None:
        world = World(window=262144)
        world.write(world.server, 1_500_000)
        world.pump(world.server)
        world.links[0].die()
        sender = world.server.session.sender
        self.assertEqual((sender.in_flight, sender.sendable), (262144, 0))
        world.notice(world.server)
        world.advance(60.0)
        self.assertEqual(world.server.session.frames(world.now), b"")
        world.settle()
        self.assert_exact(world)

    def test_scenario_40_a_thousand_resumes_leave_nothing_behind(self) -> None:
        world = World()
        for _ in range(1000):
            world.write(world.server, 20)
            world.write(world.client, 10)
            world.flow(world.client.link)
            world.reconnect()
            del world.links[:-1]
            self.assertLessEqual(len(world.server.session.sender._flight), 10)
            self.assertIsNone(world.client.session._grace_at)
        world.settle()
        self.assert_exact(world)
        self.assertEqual(world.grants, 1000)

    def test_scenario_41_a_ping_from_before_the_cut_does_not_kill_the_new_link(self) -> None:
        world = World()
        for side in world.sides.values():
            side.session.probe(world.now, 3.0)
            world.pump(side)
        world.reconnect()
        world.advance(10.0)
        self.assertIs(world.client.link, world.links[-1])
        self.assertIs(world.server.link, world.links[-1])
        world.client.session.probe(world.now, 3.0)
        world.flow(world.client.link)
        world.flow(world.client.link)
        self.assertEqual(world.count(world.client, Answered), 1)

    def test_scenario_43_a_long_sleep(self) -> None:
        world = World()
        world.write(world.server, 100)
        world.write(world.client, 100)
        world.pump(world.client)
        world.move(world.links[0], "server")
        world.deliver(world.server)
        world.drop(world.server)
        world.server.session.end()  # the grace period has run out
        world.drop(world.client)
        with self.assertRaisesRegex(AssertionError, "ENDED"):  # the harness expects no such answer
            link = world.attempt()
            world.move(link, "server")
            world.move(link, "client")
        self.assertEqual(world.refusals, [Refused(Refusal.ENDED, 100)])

    def test_a_faulty_link_costs_nothing_but_itself(self) -> None:
        for fault in FRAMING_FAULTS:
            world = World()
            world.write(world.server, 1000)
            world.pump(world.server)
            world.links[0].put("client", fault)
            while world.client.link is not None:
                world.move(world.links[0], "client", 10)
            self.assertGreater(world.client.session.receiver.arrived, 980)
            self.assertIs(world.client.session.state, State.PARKED)
            world.settle()
            self.assert_exact(world)

    def test_moved_ends_the_old_link_alone(self) -> None:
        world = World()
        link = world.attempt()
        world.move(link, "server")
        self.assertEqual(bytes(world.links[0].pipes["client"]), encode(FrameType.MOVED))
        world.move(link, "client")
        self.assertIs(world.client.link, link)
        self.assertEqual(world.move(world.links[0], "client"), 0)
        self.assertIs(world.client.session.state, State.LIVE)
