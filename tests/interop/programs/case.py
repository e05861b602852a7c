"""
What tests of mail programs have in common: a Dovecot, and accounts that are the same.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.dovecot import Dovecot
from tests.interop.programs import fixture
from tests.interop.programs.program import Program, inventory
from tests.interop.programs.result import Mailboxes, Result, contents, differences
from tests.interop.programs.target import PATIENCE, Target

USERS = {"ann": "ann's pass word", "joe": "joe's pass word"}


@cache
def template() -> Path:
    """
    The mail folder of an account with the fixture, as L{Dovecot.restore} takes it; made once in a process, gone with it.

    @raise AssertionError: Dovecot does not come to an end with it.
    """
    place = tempfile.TemporaryDirectory(prefix="programs-")
    atexit.register(place.cleanup)
    with Dovecot(users=USERS) as server:
        fixture.fill(_target(server, "ann"))
        until = time.monotonic() + PATIENCE
        while server.sessions("ann"):
            assert time.monotonic() < until, "Dovecot does not end a session after LOGOUT"
            time.sleep(0.01)
        return shutil.copytree(server.mail / "ann", Path(place.name, "mail"))


def _target(server: Dovecot, user: str) -> Target:
    return Target("localhost", server.imaps_port, server.authority, user, USERS[user])


class ProgramCase(SynchronousTestCase):
    """
    Runs programs.  All blocks, so whatever is in the middle must not need the reactor of the test.

    @ivar server: the Dovecot.
    @ivar folder: gone after the test.
    """

    timeout: ClassVar[float] = 4 * PATIENCE

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory(prefix="programs-")
        self.addCleanup(place.cleanup)
        self.folder = Path(place.name)
        filled = template()
        self.server = Dovecot(users=USERS).start()
        self.addCleanup(self.server.close)
        for user in USERS:
            self.server.restore(user, filled)

    def target(self, user: str) -> Target:
        """
        A user's account, directly.
        """
        return _target(self.server, user)

    def look(self, user: str) -> Mailboxes:
        """
        What is in a user's account, directly.
        """
        return inventory(self.target(user), Path(tempfile.mkdtemp(dir=self.folder)))

    def run_program(self, program: Program, target: Target, within: Sequence[str] = ()) -> Result:
        """
        One run in a folder of its own.
        """
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        return program.run(target, folder, within, lambda: self.look(target.user))

    def check_complete(self, program: Program, result: Result) -> None:
        """
        The program has brought everything, as far as it can, and has changed something on the server.
        """
        expected = {name: found for name, found in fixture.expected().items() if name not in program.misses}
        brought = {name: found for name, found in contents(result.brought).items() if name in expected}
        if program.alters:
            self.assertEqual(_counts(brought), _counts(expected))
            same = sum((brought[name] & expected[name]).total() for name in expected)
            self.assertGreater(same, sum(_counts(expected).values()) * 0.8, "nearly all messages are kept as they are")
        else:
            self.assertEqual(brought, expected)
        self.assertNotEqual(contents(result.left), fixture.expected())

    def check_equal(self, one: Result, other: Result) -> None:
        """
        Two runs came to the same.
        """
        self.assertEqual(differences(one, other), [])
        self.assertEqual(one, other)


def _counts(found: dict[str, Counter[str]]) -> dict[str, int]:
    return {name: messages.total() for name, messages in found.items()}
