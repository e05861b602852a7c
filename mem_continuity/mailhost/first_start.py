"""
What a first start makes: a folder of its own, a certificate, a user with a password, and a first mail.

Invariants: a data folder belongs to one process at a time.  A password that was made up is shown once and kept as a hash.
What fails is told in one line (L{SetupError}).
"""

from __future__ import annotations

import datetime
import fcntl
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from twisted.cred.portal import IRealm
from twisted.internet.interfaces import IReactorTime

from mem_continuity.core.policy import Policy
from mem_continuity.mailhost import passwords
from mem_continuity.mailhost.certificate import check_certificate, make_certificate
from mem_continuity.mailhost.realm import MaildirRealm
from mem_continuity.mailhost.welcome import deliver_welcome, welcome_message

USER = "demo"
#: Letters and figures that are not mixed up when read from a screen.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


class SetupError(Exception):
    """
    It cannot be served like this; the text is one line for the operator.
    """


def make_folder(data: Path) -> None:
    """
    Make the folder for state, for its owner alone.

    @raise SetupError: it cannot be made.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"the folder {data} cannot be written: {error.strerror}; choose another with --data") from None


def lock_folder(data: Path) -> TextIO:
    """
    Make the folder, and have it for this process alone until what is returned is closed.

    @raise SetupError: it cannot be written, or another process has it.
    """
    make_folder(data)
    try:
        lock = open(data / "lock", "a")  # noqa: SIM115  held as long as the service lives
    except OSError as error:
        raise SetupError(f"the folder {data} cannot be written: {error.strerror}; choose another with --data") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise SetupError(f"the folder {data} is in use by another process; choose another with --data") from None
    return lock


def find_certificate(given: str | None, data: Path) -> tuple[Path, str]:
    """
    The certificate that was given, or the one of the data folder; made when there is none.

    @return: the PEM file and the fingerprint.
    @raise SetupError: it cannot be read, or lacks something.
    """
    path = data / "certificate.pem" if given is None else Path(given)
    try:
        if given is None and not path.exists():
            make_certificate(path, datetime.datetime.now(datetime.UTC))
        return path, check_certificate(path)
    except OSError as error:
        raise SetupError(f"the certificate {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise SetupError(str(error)) from None


def how_to_connect(listen: Sequence[str], certificate: tuple[Path, str] | None) -> str:
    """
    What a user needs to know, but for the password.
    """
    lines = [f"Listening: {', '.join(listen)}", f"User:      {USER}"]
    if certificate is not None:
        lines += [f"TLS:       {certificate[0]}", f"SHA-256:   {certificate[1]}"]
    return "\n".join(lines)


def find_user(
    data: Path, realm: IRealm, reactor: IReactorTime, policy: Policy, connect: str, out: TextIO
) -> passwords.HashedPasswords:
    """
    The user of the embedded default; made, with a password, when there is none.

    @param realm: gets the first mail when it is the mailhost's.
    @param policy: the limits of logins.
    @param connect: see L{how_to_connect}.
    @param out: where the password is shown.
    @raise SetupError: something cannot be read or written.
    """
    path = data / "passwords"
    try:
        if not path.exists():
            password = "-".join("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(4))
            if isinstance(realm, MaildirRealm):
                store = realm.store(USER)
                if not (store.path / "mem-continuity-uids").exists():
                    deliver_welcome(store, welcome_message(USER, connect, time.time()))
            passwords.write_passwords(path, {USER: passwords.PasswordHash.of(password)})
            out.write(f"{connect}\nPassword:  {password}   (shown this once; to get another, remove {path})\n")
            out.flush()
        return passwords.HashedPasswords(passwords.read_passwords(path), reactor, policy)
    except OSError as error:
        raise SetupError(f"{error.filename or data} cannot be written: {error.strerror}") from None
    except ValueError as error:
        raise SetupError(str(error)) from None
