"""
The steps of the change request as assertions over what was on the wire; L{test_change_request} runs them for each way of moving.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.directory.memory import MemoryDirectory
from mem_continuity.directory.record import ClientID, Record
from tests.support.raw_client import RawClient
from tests.support.site import Site
from tests.support.wires import Event, Wire

HOME, TARGET = "192.0.2.1", "203.0.113.1"
"""The client's addresses on the network that it leaves and on the target network."""

CLIENT_ID = ClientID(b"UUID", b"23bf83be-aad8-46aa-9f0b-39191ccd402f")


class WatchedDirectory(MemoryDirectory):
    """
    The buffer of all active clients, with a note in the trace of every look into it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trace: list[Event] = []

    def find(self, user: bytes, client_id: ClientID) -> Sequence[Record]:
        found = super().find(user, client_id)
        self.trace.append(Event("directory", "found" if found else "missed", client_id.value))
        return found


class Steps(SynchronousTestCase):
    """
    The steps; L{move} is what differs.

    @ivar request: the octets that ask for the session, on the new link.
    @ivar answer: how the answer begins.
    """

    site: Site
    directory: WatchedDirectory
    old: Wire
    new: Wire
    request: bytes
    answer: bytes
    records_before: Sequence[Record]

    def begin(self) -> None:
        """
        A client works on its old link.
        """
        raise NotImplementedError

    def ask(self) -> None:
        """
        It asks for its session on the new link, where everything is still to do, and reads the answer.
        """
        raise NotImplementedError

    def talk(self, line: bytes, old: bool = False) -> bytes:
        """
        It says a command on the new link, or, before it moves, on the old one.
        """
        raise NotImplementedError

    def old_link_told(self) -> list[bytes]:
        """
        What the old link is told at its end.
        """
        raise NotImplementedError

    def setUp(self) -> None:
        self.directory = WatchedDirectory()
        self.site = Site(directory=self.directory)
        self.directory.trace = self.site.trace
        other = RawClient(self.site, client_id=b"UUID another-client-of-this-user").begin("192.0.2.200")
        other.call(b"SELECT INBOX")
        self.site.mailbox().deliver(b"a message")
        self.begin()
        self.talk(b"SELECT INBOX", old=True)
        self.records_before = MemoryDirectory.find(self.directory, b"joe", CLIENT_ID)
        self.new = self.site.connect(TARGET, greet=False)
        self.still_works = self.talk(b"NOOP", old=True)
        self.mark = len(self.site.trace)
        self.ask()
        self.asked = len(self.site.trace)
        self.fetched = self.talk(b"FETCH 1 (UID)")

    def index(self, link: Wire | str, who: str, fits: Callable[[bytes], bool] = lambda octets: True) -> int:
        """
        Where in the trace something happened first, since the client asked for its session.
        """
        name = link if isinstance(link, str) else link.name
        for place in range(self.mark, len(self.site.trace)):
            event = self.site.trace[place]
            if (event.link, event.who) == (name, who) and fits(event.octets):
                return place
        raise AssertionError(f"nothing like that: {name} {who} in {self.site.trace[self.mark :]}")

    def on(self, link: Wire, who: str) -> list[bytes]:
        """
        All that a link carried in one direction since the client asked.
        """
        return [event.octets for event in self.site.trace[self.mark :] if (event.link, event.who) == (link.name, who)]

    # The server

    def test_server_1_sets_up_another_link(self) -> None:
        """
        A second link stands beside the first at the client's request, and the first works on meanwhile.
        """
        self.assertIsNot(self.new.link, self.old.link)
        self.assertEqual((self.old.host, self.new.host), (HOME, TARGET))
        self.assertIn(b" OK NOOP", self.still_works)

    def test_server_2_receives_a_new_session_on_it(self) -> None:
        """
        The request comes on the new link, before anything became of the old one.
        """
        asked = self.index(self.new, "C", lambda octets: self.request in octets)
        self.assertEqual([event for event in self.site.trace[self.mark : asked] if event.link == self.old.name], [])

    def test_server_3_finds_the_record(self) -> None:
        """
        The record is found under user and client ID among those of all active clients, and it names the session and its state.
        """
        (record,) = self.records_before
        self.assertEqual((record.user, record.client_id), (b"joe", CLIENT_ID))
        assert record.selection is not None
        self.assertEqual((record.selection.name, record.selection.read_only, record.selection.uid_validity), (b"INBOX", False, 7))
        self.assertGreater(len(self.directory), 1)
        self.found(record)

    def test_server_4_answers(self) -> None:
        """
        The answer comes on the new link, after the request, and is the first thing that the server does there about it.
        """
        asked = self.index(self.new, "C", lambda octets: self.request in octets)
        answered = self.index(self.new, "S", lambda octets: self.answer in octets)
        self.assertLess(asked, answered)
        between = [event for event in self.site.trace[asked + 1 : answered] if event.link == self.old.name]
        self.assertEqual(between, [])

    def test_server_5_grafts_the_state(self) -> None:
        """
        The new link is in the selected state, without a SELECT; there is one login's avatar, and one link has the mailbox.
        """
        self.assertIn(b"* 1 FETCH (UID 1)\r\n", self.fetched)
        self.assertFalse(any(b"SELECT" in octets for octets in self.on(self.new, "C")))
        (record,) = MemoryDirectory.find(self.directory, b"joe", CLIENT_ID)
        assert record.selection is not None
        self.assertEqual((record.selection.name, record.selection.uid_validity), (b"INBOX", 7))
        self.assertEqual(len(self.site.mailbox().listeners), 2)  # this client's and the other one's
        self.site.mailbox().deliver(b"more")
        self.site.settle()
        self.assertIn(b"* 2 EXISTS\r\n", self.new.heard)
        self.assertNotIn(b"* 2 EXISTS\r\n", self.old.heard)

    def test_server_6_talks_on_the_new_link(self) -> None:
        """
        Commands are answered on the new link, and nothing of them on the old one.
        """
        self.assertRegex(self.talk(b"FETCH 1 (FLAGS)"), rb"FETCH \(FLAGS \(\)\)\r\n[^ ]+ OK FETCH")
        self.assertFalse(any(b"FLAGS" in octets for octets in self.on(self.old, "S")))

    def test_server_7_disconnects_the_old_link(self) -> None:
        """
        The old link is told what became of it and closed, only after the answer and the first octets on the new link stand; and
        the client has closed nothing.
        """
        answered = self.index(self.new, "S", lambda octets: self.answer in octets)
        closed = self.index(self.old, "closed")
        self.assertLess(answered, closed)
        self.assertEqual(self.on(self.old, "S"), self.old_link_told())
        if self.old_link_told():
            told = self.index(self.old, "S")
            self.assertTrue(answered < told < closed)
        self.assertFalse(any(event.who == "lost" for event in self.site.trace))
        self.assertTrue(self.old.lost)

    # The client

    def test_client_1_sets_up_a_new_link(self) -> None:
        """
        From its address on the target network, while it still has the old one.
        """
        self.assertEqual(self.new.host, TARGET)
        self.assertGreater(self.index(self.old, "closed"), self.mark)

    def test_client_2_requests_a_new_session(self) -> None:
        """
        On the new link.
        """
        self.assertTrue(any(self.request in octets for octets in self.on(self.new, "C")))
        self.assertEqual(self.on(self.old, "C"), [])

    def test_client_3_receives_the_answer(self) -> None:
        """
        On the new link, before it says anything else there.
        """
        asked = self.index(self.new, "C", lambda octets: self.request in octets)
        answered = self.index(self.new, "S", lambda octets: self.answer in octets)
        said = [event for event in self.site.trace[asked + 1 : answered] if event.who == "C"]
        self.assertEqual(said, [])
        self.assertIn(self.answer, self.new.heard)

    def test_client_4_talks_on_the_new_link(self) -> None:
        """
        And nowhere else.
        """
        self.assertRegex(self.fetched, rb"\* 1 FETCH \(UID 1\)\r\n[^ ]+ OK FETCH")
        self.assertEqual(self.on(self.old, "C"), [])

    def found(self, record: Record) -> None:
        """
        That the record was found, in the way of this flow.
        """
        raise NotImplementedError
