"""
A handset on a L{Clock}: an unmodified C{IMAP4Client} over a L{RoamingEndpoint}, and to one site two paths that can be shut.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.mail.imap4 import IMAP4Client
from twisted.python.failure import Failure
from zope.interface import implementer

from mem_continuity.client import Path, Roamer, RoamingEndpoint, roamer_of
from mem_continuity.core.policy import Policy, RoamingPolicy
from tests.support.memory_endpoint import JoinedWire, MemoryEndpoint
from tests.support.site import Site


@implementer(IStreamClientEndpoint)
class Gate:
    """
    @ivar mode: C{open}, C{shut} (connecting fails at once) or C{black} (it never ends).
    @ivar tries: when it was tried.
    @ivar cancelled: how many of those that never ended were given up.
    """

    def __init__(self, site: Site) -> None:
        self.mode = "open"
        self.tries: list[float] = []
        self.cancelled = 0
        self._clock = site.clock
        self._endpoint = MemoryEndpoint(site)

    def silent_from_now(self) -> None:
        """
        Connections by this path come about, but nothing that is said on them is answered.
        """
        self._endpoint.silent = True

    def strip_tls(self) -> None:
        """
        From now on the connections by this path have no TLS.
        """
        self._endpoint.secure = False

    @property
    def wires(self) -> list[JoinedWire]:
        """
        The connections made by this path.
        """
        return self._endpoint.wires

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        self.tries.append(self._clock.seconds())
        if self.mode == "open":
            return self._endpoint.connect(protocolFactory)
        if self.mode == "shut":
            return fail(ConnectError())
        return Deferred(self._cancel)

    def _cancel(self, _: object) -> None:
        self.cancelled += 1


class Client(IMAP4Client):
    """
    Notes how it was lost.
    """

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[Any] = []

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.losses.append(reason.value)
        super().connectionLost(reason)


class Handset:
    """
    @ivar client: logged in.
    @ivar told: what the watchers were told: word and text.
    """

    def __init__(self, site: Site | None = None, *, prepare: bool = False, server: Policy | None = None, **policy: Any) -> None:
        policy.setdefault("backoff_jitter", 0.0)
        self.site = Site(server) if site is None else site
        self.gates = {"wlan": Gate(self.site), "xg": Gate(self.site)}
        self.endpoint = RoamingEndpoint(
            [Path(name, gate) for name, gate in self.gates.items()],
            reactor=self.site.clock,
            policy=RoamingPolicy(**policy),
            prepare=prepare,
        )
        self.client = Client()
        self.told: list[tuple[str, str]] = []

    def begin(self) -> Roamer:
        """
        Connect and log in.
        """
        self.now(self.endpoint.connect(Factory.forProtocol(lambda: self.client)))
        roamer = roamer_of(self.client)
        roamer.watchers.append(lambda word, text: self.told.append((word, text)))
        self.now(self.client.login(b"joe", b"secret"))
        return roamer

    def now(self, waiting: Deferred[Any]) -> Any:
        """
        The result, which has to come without time passing.
        """
        results: list[Any] = []
        waiting.addBoth(results.append)
        self.site.settle()
        assert results, "no result yet"
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    def wire(self, path: str) -> JoinedWire:
        """
        The last connection by this path.
        """
        return self.gates[path].wires[-1]

    def sleep(self, seconds: float, step: float = 0.05) -> None:
        """
        Time passes.
        """
        for _ in range(round(seconds / step)):
            self.site.clock.advance(step)
            self.site.settle()
