"""
What others put in front of an IMAP server: nginx's mail proxy and HAProxy.  With
L{DovecotProxy<tests.interop.dovecot.DovecotProxy>} they are what the gateway is compared with.
"""

from __future__ import annotations

import os
import resource
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.interop.servers import HOST, NotInstalled, RealServer, Rig, find_program, free_ports

_MAIL_MODULE = Path("/usr/lib/nginx/modules/ngx_mail_module.so")

_NGINX = """
load_module {module};
{user}
daemon off;
worker_processes {workers};
pid {folder}/pid;
error_log {folder}/log notice;
events {{
  worker_connections {connections};
}}
mail {{
  auth_http {host}:{http}/;
  proxy on;
  imap_auth plain login;
  imap_capabilities {capabilities};
  ssl_certificate {certificate};
  ssl_certificate_key {certificate};
  server {{
    listen {host}:{imap};
    protocol imap;
    starttls on;
  }}
  server {{
    listen {host}:{imaps} ssl;
    protocol imap;
  }}
}}
"""

_HAPROXY = """
global
  maxconn {connections}
  nbthread {threads}
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend imaps
  bind {host}:{imaps} ssl crt {certificate}
  default_backend server
frontend imap
  bind {host}:{imap}
  default_backend server
backend server
  server first {host}:{upstream}{send}
"""


def _connections() -> int:
    """
    How many clients are possible at most: each takes two descriptors.
    """
    return min(20_000, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100) // 2)


class _Directory(BaseHTTPRequestHandler):
    """
    Tells nginx, which asks at each login, where the server is.  The right password is the server's business.
    """

    upstream_port = 0

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Auth-Status", "OK")
        self.send_header("Auth-Server", HOST)
        self.send_header("Auth-Port", str(self.upstream_port))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """
        Nothing: the request has the password.
        """


class NginxMailProxy(Rig):
    """
    nginx ends TLS and the login, and speaks plain IMAP to the server.

    Its directory is a thread of this process, so the CPU time of that is not in L{pids}; it is asked only at logins.

    @ivar imap_port: plain, with STARTTLS.
    @ivar imaps_port: TLS at once.
    """

    name = "nginx"

    def __init__(self, behind: RealServer, *, workers: int = 1) -> None:
        """
        @param behind: the server, which runs.
        @param workers: processes that do the work.
        """
        super().__init__()
        self.make_certificate()
        self.imap_port, self.imaps_port = free_ports(2)
        self._behind = behind
        self._workers = workers
        self._directory: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        return self.imap_port

    def command(self) -> list[str]:
        program = find_program("nginx", "nginx-light libnginx-mod-mail")
        if not _MAIL_MODULE.exists():
            raise NotInstalled("nginx has no mail module: apt-get install libnginx-mod-mail")
        handler = type("Directory", (_Directory,), {"upstream_port": self._behind.imap_port})
        self._directory = ThreadingHTTPServer((HOST, 0), handler)
        self._thread = threading.Thread(target=self._directory.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        config = self.folder / "nginx.conf"
        config.write_text(
            _NGINX.format(
                module=_MAIL_MODULE,
                user="user nobody nogroup;" if os.geteuid() == 0 else "",
                workers=self._workers,
                connections=_connections(),
                folder=self.folder,
                host=HOST,
                http=self._directory.server_address[1],
                capabilities='"IMAP4rev1" "LITERAL+" "SASL-IR" "ID" "IDLE"',
                certificate=self.certificate,
                imap=self.imap_port,
                imaps=self.imaps_port,
            ),
            "utf-8",
        )
        return [program, "-c", str(config), "-p", str(self.folder), "-e", str(self.log_file)]

    def stop(self) -> None:
        super().stop()
        if self._directory is not None and self._thread is not None:
            self._directory.shutdown()
            self._directory.server_close()
            self._thread.join(5.0)
            self._directory = self._thread = None


class HAProxy(Rig):
    """
    HAProxy ends TLS and relays octets, plain, to the server.

    @ivar imap_port: plain.
    @ivar imaps_port: TLS at once.
    """

    name = "haproxy"

    def __init__(self, behind: RealServer, *, port: int | None = None, send_proxy: bool = False, threads: int = 1) -> None:
        """
        @param behind: the server, which runs.
        @param port: of the server; its C{imap_port} if not given.
        @param send_proxy: tell it the client's address, with version 2 of the PROXY protocol.
        @param threads: that do the work.
        """
        super().__init__()
        self.make_certificate()
        self.imap_port, self.imaps_port = free_ports(2)
        self._upstream = behind.imap_port if port is None else port
        self._send_proxy = send_proxy
        self._threads = threads

    @property
    def port(self) -> int:
        return self.imap_port

    def command(self) -> list[str]:
        config = self.folder / "haproxy.cfg"
        config.write_text(
            _HAPROXY.format(
                connections=_connections(),
                threads=self._threads,
                host=HOST,
                imaps=self.imaps_port,
                imap=self.imap_port,
                certificate=self.certificate,
                upstream=self._upstream,
                send=" send-proxy-v2" if self._send_proxy else "",
            ),
            "utf-8",
        )
        return [find_program("haproxy", "haproxy"), "-db", "-f", str(config)]
