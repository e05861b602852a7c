"""
The scenarios of L{tests.scenarios} once more, with the gateway in front of the site that they are made for.

What is left out looks into what the site has in its own process (its producers, its mailbox objects), or at its own STARTTLS and
BYE; the gateway's are in the other modules here.  Tests of random octets run with the site alone.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from hypothesis import is_hypothesis_test
from twisted.internet.task import Clock
from twisted.trial.runner import TestSuite
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.core.policy import Policy
from tests.scenarios import test_counting, test_identity, test_imap_state, test_links, test_malformed, test_siblings, test_timers
from tests.support.gateway_ground import GatewayGround
from tests.support.site import Site

MODULES: tuple[ModuleType, ...] = (
    test_counting,
    test_identity,
    test_imap_state,
    test_links,
    test_malformed,
    test_siblings,
    test_timers,
)

LEFT_OUT = {
    "test_scenario_17_starttls_before_the_layer": "the upstream's own STARTTLS",
    "test_scenario_18_every_way_of_writing_is_counted": "an inner protocol in this process that writes in each way",
    "test_scenario_26_mailbox_changed_while_parked": "mailbox objects in this process",
    "test_scenario_38_each_kind_of_broken_frame": "an inner protocol in this process that does not read",
    "test_scenario_44_never_told_the_same_twice": "producers in this process",
    "test_scenario_44_producer_paused_by_the_old_link": "producers in this process",
    "test_scenario_45_the_service_stops": "the BYE of a protocol in this process",
}


class Ground(GatewayGround):
    """
    Takes what the scenarios say to a site.
    """

    def __init__(
        self, policy: Policy | None = None, *, continuity_realm: bool = False, clock: Clock | None = None, **options: Any
    ) -> None:
        assert clock is None, "the ground has a clock of its own"
        options.pop("allow_insecure", None)
        super().__init__(policy, **options)


def _patched(module: ModuleType, case: type[SynchronousTestCase]) -> type[SynchronousTestCase]:
    def set_up(self: SynchronousTestCase) -> None:
        self.patch(module, "Site", Ground)
        case.setUp(self)

    return type(f"Gateway{case.__name__}", (case,), {"setUp": set_up, "__module__": __name__, "timeout": 120})


def testSuite() -> TestSuite:
    """
    What trial runs here.
    """
    suite = TestSuite()
    left = set(LEFT_OUT)
    for module in MODULES:
        assert module.Site is Site
        for case in vars(module).values():
            if not (isinstance(case, type) and issubclass(case, SynchronousTestCase)) or case.__module__ != module.__name__:
                continue
            made = _patched(module, case)
            names = [name for name in dir(case) if name.startswith("test_scenario_")]
            suite.addTests(made(name) for name in names if name not in LEFT_OUT and not is_hypothesis_test(getattr(case, name)))
            left -= set(names)
    assert not left, f"there is no such scenario: {sorted(left)}"
    return suite
