"""
OMA Mobile Email, 13.1.4 (the change request on moving a client's session between networks), step by step, on the wire.

Server: (1) set up another link at the client's request; (2) receive a new session on it; (3) find the record by client ID in the
buffer of all active clients; (4) if found, answer; (5) graft the client's information (the IMAP state) to the new link; (6) talk
on the new link; (7) disconnect the old one.  Client: (1) set up a new link on the target network; (2) request a new session;
(3) receive the answer; (4) talk on the new link.

Each step is shown for GRAFT, which is the basic flow, from an old link in the clear and from one in the layer, and for RESUME.
"""

from __future__ import annotations

from mem_continuity.core.frames import FrameReader, FrameType, encode
from mem_continuity.core.handshake import Resumed
from mem_continuity.core.policy import MIB
from mem_continuity.directory.record import Record
from tests.conformance import steps
from tests.support.raw_client import RawClient


class GraftTests(steps.Steps):
    """
    The basic flow, from a link without the layer.
    """

    layer = False

    def begin(self) -> None:
        self.client = RawClient(self.site)
        self.old = self.client.connect(steps.HOME)
        self.client.login()
        if self.layer:
            self.client.start()

    def ask(self) -> None:
        self.again = RawClient(self.site)
        self.again.wire = self.new
        self.site.settle()
        self.again.login()
        self.request, self.answer = b" XCONTINUITY GRAFT\r\n", b" OK [XCONTINUITY GRAFTED INBOX READ-WRITE]"
        self.mark = len(self.site.trace)
        self.answered = self.again.command(b"XCONTINUITY GRAFT")

    def talk(self, line: bytes, old: bool = False) -> bytes:
        if not old:
            return self.again.command(line)
        return self.client.call(line) if self.layer else self.client.command(line)

    def old_link_told(self) -> list[bytes]:
        return [encode(FrameType.END, b"MOVED")] if self.layer else []

    def found(self, record: Record) -> None:
        looked = self.index("directory", "found", lambda octets: octets == steps.CLIENT_ID.value)
        assert looked < self.index(self.new, "S"), "it was answered before it was found"
        assert self.site.factory.table.served(record.session_id) is None, "the record of the old link is still there"

    def test_answer_tells_the_state(self) -> None:
        """
        The answer tells what a SELECT would, and the whole map from sequence numbers to UIDs.
        """
        for line in (b"* FLAGS (", b"* 1 EXISTS\r\n", b"[UIDVALIDITY 7]", b"[UIDNEXT 2]", b"* ESEARCH (TAG ", b") UID ALL 1\r\n"):
            self.assertIn(line, self.answered)


class GraftFromLayerTests(GraftTests):
    """
    The basic flow, from a link in the layer.
    """

    layer = True


class ResumeTests(steps.Steps):
    """
    The exact flow.
    """

    def begin(self) -> None:
        self.client = RawClient(self.site).begin(steps.HOME)
        self.old = self.client.link

    def ask(self) -> None:
        self.client.session.detach(self.client.now)  # it has given the old link up; the server knows nothing of that
        self.client.write(b"typed NOOP\r\n")
        self.session_id = self.client.session.terms.session_id
        attempt = self.client.attempt()
        self.request, self.answer = b" XCONTINUITY RESUME " + self.session_id, b"r1 OK [XCONTINUITY "
        self.inner = self.site.servers[1]
        self.pending = len(self.client.stream)
        answer = self.client.ask(attempt, self.new)
        assert isinstance(answer, Resumed)
        self.first = FrameReader(MIB).feed(self.new.peek())
        self.client.take_over(attempt, answer, self.new)  # which verifies the server's proof
        self.client.pump()

    def talk(self, line: bytes, old: bool = False) -> bytes:
        return self.client.call(line)

    def old_link_told(self) -> list[bytes]:
        return [encode(FrameType.MOVED)]

    def found(self, record: Record) -> None:
        assert record.session_id == self.session_id, "RESUME names what the record does"
        served = self.site.factory.table.served(record.session_id)
        assert served is not None and served.link is self.new.link, "the record leads to the new link now"

    def test_same_instance_goes_on(self) -> None:
        """
        The protocol instance that had the state has it still.
        """
        served = self.site.factory.table.served(self.session_id)
        assert served is not None
        self.assertIs(served.protocol, self.inner)
        self.assertEqual(self.inner.losses, [])
        self.assertEqual(self.site.logins, ["joe", "joe"])  # the other client, and this one once

    def test_octets_stand_behind_the_answer(self) -> None:
        """
        What was typed meanwhile went with the request; its response is the first DATA behind the answer, and only then the old
        link is told MOVED.
        """
        self.assertEqual(self.first[-1].type, FrameType.DATA)
        self.assertEqual(self.client.stream[self.pending :].split(b"\r\n")[0], b"typed OK NOOP No operation performed")
        data = self.index(self.new, "S", lambda octets: b"typed OK" in octets)
        self.assertLess(data, self.index(self.old, "S", lambda octets: octets == encode(FrameType.MOVED)))
