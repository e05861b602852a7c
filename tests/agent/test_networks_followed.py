"""
Networks that come and go below sessions that live.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.error import NoRouteError
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.agent import following
from mem_continuity.agent.accounts import AccountSpec, parse_server
from mem_continuity.agent.networks import Change, Kind, Network
from mem_continuity.client.paths import Path
from mem_continuity.client.roamer import Phase
from tests.agent.ground import LOGIN, Ground, Program
from tests.agent.puppet import GREETING, PuppetGround


@dataclass
class Watch:
    """
    Tells of networks when the test says so.
    """

    names: tuple[str, ...]
    callback: Callable[[Change], None] | None = None
    running: bool = False

    def ranked(self) -> tuple[Network, ...]:
        return tuple(Network(name, place + 1, (), 0, False) for place, name in enumerate(self.names))

    def subscribe(self, callback: Callable[[Change], None]) -> Callable[[], None]:
        self.callback = callback
        return self.unsubscribe

    def unsubscribe(self) -> None:
        self.callback = None

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def now(self, kind: Kind, *names: str, name: str = "", addresses: tuple[str, ...] = ()) -> None:
        """
        From now on these are the networks.
        """
        self.names = names
        assert self.callback is not None
        self.callback(Change(kind, name, addresses))


class FollowingTests(SynchronousTestCase):
    def begin(self, *names: str) -> tuple[Ground, Watch, Program]:
        ground = Ground(names=("wlan", "wwan"), keep_warm=0.0)
        watch = Watch(names)
        ground.account.follow(watch, lambda network: Path(network.name, ground.gates[network.name]))
        return ground, watch, Program(ground).log_in()

    def works(self, program: Any) -> bool:
        return b"a9 OK" in program.say(b"a9 NOOP\r\n")

    def test_a_better_one_appears(self) -> None:
        """
        The session moves there while the old link still stands: make before break.
        """
        ground, watch, program = self.begin("wwan")
        self.assertEqual(program.roamer.path, "wwan")
        told: list[str] = []
        program.roamer.watchers.append(lambda word, text: told.append(word))
        watch.now(Kind.APPEARED, "wlan", "wwan", name="wlan")
        ground.site.settle()
        self.assertEqual((program.roamer.path, program.roamer.handovers), ("wlan", 1))
        self.assertNotIn("away", told)
        self.assertTrue(self.works(program))

    def test_nothing_but_ignored_ones(self) -> None:
        """
        Who has networks ignored is not connected by the system's choice when there is no other.
        """
        ground = Ground(names=("wlan",), keep_warm=0.0)
        made: list[Any] = []
        self.patch(following, "watch_networks", lambda *_, **__: Watch(()))
        self.patch(ground.account, "follow", lambda *told: made.append(told))
        for ignored in ((), ("wlan*",)):
            spec = AccountSpec("a", parse_server("tls:imap.example.org"), ("tcp:1",), ignored=ignored)
            following.follow_networks(ground.site.clock, ground.account, spec, Any, ground.account.limits)()  # type: ignore[arg-type]
        self.assertIsNone(made[0][2])
        self.failureResultOf(made[1][2].endpoint.connect(Factory()), NoRouteError)

    def test_a_worse_one_appears(self) -> None:
        ground, watch, program = self.begin("wlan")
        watch.now(Kind.APPEARED, "wlan", "wwan", name="wwan")
        ground.pass_time(1.0)
        self.assertEqual((program.roamer.path, program.roamer.handovers), ("wlan", 0))

    def test_the_present_one_is_lost(self) -> None:
        """
        The session is on the other before its own link has noticed anything.
        """
        ground, watch, program = self.begin("wlan", "wwan")
        ground.gates["wlan"].mode = "black"
        ground.gates["wlan"].wires[-1].dead = True
        watch.now(Kind.LOST, "wwan", name="wlan")
        ground.site.settle()
        self.assertEqual(program.roamer.path, "wwan")
        self.assertTrue(self.works(program))

    def test_the_address_of_the_present_link_is_lost(self) -> None:
        """
        The network goes on with another one.
        """
        ground, watch, program = self.begin("wlan", "wwan")
        host = program.roamer.link.transport.getHost().host
        watch.now(Kind.LOST, "wlan", "wwan", name="wlan", addresses=("203.0.113.7",))
        ground.site.settle()
        self.assertEqual(program.roamer.handovers, 0)
        watch.now(Kind.LOST, "wlan", "wwan", name="wlan", addresses=(host,))
        ground.site.settle()
        self.assertEqual((program.roamer.path, program.roamer.handovers), ("wlan", 1))

    def test_a_move_that_failed_is_tried_again(self) -> None:
        """
        After a while that doubles, until it is known what the networks are again.
        """
        ground, watch, program = self.begin("wwan")
        ground.gates["wlan"].mode = "shut"
        watch.now(Kind.APPEARED, "wlan", "wwan", name="wlan")
        ground.pass_time(9.0, 1.0)
        self.assertEqual(len(ground.gates["wlan"].tries), 1)
        ground.pass_time(2.0, 1.0)
        self.assertEqual(len(ground.gates["wlan"].tries), 2)
        ground.pass_time(18.0, 1.0)
        self.assertEqual(len(ground.gates["wlan"].tries), 2)
        ground.gates["wlan"].mode = "open"
        ground.pass_time(3.0, 1.0)
        self.assertEqual((program.roamer.path, program.roamer.handovers), ("wlan", 1))
        ground.pass_time(100.0, 1.0)
        self.assertEqual(len(ground.gates["wlan"].tries), 3)

    def test_another_appears_where_none_was_left(self) -> None:
        """
        The link of the one that is gone is not waited for.
        """
        ground = Ground(names=("wlan", "wwan"), keep_warm=0.0)
        watch = Watch(("wlan",))
        default = Path("default", ground.gates["wlan"])
        ground.account.follow(watch, lambda network: Path(network.name, ground.gates[network.name]), default)
        program = Program(ground).log_in()
        ground.gates["wlan"].wires[-1].dead = True
        watch.now(Kind.LOST, name="wlan")
        ground.site.settle()
        self.assertEqual((program.roamer.phase, program.roamer.path), (Phase.LIVE, "wlan"))
        watch.now(Kind.APPEARED, "wwan", name="wwan")
        ground.site.settle()
        self.assertEqual(program.roamer.path, "wwan")
        self.assertTrue(self.works(program))

    def test_one_appears_while_away(self) -> None:
        """
        The wait for the next try ends, and the new network is tried; so it is when a try on another one hangs.
        """
        for mode in ("shut", "black"):
            ground, watch, program = self.begin("wwan")
            ground.shut()
            ground.gates["wwan"].mode = mode
            ground.pass_time(25.0, 1.0)
            self.assertIs(program.roamer.phase, Phase.AWAY)
            ground.gates["wlan"].mode = "open"
            watch.now(Kind.APPEARED, "wlan", "wwan", name="wlan")
            ground.site.settle()
            self.assertEqual(program.roamer.path, "wlan", mode)
            self.assertTrue(self.works(program))

    def test_the_present_one_is_lost_and_comes_back(self) -> None:
        """
        There was no other; a moment without it costs nothing.
        """
        ground, watch, program = self.begin("wwan")
        watch.now(Kind.LOST, name="wwan")
        watch.now(Kind.APPEARED, "wwan", name="wwan")
        ground.pass_time(1.0)
        self.assertEqual((program.roamer.path, program.roamer.handovers), ("wwan", 0))

    def test_none_left(self) -> None:
        """
        Then it is for the system to say; a live link is left alone.
        """
        ground, watch, program = self.begin("wwan")
        watch.now(Kind.LOST, name="wwan")
        ground.site.settle()
        self.assertEqual([path.name for path in ground.account.endpoint.paths], ["wlan"])
        self.assertIs(program.roamer.phase, Phase.LIVE)

    def test_back_to_the_best(self) -> None:
        """
        The session had left it because it was silent, and nobody tells when it is well again.
        """
        ground, _, program = self.begin("wlan", "wwan")
        ground.gates["wlan"].mode = "black"
        ground.gates["wlan"].wires[-1].dead = True
        program.say(b"a9 NOOP\r\n")
        ground.pass_time(10.0)
        self.assertEqual(program.roamer.path, "wwan")
        ground.pass_time(320.0, 1.0)
        self.assertEqual(program.roamer.path, "wwan")
        ground.gates["wlan"].mode = "open"
        ground.pass_time(300.0, 1.0)
        self.assertEqual((program.roamer.path, program.roamer.handovers), ("wlan", 2))

    def test_woken(self) -> None:
        """
        The link is asked whether it lives; when it does not, another one is sought.
        """
        ground, watch, program = self.begin("wlan", "wwan")
        ground.pass_time(5.0)
        ground.gates["wlan"].wires[-1].dead = True
        ground.gates["wlan"].mode = "black"
        watch.now(Kind.WOKE, "wlan", "wwan")
        ground.pass_time(1.0)
        self.assertEqual(program.roamer.path, "wwan")

    def test_until_the_end(self) -> None:
        ground, watch, program = self.begin("wlan")
        self.assertTrue(watch.running)
        ground.account.unfollow()
        self.assertEqual((watch.running, watch.callback), (False, None))
        program.transport.lose()
        ground.pass_time(10.0)
        self.assertEqual(ground.account.ends, [])


@dataclass
class AddressWatch(Watch):
    """
    @ivar addresses: of the networks.
    """

    addresses: tuple[tuple[str, ...], ...] = ()

    def ranked(self) -> tuple[Network, ...]:
        networks = zip(self.names, self.addresses, strict=True)
        return tuple(Network(name, place + 1, addresses, 0, False) for place, (name, addresses) in enumerate(networks))


class PlainTests(SynchronousTestCase):
    """
    A connection that cannot move: before login, or to a server without continuity.
    """

    def begin(self, logged_in: bool) -> tuple[PuppetGround, AddressWatch, Program]:
        ground = PuppetGround()
        watch = AddressWatch(("wlan",), addresses=(("10.0.0.5",),))
        ground.account.follow(watch, lambda network: Path(network.name, ground.puppet))
        program = ground.program()
        ground.puppet.say(GREETING)
        if logged_in:
            program.say(LOGIN)
            ground.puppet.say(b"a1 OK in\r\n")
        program.take()
        return ground, watch, program

    def test_its_network_is_gone(self) -> None:
        """
        There is another one: the program hears at once that its connection is over, as it would if it were its own.
        """
        for logged_in in (False, True):
            ground, watch, program = self.begin(logged_in)
            watch.addresses = (("10.0.1.5",),)
            watch.now(Kind.LOST, "wwan", name="wlan", addresses=("10.0.0.5",))
            self.assertEqual(program.take(), b"* BYE [UNAVAILABLE] The connection to the mail server is lost\r\n")
            self.assertTrue(program.transport.closed)
            self.assertTrue(ground.puppet.wires[0].over)
            self.assertEqual(ground.account.ends, [])

    def test_nothing_is_put_into_a_response(self) -> None:
        ground, watch, program = self.begin(True)
        ground.puppet.say(b"* 1 FETCH (BODY[] {10}\r\n01234")
        program.take()
        watch.addresses = (("10.0.1.5",),)
        watch.now(Kind.LOST, "wwan", name="wlan", addresses=("10.0.0.5",))
        self.assertEqual((program.take(), program.transport.closed), (b"", True))

    def test_gone_for_a_moment(self) -> None:
        """
        It comes back with the same address, and so does the connection; with another one it is over.
        """
        for address, closed in (("10.0.0.5", False), ("10.0.0.6", True)):
            ground, watch, program = self.begin(True)
            watch.addresses = ()
            watch.now(Kind.LOST, name="wlan", addresses=("10.0.0.5",))
            self.assertFalse(program.transport.closed)
            watch.addresses = ((address,),)
            watch.now(Kind.APPEARED, "wlan", name="wlan", addresses=(address,))
            ground.pass_time(1.0)
            self.assertEqual(program.transport.closed, closed)

    def test_a_better_one_appears(self) -> None:
        """
        It stays where it is.
        """
        ground, watch, program = self.begin(True)
        watch.addresses = (("10.0.1.5",), ("10.0.0.5",))
        watch.now(Kind.APPEARED, "lan", "wlan", name="lan", addresses=("10.0.1.5",))
        ground.pass_time(1.0)
        self.assertFalse(program.transport.closed)
