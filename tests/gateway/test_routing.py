"""
Which upstream a user has.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mem_continuity.gateway.routing import StaticRouter, read_routes
from mem_continuity.gateway.upstream import Upstream
from mem_continuity.interfaces import IUpstreamRouter

MAIN, OLD, NEW = (Upstream("tls", host, 993, name=host) for host in ("main", "old", "new"))

FILE = """
default = "main"
[upstreams]
main = "tls:main"
old = "tls:old"
new = "tls:new"
[users]
"joe@example.org" = "old"
"Ann" = "old"
[domains]
"example.com" = "old"
"example.net" = "new"
[front]
mechanisms = ["PLAIN", "LOGIN"]
separator = "*"
"""


class RouteTests(SynchronousTestCase):
    """
    L{StaticRouter}.
    """

    def setUp(self) -> None:
        users = {b"joe@example.org": OLD, b"Ann": OLD, b"odd@x@example.com": NEW, b"g\xc3\xbcnter": NEW}
        self.router = StaticRouter(users, {b"Example.COM": OLD, b"example.org": NEW}, MAIN)

    def test_order(self) -> None:
        """
        By the whole name, then by the domain, then the default.
        """
        for user, upstream in (
            (b"joe@example.org", OLD),
            (b"jim@example.org", NEW),
            (b"jim@example.com", OLD),
            (b"odd@x@example.com", NEW),
            (b"even@x@example.com", OLD),
            (b"jim@sub.example.com", MAIN),
            (b"jim@example.com@", MAIN),
            (b"example.com", MAIN),
            (b"@example.com", OLD),
            (b"jim", MAIN),
            (b"", MAIN),
            (b"\xff\x00@\xff", MAIN),
        ):
            self.assertEqual(self.router.route(user), upstream, user)

    def test_case(self) -> None:
        """
        The case of ASCII letters does not count, that of others does.
        """
        for user, upstream in (
            (b"ANN", OLD),
            (b"ann", OLD),
            (b"JOE@Example.Org", OLD),
            (b"jim@EXAMPLE.com", OLD),
            (b"G\xc3\xbcnter", NEW),
            (b"g\xc3\x9cnter", MAIN),
        ):
            self.assertEqual(self.router.route(user), upstream, user)

    def test_no_default(self) -> None:
        router = StaticRouter({b"joe": OLD}, {}, None)
        self.assertIsNone(router.route(b"jim"))
        self.assertEqual(router.upstreams, (OLD,))
        self.assertTrue(verifyObject(IUpstreamRouter, router))

    def test_separator(self) -> None:
        """
        Who logs in for somebody goes where that somebody's mail is.
        """
        router = StaticRouter({b"joe": OLD}, {b"example.org": NEW}, MAIN, b"*")
        self.assertEqual(router.route(b"joe*master@example.org"), OLD)
        self.assertEqual(router.route(b"joe"), OLD)
        self.assertEqual(router.route(b"jim@example.org*joe"), NEW)
        self.assertEqual(self.router.route(b"joe*master"), MAIN)

    def test_two_cases(self) -> None:
        """
        Two spellings of one name may not lead to different places.
        """
        error = self.assertRaises(ValueError, StaticRouter, {b"Joe": OLD, b"joe": NEW}, {}, None)
        self.assertIn("'joe' stands there twice", str(error))
        self.assertRaises(ValueError, StaticRouter, {}, {b"X": OLD, b"x": NEW}, None)
        self.assertEqual(StaticRouter({b"Joe": OLD, b"joe": OLD}, {}, None).route(b"JOE"), OLD)


class FileTests(SynchronousTestCase):
    """
    L{read_routes}.
    """

    def setUp(self) -> None:
        self.path = self.mktemp()

    def read(self, text: str | bytes) -> StaticRouter:
        Path(self.path).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
        return read_routes(self.path)

    def wrong(self, text: str | bytes, *said: str) -> None:
        error = self.assertRaises(ValueError, self.read, text)
        self.assertNotIn("\n", str(error))
        for part in (self.path, *said):
            self.assertIn(part, str(error))

    def test_all(self) -> None:
        router = self.read(FILE)
        found = {b"joe@example.org": OLD, b"ann": OLD, b"x@example.net": NEW, b"ann*boss": OLD, b"x": MAIN}
        for user, upstream in found.items():
            self.assertEqual(router.route(user), upstream)
        self.assertEqual(router.mechanisms, (b"PLAIN", b"LOGIN"))
        self.assertEqual(router.upstreams, (MAIN, OLD, NEW))

    def test_least(self) -> None:
        router = self.read('[upstreams]\na = "tls:main"')
        self.assertEqual((router.route(b"joe"), router.mechanisms, router.upstreams), (None, None, ()))

    def test_beyond_ascii(self) -> None:
        router = self.read('[upstreams]\na = "tls:main"\n[users]\n"günter" = "a"')
        self.assertEqual(router.route("günter".encode()), MAIN)

    def test_file(self) -> None:
        error = self.assertRaises(ValueError, read_routes, "/nowhere/routes.toml")
        self.assertIn("'/nowhere/routes.toml' cannot be read: No such file", str(error))
        self.assertIn("no name of a file", str(self.assertRaises(ValueError, read_routes, "a\0b")))
        self.wrong("[upstreams\n", "no TOML", "line 1")
        self.wrong(b"a = '\xff'", "no TOML")

    def test_content(self) -> None:
        start = '[upstreams]\na = "tls:main"\n'
        self.wrong("", "there is no upstream", "[upstreams]")
        self.wrong('upstreams = "tls:main"', "write [upstreams]")
        self.wrong("[upstreams]\na = 1", "upstreams.a is a text")
        self.wrong('[upstreams]\na = "tls:"', "upstreams.a: upstream 'tls:'")
        self.wrong('[upstreams]\na = "tcp:192.0.2.1"', "insecure=yes")
        self.wrong('default = "b"\n' + start, "default is 'b', but the upstreams are a")
        self.wrong("default = []\n" + start, "default is []")
        self.wrong(start + '[users]\njoe = "c"', "users.joe is 'c', but the upstreams are a")
        self.wrong(start + '[users]\njoe@x = "a"', "no TOML", "line 4")
        self.wrong(start + '[domains]\nexample.org = "a"', "domains.example is a text", "quotes")
        self.wrong(start + '[domains]\n"@x" = "a"', "domains.@x is no name of a domain")
        self.wrong(start + '[users]\n"" = "a"', "no name of a user")
        self.wrong(start + 'b = "tls:old"\n[users]\nJoe = "a"\njoe = "b"', "users: 'joe' stands there twice")
        self.wrong(start + "[user]\n", "there is no user; there are default, domains, front, upstreams, users")
        self.wrong(start + "[front]\nname = 1", "there is no front.name; there are front.mechanisms, front.separator")
        self.wrong(start + "[front]\nseparator = 1", "front.separator")
        for value in ('"PLAIN"', '["plain"]', "[1]", '["A B"]'):
            self.wrong(start + f"[front]\nmechanisms = {value}", "front.mechanisms is a list")
