"""
What an account's description takes, and what it says to what it does not take.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.agent.accounts import DEFAULT_LISTEN, AccountSpec, parse_client_id, parse_server, read_accounts
from mem_continuity.agent.identity import find_client_id


class AccountsTests(SynchronousTestCase):
    """
    The file.
    """

    def read(self, text: str) -> list[AccountSpec]:
        self.path = Path(self.mktemp())
        self.path.write_text(text, "utf-8")
        return read_accounts(str(self.path))

    def test_whole(self) -> None:
        first, second = self.read(
            '[accounts.work]\nserver = "tls:imap.example.org"\nlisten = ["tcp:1", "unix:x"]\nnetworks = ["wlan*", "wwan0"]\n'
            'metered = ["wwan*"]\nignored = ["docker*"]\nclient_id = "UUID/23"\nprepare = true\n'
            '[accounts."joe@example.com"]\nserver = "starttls:mail.example.com:1143"\n'
        )
        wanted = AccountSpec(
            "work",
            parse_server("tls:imap.example.org"),
            ("tcp:1", "unix:x"),
            ("wlan*", "wwan0"),
            ("wwan*",),
            ("docker*",),
            (b"UUID", b"23"),
            True,
        )
        self.assertEqual(first, wanted)
        self.assertEqual((second.name, second.listen, second.client_id), ("joe@example.com", (DEFAULT_LISTEN,), None))
        self.assertEqual(second.server.label, "starttls:mail.example.com:1143")

    def test_mistakes(self) -> None:
        """
        Each in one line that names the file and the place.
        """
        server = 'server = "tls:a.example"\n'
        for text, said in (
            ("", "there is no account; add [accounts.NAME]"),
            ("x = 1", "there is no 'x'; write [accounts.NAME]"),
            ("accounts = 1", "there is no account"),
            ("[accounts", "is no TOML"),
            ("[accounts.a]\n", "accounts.a: server is missing"),
            ("[accounts.a]\nserver = 5", "accounts.a: server is missing"),
            ("[accounts]\na = 1", "accounts.a: write [accounts.a]"),
            ('[accounts."a b"]\n' + server, "a name is of letters"),
            ("[accounts.a]\nsever = 1\n" + server, "accounts.a: there is no 'sever'; there are client_id,"),
            ('[accounts.a]\nserver = "tls:"', "accounts.a: 'tls:':"),
            ("[accounts.a]\nlisten = 5\n" + server, "accounts.a: listen is a list of texts"),
            ("[accounts.a]\nlisten = []\n" + server, "accounts.a: listen has nothing in it"),
            (f'[accounts.a]\nclient_id = "UUID/{"x" * 257}"\n' + server, "accounts.a: a client ID has at most 256 characters"),
            ('[accounts.a]\nnetworks = "wlan*"\n' + server, "accounts.a: networks is a list of texts"),
            ("[accounts.a]\nprepare = 1\n" + server, "accounts.a: prepare is true or false"),
            ("[accounts.a]\nclient_id = 1\n" + server, "accounts.a: client_id is a text"),
            ('[accounts.a]\nclient_id = "x"\n' + server, "accounts.a: a client ID is TYPE/VALUE"),
            ("[accounts.a]\n" + server + "[accounts.b]\n" + server, "a and b listen on the same tcp:10143"),
        ):
            error = str(self.assertRaises(ValueError, self.read, text))
            self.assertIn(said, error)
            self.assertIn(str(self.path), error)
            self.assertNotIn("\n", error)

    def test_no_file(self) -> None:
        self.assertIn("No such file", str(self.assertRaises(ValueError, read_accounts, "/nowhere/at all")))
        self.assertIn("is no name of a file", str(self.assertRaises(ValueError, read_accounts, "a\0b")))


class ServerTests(SynchronousTestCase):
    """
    One server.
    """

    def test_mistakes(self) -> None:
        for text, said in (
            ("unix:/run/imap", "write tls:, starttls: or tcp:"),
            ("tcp:imap.example.org", "tcp: sends passwords in the clear"),
            ("tls:a.example:proxy=yes", "proxy= and id= are for gateways"),
            ("tls:a.example:id=yes", "proxy= and id= are for gateways"),
            ("imap.example.org", "write tls:HOST"),
        ):
            self.assertIn(said, str(self.assertRaises(ValueError, parse_server, text)))

    def test_client_id(self) -> None:
        self.assertEqual(parse_client_id("UUID/a/b"), (b"UUID", b"a/b"))
        for text in ("", "UUID", "UUID/", "/x", "UUID/\n", "UUID/\xfc"):
            self.assertRaises(ValueError, parse_client_id, text)


class IdentityTests(SynchronousTestCase):
    """
    Client IDs that are made.
    """

    def test_kept(self) -> None:
        """
        One for each account, the same after a restart, readable by the owner alone.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        first, second = find_client_id(folder, "a"), find_client_id(folder, "b")
        self.assertEqual((first[0], len(first[1])), (b"UUID", 36))
        self.assertNotEqual(first, second)
        self.assertEqual((find_client_id(folder, "a"), find_client_id(folder, "b")), (first, second))
        [file] = folder.iterdir()
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)

    def test_spoilt(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        for text in ("", "[]", '{"a": 1}', '{"a": "x"}', "\xff"):
            (folder / "client-ids.json").write_text(text, "latin-1")
            error = str(self.assertRaises(ValueError, find_client_id, folder, "a"))
            self.assertIn("remove the file", error)
        self.assertRaises(ValueError, find_client_id, folder / "nowhere", "a")
