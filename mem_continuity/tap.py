"""
C{twistd mem-continuity}: options to services.

With no options it serves a Maildir over TLS on loopback; what that needs (certificate, a user, a first mail) is made at
the first start.  Each limit of L{Policy} is an option of its own.

Invariants: what an operator can get wrong ends in one line on stderr and status 1, never in a traceback.  A password that
was made up is shown once, on the terminal, and kept as a hash.  No reactor is imported before a service is made.  Stopping
closes the ports first, then says good-bye to the sessions, and waits for both.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from twisted.application.service import IService, Service
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.portal import IRealm, Portal
from twisted.cred.strcred import AuthOptionMixin
from twisted.internet.defer import inlineCallbacks, maybeDeferred
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.plugin import getPlugins
from twisted.python import usage
from twisted.python.failure import Failure
from zope.interface import implementer

import mem_continuity
from mem_continuity.core.policy import Limit, Policy, PolicyError, limits_of
from mem_continuity.interfaces import IMailRealmFactory

_COMMAND = "twistd mem-continuity"
#: What is served without --listen; C{tls:} stands for C{ssl:} with the certificate of --certificate.
DEFAULT_LISTEN = "tls:10993:interface=127.0.0.1"


def option_name(limit: Limit) -> str:
    """
    How a limit is spelt on the command line.
    """
    return limit.name.replace("_", "-")


def _number(limit: Limit) -> Callable[[str], int | float]:
    def read(text: str) -> int | float:
        try:
            return type(limit.default)(text)
        except ValueError:
            raise ValueError(f"--{option_name(limit)} must be a number of {limit.unit}, not {text!r}") from None

    return read


def _parameters() -> list[list[Any]]:
    return [
        [
            option_name(limit),
            None,
            limit.default,
            f"[{limit.unit}, {limit.bounds}] {limit.reason}",
            _number(limit),
        ]
        for limit in limits_of(Policy)
    ]


def default_data() -> str:
    """
    The folder for state, as the XDG base directory specification has it.
    """
    base = os.environ.get("XDG_STATE_HOME", "")
    return str((Path(base) if os.path.isabs(base) else Path.home() / ".local" / "state") / "mem-continuity")


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


class Options(usage.Options, AuthOptionMixin):
    """
    The command line of C{twistd mem-continuity}.

    After L{parseOptions} the key C{policy} holds the L{Policy}, C{listen} the list of endpoint descriptions.
    """

    synopsis = "[options]"
    longdesc = (
        "Serves mail sessions that outlive their connection. Without options: a Maildir over TLS on 127.0.0.1:10993, "
        "with a user and a certificate that are made at the first start."
    )
    supportedInterfaces = (IUsernamePassword,)

    optFlags = [  # noqa: RUF012  Twisted reads it from the class
        ["insecure-loopback", None, "Allow passwords and START without TLS from this host itself."],
        ["no-binding", None, "Do not bind RESUME to the TLS connection: for a balancer in front that ends TLS."],
    ]
    optParameters = [  # noqa: RUF012
        ["data", None, None, "The folder for certificate and passwords. [default: ~/.local/state/mem-continuity]"],
        ["maildir", None, None, "The folder with a Maildir for each user. [default: mail below --data]"],
        ["realm", None, None, "Where mail accounts come from, NAME[:ARGUMENT] (see --help-realm)."],
        ["certificate", None, None, "A PEM file with private key and certificates. [default: made below --data]"],
        *_parameters(),
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []

    def opt_listen(self, description: str) -> None:
        """
        A server endpoint, repeatable; tls: is ssl: with --certificate. [default: tls:10993:interface=127.0.0.1]
        """
        self["listen"].append(description)

    def opt_version(self) -> None:
        """
        Show the version.
        """
        print(f"mem-continuity {mem_continuity.__version__}")
        raise SystemExit(0)

    def opt_help_realm(self) -> None:
        """
        Show the realms there are.
        """
        for realm in list_realms():
            print(f"  --realm {realm.name}[:ARGUMENT]  {realm.summary}")
            if realm.argument_help:
                print(f"      ARGUMENT: {realm.argument_help}")
        raise SystemExit(0)

    def parseArgs(self) -> None:
        """
        There are no arguments besides options.
        """

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Read the command line.

        @raise SystemExit: something is wrong with it.  C{twistd} itself would print pages of help and then the error.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise SystemExit(f"{_COMMAND}: {' '.join(str(error).split())}") from None

    def postOptions(self) -> None:
        """
        Check what depends on more than one option.

        @raise usage.UsageError: it cannot be served like this.
        """
        limits = list(limits_of(Policy))
        try:
            self["policy"] = Policy(**{limit.name: self[option_name(limit)] for limit in limits})
        except PolicyError as error:
            raise usage.UsageError("--" + str(error).replace("_", "-", str(error).partition(" ")[0].count("_"))) from None
        if self["maildir"] is not None and self["realm"] is not None:
            raise usage.UsageError("--maildir and --realm exclude each other; use --realm maildir:FOLDER")
        if not self["listen"]:
            self["listen"] = [DEFAULT_LISTEN]
        self["data"] = default_data() if self["data"] is None else self["data"]


def _endpoint(description: str, certificate: tuple[Path, str] | None, reactor: Any) -> IStreamServerEndpoint:
    if description.startswith("tls:") and certificate is not None:
        path = quoteStringArgument(str(certificate[0]))
        description = f"ssl:{description[4:]}:privateKey={path}:certKey={path}:extraCertChain={path}"
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
    except (ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        raise usage.UsageError(f"--listen {description}: this is no server endpoint: {_one_line(error)}") from None
    except Exception as error:
        # What a plugin or the TLS library raises for a bad file is of many kinds.
        raise usage.UsageError(f"--listen {description}: it cannot be used: {_one_line(error)}") from None
    return endpoint


def _one_line(error: BaseException | None) -> str:
    return " ".join(str(error).split()) or type(error).__name__


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
    endpoints = [(one, _endpoint(one, certificate, reactor)) for one in options["listen"]]
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


@implementer(IService)
class MailService(Service):
    """
    Ports in front of a factory whose sessions want a good-bye.

    @ivar ports: what is listening.
    """

    def __init__(
        self,
        factory: Any,
        endpoints: Sequence[tuple[str, IStreamServerEndpoint]],
        at_end: Sequence[Callable[[], object]] = (),
    ) -> None:
        """
        @param factory: its C{shutdown}, when it has one, is waited for at the end.
        @param endpoints: each with its description.
        @param at_end: called one after the other when all sessions are over.
        """
        self.factory = factory
        self.ports: list[IListeningPort] = []
        self._endpoints = endpoints
        self._at_end = at_end
        self._is_listening = False
        self._failure: Failure | None = None

    def privilegedStartService(self) -> None:
        """
        Listen, while ports below 1024 still can be had.

        @raise SystemExit: a port cannot be had.
        """
        super().privilegedStartService()
        self._is_listening = True
        for description, endpoint in self._endpoints:
            endpoint.listen(self.factory).addCallbacks(self.ports.append, self._refused, errbackArgs=(description,))
            if self._failure is not None:
                self._give_up(description, self._failure)

    def _refused(self, reason: Failure, description: str) -> None:
        self._failure = reason

    def _give_up(self, description: str, reason: Failure) -> NoReturn:
        error = reason.value
        why = _one_line(error)
        if isinstance(error, CannotListenError):
            cause = error.socketError
            why = os.strerror(cause.errno) if isinstance(cause, OSError) and cause.errno else _one_line(error)
        # Twisted's log has taken sys.stderr by now.
        out = sys.__stderr__ or sys.stderr
        out.write(f"twistd mem-continuity: cannot listen on {description}: {why}; choose another with --listen\n")
        out.flush()
        raise SystemExit(1)

    def startService(self) -> None:
        """
        Start; listen unless that is done already.
        """
        super().startService()
        if not self._is_listening:
            self.privilegedStartService()

    @inlineCallbacks
    def stopService(self) -> Any:
        """
        Close the ports, then let the sessions end.

        @return: fires when all of that is done.
        """
        super().stopService()
        ports, self.ports = self.ports, []
        closing = [maybeDeferred(port.stopListening) for port in ports]
        yield from closing
        shutdown = getattr(self.factory, "shutdown", None)
        if shutdown is not None:
            yield shutdown()
        for act in self._at_end:
            act()


def makeService(options: Options) -> IService:
    """
    Called by C{twistd} before it detaches from the terminal.

    @raise SystemExit: it cannot be served like this; the text is one line.
    """
    from twisted.internet import reactor

    from mem_continuity.mailhost.first_start import SetupError

    try:
        return make_mail_service(options, reactor, sys.stderr)
    except (SetupError, usage.UsageError) as error:
        raise SystemExit(f"{_COMMAND}: {error}") from None
