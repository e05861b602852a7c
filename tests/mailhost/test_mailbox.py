"""
Views of folders: numbers hold for each session, whatever the others do.
"""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.mail.imap4 import MailboxException, MessageSet, ReadOnlyMailbox
from twisted.mail.interfaces import IAccountIMAP, IMailboxIMAP, IMailboxIMAPListener, IMessageIMAP
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mem_continuity.mailhost import linking
from mem_continuity.mailhost.account import MaildirAccount, matches
from mem_continuity.mailhost.interfaces import IExpungeListener
from mem_continuity.mailhost.mailbox import MaildirMailbox
from mem_continuity.mailhost.realm import MaildirRealm


@implementer(IMailboxIMAPListener, IExpungeListener)
class Listener:
    """
    A session that keeps what it hears.
    """

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def modeChanged(self, writeable: bool) -> None:
        self.heard.append(("mode", writeable))

    def flagsChanged(self, newFlags: dict[int, list[str]]) -> None:
        self.heard.append(("flags", newFlags))

    def newMessages(self, exists: int | None, recent: int | None) -> None:
        self.heard.append(("new", exists, recent))

    def messagesVanished(self) -> None:
        self.heard.append("vanished")


class MailboxCase(SynchronousTestCase):
    """
    A user with two sessions.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.root = Path(self.mktemp())
        self.realm = MaildirRealm(self.root, self.clock)
        self.one, self.other = self.login(), self.login()

    def login(self) -> MaildirAccount:
        return self.realm.requestAvatar(b"joe", None, IAccountIMAP)[1]

    def select(self, account: MaildirAccount, name: str = "INBOX", rw: bool = True) -> tuple[MaildirMailbox, Listener]:
        view = account.select(name, rw)
        assert view is not None
        listener = Listener()
        view.addListener(listener)
        return view, listener

    def add(self, view: MaildirMailbox, content: bytes = b"Subject: x\r\n\r\n", flags: tuple[str, ...] = ()) -> int:
        uid: int = self.successResultOf(view.addMessage(BytesIO(content), flags))
        return uid

    def uids(self, view: MaildirMailbox) -> list[int]:
        return [view.getUID(number) for number in range(1, view.getMessageCount() + 1)]


class ViewTests(MailboxCase):
    """
    What each session sees.
    """

    def test_interfaces(self) -> None:
        view, _ = self.select(self.one)
        self.add(view)
        self.assertTrue(verifyObject(IMailboxIMAP, view))
        self.assertTrue(verifyObject(IAccountIMAP, self.one))
        ((_, message),) = view.fetch(MessageSet(1), False)
        self.assertTrue(verifyObject(IMessageIMAP, message))
        with self.assertRaises(IndexError):
            view.getUID(0)
        with self.assertRaises(IndexError):
            view.getUID(2)

    def test_new_mail_is_seen_by_all(self) -> None:
        mine, heard_mine = self.select(self.one)
        theirs, heard_theirs = self.select(self.other)
        self.assertEqual(self.add(mine), 1)
        self.assertEqual([mine.getMessageCount(), theirs.getMessageCount()], [1, 1])
        self.assertIn(("new", 1), [one[:2] for one in heard_mine.heard])
        self.assertIn(("new", 1), [one[:2] for one in heard_theirs.heard])

    def test_recent_is_given_once(self) -> None:
        mine, _ = self.select(self.one)
        theirs, _ = self.select(self.other)
        self.add(mine)
        self.assertEqual(mine.getRecentCount() + theirs.getRecentCount(), 1)
        self.assertEqual(self.select(self.login())[0].getRecentCount(), 0)

    def test_examine_takes_no_recent(self) -> None:
        self.add(self.select(self.one, rw=False)[0])
        self.assertEqual(self.select(self.other, rw=False)[0].getRecentCount(), 1)
        self.assertEqual(self.select(self.other)[0].getRecentCount(), 1)
        self.assertEqual(self.select(self.one)[0].getRecentCount(), 0)

    def test_expunged_by_another(self) -> None:
        mine, heard = self.select(self.one)
        theirs, _ = self.select(self.other)
        for _ in range(4):
            self.add(mine)
        theirs.store(MessageSet(2, 3), ["\\Deleted"], 1, False)
        self.assertEqual(theirs.expunge(), [3, 2])
        self.assertEqual(self.uids(theirs), [1, 4])
        self.assertEqual(heard.heard[-1], "vanished")
        self.assertEqual(self.uids(mine), [1, 2, 3, 4], "numbers hold until they are told")
        self.assertEqual([number for number, _ in mine.fetch(MessageSet(1, None), False)], [1, 4])
        self.assertEqual(self.add(theirs), 5)
        self.assertEqual(mine.getMessageCount(), 5)
        mine.store(MessageSet(4), ["\\Deleted"], 1, False)
        self.assertEqual(mine.expunge(), [4, 3, 2], "what others removed comes with its own")
        self.assertEqual(self.uids(mine), [1, 5])
        self.assertEqual(theirs.take_expunged(), [2])
        self.assertEqual(self.uids(theirs), [1, 5])

    def test_flags_are_told_to_others(self) -> None:
        mine, heard = self.select(self.one)
        theirs, heard_theirs = self.select(self.other)
        self.add(mine)
        heard.heard.clear()
        heard_theirs.heard.clear()
        self.assertEqual(mine.store(MessageSet(1), ["\\Seen"], 1, True), {1: ["\\Seen", "\\Recent"]})
        self.assertEqual(heard.heard, [])
        self.assertEqual(heard_theirs.heard, [("flags", {1: ["\\Seen"]})])
        theirs.store(MessageSet(1), ["\\Flagged"], 0, False)
        mine.store(MessageSet(1), ["\\Flagged"], -1, False)
        self.assertEqual(os.listdir(mine.folder.path / "cur")[0].partition(":")[2], "2,")

    def test_read_only(self) -> None:
        view, _ = self.select(self.one, rw=False)
        self.assertFalse(view.isWriteable())
        for act in (view.expunge, lambda: view.store(MessageSet(1), [], 0, False)):
            with self.assertRaises(ReadOnlyMailbox):
                act()

    def test_sets(self) -> None:
        view, _ = self.select(self.one)
        for _ in range(5):
            self.add(view)
        view.store(MessageSet(2), ["\\Deleted"], 1, False)
        view.expunge()
        self.assertEqual(self.uids(view), [1, 3, 4, 5])
        self.assertEqual(view.numbers_of(MessageSet(2, 4), True), [2, 3])
        self.assertEqual(view.numbers_of(MessageSet(100, None), True), [4], "the last one is always in n:*")
        self.assertEqual(view.numbers_of(MessageSet(2, 2**32 - 1), True), [2, 3, 4])
        self.assertEqual(view.numbers_of(MessageSet(3, 2**32 - 1), False), [3, 4])
        self.assertEqual(view.numbers_of(MessageSet(None), False), [4])
        empty, _ = self.select(self.one, "INBOX")
        empty.folder.deleted()
        empty.take_expunged()
        self.assertEqual(empty.numbers_of(MessageSet(1, None), True), [])

    def test_logout_ends_the_listening(self) -> None:
        view, listener = self.select(self.one)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.one.logout()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.add(view)
        self.assertEqual(listener.heard, [])


class OtherProgramTests(MailboxCase):
    """
    What others do to the folder on the disk.
    """

    def drop(self, name: str, content: bytes = b"Subject: dropped\n\nx\n") -> None:
        path = self.root / "joe"
        (path / "tmp" / name).write_bytes(content)
        (path / "tmp" / name).rename(path / "new" / name)

    def test_dropped_mail(self) -> None:
        view, listener = self.select(self.one)
        self.drop("1")
        self.assertEqual(listener.heard, [])
        self.clock.advance(5)
        self.assertEqual(listener.heard, [("new", 1, 1)])
        ((_, message),) = view.fetch(MessageSet(1), False)
        self.assertEqual(message.open().read(), b"Subject: dropped\r\n\r\nx\r\n")
        self.assertEqual(message.getSize(), 23)

    def test_unchanged_folder_is_not_listed(self) -> None:
        view, _ = self.select(self.one)
        for name in ("new", "cur"):
            os.utime(view.folder.path / name, (1e9, 1e9))
        view.folder.look()
        (view.folder.path / "new" / "sly").touch()
        os.utime(view.folder.path / "new", (1e9, 1e9))
        view.folder.look()
        self.assertEqual(view.getMessageCount(), 0)
        os.utime(view.folder.path / "new", (2e9, 1e9 + 1))
        view.folder.look()
        self.assertEqual(view.getMessageCount(), 1)

    def test_flags_and_removal(self) -> None:
        view, listener = self.select(self.one)
        self.drop("1")
        self.drop("2")
        view.folder.look()
        listener.heard.clear()
        cur = view.folder.path / "cur"
        (cur / "1:2,").rename(cur / "1:2,S")
        (cur / "2:2,").unlink()
        self.clock.advance(5)
        self.assertEqual(listener.heard, ["vanished", ("flags", {1: ["\\Seen", "\\Recent"]})])
        self.assertEqual(view.take_expunged(), [2])

    def test_renamed_under_our_feet(self) -> None:
        view, _ = self.select(self.one)
        self.drop("1")
        view.folder.look()
        cur = view.folder.path / "cur"
        (cur / "1:2,").rename(cur / "1:2,F")
        ((_, message),) = view.fetch(MessageSet(1), False)
        self.assertEqual(message.getSize(), 23)
        (cur / "1:2,F").rename(cur / "1:2,FR")
        view.store(MessageSet(1), ["\\Seen"], 1, False)
        self.assertEqual(os.listdir(cur), ["1:2,FRS"])

    def test_restart_keeps_uids(self) -> None:
        view, _ = self.select(self.one)
        for number in range(3):
            self.drop(str(number))
        view.folder.look()
        view.store(MessageSet(2), ["\\Deleted"], 1, False)
        view.expunge()
        self.drop("9")
        before = (view.getUIDValidity(), [1, 3, 4])
        self.one.logout()
        self.realm.close()
        realm = MaildirRealm(self.root, self.clock)
        again = realm.requestAvatar(b"joe", None, IAccountIMAP)[1].select("INBOX")
        assert again is not None
        self.assertEqual((again.getUIDValidity(), self.uids(again)), before)
        self.assertEqual(again.getUIDNext(), 5)
        self.assertEqual(again.getRecentCount(), 1)

    def test_crash_between_delivery_and_index(self) -> None:
        """
        The message is there, its UID is not: it gets one at the next look, and is there once.
        """
        view, _ = self.select(self.one)
        self.add(view)
        self.drop("crashed")
        self.one.logout()
        self.realm.close()
        again = MaildirRealm(self.root, self.clock).requestAvatar(b"joe", None, IAccountIMAP)[1].select("INBOX")
        assert again is not None
        self.assertEqual(self.uids(again), [1, 2])

    def test_one_realm_at_a_time(self) -> None:
        """
        Two would give the same UID to different messages.
        """
        error = self.assertRaises(BlockingIOError, MaildirRealm, self.root, self.clock)
        self.assertEqual(error.strerror, "it is in use by another server")
        self.realm.close()
        MaildirRealm(self.root, self.clock).close()

    def test_failed_append_leaves_nothing(self) -> None:
        view, _ = self.select(self.one)

        class Broken(BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                raise OSError(5, "Input/output error")

        self.failureResultOf(view.addMessage(Broken(), []), OSError)
        self.assertEqual([len(os.listdir(view.folder.path / name)) for name in ("tmp", "new", "cur")], [0, 0, 0])


class FolderTests(MailboxCase):
    """
    Making, naming and removing folders.
    """

    def names(self, pattern: str = "*") -> dict[str, list[str]]:
        return {name: info.getFlags() for name, info in self.one.listMailboxes("", pattern)}

    def test_create_list_delete(self) -> None:
        self.one.create("A.B.C")
        self.assertEqual(sorted(self.names()), ["A", "A.B", "A.B.C", "INBOX"])
        self.assertEqual(sorted(self.names("%")), ["A", "INBOX"])
        self.one.delete("A.B")
        self.assertEqual(self.names("A.%"), {"A.B": ["\\HasChildren", "\\Noselect"]})
        self.assertIsNone(self.one.select("A.B"))
        for act in (
            lambda: self.one.create("A"),
            lambda: self.one.create("../x"),
            lambda: self.one.delete("nope"),
            lambda: self.one.delete("Inbox"),
            lambda: self.one.rename("nope", "x"),
            lambda: self.one.rename("A", "A.B.C"),
            lambda: self.one.rename("A", "A.New"),
            lambda: self.one.unsubscribe("A"),
            lambda: self.one.subscribe("a/b"),
        ):
            with self.assertRaises(MailboxException):
                act()

    def test_deleted_and_made_again(self) -> None:
        self.one.create("A")
        view, listener = self.select(self.other, "A")
        self.add(view)
        self.one.delete("A")
        self.assertEqual(listener.heard[-1], "vanished")
        self.assertEqual(list(view.fetch(MessageSet(1, None), False)), [])
        self.clock.advance(60)
        self.one.create("A")
        again, _ = self.select(self.one, "A")
        self.assertGreater(again.getUIDValidity(), view.getUIDValidity())
        self.assertEqual(again.getMessageCount(), 0)
        self.failureResultOf(view.addMessage(BytesIO(b"x"), []), OSError)

    def test_rename_takes_all_along(self) -> None:
        self.one.create("A.B")
        view, _ = self.select(self.other, "A.B")
        self.add(view)
        self.one.rename("A", "X.Y")
        self.assertEqual(sorted(self.names()), ["INBOX", "X", "X.Y", "X.Y.B"])
        self.assertEqual(self.add(view), 2)
        again, _ = self.select(self.one, "X.Y.B")
        self.assertEqual(again.getMessageCount(), 2)
        self.assertEqual(again.getUIDValidity(), view.getUIDValidity())

    def test_subscriptions(self) -> None:
        self.one.create("Entwürfe")
        self.one.subscribe("Entwürfe")
        self.one.subscribe("inbox")
        self.assertTrue(self.other.isSubscribed("Entwürfe"))
        self.assertTrue(self.other.isSubscribed("INBOX"))
        self.other.unsubscribe("Entwürfe")
        self.assertFalse(self.one.isSubscribed("Entwürfe"))

    def test_patterns(self) -> None:
        self.assertTrue(matches("a%.*z", "abc.d.z"))
        self.assertFalse(matches("a%z", "a.z"))
        self.assertFalse(matches("a", "ab"))
        self.assertFalse(matches("*a" * 2000 + "b", "a" * 200))

    def test_copy(self) -> None:
        view, _ = self.select(self.one)
        self.one.create("A")
        target, listener = self.select(self.other, "A")
        for content in (b"1\r\n", b"2\r\n"):
            self.add(view, content, ("\\Seen",))
        messages = [message for _, message in view.fetch(MessageSet(1, None), False)]
        self.assertEqual(self.successResultOf(target.copy_all(messages)), [1, 2])
        self.assertEqual(self.successResultOf(target.copy(messages[0])), 3)
        copies = [(message.open().read(), message.entry.name.flags) for _, message in target.fetch(MessageSet(1, None), True)]
        self.assertEqual(copies, [(b"1\r\n", ("\\Seen",)), (b"2\r\n", ("\\Seen",)), (b"1\r\n", ("\\Seen",))])
        self.assertIn(("new", 2), [one[:2] for one in listener.heard])
        os.unlink(view.folder.find(messages[1].entry))
        self.failureResultOf(target.copy_all(messages), FileNotFoundError)
        self.assertEqual(target.take_expunged(), [4], "all or none")

    def test_copy_in_turns(self) -> None:
        """
        Many messages are copied some at a time; none is seen before the last is there, and they keep their order.
        """
        self.patch(linking, "_AT_ONCE", 2)
        view, _ = self.select(self.one)
        self.one.create("A")
        target, _ = self.select(self.other, "A")
        for number in range(5):
            self.add(view, b"%d\r\n" % number)
        messages = [message for _, message in view.fetch(MessageSet(1, None), False)]
        copied = target.copy_all(messages)
        self.assertNoResult(copied)
        target.folder.look()
        self.assertEqual(target.getMessageCount(), 0)
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(copied), [1, 2, 3, 4, 5])
        contents = [message.open().read() for _, message in target.fetch(MessageSet(1, None), True)]
        self.assertEqual(contents, [b"%d\r\n" % number for number in range(5)])
        (self.root / "joe" / ".A" / "new" / "later").write_bytes(b"x")
        target.folder.look()
        self.assertEqual(target.getMessageCount(), 6)

    def test_copy_is_interrupted(self) -> None:
        self.patch(linking, "_AT_ONCE", 2)
        view, _ = self.select(self.one)
        self.one.create("A")
        target, _ = self.select(self.other, "A")
        for _ in range(5):
            self.add(view)
        copied = target.copy_all([message for _, message in view.fetch(MessageSet(1, None), False)])
        self.one.delete("A")
        self.clock.pump([0] * 5)
        self.failureResultOf(copied, OSError)
        self.assertEqual(os.listdir(self.root / "joe" / "tmp"), [])
