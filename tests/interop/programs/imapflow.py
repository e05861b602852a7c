"""
ImapFlow, under Node: the script is C{node/imapflow_sync.cjs}.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twisted.mail import imap4  # its codec is what is wanted

from tests.interop.programs.maildirs import FLAGGED, LOCAL, REMOVED
from tests.interop.programs.node_packages import find_command, packages
from tests.interop.programs.program import Program, arguments
from tests.interop.programs.result import Mailboxes, read_index
from tests.interop.programs.target import CHECKOUT, Target, execute


class ImapFlow(Program):
    """
    It compresses, where the server can.
    """

    name = "imapflow"

    def check(self) -> None:
        find_command("node")
        packages()

    def synchronise(self, target: Target, folder: Path, within: Sequence[str] = ()) -> Mailboxes:
        local = folder / "local.eml"
        local.write_bytes(LOCAL.replace(b"\n", b"\r\n"))
        script = CHECKOUT / "tests" / "interop" / "programs" / "node" / "imapflow_sync.cjs"
        command = [find_command("node"), str(script), *arguments(target, folder), str(local), str(FLAGGED + 1), str(REMOVED + 1)]
        execute(command, folder, within=within, variables={"NODE_PATH": str(packages())})
        return {imap4.encoder(name)[0].decode("ascii"): messages for name, messages in read_index(folder).items()}
