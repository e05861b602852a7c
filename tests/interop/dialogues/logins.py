"""
Dialogues about what is before the login, and the login itself.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.interop import sasl
from tests.interop.dialogues.registry import DIALOGUES, PASSWORD, bare
from tests.interop.dovecot import MASTER, make_token
from tests.interop.player import Player


@bare
def before_login(player: Player) -> None:
    player.play("""
        CAPABILITY
        NOOP
        ID ("name" "x")
        ID NIL
        LOGIN alice wrong
        LOGIN <<alice>> <<wrong>>
        LOGIN <<>> ""
        LOGOUT
    """)
    player.ended()


@bare
def wrong_before_login(player: Player) -> None:
    player.play("""
        SELECT INBOX
        NOSUCH
    """)
    player.command(f"LOGIN <<alice>> <+{PASSWORD}+>")
    player.play("""
        STATUS INBOX (MESSAGES)
        LOGOUT
    """)
    player.ended()


@bare
def too_many_errors(player: Player) -> None:
    try:
        for _ in range(30):
            player.command("NOSUCH")
    except (EOFError, ConnectionError):
        return


@bare
def everything_at_once(player: Player) -> None:
    """
    The login and what follows it in one segment.
    """
    player.pipeline(f"""
        CAPABILITY
        LOGIN <+alice+> "{PASSWORD}"
        CAPABILITY
        SELECT INBOX
        FETCH 1:* (UID FLAGS BODY.PEEK[])
        STATUS Archive (MESSAGES)
        LOGOUT
    """)
    player.ended()


def _mechanism(name: str, first: bytes | None, *answers: Callable[[bytes], bytes], kind: str = "") -> None:
    def played(player: Player) -> None:
        if player.authenticate(name, first, *answers):
            player.command("STATUS INBOX (MESSAGES)")
        player.command("LOGOUT")
        player.ended()

    DIALOGUES[f"mechanism_{name}_{kind}"] = played


def _mechanisms() -> None:
    for kind, (user, password) in {"good": ("alice", PASSWORD), "bad": ("alice", "wrong")}.items():
        _mechanism("PLAIN", sasl.plain(user, password), kind=f"{kind}_at_once")
        _mechanism("PLAIN", None, sasl.always(sasl.plain(user, password)), kind=kind)
        _mechanism("LOGIN", None, *sasl.login(user, password), kind=kind)
        _mechanism("LOGIN", user.encode(), *sasl.login(user, password)[1:], kind=f"{kind}_at_once")
        _mechanism("CRAM-MD5", None, *sasl.cram_md5(user, password), kind=kind)
        _mechanism("DIGEST-MD5", None, *sasl.digest_md5(user, password), kind=kind)
        for algorithm, name in {"sha1": "SCRAM-SHA-1", "sha256": "SCRAM-SHA-256"}.items():
            scram = sasl.Scram(user, password, algorithm)
            _mechanism(name, scram.first, scram.proof, kind=f"{kind}_at_once")
            _mechanism(name, None, sasl.always(scram.first), scram.proof, kind=kind)
        token = make_token(user) if kind == "good" else "nonsense"
        _mechanism("XOAUTH2", sasl.xoauth2(user, token), kind=kind)
        _mechanism("OAUTHBEARER", sasl.bearer(user, token), kind=kind)
    _mechanism("PLAIN", sasl.plain(*MASTER, for_user="alice"), kind="for_another")
    _mechanism("PLAIN", b"", kind="empty")
    _mechanism("NO-SUCH", None, kind="unknown")


_mechanisms()


@bare
def capabilities_first(player: Player) -> None:
    """
    Who asked for them before the login is told the new ones in a line of their own.
    """
    player.command("CAPABILITY")
    player.command(f"LOGIN alice {PASSWORD}")
    player.command("CAPABILITY")
    player.command("LOGOUT")
    player.ended()


@bare
def cancelled_login(player: Player) -> None:
    tag = player.begin("AUTHENTICATE PLAIN")
    player.finish(b"*\r\n", tag)
    tag = player.begin("AUTHENTICATE PLAIN")
    player.finish(b"!not base64!\r\n", tag)
    player.command(f"LOGIN alice {PASSWORD}")
    player.command("LOGOUT")
    player.ended()
