"""
C{continuity:} descriptions of servers, by way of Twisted's plugin system.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ServerEndpoint, serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity import ContinuityFactory, Policy, continuous
from mem_continuity.core.policy import limits_of
from mem_continuity.layer.descriptions import limit_option


class ServerDescriptionTests(SynchronousTestCase):
    """
    What a description means.
    """

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()

    def parse(self, description: str) -> Any:
        return serverFromString(self.reactor, description)

    def listen(self, description: str, factory: Any) -> Any:
        """
        @return: the port, and the factory that listens on it.
        """
        port = self.successResultOf(self.parse(description).listen(factory))
        return port, self.reactor.tcpServers[-1][1]

    def test_below(self) -> None:
        """
        The endpoint below is the one of the rest of the description.
        """
        endpoint = self.parse("continuity:tcp:143:backlog=7:interface=127.0.0.1")
        self.assertIsInstance(endpoint.wrapped, TCP4ServerEndpoint)
        self.assertEqual(
            (endpoint.wrapped._port, endpoint.wrapped._backlog, endpoint.wrapped._interface), (143, 7, "127.0.0.1")
        )
        options = endpoint.options
        self.assertEqual(
            (options.policy, options.allow_insecure, options.binding, options.node), (Policy(), False, True, b"n0")
        )

    def test_options(self) -> None:
        options = self.parse(
            "continuity:tcp:143:continuityInsecure=YES:continuityBinding=no:continuityNode=mx-1:continuityGrace=600"
        ).options
        self.assertEqual((options.allow_insecure, options.binding, options.node), (True, False, b"mx-1"))
        self.assertEqual(options.policy, Policy(grace=600.0))

    def test_every_limit(self) -> None:
        """
        Each limit of the policy is an option.
        """
        for limit in limits_of(Policy):
            value: Any = type(limit.default)(limit.least + 1)
            options = self.parse(f"continuity:tcp:143:{limit_option(limit)}={value}").options
            self.assertEqual(options.policy, Policy(**{limit.name: value}))

    def test_wrong(self) -> None:
        for description, text in (
            ("continuity:", "is followed by the description of an endpoint, as in continuity:tcp:143"),
            ("continuity:tcp:143:continuityGrace=long", "continuityGrace is 'long', but it must be a number of seconds"),
            ("continuity:tcp:143:continuityGrace=-1", "continuityGrace is -1.0, but it must be a number of seconds"),
            ("continuity:tcp:143:continuityGrace=nan", "continuityGrace is nan, but"),
            ("continuity:tcp:143:continuityGrace=inf", "continuityGrace is inf, but"),
            ("continuity:tcp:143:continuityWindow=1e6", "continuityWindow is '1e6', but it must be a whole number of octets"),
            ("continuity:tcp:143:continuityBinding=1", "continuityBinding is yes or no, not '1'"),
            ("continuity:tcp:143:continuityNode=", "continuityNode is 1 to 32"),
            ("continuity:tcp:143:continuityNode=a b", "continuityNode is 1 to 32"),
            ("continuity:tcp:143:continuitygrace=1", "there is no option continuitygrace; there are "),
            ("continuity:nonsense:1", "Unknown endpoint type"),
        ):
            error = self.assertRaises(ValueError, self.parse, description)
            self.assertIn(text, str(error))
            self.assertNotIn("\n", str(error))

    def test_continuous_already(self) -> None:
        """
        A factory that is wrapped by the site's own call is not wrapped twice.
        """
        mine = continuous(Factory.forProtocol(Protocol), reactor=self.reactor, policy=Policy(grace=5.0))
        _, listening = self.listen("continuity:tcp:143:continuityGrace=600", mine)
        self.assertIs(listening, mine)

    def test_sharing(self) -> None:
        """
        The same factory with the same options is wrapped once; with others, or another factory, once more.
        """
        factory = Factory.forProtocol(Protocol)
        _, first = self.listen("continuity:tcp:143", factory)
        _, same = self.listen("continuity:tcp:144", factory)
        _, other_options = self.listen("continuity:tcp:145:continuityGrace=5", factory)
        _, other_factory = self.listen("continuity:tcp:146", Factory.forProtocol(Protocol))
        self.assertIsInstance(first, ContinuityFactory)
        self.assertIs(first, same)
        self.assertEqual(len({id(one) for one in (first, other_options, other_factory)}), 3)

    def test_port(self) -> None:
        """
        The port stands for the one below.
        """
        port, _ = self.listen("continuity:tcp:143", Factory.forProtocol(Protocol))
        self.assertEqual(port.getHost().port, 143)
        self.assertRaises(AttributeError, getattr, port, "nonsense")
