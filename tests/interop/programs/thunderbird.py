"""
Thunderbird, with its window on a screen that nobody sees, driven by Marionette.

What is done inside of it is in C{thunderbird.js}; here are the profile, the process, and the waiting.

Invariants: a profile is new, and nothing of it asks for anything but the one IMAP server (no telemetry, no updates, no
collection of blocklists); whatever takes long runs in the program, and each wait for it has a deadline; the process is ended with
all its children, however the run ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.interop.programs.marionette import Marionette, MarionetteError
from tests.interop.programs.program import NotInstalled
from tests.interop.programs.result import Mailboxes, Message, in_order, make_message
from tests.interop.programs.target import ProgramFailed, Target, environment

_START = 60.0
_STOP = 20.0
_DIALOGS = 20
"""How many may come up during one call."""
_SCRIPT = Path(__file__).with_name("thunderbird.js")

_NOTES = re.compile(rb"\A(?:X-Mozilla-(?:Status2?|Keys):[^\n]*\n)+")
"""In front of each message that it keeps: its flags and tags."""

_QUIET: Mapping[str, bool | int | str] = {
    "app.donation.eoy.version.viewed": 999,
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.safebrowsing.downloads.remote.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.search.update": False,
    "calendar.timezone.local": "UTC",
    "datareporting.healthreport.uploadEnabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.blocklist.enabled": False,
    "extensions.systemAddon.update.enabled": False,
    "extensions.update.enabled": False,
    "mail.biff.play_sound": False,
    "mail.biff.show_alert": False,
    "mail.inappnotifications.enabled": False,
    "mail.provider.suppress_dialog_on_startup": True,
    "mail.rights.version": 1,
    "mail.shell.checkDefaultClient": False,
    "mail.spotlight.firstRunDone": True,
    "mail.winsearch.firstRunDone": True,
    "mailnews.start_page.enabled": False,
    "mailnews.start_page_override.mstone": "ignore",
    "marionette.port": 0,
    "messenger.startup.action": 0,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "security.certerrors.mitm.priming.enabled": False,
    "services.settings.server": "data:,",
    "toolkit.telemetry.enabled": False,
    "toolkit.telemetry.server": "",
}
"""So that it looks for nothing outside, and shows nothing of its own accord."""

_ACCOUNT: Mapping[str, bool | int | str] = {
    "mail.accountmanager.accounts": "account1,account2",
    "mail.accountmanager.defaultaccount": "account1",
    "mail.accountmanager.localfoldersserver": "server2",
    "mail.account.account1.identities": "id1",
    "mail.account.account1.server": "server1",
    "mail.account.account2.server": "server2",
    "mail.identity.id1.fullName": "Joe",
    "mail.identity.id1.useremail": "joe@b.example",
    "mail.identity.id1.valid": True,
    "mail.server.server1.type": "imap",
    "mail.server.server1.name": "the account",
    "mail.server.server1.authMethod": 3,
    "mail.server.server1.clientidEnabled": True,
    "mail.server.server1.clientid": "5f6b2a3e-8a44-4c4b-9a5e-0b6f3b8f3c11",
    "mail.server.server1.login_at_startup": False,
    "mail.server.server1.offline_download": True,
    "mail.server.server1.using_subscription": False,
    "mail.server.server2.type": "none",
    "mail.server.server2.hostname": "Local Folders",
    "mail.server.server2.userName": "nobody",
    "mail.server.server2.name": "Local Folders",
}


@dataclass(frozen=True)
class Seen:
    """
    What Thunderbird told of itself.

    @ivar told: what its user was shown, by a notification or a dialog.  What it keeps to itself, as it does with trouble in the
        background, is not there.
    @ivar added: mailbox and Message-ID of each message that was added to a folder, in this order.
    """

    told: tuple[str, ...]
    added: tuple[tuple[str, str], ...]


class Job(NamedTuple):
    """
    An operation.

    @ivar what: for people.
    @ivar status: 0 when it went well, of one that is done.
    """

    what: str
    done: bool
    status: int


class Thunderbird:
    """
    A running Thunderbird with one account.  A context manager.

    @param target: the account.  Without an authority there is no TLS.
    @param folder: for all that it keeps.
    @param display: where its window is.
    @param within: what the command is put behind, such as C{ip netns exec NAME}.
    @param inside: makes what surrounds the making of a socket to the loopback interface that it listens on.
    @param preferences: more of them.
    @param variables: more of its environment.
    """

    def __init__(
        self,
        target: Target,
        folder: Path,
        display: str,
        *,
        within: Sequence[str] = (),
        inside: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
        preferences: Mapping[str, bool | int | str] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._target = target
        self._folder = folder
        self._display = display
        self._within = within
        self._inside = inside
        self._preferences = preferences or {}
        self._variables = variables or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._marionette: Marionette | None = None
        self._number = 0

    @property
    def output(self) -> str:
        """
        What it said on its standard output and error.
        """
        return (self._folder / "output").read_text("utf-8", "replace")

    def __enter__(self) -> Self:
        """
        @raise NotInstalled: there is none on this machine.
        @raise ProgramFailed: it does not start, or does not let itself be driven.
        """
        if shutil.which("thunderbird") is None:
            raise NotInstalled("Thunderbird is not installed: apt-get install thunderbird")
        try:
            self._start()
            self._marionette = self._connect()
            self._marionette.run(_SCRIPT.read_text("utf-8"))
            self.eventually(lambda: self.call("ready"), "its window", _START)
            self.call("watch")
            self.call("login", self._target.password)
            if self._target.authority is not None:
                lines = self._target.authority.read_text("ascii").splitlines()
                self.call("accept", "".join(line for line in lines if not line.startswith("-----")))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._marionette is not None and error is None:
            with contextlib.suppress(OSError, MarionetteError):
                self._marionette.quit()
            if self._process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_STOP)
        self._end()

    def _start(self) -> None:
        profile = self._folder / "profile"
        profile.mkdir(parents=True)
        account: dict[str, bool | int | str] = {
            "mail.server.server1.hostname": self._target.host,
            "mail.server.server1.port": self._target.port,
            "mail.server.server1.userName": self._target.user,
            "mail.server.server1.socketType": 0 if self._target.authority is None else 3,
        }
        chosen = {**_QUIET, **_ACCOUNT, **account, **self._preferences}
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in chosen.items()]
        (profile / "prefs.js").write_text("".join(lines), "utf-8")
        command = ["thunderbird", "--no-remote", "--profile", str(profile), "--marionette", "--remote-allow-system-access"]
        with (self._folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [*self._within, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={
                    **environment(self._folder),
                    "DISPLAY": self._display,
                    "MOZ_CRASHREPORTER_DISABLE": "1",
                    "NO_AT_BRIDGE": "1",
                    **self._variables,
                },
                cwd=self._folder,
                start_new_session=True,
            )

    def _connect(self) -> Marionette:
        assert self._process is not None
        noted = self._folder / "profile" / "MarionetteActivePort"
        until = time.monotonic() + _START
        while True:
            with contextlib.suppress(OSError, ValueError):
                port = int(noted.read_text("ascii"))
                with self._inside():
                    connection = socket.create_connection(("127.0.0.1", port), _START)
                return Marionette(connection, _START)
            if self._process.poll() is not None or time.monotonic() > until:
                raise ProgramFailed(f"Thunderbird does not listen to Marionette:\n{self.output[-4000:]}")
            time.sleep(0.05)

    def _end(self) -> None:
        marionette, self._marionette = self._marionette, None
        if marionette is not None:
            marionette.close()
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def call(self, name: str, *arguments: Any) -> Any:
        """
        Call a function of C{thunderbird.js}.

        @raise ProgramFailed: it threw something, or Thunderbird does not answer.
        """
        if self._marionette is None:
            raise ProgramFailed("Thunderbird does not run")
        try:
            self._number += 1
            for _ in range(_DIALOGS):
                answer = self._marionette.run("return mail.answer(...arguments)", self._number, name, arguments)
                if answer is not None:
                    return answer[0]
        except (OSError, MarionetteError) as error:
            raise ProgramFailed(f"{name}{arguments}: {error}\n{self.output[-4000:]}") from error
        raise ProgramFailed(f"{name}{arguments}: dialogs without end")

    def eventually(self, so: Callable[[], object], what: str, seconds: float) -> None:
        """
        Wait for something.

        @raise ProgramFailed: it does not come to that.
        """
        until = time.monotonic() + seconds
        while not so():
            if time.monotonic() > until:
                raise ProgramFailed(f"not within {seconds:g} seconds: {what}; {self.call('seen')}")
            time.sleep(0.1)

    def jobs(self, numbers: Sequence[int]) -> list[Job]:
        """
        How it stands with operations that C{thunderbird.js} has begun.

        @raise ProgramFailed: see L{call}.
        """
        return [Job(one["what"], one["done"], one["status"]) for one in self.call("jobs", list(numbers))]

    def seen(self) -> Seen:
        """
        See there.
        """
        found = self.call("seen")
        alerts = [str(one["message"]) for one in found["alerts"] if not one["silent"]]
        dialogs = [one for one in found["dialogs"] if not any(one.endswith(alert) for alert in alerts)]
        return Seen((*alerts, *dialogs), tuple((str(mailbox), str(identity)) for mailbox, identity in found["added"]))

    def messages(self, names: Sequence[str]) -> Mailboxes:
        """
        What it keeps of folders.  A message of which it has the header only is one without octets.
        """
        found: dict[str, list[Message]] = {}
        with tempfile.TemporaryDirectory(dir=self._folder) as place:
            for name in names:
                kept = found.setdefault(name, [])
                for entry in self.call("save", name, place):
                    octets = _NOTES.sub(b"", Path(place, entry["file"]).read_bytes()) if "file" in entry else b""
                    kept.append(make_message(octets, entry["flags"], entry["uid"]))
        return in_order(found)
