"""
Scenario 10 end to end: a scripted dialogue is cut after an octet of what the link carries, in either direction, and what the
client saw and what was stored equals the uncut run.

The short form cuts around each frame's head, each literal's beginning, behind each line, and at every 100th octet beside; the
long one at every octet.
"""

from __future__ import annotations

import re

from mem_continuity.core.frames import HEADER_LENGTH, FrameType
from mem_continuity.core.handshake import Resumed
from tests import LONG
from tests.interop.client import Client
from tests.interop.comparing import normalised
from tests.interop.grounds import GroundCase, OnCyrus, OnDovecot, about
from tests.interop.plain_client import HOME, TRAIN
from tests.interop.tls_wire import SECONDS, TO_CLIENT, TO_SERVER, Lost

MAILS = (b"Subject: one\r\n\r\n" + b"1" * 60, b"Subject: two\r\n\r\n{7}\r\na1 OK \xc3\xbc\r\n")
DRAFT = b"Subject: %06d\r\n\r\n* 1 FETCH {3}\r\n)\r\n"
"""Each one has a number: Cyrus takes only so many that are the same."""
_STEP = 1 if LONG else 100
_VARIES = re.compile(rb"(?<=APPENDUID )\d+ \d+|\d+\.\d+ secs?")


class Returning(Client):
    """
    A client that comes back whenever its link is cut.

    @ivar cuts: how often.
    """

    cuts = 0

    def step(self, seconds: float = SECONDS) -> bytes:
        """
        @see: L{Client.step}; a link that is lost is replaced.
        """
        try:
            return super().step(seconds)
        except Lost:
            self.come_back()
            return b""

    def flush(self) -> None:
        """
        @see: L{Client.flush}; likewise.
        """
        try:
            super().flush()
        except Lost:
            self.come_back()

    def come_back(self) -> None:
        """
        RESUME, from the other address.
        """
        self.wires = self.wires[-1:]
        self.cuts += 1
        answer = self.resume((TRAIN, HOME)[self.cuts % 2])
        assert isinstance(answer, Resumed), answer


def places_in(frames: bytes) -> list[int]:
    """
    Where to cut a stream of frames.
    """
    places, place = set(range(0, len(frames) + 1, _STEP)), 0
    while place < len(frames):
        begin = place + HEADER_LENGTH
        end = begin + int.from_bytes(frames[place + 1 : begin], "big")
        places |= {place, place + 2}
        if frames[place] == FrameType.DATA:
            for found in re.finditer(rb"(\{\d+\+?\})?\r\n", frames[begin:end]):
                around = (0, 1, 2, 3) if found[1] else (2,)
                places |= {begin + found.end() - 2 + one for one in around}
        place = end
    return sorted(one for one in places if one <= len(frames))


class Cuts(GroundCase):
    """
    For either server.
    """

    def _play(self, client: Returning, cut_after: tuple[int, int] | None) -> bytes:
        """
        The dialogue, once.

        @return: what was heard.
        """
        client.settle(0.0)
        client.wire.count_from_now(cut_after, record=cut_after is None)
        begin = len(client.stream)
        if client.wire.ended:
            client.session.detach(client.now)
            client.come_back()
        client.begin_tags(100)
        client.call(b"EXAMINE INBOX")
        client.call(b"FETCH 1:2 (UID BODY.PEEK[])")
        draft = DRAFT % len(self.drafts)
        self.drafts.append(draft)
        client.call(b"APPEND Drafts {%d}" % len(draft), draft)
        client.call(b"IDLE", b"DONE")
        client.call(b"CLOSE")
        return _VARIES.sub(b"0", normalised(bytes(client.stream[begin:])))

    def test_scenario_10_cut_at_every_kind_of_place(self) -> None:
        """
        The transcript is the one of the uncut run wherever it is cut, and each draft is stored once.
        """
        self.deliver(*MAILS)
        self.drafts: list[bytes] = []
        port, authority = self.gateway.port, self.gateway.authority
        client = Returning(port, authority, self.user, self.server.users[self.user])
        self.addCleanup(client.close)
        client.begin(HOME, b"SELECT INBOX")
        self._play(client, None)
        uncut = self._play(client, None)
        self.assertTrue(all(mail in uncut for mail in MAILS))
        seen, runs = client.wire.seen, 2
        for direction in (TO_SERVER, TO_CLIENT):
            places = places_in(seen[direction])
            self.assertGreater(len(places), 30)
            for place in places:
                with about((direction, place)):
                    self.assertEqual(self._play(client, (direction, place)), uncut)
                runs += 1
        self.assertGreater(client.cuts, 0.9 * (runs - 2))
        self.assertEqual(self.stored(mailbox=b"Drafts"), self.drafts)
        self.server.wait_for_sessions(1, self.user)


class CutsOnDovecot(Cuts, OnDovecot):
    pass


class CutsOnCyrus(Cuts, OnCyrus):
    pass


del Cuts
