"""
Both sides of a session and a hostile network between them, which does anything in any order.

What must hold at all times is asserted in L{tests.core.two_sides}; single courses of events worth a name are in
L{tests.core.test_courses}.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.frames import encode_ack
from mem_continuity.core.handshake import Binding, Refusal
from mem_continuity.core.policy import Policy, RoamingPolicy
from mem_continuity.core.states import Delivered, PeerEnded, State
from tests import LONG
from tests.core.network import FRAMING_FAULTS, Link, Side
from tests.core.support import BASES, PATTERNS
from tests.core.two_sides import EVERYTHING, World

NAMES = ("client", "server")
names = st.sampled_from(NAMES)
amounts = st.one_of(st.just(EVERYTHING), st.integers(1, 40), st.integers(1, 6000))
sizes = st.one_of(st.integers(1, 100), st.integers(1, 5000), st.integers(8000, 30000))
newest_first = st.integers(0, 5)
MOST_WRITTEN = len(next(iter(PATTERNS.values()))) - 30000


class TwoSidesMachine(RuleBasedStateMachine):
    """
    Whatever the network and the inner ends do, each inner end gets a prefix of what the other wrote; in the end, all.
    """

    @initialize(
        window=st.sampled_from([4096, 4096, 16384, 65536]),
        base=st.sampled_from(BASES),
        binding=st.sampled_from(Binding),
        repeat=st.sampled_from([0, 1024]),
        reads_on=st.booleans(),
    )
    def begin(self, window: int, base: int, binding: Binding, repeat: int, reads_on: bool) -> None:
        self.world = World(
            window,
            base,
            RoamingPolicy(frame_payload=1500, resume_repeat=repeat),
            Policy(window=window, frame_payload=1500, first_data=600),
            binding,
        )
        self.world.reads_on = reads_on

    def link(self, age: int) -> Link:
        links = self.world.links
        return links[max(0, len(links) - 1 - age)]

    @rule(name=names, count=sizes)
    def write(self, name: str, count: int) -> None:
        side = self.world.sides[name]
        if side.wrote < MOST_WRITTEN:
            self.world.write(side, count)

    @rule(name=names, most=st.integers(1, 4))
    def deliver(self, name: str, most: int) -> None:
        self.world.deliver(self.world.sides[name], most)

    @rule(name=names, most=st.integers(1, 50))
    def pump(self, name: str, most: int) -> None:
        self.world.pump(self.world.sides[name], most)

    @rule(age=newest_first, to=names, most=amounts)
    def move(self, age: int, to: str, most: int) -> None:
        self.world.move(self.link(age), to, most)

    @rule(name=names, most=amounts)
    def stream(self, name: str, most: int) -> None:
        """
        One side sends what it can, a part of it comes through, and nobody takes it in yet.
        """
        side = self.world.sides[name]
        self.world.pump(side)
        if side.link is not None:
            self.world.move(side.link, self.world.other(side).name, most)

    @rule(name=names)
    def pile_up(self, name: str) -> None:
        """
        An inner end takes nothing while a link, and the one after it, bring as much as they may.
        """
        world = self.world
        writer = world.sides[name]
        window = writer.session.terms.window
        if writer.wrote < MOST_WRITTEN - 2 * window:
            world.write(writer, 2 * window)
            for _ in range(2):
                world.reconnect()
                world.pump(writer)
                world.move(world.links[-1], world.other(writer).name)

    @rule(drain=st.booleans())
    def attempt(self, drain: bool) -> None:
        self.world.attempt(drain)

    @rule(ask=amounts, answer=amounts, drain=st.booleans())
    def attempt_and_be_answered(self, ask: int, answer: int, drain: bool) -> None:
        link = self.world.attempt(drain)
        self.world.move(link, "server", ask)
        self.world.move(link, "client", answer)

    @rule(first=st.booleans(), answers=st.permutations([0, 1]))
    def attempt_twice_at_once(self, first: bool, answers: list[int]) -> None:
        links = [self.world.attempt(), self.world.attempt()]
        for link in links if first else links[::-1]:
            self.world.move(link, "server")
        for place in answers:
            self.world.move(links[place], "client")

    @rule(late=amounts, late_too=amounts, drain=st.booleans())
    def switch_while_the_old_link_is_busy(self, late: int, late_too: int, drain: bool) -> None:
        world = self.world
        old = world.client.link
        for side in world.sides.values():
            world.pump(side)
        link = world.attempt(drain)
        if old is not None:
            world.move(old, "client", late)
            world.move(old, "server", late_too)
        world.move(link, "server")
        world.move(link, "client")
        if old is not None:
            world.move(old, "client", late_too)

    @rule(most=st.integers(1, 4), through=amounts, answer=amounts)
    def switch_while_the_old_link_is_faster(self, most: int, through: int, answer: int) -> None:
        """
        What the old link brings while another is asked for is acknowledged, and the server goes on there, before it hears of
        the other.
        """
        world = self.world
        link = world.attempt(drain=True)
        old = world.client.link
        if old is not None:
            for _ in range(most):
                world.pump(world.server)
                world.move(old, "client", through)
                world.deliver(world.client)
                world.pump(world.client)
                world.move(old, "server", through)
        world.move(link, "server")
        world.move(link, "client", answer)

    @rule()
    def give_up(self) -> None:
        self.world.give_up()

    @rule(age=newest_first)
    def die(self, age: int) -> None:
        self.link(age).die()

    @rule(name=names)
    def notice(self, name: str) -> None:
        self.world.notice(self.world.sides[name])

    @rule(name=names)
    def abandon(self, name: str) -> None:
        """
        One side leaves a link that works, and whose octets may come late.
        """
        self.world.drop(self.world.sides[name])

    @rule(seconds=st.sampled_from([0.1, 0.9, 1.0, 5.0]))
    def advance(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(name=names)
    def probe(self, name: str) -> None:
        self.world.sides[name].session.probe(self.world.now, 3.0)

    @rule(name=names, fault=st.sampled_from(FRAMING_FAULTS))
    def garble(self, name: str, fault: bytes) -> None:
        side = self.world.sides[name]
        if side.link is not None and not side.link.dead:
            side.link.put(self.world.other(side).name, fault)
            self.world.drop(side)  # nobody sends anything good behind it

    @rule(name=names)
    def acknowledge_again(self, name: str) -> None:
        side = self.world.sides[name]
        if side.link is not None and side.link is self.world.other(side).link:
            side.link.put(self.world.other(side).name, encode_ack(side.session.receiver.acknowledged))

    @rule(age=newest_first)
    def replay(self, age: int) -> None:
        self.world.replay(self.link(age))

    @rule()
    def settle(self) -> None:
        self.world.settle()

    @invariant()
    def all_is_well(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.settle()


class TwoSidesTests(SynchronousTestCase):
    def test_any_course_of_events(self) -> None:
        steps = 150 if LONG else 50
        run_state_machine_as_test(
            TwoSidesMachine,
            settings=settings(settings.default, max_examples=5000 if LONG else 300, stateful_step_count=steps),
        )

    def test_long_walks(self) -> None:
        """
        Hypothesis finds short ways to a fault; these go far.
        """
        for seed in range(5000 if LONG else 150):
            try:
                self.walk(Random(seed), 400)
            except Exception as fault:
                raise AssertionError(f"walk {seed}: {fault}") from fault

    def walk(self, random: Random, steps: int) -> None:
        """
        A walk of so many steps, in the end to a good link.
        """
        machine = TwoSidesMachine()
        machine.begin(
            window=random.choice([4096, 4096, 20000]),
            base=random.choice(BASES),
            binding=random.choice(list(Binding)),
            repeat=1024,
            reads_on=random.random() < 0.5,
        )
        some = (1, 30, 1000, 5000, EVERYTHING)
        ways: dict[Callable[[], None], int] = {
            lambda: machine.write(random.choice(NAMES), random.choice([10, 300, 5000, 20000])): 5,
            lambda: machine.deliver(random.choice(NAMES), random.choice([1, 2, 50])): 6,
            lambda: machine.stream(random.choice(NAMES), random.choice(some)): 10,
            lambda: machine.pump(random.choice(NAMES), random.choice([1, 3])): 4,
            lambda: machine.move(random.randrange(4), random.choice(NAMES), random.choice(some)): 6,
            lambda: machine.attempt_and_be_answered(random.choice(some), random.choice(some), random.random() < 0.5): 4,
            lambda: machine.attempt_twice_at_once(random.random() < 0.5, random.choice([[0, 1], [1, 0]])): 1,
            lambda: machine.switch_while_the_old_link_is_busy(random.choice(some), random.choice(some), random.random() < 0.7): 3,
            lambda: machine.switch_while_the_old_link_is_faster(
                random.choice([1, 2, 4]), random.choice(some), random.choice(some)
            ): 2,
            lambda: machine.pile_up(random.choice(NAMES)): 1,
            lambda: machine.attempt(random.random() < 0.5): 1,
            machine.give_up: 1,
            lambda: machine.die(random.randrange(3)): 1,
            lambda: machine.notice(random.choice(NAMES)): 3,
            lambda: machine.abandon(random.choice(NAMES)): 1,
            lambda: machine.advance(random.choice([0.1, 1.0, 5.0])): 2,
            lambda: machine.probe(random.choice(NAMES)): 1,
            lambda: machine.garble(random.choice(NAMES), random.choice(FRAMING_FAULTS)): 1,
            lambda: machine.acknowledge_again(random.choice(NAMES)): 2,
            lambda: machine.replay(random.randrange(5)): 1,
        }
        for way in random.choices(list(ways), list(ways.values()), k=steps):
            way()
            machine.world.check()
        machine.world.settle()


class EndTests(SynchronousTestCase):
    """
    An inner end closes; what it wrote before arrives all the same.
    """

    @given(names, st.integers(0, 9000), st.lists(st.integers(0, 2500), max_size=6), st.integers(0, 3))
    def test_what_was_written_before_the_close_arrives(self, name: str, size: int, cuts: list[int], before: int) -> None:
        world = World()
        closing = world.sides[name]
        other = world.other(closing)
        world.write(closing, size)
        world.write(other, 300)
        world.pump(closing, before)
        closing.session.close(b"closed", world.now)
        world.write(other, 40)  # nobody will read that
        for cut in cuts:
            if closing.session.delivered:
                break
            world.pump(closing)
            world.move(world.links[-1], other.name, cut)
            world.deliver(other)
            world.links[-1].die()
            world.notice(world.client)
            if not self.resume(world):
                break
        for _ in range(100):
            done = other.got == size and closing.session.delivered and world.count(other, PeerEnded)
            if done or world.refusals:
                break
            for side in world.sides.values():
                world.pump(side)
                world.deliver(side)
            for to in world.sides:
                world.move(world.links[-1], to)
        self.assertEqual(other.got, size)
        if not world.refusals:
            self.assertTrue(closing.session.delivered)
            self.assertGreaterEqual(world.count(other, PeerEnded), 1)

    def test_a_close_in_the_middle_of_moves(self) -> None:
        """
        What was written before it arrives, and so does the end, whatever link each of them stands on.
        """
        for seed in range(5000 if LONG else 200):
            random = Random(seed)
            world = World(window=random.choice([4096, 20000]), base=random.choice(BASES))
            closing = world.sides[random.choice(NAMES)]
            other = world.other(closing)
            moves = random.randrange(1, 5)
            closes_in = random.randrange(moves)
            for move in range(moves):
                self.restless(world, random)
                link = world.attempt(random.random() < 0.8)
                if move == closes_in:
                    self.restless(world, random)
                    closing.session.close(b"closed", world.now)
                self.restless(world, random)
                world.move(link, "server")
                self.restless(world, random)
                world.move(link, "client")
                self.restless(world, random)
            for turn in range(100):
                if other.got == closing.wrote and world.count(other, PeerEnded):
                    break
                link_of_both = world.client.link
                stuck = turn > 3 and any(side.former is not None for side in world.sides.values())
                if stuck or link_of_both is None or link_of_both is not world.server.link or link_of_both.dead:
                    world.reconnect()
                    if world.over:
                        break
                world.flow()
                world.advance(1.0)
            self.assertEqual(other.got, closing.wrote, seed)
            self.assertTrue(world.count(other, PeerEnded) or world.over, seed)

    @staticmethod
    def restless(world: World, random: Random) -> None:
        """
        Both sides write and read a little, and some of it comes through; rarely a link dies.
        """
        for _ in range(random.randrange(6)):
            side = world.sides[random.choice(NAMES)]
            what = random.randrange(5)
            if what == 0 and side.session.state is State.LIVE:
                world.write(side, random.choice([1, 200, 6000]))
            elif what == 1:
                world.pump(side, random.choice([1, 50]))
            elif what == 2:
                world.deliver(side, random.choice([1, 50]))
            else:
                world.move(random.choice(world.links[-3:]), side.name, random.choice([1, 30, 1000, EVERYTHING]))
            if random.random() < 0.02:
                random.choice(world.links[-2:]).die()
                world.notice(side)

    def test_the_last_octets_are_handed_on_after_the_end_was_said(self) -> None:
        """
        END has arrived, and the link is lost while more than a window waits for a slow inner end.
        """
        for name in NAMES:
            world = World()
            closing = world.sides[name]
            other = world.other(closing)
            world.write(closing, 8000)
            for place in range(2):
                world.reconnect()
                world.pump(closing)
                if place:
                    closing.session.close(b"closed", world.now)
                    world.pump(closing)
                world.move(world.links[-1], other.name)
            self.assertEqual(world.count(other, PeerEnded), 1)
            for turn in range(10):
                if not world.over and (not turn or world.client.link is None or other.link is None):
                    world.reconnect()
                world.pump(closing)
                world.move(world.links[-1], other.name)
                world.deliver(other)
                if other.got == 8000:
                    break
            self.assertEqual(other.got, 8000, name)

    def resume(self, world: World) -> bool:
        """
        Come back, or be told that it is over because everything has arrived.
        """
        link = world.attempt()
        world.move(link, "server")
        if world.refusals:
            self.assertEqual(world.refusals[-1].refusal, Refusal.ENDED)
            return False
        world.move(link, "client")
        return True

    def test_delivered_is_said_once_the_last_octet_is_acknowledged(self) -> None:
        world = World()
        world.write(world.server, 100)
        world.server.session.close(b"LOGOUT", world.now)
        for _ in range(3):
            world.flow()
        self.assertEqual(world.client.events, [PeerEnded(b"LOGOUT")])
        self.assertEqual(world.server.events, [Delivered()])
        self.assertEqual(world.client.got, 100)
        self.assertTrue(world.server.session.delivered)

    def test_both_close_at_once(self) -> None:
        world = World()
        sides: list[Side] = [world.client, world.server]
        for side in sides:
            side.session.close(b"closed", world.now)
            world.pump(side)
        world.flow()
        for side in sides:
            self.assertTrue(side.session.delivered)
            self.assertEqual(side.events, [PeerEnded(b"closed")])
