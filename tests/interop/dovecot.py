"""
Dovecot 2.3, as a server and as a proxy in front of one.
"""

from __future__ import annotations

import base64
import grp
import hashlib
import hmac
import json
import os
import pwd
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from tests.interop.dovecot_config import CHROOTS, COMMON, PROXY, SERVER
from tests.interop.servers import HOST, RealServer, find_program, free_ports

USERS = {"alice": "wonderland", "bob": 'bob\'s "secret"'}
MASTER = ("master", "of all")
MECHANISMS = "plain login cram-md5 digest-md5 scram-sha-1 scram-sha-256 xoauth2 oauthbearer"
TOKEN_KEY = b"a key for tokens, of thirty-two octets or more"

_LOGIN = re.compile(r"imap-login: Info: Login: user=<([^>]*)>, rip=([^,]*), rport=(\d+),.* mpid=(\d+)")


@dataclass(frozen=True)
class Login:
    """
    A login that stands in the log.

    @ivar rip: the client's address as the server believes it.
    @ivar rport: its port, likewise.
    @ivar pid: the process that serves it.
    @ivar line: all that was logged.
    """

    user: str
    rip: str
    rport: int
    pid: int
    line: str


class _Dovecot(RealServer):
    """
    What a server and a proxy have in common.

    @ivar haproxy_port: as C{imap_port}, after a header of the PROXY protocol.
    @ivar haproxy_tls_port: as C{imaps_port}, likewise.
    @ivar socket_path: as C{imap_port}, on a Unix socket.
    """

    name = "dovecot"
    lingering = frozenset({"dovecot", "log"})  # they take a second for nothing

    def __init__(
        self,
        *,
        users: dict[str, str] | None = None,
        extra: str = "",
        trusted: bool = False,
        per_user: int = 0,
        mechanisms: str = MECHANISMS,
        login_processes: int = 1,
    ) -> None:
        super().__init__(dict(USERS if users is None else users))
        self.haproxy_port, self.haproxy_tls_port = free_ports(2)
        self.socket_path = self.folder / "imap.sock"
        self._extra = extra
        self._trusted = trusted
        self._per_user = per_user
        self._mechanisms = mechanisms
        self._login_processes = login_processes

    def _names(self) -> dict[str, object]:
        root = os.geteuid() == 0
        me = pwd.getpwuid(os.geteuid())
        mail = pwd.getpwnam("nobody") if root else me
        return {
            "folder": self.folder,
            "host": self.host,
            "certificate": self.certificate,
            "mechanisms": self._mechanisms,
            "internal": "dovecot" if root else me.pw_name,
            "internal_group": "dovecot" if root else grp.getgrgid(me.pw_gid).gr_name,
            "login": "dovenull" if root else me.pw_name,
            "chroots": "" if root else CHROOTS,
            "mail_uid": mail.pw_uid,
            "mail_gid": mail.pw_gid,
            "trusted": f"{HOST}/8" if self._trusted else "",
            "per_user": self._per_user,
            "logins": self._login_processes,
            "imap": self.imap_port,
            "imaps": self.imaps_port,
            "haproxy": self.haproxy_port,
            "haproxy_tls": self.haproxy_tls_port,
        }

    def _run(self, text: str) -> list[str]:
        config = self.folder / "dovecot.conf"
        config.write_text(text + self._extra, "utf-8")
        return [find_program("dovecot", "dovecot-imapd"), "-F", "-c", str(config)]

    def logins(self, user: str | None = None, at_least: int = 0) -> list[Login]:
        """
        All logins so far, or those of a user.

        @param at_least: wait for so many, for a login is answered before it stands in the log; 5 seconds at most.
        """
        until = time.monotonic() + 5.0
        while True:
            found = [
                Login(match[1], match[2], int(match[3]), int(match[4]), line)
                for line in self.log().splitlines()
                if (match := _LOGIN.search(line)) and user in (None, match[1])
            ]
            if len(found) >= at_least or time.monotonic() > until:
                return found
            time.sleep(0.02)

    def sessions(self, user: str | None = None) -> list[int]:
        running = set(self.pids())
        return [one.pid for one in self.logins(user) if one.pid in running]

    def session_of(self, port: int) -> int:
        """
        The process that serves the connection from a port.

        @raise LookupError: there is none.
        """
        running = set(self.pids())
        for one in reversed(self.logins()):
            if one.rport == port and one.pid in running:
                return one.pid
        raise LookupError(f"no session from port {port}")


