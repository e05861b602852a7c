"""
C{twistd mem-continuity}: options to services.

With no options it serves a Maildir over TLS on loopback; what that needs (certificate, a user, a first mail) is made at
the first start.  With C{--upstream} or C{--routes} it is the gateway in front of other servers.  Each limit of L{Policy} is an
option of its own.

Invariants: what an operator can get wrong ends in one line on stderr and status 1, never in a traceback.  A password that
was made up is shown once, on the terminal, and kept as a hash.  No reactor is imported before a service is made.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from twisted.application.service import IService
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.portal import IRealm, Portal
from twisted.cred.strcred import AuthOptionMixin
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.plugin import getPlugins
from twisted.python import usage

from mem_continuity.core.policy import Policy
from mem_continuity.interfaces import IMailRealmFactory
from mem_continuity.options import PolicyOptions, limit_parameters, state_folder
from mem_continuity.service import MailService, one_line

_COMMAND = "twistd mem-continuity"
#: What is served without --listen; C{tls:} stands for C{ssl:} with the certificate of --certificate.
DEFAULT_LISTEN = "tls:10993:interface=127.0.0.1"


def list_realms() -> list[Any]:
    """
    The realms that plugins offer, by name.
    """
    return sorted(getPlugins(IMailRealmFactory), key=lambda realm: str(realm.name))


def find_realm(description: str, reactor: Any, policy: Policy) -> IRealm:
    """
    Make the realm of C{--realm NAME[:ARGUMENT]}.

    @raise usage.UsageError: there is none of that name, or its argument is wrong.
    """
    name, _, argument = description.partition(":")
    realms = list_realms()
    for realm in realms:
        if realm.name == name:
            try:
                made: IRealm = realm.make_realm(argument, reactor, policy)
            except ValueError as error:
                raise usage.UsageError(f"--realm {name}: {error}") from None
            return made
    known = ", ".join(str(realm.name) for realm in realms)
    raise usage.UsageError(f"--realm {name}: there is no realm of that name; there are: {known}")


class Options(PolicyOptions, AuthOptionMixin):
    """
    The command line of C{twistd mem-continuity}.

    After L{parseOptions} the key C{policy} holds the L{Policy}, C{listen} the list of endpoint descriptions.
    """

    command = _COMMAND
    synopsis = "[options]"
    longdesc = (
        "Serves mail sessions that outlive their connection. Without options: a Maildir over TLS on 127.0.0.1:10993, "
        "with a user and a certificate that are made at the first start. With --upstream: a gateway in front of any IMAP server."
    )
    supportedInterfaces = (IUsernamePassword,)

    optFlags = [  # noqa: RUF012  Twisted reads it from the class
        ["insecure-loopback", None, "Allow passwords and START without TLS from this host itself."],
        ["no-binding", None, "Do not bind RESUME to the TLS connection: for a balancer in front that ends TLS."],
        [
            "balancer-ends-tls",
            None,
            "For a gateway: what comes without TLS counts as secure, for a balancer in front ends TLS and nobody else can "
            "connect. Implies --no-binding.",
        ],
    ]
    optParameters = [  # noqa: RUF012
        [
            "upstream",
            None,
            None,
            "Be a gateway in front of this IMAP server: tls:HOST[:PORT], starttls:HOST[:PORT], tcp:HOST[:PORT] or unix:PATH; "
            "then options, as in tls:imap.example.org:993:authority=ca.pem (see the operator guide).",
        ],
        ["routes", None, None, "Be a gateway for several servers: a TOML file that says whose mail is where."],
        ["data", None, None, "The folder for certificate and passwords. [default: ~/.local/state/mem-continuity]"],
        ["maildir", None, None, "The folder with a Maildir for each user. [default: mail below --data]"],
        ["realm", None, None, "Where mail accounts come from, NAME[:ARGUMENT] (see --help-realm)."],
        ["certificate", None, None, "A PEM file with private key and certificates. [default: made below --data]"],
        *limit_parameters(Policy),
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []

    def opt_listen(self, description: str) -> None:
        """
        A server endpoint, repeatable; tls: is ssl: with --certificate. [default: tls:10993:interface=127.0.0.1]
        """
        self["listen"].append(description)

    def opt_help_realm(self) -> None:
        """
        Show the realms there are.
        """
        for realm in list_realms():
            print(f"  --realm {realm.name}[:ARGUMENT]  {realm.summary}")
            if realm.argument_help:
                print(f"      ARGUMENT: {realm.argument_help}")
        raise SystemExit(0)

    @property
    def is_gateway(self) -> bool:
        """
        Whether mail is had from an upstream.
        """
        return self["upstream"] is not None or self["routes"] is not None

    def postOptions(self) -> None:
        """
        Check what depends on more than one option.

        @raise usage.UsageError: it cannot be served like this.
        """
        self["policy"] = self.read_policy(Policy)
        if self["maildir"] is not None and self["realm"] is not None:
            raise usage.UsageError("--maildir and --realm exclude each other; use --realm maildir:FOLDER")
        if self["upstream"] is not None and self["routes"] is not None:
            raise usage.UsageError("--upstream and --routes exclude each other; put the upstream into the file, as its default")
        if self["balancer-ends-tls"] and not self.is_gateway:
            raise usage.UsageError("--balancer-ends-tls is for a gateway; it needs --upstream or --routes")
        if self.is_gateway:
            for name in ("maildir", "realm"):
                if self[name] is not None:
                    raise usage.UsageError(f"--{name} is for serving mail here, not for a gateway; leave it out")
            if self.get("credCheckers"):
                raise usage.UsageError("--auth is for serving mail here; a gateway's users log in at its upstream; leave it out")
        if not self["listen"]:
            self["listen"] = [DEFAULT_LISTEN]
        self["data"] = state_folder("mem-continuity") if self["data"] is None else self["data"]


def _endpoint(
    description: str, certificate: tuple[Path, str] | None, reactor: Any, policy: Policy
) -> IStreamServerEndpoint:
    # Only now: reading the command line for --help needs none of it.
    from mem_continuity.server.listening import server_endpoint

    try:
        pem = None if certificate is None else certificate[0].read_bytes()
        endpoint = server_endpoint(reactor, description, pem, policy)
    except (ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        raise usage.UsageError(f"--listen {description}: this is no server endpoint: {one_line(error)}") from None
    except Exception as error:
        # What a plugin or the TLS library raises for a bad file is of many kinds.
        raise usage.UsageError(f"--listen {description}: it cannot be used: {one_line(error)}") from None
    return endpoint


def make_mail_service(options: Mapping[str, Any], reactor: Any, out: TextIO) -> IService:
    """
    From options to a service.  Called by C{makeService}.

    @param options: see L{Options<mem_continuity.tap.Options>}.
    @param reactor: the reactor that everything runs on.
    @param out: where a first start is told of.
    @raise usage.UsageError: it cannot be served like this.
    """
    # Only now: reading the command line for --help needs none of it.
    from mem_continuity.mailhost.factory import MailhostFactory
    from mem_continuity.mailhost.first_start import find_certificate, find_user, how_to_connect, lock_folder
    from mem_continuity.mailhost.realm import MaildirRealm
    from mem_continuity.server import ContinuityRealm, continuous

    data, policy = Path(options["data"]).absolute(), options["policy"]
    lock = lock_folder(data)
    needs_certificate = any(one.startswith("tls:") for one in options["listen"])
    certificate = None
    if needs_certificate or options["certificate"] is not None:
        certificate = find_certificate(options["certificate"], data)
    endpoints = [(one, _endpoint(one, certificate, reactor, policy)) for one in options["listen"]]
    realm: IRealm
    if options["realm"] is not None:
        realm = find_realm(options["realm"], reactor, policy)
    else:
        root = data / "mail" if options["maildir"] is None else Path(options["maildir"])
        try:
            realm = MaildirRealm(root, reactor, policy)
        except OSError as error:
            raise usage.UsageError(f"the mail folder {root} cannot be used: {error.strerror}") from None
    checkers = options.get("credCheckers")
    if not checkers:
        checkers = [find_user(data, realm, reactor, policy, how_to_connect(options["listen"], certificate), out)]
    is_lax = bool(options["insecure-loopback"])
    factory = continuous(
        MailhostFactory(Portal(ContinuityRealm(realm), checkers), reactor, policy, allow_plaintext=is_lax),
        policy=policy,
        reactor=reactor,
        allow_insecure=is_lax,
        binding=not options["no-binding"],
    )
    # What a third party made need not be closed.
    at_end = [one.close for one in (*checkers, realm, lock) if callable(getattr(one, "close", None))]
    return MailService(factory, endpoints, at_end)


def make_gateway_service(options: Mapping[str, Any], reactor: Any) -> IService:
    """
    From options to the service of a gateway.  Called by C{makeService}.

    @param options: see L{Options<mem_continuity.tap.Options>}; C{upstream} or C{routes} is set.
    @param reactor: the reactor that everything runs on.
    @raise usage.UsageError: it cannot be served like this.
    """
    from mem_continuity.gateway.routing import read_routes
    from mem_continuity.gateway.site import GatewaySite, gateway
    from mem_continuity.gateway.upstream import parse_upstream
    from mem_continuity.imap.front import LocalFront
    from mem_continuity.layer.tls_contexts import ContextFactory, server_context
    from mem_continuity.mailhost.first_start import find_certificate, make_folder

    upstream = routes = front = None
    if options["upstream"] is not None:
        try:
            upstream = parse_upstream(options["upstream"])
        except ValueError as error:
            raise usage.UsageError(f"--upstream: {error}") from None
    else:
        try:
            routes = read_routes(options["routes"])
            front = LocalFront() if routes.mechanisms is None else LocalFront(mechanisms=routes.mechanisms)
        except ValueError as error:
            raise usage.UsageError(f"--routes: {error}") from None
    data = Path(options["data"]).absolute()
    if options["certificate"] is None:
        make_folder(data)
    certificate = find_certificate(options["certificate"], data)
    endpoints = [(one, _endpoint(one, certificate, reactor, options["policy"])) for one in options["listen"]]
    is_lax, is_balanced = bool(options["insecure-loopback"]), bool(options["balancer-ends-tls"])
    site = GatewaySite(
        reactor,
        options["policy"],
        upstream=upstream,
        router=routes,
        front=front,
        tls=ContextFactory(server_context(certificate[0].read_bytes())),
        insecure_loopback=is_lax,
        balancer_ends_tls=is_balanced,
    )
    factory = gateway(site, allow_insecure=is_lax or is_balanced, binding=not (options["no-binding"] or is_balanced))
    return MailService(factory, endpoints)


def makeService(options: Options) -> IService:
    """
    Called by C{twistd} before it detaches from the terminal.

    @raise SystemExit: it cannot be served like this; the text is one line.
    """
    from twisted.internet import reactor

    from mem_continuity.mailhost.first_start import SetupError

    try:
        if options.is_gateway:
            return make_gateway_service(options, reactor)
        return make_mail_service(options, reactor, sys.stderr)
    except (SetupError, usage.UsageError) as error:
        raise SystemExit(f"{_COMMAND}: {error}") from None
