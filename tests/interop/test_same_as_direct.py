"""
A client behind a thing in the middle gets the same octets as one that talks to the server itself.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.comparing import NOT_COMPARED, OF_GATEWAY, UNCHANGED, Words, differences
from tests.interop.dialogues import DIALOGUES, fill
from tests.interop.dovecot import Dovecot
from tests.interop.middles import (
    Middle,
    flip,
    forwarder,
    gateway,
    gateway_with_starttls,
    lose,
    nothing,
    nothing_with_starttls,
    nothing_without_tls,
)
from tests.interop.player import Exchange, Place, Player

UIDVALIDITY = "7f000000"
"""In the far future: below the present time Dovecot takes that for a new mailbox, above it just counts on."""
USED_BY: dict[bytes, str] = {
    b"IMAP4rev1": "NOOP",
    b"SASL-IR": "PLAIN",
    b"LOGIN-REFERRALS": "LOGIN",
    b"URL-PARTIAL": "CATENATE .*PARTIAL=",
    b"URLAUTH": "GENURLAUTH",
    b"URLAUTH=BINARY": "URLFETCH .*BODYPARTSTRUCTURE",
    b"SORT=DISPLAY": "DISPLAYFROM",
    b"MULTIAPPEND": r"APPEND .*\{\d+\+\}.*\{\d+\+\}",
    b"CHILDREN": r"RETURN \(CHILDREN",
    b"UIDPLUS": "UID EXPUNGE",
    b"LIST-EXTENDED": r"LIST \(",
    b"I18NLEVEL=1": "SEARCH CHARSET",
    b"CONDSTORE": "UNCHANGEDSINCE",
    b"QRESYNC": r"\(QRESYNC",
    b"ESEARCH": "SEARCH RETURN",
    b"ESORT": "SORT RETURN",
    b"SEARCHRES": r"RETURN \(SAVE\)",
    b"WITHIN": "OLDER",
    b"CONTEXT=SEARCH": r"RETURN \(UPDATE",
    b"LIST-STATUS": r"LIST .*RETURN \(STATUS",
    b"BINARY": r"BINARY\.PEEK",
    b"SNIPPET=FUZZY": "SNIPPET",
    b"PREVIEW=FUZZY": r"PREVIEW \(LAZY",
    b"STATUS=SIZE": r"STATUS .*SIZE\)",
    b"LITERAL+": r"\{\d+\+\}",
    b"METADATA": "SETMETADATA",
    b"SPECIAL-USE": r"\(SPECIAL-USE\)",
    b"QUOTA": "GETQUOTA",
    b"ACL": "SETACL",
    b"RIGHTS=texk": "MYRIGHTS",
}
"""What a dialogue says to use an extension.  Those that are not here are used by a command with the words of their name."""


class DialogueTestCase(SynchronousTestCase):
    """
    Two servers that are the same, and a user's mail as it is before each dialogue.
    """

    timeout = 120

    def setUp(self) -> None:
        self.servers = [Dovecot(), Dovecot()]
        for server in self.servers:
            self.addCleanup(server.close)
            server.start()
        self.template = Path(tempfile.mkdtemp(prefix="mail-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.template)
        first = self.servers[0]
        with Player(Place(first.host, first.imap_port)) as player:
            player.greeting()
            fill(player)
            player.command("LOGOUT")
            player.ended()
        refused = [one for one in player.record if re.search(rb"^\S+ (NO|BAD) ", one.answered, re.MULTILINE)]
        self.assertEqual(refused, [])
        first.wait_for_sessions(0)
        shutil.copytree(first.mail / "alice", self.template, dirs_exist_ok=True)
        for one in self.template.rglob("dovecot-uidvalidity*"):
            if one.suffix:
                one.rename(one.with_suffix("." + UIDVALIDITY))
            else:
                one.write_text(UIDVALIDITY)

    def run_all(self, server: Dovecot, middle: Middle, names: Iterable[str] = DIALOGUES) -> dict[str, list[Exchange]]:
        """
        Play dialogues, each on fresh mailboxes.

        @return: the exchanges of each.  One that broke off has those up to there.
        """
        records: dict[str, list[Exchange]] = {}
        with middle(server) as place:
            for name in names:
                server.wait_for_sessions(0)
                server.restore("alice", self.template)
                with Player(place) as player:
                    records[name] = player.record
                    try:
                        player.greeting()
                        DIALOGUES[name](player)
                    except (EOFError, OSError, ValueError) as error:
                        text = repr(error) if isinstance(error, ValueError) else ""
                        player.record.append(Exchange(b"<broken off>", text.encode()))
            server.wait_for_sessions(0)
        return records

    def same(
        self, first: Middle, second: Middle, words: Words = UNCHANGED, names: Iterable[str] = DIALOGUES
    ) -> dict[str, list[Exchange]]:
        """
        Compare two middles, in front of a server each, at the same time: mostly it is waited.

        @return: the record of the first one, which should be as good as none.
        """
        with ThreadPoolExecutor(2) as pool:
            one, other = pool.map(self.run_all, self.servers, (first, second), (names, names))
        found = differences(one, other, words)
        if found:
            self.fail("\n".join(found))
        return one


class WithoutGateway(DialogueTestCase):
    """
    The test of the test.
    """

    def test_direct(self) -> None:
        """
        Two runs with nothing in the middle are the same; each goes to its end, and together they use all that the server offers.
        """
        record = self.same(nothing, nothing)
        exchanges = [one for name in record for one in record[name]]
        asked = b"\n".join(one.asked.replace(b"\r\n", b" ") for one in exchanges)
        commands = re.findall(rb"^[ab]\d+ ", b"\n".join(one.asked for one in exchanges), re.MULTILINE)
        self.assertGreater(len(commands), 400)
        self.assertEqual([one for one in exchanges if b"<nothing comes>" in one.answered], [])
        self.assertEqual([name for name in record if record[name][-1].asked == b"<broken off>"], [])
        (offered,) = re.findall(rb"\* CAPABILITY (.*)\r\n", record["any_state"][2].answered)
        unused = [
            word
            for word in offered.split()
            if not re.search(USED_BY.get(word, word.replace(b"=", b" ").decode("ascii")).encode("ascii"), asked)
        ]
        self.assertEqual(unused, [])

    def test_through_a_forwarder(self) -> None:
        """
        Nor does a forwarder that changes nothing make a difference.
        """
        names = [name for name in DIALOGUES if "bad" not in name]
        self.same(nothing_without_tls, forwarder(lambda _, octets: octets), names=names)

    def test_tampering(self) -> None:
        """
        One octet that is changed or lost is found, wherever it is.
        """
        name = "everything_at_once"
        server = self.servers[0]
        direct = self.run_all(server, nothing_without_tls, [name])
        length = sum(len(one.answered) for one in direct[name])
        for at in (3, 60, 700, length // 3, length // 2, length * 3 // 4, length - 200):
            for change in (flip, lose):
                found = differences(direct, self.run_all(server, forwarder(change(at)), [name]))
                self.assertEqual(len(found), 1, f"{change.__name__} at {at}")

    def test_each_exception_is_needed(self) -> None:
        """
        No pattern of what is not compared is there without need.
        """
        record = self.run_all(self.servers[0], nothing, ["any_state", "catenating", "fetching"])
        octets = b"".join(one.answered for name in record for one in record[name])
        self.assertEqual([one.reason for one in NOT_COMPARED if not one.pattern.search(octets)], [])


class ThroughGateway(DialogueTestCase):
    """
    The gateway.
    """

    def test_tls(self) -> None:
        """
        TLS on both sides.
        """
        self.same(nothing, gateway, OF_GATEWAY)

    def test_starttls(self) -> None:
        """
        STARTTLS on both sides.
        """
        names = [name for name in DIALOGUES if "bad" not in name]
        self.same(nothing_with_starttls, gateway_with_starttls, OF_GATEWAY, names)