class Dovecot(_Dovecot):
    """
    A server with all that the Debian build offers.

    @ivar mail: the mail folders, one per user; see L{restore}.
    """

    def __init__(
        self,
        *,
        users: dict[str, str] | None = None,
        extra: str = "",
        trusted: bool = False,
        per_user: int = 0,
        mechanisms: str = MECHANISMS,
        login_processes: int = 1,
        mail_format: str = "sdbox",
    ) -> None:
        """
        @param users: passwords by name; L{USERS} if not given.
        @param extra: lines for the end of the configuration.
        @param trusted: believe the addresses that clients on loopback tell with ID (C{login_trusted_networks}).
        @param per_user: connections of a user from one address; 0 for any number.
        @param mechanisms: of SASL.
        @param login_processes: that wait at the start.
        @param mail_format: C{sdbox} or C{maildir}.
        """
        super().__init__(
            users=users,
            extra=extra,
            trusted=trusted,
            per_user=per_user,
            mechanisms=mechanisms,
            login_processes=login_processes,
        )
        self.mail = self.folder / "mail"
        self._format = mail_format

    def command(self) -> list[str]:
        names = {**self._names(), "format": self._format}
        self.mail.mkdir(exist_ok=True)
        os.chown(self.mail, int(str(names["mail_uid"])), int(str(names["mail_gid"])))
        lines = "".join(f"{user}:{{PLAIN}}{password}::::::\n" for user, password in self.users.items())
        (self.folder / "users").write_text(lines, "utf-8")
        (self.folder / "masters").write_text(f"{MASTER[0]}:{{PLAIN}}{MASTER[1]}::::::\n", "utf-8")
        keys = self.folder / "keys" / "default" / "HS256"
        keys.mkdir(parents=True, exist_ok=True)
        (keys / "default").write_bytes(base64.b64encode(TOKEN_KEY))
        (self.folder / "oauth2.conf").write_text(
            "introspection_mode = local\nusername_attribute = sub\n"
            f"local_validation_key_dict = fs:posix:prefix={self.folder}/keys/\n",
            "utf-8",
        )
        return self._run((COMMON + SERVER).format(**names))

    def restore(self, user: str, template: Path) -> None:
        """
        Give a user's mail folder the content of another one, octet by octet.  No session of the user may be open.
        """
        folder = self.mail / user
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(template, folder)
        names = self._names()
        for place, _, files in os.walk(folder):
            for one in [place, *(os.path.join(place, file) for file in files)]:
                os.chown(one, int(str(names["mail_uid"])), int(str(names["mail_gid"])))


class DovecotProxy(_Dovecot):
    """
    Dovecot as a proxy: it takes any password, and logs in with it to the server behind.
    """

    name = "dovecot-proxy"

    def __init__(self, behind: RealServer, *, tls: bool = True, login_processes: int = 1, extra: str = "") -> None:
        """
        @param behind: the server, which runs.
        @param tls: speak TLS to it.
        @param login_processes: that wait at the start.
        """
        super().__init__(users=behind.users, mechanisms="plain login", login_processes=login_processes, extra=extra)
        self._behind = behind
        self._tls = tls

    def command(self) -> list[str]:
        names = {
            **self._names(),
            "upstream_authority": self._behind.authority,
            "upstream_port": self._behind.imaps_port if self._tls else self._behind.imap_port,
            "upstream_tls": " ssl=yes" if self._tls else "",
        }
        return self._run((COMMON + PROXY).format(**names))


def make_token(user: str) -> str:
    """
    A bearer token that L{Dovecot} takes, good for an hour.
    """

    def part(octets: bytes) -> bytes:
        return base64.urlsafe_b64encode(octets).rstrip(b"=")

    now = int(time.time())
    head = part(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    claims = part(json.dumps({"sub": user, "iat": now, "exp": now + 3600}).encode())
    signed = head + b"." + claims
    return (signed + b"." + part(hmac.new(TOKEN_KEY, signed, hashlib.sha256).digest())).decode("ascii")
