"""
Cyrus IMAP 3.6.

Debian's package of its imapd cannot be installed beside another IMAP server, so it is unpacked into a folder (C{.ci/run} does it)
and run from there; nothing of it needs to stand in the places it was built for.
"""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from pathlib import Path

from tests.interop.dovecot import USERS
from tests.interop.servers import HOST, NotInstalled, RealServer, find_program

UNPACKED = Path("/usr/local/lib/cyrus-imapd-unpacked")
"""What C{.ci/run} unpacks; the same folders as on C{/}."""
ADMIN = ("cyrus", "of all")
MECHANISMS = "PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1 SCRAM-SHA-256"

_FOLDERS = ["lib", *(f"lib/{one}" for one in ("db", "log", "socket", "user", "quota", "msg")), "spool", "proc", "lock"]
_SERVICES = """
START {{
  recover cmd="{programs}/ctl_cyrusdb -C {folder}/imapd.conf -r"
}}
SERVICES {{
  imap cmd="{programs}/imapd -C {folder}/imapd.conf -U 1" listen="{host}:{imap}" prefork=1
  imaps cmd="{programs}/imapd -C {folder}/imapd.conf -s -U 1" listen="{host}:{imaps}" prefork=1
}}
DAEMON {{
  idled cmd="{programs}/idled -C {folder}/imapd.conf"
}}
EVENTS {{
  checkpoint cmd="{programs}/ctl_cyrusdb -C {folder}/imapd.conf -c" period=30
}}
"""

_OPTIONS = """
configdirectory: {folder}/lib
partition-default: {folder}/spool
defaultpartition: default
proc_path: {folder}/proc
mboxname_lockpath: {folder}/lock
idlesocket: {folder}/idle
notifysocket: {folder}/notify
lmtpsocket: {folder}/lmtp
cyrus_user: {owner}
cyrus_group: {group}
admins: {admin}
servername: localhost
altnamespace: yes
unixhierarchysep: yes
hashimapspool: no
umask: 077
popminpoll: 0
autocreate_quota: 100000
autocreate_inbox_folders: Drafts|Junk|Sent|Trash
autocreate_subscribe_folders: Drafts|Junk|Sent|Trash
xlist-drafts: Drafts
xlist-junk: Junk
xlist-sent: Sent
xlist-trash: Trash
allowplaintext: yes
allowusermoves: yes
conversations: yes
virtdomains: off
idlemethod: notify
sasl_mech_list: {mechanisms}
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: {folder}/sasldb2
sasl_auto_transition: no
tls_server_cert: {certificate}
tls_server_key: {certificate}
tls_versions: tls1_2 tls1_3
maxlogins_per_user: {per_user}
syslog_prefix: rig
failedloginpause: 0s
"""


class Cyrus(RealServer):
    """
    A server with all that the Debian build offers.

    It logs to the machine's syslog and to nothing else, so L{log} has little to say.
    """

    name = "cyrus"

    def __init__(
        self,
        *,
        users: dict[str, str] | None = None,
        options: str = "",
        per_user: int = 0,
        mechanisms: str = MECHANISMS,
    ) -> None:
        """
        @param users: passwords by name; L{USERS} if not given.
        @param options: lines for the end of C{imapd.conf}.
        @param per_user: connections of a user; 0 for any number.
        @param mechanisms: of SASL.
        """
        super().__init__(dict(USERS if users is None else users))
        self._options = options
        self._per_user = per_user
        self._mechanisms = mechanisms

    def environment(self) -> dict[str, str]:
        """
        Of its programs, which find their libraries in the folder where they were unpacked.
        """
        libraries = sorted({str(one.parent) for one in UNPACKED.glob("usr/lib/*/libcyrus*.so*")})
        return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(libraries)}

    def command(self) -> list[str]:
        programs = UNPACKED / "usr/lib/cyrus/bin"
        if not (programs / "imapd").exists():
            raise NotInstalled(f"Cyrus is not at {UNPACKED}: .ci/run unpacks it")
        root = os.geteuid() == 0
        owner = pwd.getpwnam("nobody") if root else pwd.getpwuid(os.geteuid())
        names: dict[str, object] = {
            "programs": programs,
            "folder": self.folder,
            "host": HOST,
            "imap": self.imap_port,
            "imaps": self.imaps_port,
            "owner": owner.pw_name,
            "group": grp.getgrgid(owner.pw_gid).gr_name,
            "admin": ADMIN[0],
            "mechanisms": self._mechanisms,
            "certificate": self.certificate,
            "per_user": self._per_user,
        }
        (self.folder / "imapd.conf").write_text(_OPTIONS.format(**names) + self._options, "utf-8")
        (self.folder / "cyrus.conf").write_text(_SERVICES.format(**names), "utf-8")
        for one in _FOLDERS:
            (self.folder / one).mkdir(exist_ok=True)
        for user, password in {**self.users, ADMIN[0]: ADMIN[1]}.items():
            self._set_password(user, password)
        if root:
            for path in [self.folder, *self.folder.rglob("*")]:
                os.chown(path, owner.pw_uid, owner.pw_gid)
        return [
            str(programs / "master"),
            "-D",
            "-C",
            str(self.folder / "imapd.conf"),
            "-M",
            str(self.folder / "cyrus.conf"),
            "-p",
            str(self.folder / "pid"),
        ]

    def sessions(self, user: str | None = None) -> list[int]:
        running, found = set(self.pids()), []
        for one in (self.folder / "proc").iterdir():
            try:
                words = one.read_text("utf-8", "replace").split("\t")  # service, client, user, mailbox, command
                age = one.stat().st_mtime_ns
            except OSError:
                continue  # it has ended or was renamed meanwhile
            # The file of one that was killed stays.
            is_session = one.name.isdigit() and int(one.name) in running and len(words) > 2 and words[2]
            if is_session and (user is None or words[2] == user):
                found.append((age, int(one.name)))
        return [pid for _, pid in sorted(found)]

    def _set_password(self, user: str, password: str) -> None:
        program = find_program("saslpasswd2", "sasl2-bin")
        arguments = [program, "-p", "-c", "-f", str(self.folder / "sasldb2"), "-u", "localhost", user]
        subprocess.run(arguments, input=password.encode("utf-8"), check=True, timeout=10)
