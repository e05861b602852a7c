"""
C{docs/agent.md} says what is so: command lines, the file of accounts, the unit, what C{status} shows, and every message.
"""

from __future__ import annotations

import datetime
import os
import re
import shlex
from errno import EADDRINUSE
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.agent.accounts import DEFAULT_LISTEN, AccountSpec, parse_server, read_accounts
from mem_continuity.agent.networks import Wishes
from mem_continuity.agent.status import default_data, in_words
from mem_continuity.agent.tap import Options
from mem_continuity.core.policy import AgentPolicy
from mem_continuity.mailhost.certificate import make_certificate
from tests.interop.gateway import ROOT
from tests.interop.guide import replaced, unit_options
from tests.interop.test_operator_guide import said_in

GUIDE = ROOT / "docs" / "agent.md"
UNIT = ROOT / "docs" / "systemd" / "mem-continuity-agent.service"
AUTHORITY = "/home/joe/internal-ca.pem"
_FENCED = re.compile(r"^```sh\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
_TWISTD = ["--nodaemon", "--pidfile=", "mem-continuity-agent"]


def words_of(command: str) -> list[str]:
    """
    A command line, as a shell cuts it.
    """
    return shlex.split(command.replace("\\\n", " "))


class AgentGuideTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.text = GUIDE.read_text("utf-8")

    def example(self, name: str) -> str:
        found = re.search(rf"^<!-- example: {re.escape(name)} -->\n```\w*\n(.*?\n)```$", self.text, re.MULTILINE | re.DOTALL)
        assert found is not None, name
        return found[1]

    def accounts_file(self) -> str:
        """
        The file of accounts, as it stands in the guide but for the authority, which is there.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        make_certificate(folder / "authority.pem", datetime.datetime.now(datetime.UTC))
        path = folder / "accounts.toml"
        path.write_text(replaced(self.example("accounts accounts.toml"), {AUTHORITY: str(folder / "authority.pem")}), "utf-8")
        return str(path)

    def parsed(self, words: list[str]) -> Options:
        """
        What the options of a command line are, with a file of accounts that is there.
        """
        options = Options()
        options.parseOptions([self.accounts_file() if one.endswith("/accounts.toml") else one for one in words])
        return options

    def test_command_lines(self) -> None:
        """
        Every command line is understood, and comes to an account.
        """
        blocks = [block for block in _FENCED.findall(self.text) if block.startswith("twistd ")]
        self.assertGreater(len(blocks), 3)
        for block in blocks:
            words = words_of(block)
            self.assertEqual(words[1:4], _TWISTD)
            self.assertTrue(self.parsed(words[4:])["accounts"])

    def test_networks(self) -> None:
        """
        The command line with networks means what the file of accounts does.
        """
        (block,) = [block for block in _FENCED.findall(self.text) if "--network " in block]
        (alone,) = self.parsed(words_of(block)[4:])["accounts"]
        work = read_accounts(self.accounts_file())[0]
        for name in ("networks", "metered", "ignored", "prepare", "server"):
            self.assertEqual(getattr(alone, name), getattr(work, name), name)
        Wishes(order=work.networks, metered=work.metered, ignored=work.ignored)

    def test_accounts(self) -> None:
        """
        The file has every key there is, and says rightly what the default is.
        """
        work, home = read_accounts(self.accounts_file())
        said = set(re.findall(r"^(\w+) =", self.example("accounts accounts.toml"), re.MULTILINE))
        self.assertEqual(said, set(AccountSpec.__dataclass_fields__) - {"name"})
        self.assertEqual((work.listen, work.prepare), ((DEFAULT_LISTEN,), True))
        self.assertEqual((home.name, len(home.listen)), ("home", 2))

    def test_status(self) -> None:
        """
        What is shown of C{status} is what it writes.
        """

        def connection(number: int, phase: str, seconds: float, handovers: int, kept: int) -> dict[str, Any]:
            network = "wlan0" if phase == "live" else None
            words = {"number": number, "phase": phase, "network": network, "last_network": "wlan0", "seconds": seconds}
            return {**words, "handovers": handovers, "kept_octets": kept}

        networks = ["wlan0", "wwan0"]
        work, home = parse_server("tls:imap.example.org").label, parse_server("starttls:mail.example.net").label
        connections = [connection(1, "live", 412.5, 3, 0), connection(2, "away", 4.2, 0, 1830)]
        found = [
            {"account": "work", "server": work, "networks": networks, "connections": connections},
            {"account": "home", "server": home, "networks": networks, "connections": []},
        ]
        self.assertEqual(self.example("status text"), in_words({"accounts": found}) + "\n")

    def test_folder(self) -> None:
        """
        The folder for state is where the guide says.
        """
        self.patch(os, "environ", {"HOME": "/home/joe"})
        self.assertIn(default_data().replace("/home/joe", "~"), self.text)

    def test_limits(self) -> None:
        """
        The table of limits has the defaults of the policy.
        """
        rows = re.findall(r"^\| `--([a-z-]+)` \| (\d+) \|", self.text, re.MULTILINE)
        self.assertGreater(len(rows), 3)
        for name, value in rows:
            self.assertEqual(getattr(AgentPolicy(), name.replace("-", "_")), float(value), name)

    def test_options(self) -> None:
        """
        Every option that is named is one of the agent, of C{twistd} or of C{status}, or stands in the gateway's guide.
        """
        known = {*Options().longOpt, "listen=", "nodaemon", "pidfile=", "json", "user", "now", "grace"}
        known = {one.rstrip("=") for one in known}
        named = set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", self.text))
        self.assertGreater(len(named), 15)
        self.assertEqual(named - known, set())

    def test_messages(self) -> None:
        """
        What is quoted is in the code: what stands between two dots of omission, letter for letter.
        """
        known = "\n".join(said_in(path.read_text("utf-8")) for path in (ROOT / "mem_continuity").rglob("*.py"))
        known += "\n" + os.strerror(EADDRINUSE)
        tables = [self.text.partition("| behind its name |")[2].partition("\n\n")[0]]
        tables.append(self.text[self.text.index("## Troubleshooting") :])
        rows = [row for table in tables for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)]
        self.assertGreater(len(rows), 20)
        quoted = [message for row in rows for message in re.findall("`([^`]*)`", row)]
        quoted += re.findall(r"`\* (?:OK|BYE) ([^`]*)`", self.text)
        parts = [part.strip(" '") for message in quoted for part in message.split("…")]
        self.assertEqual([part for part in parts if part not in known], [])

    def test_unit(self) -> None:
        """
        The unit runs what the guide installs, with options that are understood; it may ask the kernel for networks, and asks
        for nothing that the manager of a user cannot do.
        """
        lines = unit_options(UNIT)
        values = {name: value for _, name, value in lines}
        words = values["ExecStart"].split()
        self.assertEqual(words[:4], ["%h/.local/share/mem-continuity/bin/twistd", *_TWISTD])
        self.assertIn("python3 -m venv ~/.local/share/mem-continuity\n", self.text)
        self.assertEqual(words[-1].replace("%E", "~/.config"), "~/.config/mem-continuity-agent/accounts.toml")
        self.assertIn(words[-1].replace("%E", "~/.config"), self.text)
        self.assertTrue(self.parsed(words[4:])["accounts"])
        self.assertIn("AF_NETLINK", values["RestrictAddressFamilies"].split())
        self.assertEqual(values["WantedBy"], "default.target")
        names = {name for _, name, _ in lines}
        self.assertEqual(names & {"User", "DynamicUser", "CapabilityBoundingSet", "AmbientCapabilities", "ProtectClock"}, set())
        self.assertNotIn("network", values["After"])
        self.assertIn(f"systemd/{UNIT.name}", self.text)
