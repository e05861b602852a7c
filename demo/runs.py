"""
The two runs: the same mail program, the same networks, the same bad luck; once over a L{RoamingEndpoint}, once as mail programs
do it today.

The bad luck, three times: the network falls silent, and nobody is told; in the middle of a big FETCH, in IDLE just before mail
comes, and when an APPEND has been carried out but not yet answered.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.mail.imap4 import Command, IMAP4Client

from demo.scene import Scene, mail
from demo.timeline import Timeline, megabytes
from mem_continuity.client import Path, RoamingEndpoint, roamer_of
from mem_continuity.core.policy import RoamingPolicy
from mem_continuity.server import continuous
from tests.netlab import LoopbackLab

READ_TIMEOUT = 2.0
"""Seconds that the mail program of today waits for octets; real ones wait 30 to 100."""

SIGNAL_LOST = 0.5
"""Seconds until the handset itself notices in IDLE that its network is gone, and tells its programs."""


class Client(IMAP4Client):
    """
    C{IMAP4Client}; it notes when octets come, and what comes in IDLE.
    """

    run: Run

    def dataReceived(self, data: bytes) -> None:
        self.run.octets_came(data)
        super().dataReceived(data)


class Run:
    """
    What both have in common, and their figures.

    @ivar gaps: milliseconds without the server, by occasion.
    @ivar again: octets sent again, by occasion.
    @ivar again_delivered: those among them that had arrived before.
    @ivar copies: of the one message that was stored.
    @ivar logins: how often the client had to log in.
    """

    title = ""
    occasions = ("FETCH", "IDLE", "APPEND")

    def __init__(self, scene: Scene, timeline: Timeline, append_size: int) -> None:
        self.scene = scene
        self.timeline = timeline
        self.gaps: dict[str, float] = {}
        self.again: dict[str, int] = {}
        self.again_delivered: dict[str, int] = {}
        self.copies = 0
        self.logins = 0
        self.intact = False
        self.link: str | None = None
        self.client: Any = None
        self._append_size = append_size
        self._got = 0
        self._cut_at: int | None = None
        self._last = 0.0
        self._gap = 0.0
        self._silenced = 0.0
        self._pushed: Deferred[None] | None = None

    def octets_came(self, data: bytes) -> None:
        """
        The client receives.
        """
        now = time.monotonic()
        self._gap = max(self._gap, now - self._last)
        self._last = now
        self._got += len(data)
        if self._cut_at is not None and self._got >= self._cut_at:
            self._cut_at = None
            self.silence(f"falls silent in the middle of the FETCH, {megabytes(self._got)} have arrived")
        if self._pushed is not None and b"EXISTS" in data:
            pushed, self._pushed = self._pushed, None
            pushed.callback(None)

    def silence(self, text: str) -> None:
        """
        The network in use is gone, and nobody is told.
        """
        assert self.link is not None
        self.scene.lab.networks[self.link].silence()
        self.timeline.say(self.link, text, "bad")
        self._last, self._gap = time.monotonic(), 0.0
        self._silenced = self._last

    def say(self, text: str, kind: str = "") -> None:
        self.timeline.say(self.link, text, kind)

    def sleep(self, seconds: float) -> Deferred[None]:
        return deferLater(self.scene.reactor, seconds)

    def restore_all(self) -> None:
        for network in self.scene.lab.networks.values():
            network.restore()

    def new_client(self) -> Client:
        made = self.client = Client()
        made.run = self
        return made

    # What a run is made of

    async def play(self) -> None:
        """
        From connecting to the figures.
        """
        self.timeline.head(self.title)
        await self.connect()
        await self.fetch_with_a_cut()
        self.restore_all()
        await self.idle_with_a_cut()
        self.restore_all()
        await self.append_with_a_cut()
        self.copies = len(self.scene.inbox.stored)
        self.say(f"the message was stored {self.copies} time{'s' * (self.copies != 1)}", "bad" if self.copies != 1 else "good")
        self.client.transport.abortConnection()
        self.scene.close()

    async def fetch_with_a_cut(self) -> None:
        self._got, self._cut_at = 0, len(self.scene.big) // 2
        self._last, self._gap = time.monotonic(), 0.0
        self.say(f"FETCH of {megabytes(len(self.scene.big))}")
        body = await self.fetch()
        self.gaps["FETCH"] = self._gap * 1000
        self.intact = hashlib.sha256(body).digest() == hashlib.sha256(self.scene.big).digest()
        kind = "good" if self.intact else "bad"
        self.say(f"FETCH complete, SHA-256 {'equal' if self.intact else 'DIFFERENT'}; gap {self.gaps['FETCH']:.0f} ms", kind)
        await self.count("FETCH")

    async def fetch_once(self) -> bytes:
        found = await self.client.fetchMessage("1")
        return bytes(found[1]["RFC822"].encode("ascii"))

    async def idle_with_a_cut(self) -> None:
        idle = self.client.sendCommand(Command(b"IDLE", continuation=lambda _: None))
        idle.addErrback(lambda _: None)  # of a connection that is given up
        self.say("IDLE")
        await self.sleep(0.6)
        self._pushed = Deferred()
        pushed = self._pushed
        self.silence("falls silent in IDLE")
        await self.sleep(0.1)
        self.scene.inbox.deliver(b"Subject: hello\r\n\r\nhello\r\n")
        delivered = time.monotonic()
        self.timeline.say(None, "mail is delivered at the server", "dim")
        self.scene.reactor.callLater(SIGNAL_LOST - 0.1, self._signal_lost, self.link)
        await pushed
        self.gaps["IDLE"] = (time.monotonic() - delivered) * 1000
        self.say(f"the client knows of the mail, {self.gaps['IDLE']:.0f} ms after it came", "good")
        await self.count("IDLE")

    def _signal_lost(self, link: str) -> None:
        if self.link == link:
            self.say("the handset says that its network is gone", "dim")
            self.network_gone()

    async def append_with_a_cut(self) -> None:
        await self.end_idle()

        def stored() -> None:
            self.scene.inbox.on_stored = lambda: None
            self.silence("falls silent: the APPEND is carried out, its answer is lost")

        self.scene.inbox.on_stored = stored
        self.say(f"APPEND of {megabytes(self._append_size)}")
        await self.append()
        self.gaps["APPEND"] = (time.monotonic() - self._silenced) * 1000
        self.say(f"APPEND answered; gap {self.gaps['APPEND']:.0f} ms", "good")
        await self.count("APPEND")

    def append_once(self) -> Deferred[Any]:
        return self.client.append(b"INBOX", mail("sent", self._append_size))  # type: ignore[no-any-return]

    # What they differ in

    async def connect(self) -> None:
        raise NotImplementedError

    async def fetch(self) -> bytes:
        raise NotImplementedError

    async def end_idle(self) -> None:
        raise NotImplementedError

    async def append(self) -> None:
        raise NotImplementedError

    async def count(self, occasion: str) -> None:
        raise NotImplementedError

    def network_gone(self) -> None:
        """
        Somebody who knows says so.
        """
        raise NotImplementedError


class ContinuityRun(Run):
    """
    The client over a L{RoamingEndpoint}, the server behind L{continuous}.
    """

    title = "With continuity: IMAP4Client over RoamingEndpoint, IMAP4Server behind continuous()"

    async def connect(self) -> None:
        factory = self.scene.serve(continuous)
        paths = [Path(name, self.scene.endpoint(name)) for name in self.scene.lab.networks]
        # The relays of loopback take octets for a network that is silent, as nobody does behind a radio: TCP has no say there.
        policy = RoamingPolicy(probe_timeout=0.5) if isinstance(self.scene.lab, LoopbackLab) else RoamingPolicy()
        endpoint = RoamingEndpoint(paths, reactor=self.scene.reactor, policy=policy, client_id=(b"UUID", b"demo"))
        await endpoint.connect(Factory.forProtocol(self.new_client))
        self._roamer = roamer_of(self.client)
        self._roamer.watchers.append(self._happened)
        await self.client.login(b"joe", b"secret")
        self.logins += 1
        await self.client.select(b"INBOX")
        self.link = self._roamer.path
        self.say("connected, logged in, INBOX selected")
        self._server = factory.table.all()[0].conduit.session
        self._session = self._roamer.conduit.session  # type: ignore[union-attr]
        self._counted = self._counts()

    def _happened(self, word: str, text: str) -> None:
        if word != "ended":
            self.link = self._roamer.path
            self.say(text, "good" if word == "live" else "dim")

    def _counts(self) -> tuple[int, int]:
        sides = (self._session, self._server)
        return sum(one.sender.taken - one.sender.highest for one in sides), sum(one.receiver.skipped for one in sides)

    async def count(self, occasion: str) -> None:
        again, delivered = self._counts()
        self.again[occasion] = again - self._counted[0]
        self.again_delivered[occasion] = delivered - self._counted[1]
        self._counted = again, delivered
        self.say(f"{self.again[occasion]} octets sent again, of which {self.again_delivered[occasion]} had arrived before", "dim")

    async def fetch(self) -> bytes:
        return await self.fetch_once()

    async def end_idle(self) -> None:
        self.client.sendLine(b"DONE")
        await self.client.noop()

    async def append(self) -> None:
        await self.append_once()

    def network_gone(self) -> None:
        self._roamer.link_is_dead()


class PlainRun(Run):
    """
    The client of today: a read timeout, then a new connection, login, SELECT, and the command once more.
    """

    title = f"Without: the same client on plain IMAP, which gives up after {READ_TIMEOUT:.0f} s of silence and begins again"

    async def connect(self) -> None:
        self.scene.serve(lambda factory: factory)
        await self._connect()

    async def _connect(self) -> None:
        names = [name for name, network in self.scene.lab.networks.items() if network.state == "up"]
        self.link = names[0]
        endpoint = self.scene.endpoint(self.link)
        await endpoint.connect(Factory.forProtocol(self.new_client))
        await self.client.login(b"joe", b"secret")
        self.logins += 1
        await self.client.select(b"INBOX")
        self.say("connected, logged in, INBOX selected")

    async def _again(self) -> None:
        self.client.transport.abortConnection()
        self.link = None
        self.say("the connection is given up; a new one is made", "dim")
        await self._connect()

    async def _with_timeout(self, work: Deferred[Any]) -> Any:
        """
        What is under way, or None when nothing has come in for too long.
        """
        done: list[Any] = []
        work.addCallbacks(done.append, lambda _: None)
        self._last = time.monotonic()
        while not done:
            if time.monotonic() - self._last > READ_TIMEOUT:
                return None
            await self.sleep(0.02)
        return done

    async def fetch(self) -> bytes:
        done = await self._with_timeout(ensureDeferred(self.fetch_once()))
        if done is not None:
            return bytes(done[0])
        self.again["FETCH"] = self._got
        await self._again()
        self.say("FETCH from the beginning")
        return await self.fetch_once()

    async def end_idle(self) -> None:
        """
        This connection is a new one: it is not in IDLE.
        """

    async def append(self) -> None:
        # The upload keeps the program busy by itself: its silence begins with the network's.
        if await self._with_timeout(self.append_once()) is None:
            self.again["APPEND"] = self._append_size
            await self._again()
            self.say("APPEND once more")
            await self.append_once()

    async def count(self, occasion: str) -> None:
        self.again_delivered[occasion] = self.again.setdefault(occasion, 0)
        self.say(f"{self.again[occasion]} octets sent again, of which {self.again_delivered[occasion]} had arrived before", "dim")

    def network_gone(self) -> None:
        ensureDeferred(self._begin_again())

    async def _begin_again(self) -> None:
        await self._again()
        # SELECT has told of the mail.
        pushed, self._pushed = self._pushed, None
        if pushed is not None:
            pushed.callback(None)
