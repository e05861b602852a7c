"""
The Maildir format: names, flags, folders, delivery and what a crash leaves.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.mailhost import maildir
from mem_continuity.mailhost.maildir import Delivery, FolderNameError, Name
from mem_continuity.mailhost.realm import user_directory

FLAGS = st.sets(st.sampled_from(sorted(maildir.LETTERS)))
BASES = st.text(st.characters(exclude_characters=":/\0", exclude_categories=("Cs", "Cc")), min_size=1)


class NameTests(SynchronousTestCase):
    """
    File names and flags.
    """

    @given(BASES, FLAGS)
    def test_round_trip(self, base: str, flags: set[str]) -> None:
        name = Name(base).with_flags(flags)
        again = Name.parse(name.filename)
        self.assertEqual(again, name)
        self.assertEqual(set(again.flags), flags)
        self.assertEqual(list(again.letters), sorted(again.letters))

    @given(BASES, FLAGS, st.sets(st.sampled_from("abcPXZ")))
    def test_letters_of_others_are_kept(self, base: str, flags: set[str], foreign: set[str]) -> None:
        name = Name(base, "".join(sorted(foreign))).with_flags(flags)
        self.assertLessEqual(foreign, set(name.with_flags(()).letters))
        self.assertEqual(set(name.flags), flags)

    def test_flags_without_regard_to_case(self) -> None:
        self.assertEqual(Name("x").with_flags(["\\sEEN", "$Junk", "\\Recent"]).filename, "x:2,S")

    def test_other_information(self) -> None:
        self.assertEqual(Name.parse("x:1,abc").flags, ())
        self.assertEqual(Name.parse("x").flags, ())

    def test_wire_size(self) -> None:
        self.assertEqual(Name.parse("1.a.host,S=12,W=14:2,S").wire_size, 14)
        self.assertIsNone(Name.parse("1.a.host,S=12,W=x").wire_size)


class FolderNameTests(SynchronousTestCase):
    """
    Mailbox names and the directories they become.
    """

    @given(st.text(min_size=1, max_size=40))
    def test_never_leaves_the_maildir(self, name: str) -> None:
        try:
            directory = maildir.folder_directory(name)
        except FolderNameError as error:
            self.assertTrue(str(error).isascii())
            return
        self.assertNotIn("/", directory)
        self.assertNotIn("\0", directory)
        self.assertNotIn("..", directory)
        self.assertLessEqual(len(directory), 200)
        if directory:
            read = maildir.folder_name(directory)
            assert read is not None
            self.assertEqual(maildir.folder_directory(read), directory)

    def test_refused(self) -> None:
        for name in ("", ".", "..", ".x", "x.", "a..b", "../x", "a/b", "/etc", "a\0b", "a\nb", "a*", "%", "x" * 300, "\ud800"):
            with self.assertRaises(FolderNameError, msg=name):
                maildir.folder_directory(name)

    def test_inbox(self) -> None:
        self.assertEqual(maildir.folder_directory("iNbOx"), "")
        self.assertEqual(maildir.folder_directory("inbox.A"), ".INBOX.A")

    def test_modified_utf7(self) -> None:
        self.assertEqual(maildir.folder_directory("Entwürfe.Täglich & so"), ".Entw&APw-rfe.T&AOQ-glich &- so")
        self.assertEqual(maildir.folder_name(".Entw&APw-rfe"), "Entwürfe")
        self.assertIsNone(maildir.folder_name(".&AEE-"), "not the one spelling of that name")

    @given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
    def test_users_do_not_meet(self, one: str, other: str) -> None:
        try:
            first, second = user_directory(one), user_directory(other)
        except ValueError:
            return
        self.assertEqual(first == second, one == other)
        for directory in (first, second):
            self.assertNotIn("/", directory)
            self.assertFalse(directory.startswith("."))


class DeliveryTests(SynchronousTestCase):
    """
    New messages.
    """

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        maildir.make_maildir(self.path)

    def _files(self) -> list[str]:
        return sorted(f"{one.parent.name}/{one.name}" for one in self.path.glob("*/*"))

    def test_committed(self) -> None:
        delivery = Delivery(self.path)
        delivery.write(b"Subject: x\r\n")
        delivery.write(b"\r\n")
        delivery.sync()
        self.assertEqual(delivery.commit(self.path, ["\\Seen"], 1e9)[0], "cur")
        (path,) = (self.path / "cur").iterdir()
        self.assertEqual(path.read_bytes(), b"Subject: x\r\n\r\n")
        self.assertEqual(Name.parse(path.name).wire_size, 14)
        self.assertEqual(path.stat().st_mtime, 1e9)
        delivery.discard()
        self.assertEqual(len(self._files()), 1)

    def test_without_flags_it_is_new(self) -> None:
        delivery = Delivery(self.path)
        delivery.sync()
        self.assertEqual(delivery.commit(self.path, [], None)[0], "new")

    def test_bare_line_feeds_have_no_known_size(self) -> None:
        delivery = Delivery(self.path)
        delivery.write(b"Subject: x\n\n")
        delivery.sync()
        self.assertIsNone(Name.parse(delivery.commit(self.path, [], None)[1]).wire_size)

    def test_discarded_and_forgotten(self) -> None:
        delivery = Delivery(self.path)
        delivery.write(b"x")
        delivery.discard()
        self.assertEqual(self._files(), [])
        delivery = Delivery(self.path)
        self.assertEqual(len(self._files()), 1)
        del delivery
        self.assertEqual(self._files(), [])

    def test_crashed_delivery(self) -> None:
        """
        A process that is gone before the rename leaves a file in tmp, which is no message and goes in time.
        """
        child = os.fork()
        if not child:
            delivery = Delivery(self.path)
            delivery.write(b"half")
            os._exit(0)
        os.waitpid(child, 0)
        self.assertEqual([one.split("/")[0] for one in self._files()], ["tmp"])
        self.assertEqual(maildir.listing(self.path), {})
        maildir.clear_stale(self.path, time.time())
        self.assertEqual(len(self._files()), 1)
        maildir.clear_stale(self.path, time.time() + maildir.STALE_AFTER + 60)
        self.assertEqual(self._files(), [])

    def test_names_that_are_no_messages(self) -> None:
        for name in (".hidden", "line\nfeed"):
            (self.path / "new" / name).touch()
        self.assertEqual(maildir.listing(self.path), {})
