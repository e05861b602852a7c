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
from tests.agent.ground import Ground, Program


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
