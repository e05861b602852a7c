"""
Mail programs as their makers ship them, against Dovecot directly and through what is in the middle: both come to the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.gateway import GatewayProcess, upstream_of
from tests.interop.programs import fixture
from tests.interop.programs import target as target_module
from tests.interop.programs.aioimaplib_sync import AioImapLib
from tests.interop.programs.case import ProgramCase
from tests.interop.programs.curl import Curl
from tests.interop.programs.fetchmail import Fetchmail
from tests.interop.programs.getmail import Getmail
from tests.interop.programs.imapclient_sync import ImapClient
from tests.interop.programs.imapflow import ImapFlow
from tests.interop.programs.imaplib_sync import Imaplib
from tests.interop.programs.maildirs import LOCAL
from tests.interop.programs.mbsync import Mbsync
from tests.interop.programs.middle import Damage, Middle
from tests.interop.programs.mutt import Mutt
from tests.interop.programs.offlineimap import OfflineImap
from tests.interop.programs.program import Program
from tests.interop.programs.result import Result, differences, make_message
from tests.interop.programs.target import ProgramFailed, Target, execute


class SynchronisationTests(ProgramCase):
    """
    Each program with two accounts that are the same: one run goes directly, the other through the middle.
    """

    @contextlib.contextmanager
    def through(self, server: Target) -> Iterator[Target]:
        """
        A gateway in front of the server.
        """
        upstream = upstream_of(self.server.imaps_port, self.server.authority)
        with GatewayProcess(upstream) as gateway:
            yield dataclasses.replace(server, port=gateway.port, authority=gateway.authority)

    def check(self, program: Program) -> None:
        direct = self.run_program(program, self.target("ann"))
        self.check_complete(program, direct)
        with self.through(self.target("joe")) as target:
            self.check_equal(direct, self.run_program(program, target))

    def test_mbsync(self) -> None:
        self.check(Mbsync())

    def test_offlineimap(self) -> None:
        self.check(OfflineImap())

    def test_mutt(self) -> None:
        self.check(Mutt())

    def test_fetchmail(self) -> None:
        self.check(Fetchmail())

    def test_getmail(self) -> None:
        self.check(Getmail())

    def test_curl(self) -> None:
        self.check(Curl())

    def test_imaplib(self) -> None:
        self.check(Imaplib())

    def test_aioimaplib(self) -> None:
        self.check(AioImapLib())

    def test_imapclient(self) -> None:
        self.check(ImapClient())

    def test_imapflow(self) -> None:
        self.check(ImapFlow())


class DamageTests(ProgramCase):
    """
    A middle that changes an octet does not go unnoticed.
    """

    def test_octets(self) -> None:
        """
        Of a message, of a flag, and of a message that is uploaded.  curl is the program that does not compress.
        """
        program = Curl()
        direct = self.run_program(program, self.target("ann"))
        octets = fixture.items()[26].octets[-40:-10]
        down = Damage(octets, bytes([octets[0] ^ 1]) + octets[1:]), Damage(b"\\Recent Wichtig)", b"\\Recent Wichtog)")
        up = Damage(b"Subject: made here", b"Subject: made hers")
        with Middle(self.target("joe"), down=down, up=[up]) as middle:
            through = self.run_program(program, middle.target)
        self.assertTrue(all(damage.done for damage in (*down, up)))
        found = Counter(line.partition(" has ")[0] for line in differences(direct, through))
        pairs = "brought, INBOX", "brought, Archive/2023/Z&APw-rich", "left, Two  words"
        self.assertEqual(found, Counter(f"{place}: only the {who}" for place in pairs for who in ("first", "second")))

    def test_nothing(self) -> None:
        """
        The same middle, without damage.
        """
        program = Curl()
        with Middle(self.target("joe")) as middle:
            through = self.run_program(program, middle.target)
        self.check_complete(program, through)
        self.check_equal(self.run_program(program, self.target("ann")), through)


class ComparisonTests(SynchronousTestCase):
    """
    The comparison and the damage, without programs.
    """

    def test_lines_of_the_programs(self) -> None:
        """
        A program's own header lines do not count, but in a body they do.
        """
        plain = make_message(b"A: b\r\n\r\nX-TUID: 1\r\n")
        self.assertEqual(make_message(b"X-TUID: 12\r\nA: b\r\n\r\nX-TUID: 1\r\n"), plain)
        self.assertNotEqual(make_message(b"A: b\r\n\r\nX-TUID: 2\r\n"), plain)

    def test_line_ends(self) -> None:
        """
        Two contents that differ in their line ends alone are the same, but not the two messages.
        """
        one, other = make_message(b"A: b\r\n\r\nc\r\n"), make_message(b"A: b\n\nc\n")
        self.assertEqual(one.content, other.content)
        self.assertNotEqual(one.exact, other.exact)

    @given(st.data())
    def test_any_octet(self, data: st.DataObject) -> None:
        """
        A message in which one octet is another one is a difference.
        """
        octets = LOCAL.replace(b"\n", b"\r\n")
        place = data.draw(st.integers(0, len(octets) - 1))
        change = data.draw(st.integers(1, 255))
        other = octets[:place] + bytes([octets[place] ^ change]) + octets[place + 1 :]
        results = [Result({"INBOX": (make_message(one),)}, {}) for one in (octets, other)]
        self.assertEqual(len(differences(*results)), 2)

    def test_flags_order_and_mailboxes(self) -> None:
        a, b = make_message(b"a", ["\\Seen", "\\Recent"], 1), make_message(b"b")
        self.assertEqual(a, make_message(b"a", ["\\Seen"], 1))
        start = Result({"x": (a, b)}, {"y": ()})
        self.assertEqual(differences(start, start), [])
        for other in (
            Result({"x": (b, a)}, {"y": ()}),
            Result({"x": (make_message(b"a", [], 1), b)}, {"y": ()}),
            Result({"x": (make_message(b"a", ["\\Seen"], 2), b)}, {"y": ()}),
            Result({"x": (a,)}, {"y": ()}),
            Result({"x": (a, a, b)}, {"y": ()}),
            Result({"x": (a, b)}, {}),
            Result({"x": (a, b)}, {"y": (b,)}),
        ):
            self.assertNotEqual(differences(start, other), [])

    @given(st.lists(st.binary(max_size=8)), st.sampled_from([b"ababc", b"a", b"bc"]))
    def test_damage(self, around: list[bytes], old: bytes) -> None:
        """
        It is done once, wherever the pieces are cut, and nothing is kept back for good.
        """
        pieces = [*around, b"abab", b"c", *around]
        damage = Damage(old, b"?" * len(old))
        passed = b"".join(map(damage.stream(), pieces))
        whole = b"".join(pieces).replace(old, b"?" * len(old), 1)
        self.assertTrue(damage.done)
        self.assertEqual(passed, whole)


class ExecuteTests(SynchronousTestCase):
    """
    A program that does not do well is not taken for one that does.
    """

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory(prefix="programs-")
        self.addCleanup(place.cleanup)
        self.folder = Path(place.name)

    def shell(self, script: str, tolerated: bytes = b"") -> bytes:
        return execute(["sh", "-c", script], self.folder, tolerated=tolerated)

    def test_well(self) -> None:
        """
        Its home is the folder, nothing of our environment is there, and what is put before it is run.
        """
        self.patch(os, "environ", {**os.environ, "SECRET": "here"})
        self.assertEqual(self.shell('echo "$HOME $SECRET"'), f"{self.folder} \n".encode())
        self.assertEqual(execute(["hello"], self.folder, within=["echo", "within"]), b"within hello\n")

    def test_trouble(self) -> None:
        self.assertIn("oh", str(self.assertRaises(ProgramFailed, self.shell, "echo oh >&2")))
        self.assertIn("status 3", str(self.assertRaises(ProgramFailed, self.shell, "exit 3")))
        self.assertEqual(self.shell("echo oh >&2", rb"oh\n"), b"")
        self.assertRaises(ProgramFailed, self.shell, "echo oh no >&2", rb"oh")

    def test_hanging(self) -> None:
        """
        It is ended, and so are its children: the pipe that they hold is closed.
        """
        self.patch(target_module, "PATIENCE", 0.2)
        self.assertIn("did not end", str(self.assertRaises(ProgramFailed, self.shell, "sleep 1000 & sleep 1000")))


class FixtureTests(SynchronousTestCase):
    """
    The account is odd in the ways that it says.
    """

    def test_messages(self) -> None:
        items = fixture.items()
        self.assertEqual(Counter(item.mailbox for item in items), Counter(fixture.MAILBOXES))
        self.assertEqual(len(items), 150)
        for item in items:
            self.assertNotIn(b"\0", item.octets)
            self.assertNotIn(b"\n", item.octets.replace(b"\r\n", b""))
            self.assertNotIn(b"\r", item.octets.replace(b"\r\n", b""))
        self.assertEqual(len({item.octets for item in items}), 150)
        self.assertGreater(max(len(item.octets) for item in items), fixture.BIG * 0.99)
        self.assertTrue(any(not item.octets.endswith(b"\n") for item in items))
        self.assertTrue(any(one > 127 for item in items[:13] for one in item.octets))
        self.assertEqual(sum(b"Message-ID: <8@a.example>" in item.octets for item in items), 2)
