"""
The commands of the layer, carried out on a link: CLIENTID and XCONTINUITY START, RESUME, GRAFT.

Invariants:

- Nothing is decided for somebody who has not logged in, or proved a key.  Nothing is told on a link that is not trusted.
- A RESUME changes nothing before its commit, and the commit is one synchronous step: fence the old link, fix the counts, attach
  the new one.  A veto that takes its time is followed by a new judgement.
- The order is the change request's: find the record, answer, graft, talk on the new link, then disconnect the old one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mem_continuity.core.handshake import (
    Binding,
    HandshakeError,
    Refusal,
    Refused,
    Resumed,
    ResumeRequest,
    Terms,
    format_refused,
    format_resumed,
    format_started,
    new_key,
    parse_graft,
    parse_resume,
    parse_start,
)
from mem_continuity.core.resumption import drains, grant, judge
from mem_continuity.core.session import Session
from mem_continuity.core.states import State
from mem_continuity.directory.record import ClientID
from mem_continuity.imap.actions import Extension
from mem_continuity.layer.conduit import Conduit
from mem_continuity.layer.sockets import exported_binding
from mem_continuity.server.grafting import graft
from mem_continuity.server.link import Mode, ServerLink
from mem_continuity.server.served import Served
from mem_continuity.server.table import Claim

_log = Logger()


def carry_out(link: ServerLink, command: Extension) -> None:
    """
    Carry out one of our commands.  Called by the link, whose preamble stands still until C{proceed}.
    """
    try:
        if command.name == b"CLIENTID":
            _client_id(link, command)
        else:
            _xcontinuity(link, command)
    except HandshakeError as error:
        _refuse(link, command.tag, b"BAD", str(error).encode("ascii", "replace"))


def _refuse(link: ServerLink, tag: bytes, condition: bytes, text: bytes) -> None:
    link.bind()
    link.drain()
    link.answer(tag, condition, text)
    link.preamble.proceed()
    link.pump()


def _xcontinuity(link: ServerLink, command: Extension) -> None:
    words = {b"START": _start, b"RESUME": _resume, b"GRAFT": _graft}
    word = command.arguments[0].upper() if command.arguments else b""
    act: Callable[[ServerLink, Extension], None] | None = words.get(word)
    if act is None:
        raise HandshakeError("XCONTINUITY is followed by START, RESUME or GRAFT")
    act(link, command)


# CLIENTID


def _client_id(link: ServerLink, command: Extension) -> None:
    if len(command.arguments) != 2:
        raise HandshakeError("CLIENTID takes a type and a value")
    kind, value = command.arguments
    if not kind or not value or max(len(kind), len(value)) > link.hub.policy.client_id_value:
        raise HandshakeError(f"a client ID has 1 to {link.hub.policy.client_id_value} octets in each part")
    if link.preamble.authenticated or not link.trusted:
        _refuse(link, command.tag, b"NO", b"CLIENTID is said under TLS and before login")
        return
    link.client_id = ClientID(kind, value)
    link.answer(command.tag, b"OK", b"CLIENTID noted")
    link.preamble.proceed()


# START


def _start(link: ServerLink, command: Extension) -> None:
    hub, served = link.hub, link.served
    wanted = parse_start(command.arguments[1:])
    if served is None or not link.preamble.authenticated:
        _refuse(link, command.tag, b"BAD", b"XCONTINUITY START comes after login")
        return
    if not link.trusted:
        _refuse(link, command.tag, b"NO", b"[PRIVACYREQUIRED] XCONTINUITY START needs TLS")
        return
    exported = exported_binding(link.transport) if hub.binding and link.secure else b""
    if hub.binding and link.secure and not exported:
        _refuse(link, command.tag, b"NO", b"XCONTINUITY START needs TLS 1.3 on this server")
        return
    crowded = hub.table.refuses(served)
    if crowded is not None:
        _refuse(link, command.tag, b"NO", b"[LIMIT] " + crowded.encode("ascii"))
        return
    if served.session_id is None:
        served.session_id = hub.new_session_id()
    grace = int(hub.policy.grace if wanted is None else min(wanted, hub.policy.grace))
    binding = Binding.TLS_EXPORTER if exported else Binding.NONE
    terms = Terms(served.session_id, new_key(), grace, hub.policy.window, binding)
    policy = hub.policy
    session = Session(terms, policy, hub.clock.seconds(), policy.silent_link, policy.silent_answer)
    served.conduit = Conduit(session, served.transport, hub.clock, served)
    served.begun_secure = link.secure
    served.settle()
    hub.table.started(served)
    link.answer(command.tag, b"OK", format_started(terms) + b" continuity layer active")
    rest, unsaid = link.become_framed(served)
    served.conduit.begin(link)
    for octets in unsaid:
        served.conduit.carry_write(octets)
    if rest:
        served.conduit.link_received(link, rest)


# RESUME


def _resume(link: ServerLink, command: Extension) -> None:
    hub = link.hub
    request = parse_resume(command.arguments[1:], command.literal)
    exported = exported_binding(link.transport)
    refused = _judge(link, request, exported)
    if refused is not None:
        _answer_refused(link, command.tag, refused)
        return
    if hub.veto is None:
        _commit(link, command.tag, request, exported)
        return
    served = hub.table.served(request.session_id)
    assert served is not None
    claim = Claim(request.session_id, served.user, served.client_id, served.peer_host, link.peer_host)
    veto = hub.veto
    asked: Deferred[Any] = maybeDeferred(lambda: veto.allows(claim))

    def failed(failure: Failure) -> bool:
        _log.failure("The veto failed; the session is refused.", failure)
        return False

    asked.addErrback(failed).addCallback(_after_veto, link, command.tag, request, exported)


def _judge(link: ServerLink, request: ResumeRequest, exported: bytes) -> Refused | None:
    table = link.hub.table
    known = table.known(request.session_id)
    refused = judge(known, request, exported)
    served = table.served(request.session_id)
    if refused is None and served is not None and served.begun_secure and not link.secure:
        refused = Refused(Refusal.GONE)  # begun under TLS: never on less
    if refused is not None:
        table.counts[f"refused_{refused.refusal.name.lower()}"] += 1
        if refused.refusal is Refusal.GONE:
            if table.failures.too_many(link.peer_host):
                table.counts["limit_resume_failures"] += 1
                return Refused(Refusal.RETRY, int(link.hub.policy.resume_failure_time))
            table.failures.note(link.peer_host)
            _log.info("RESUME refused: unknown session or wrong proof, from {peer}", peer=link.peer_host)
    return refused


def _answer_refused(link: ServerLink, tag: bytes, refused: Refused) -> None:
    _refuse(link, tag, b"NO", format_refused(refused) + b" not resumed")


def _after_veto(allowed: bool, link: ServerLink, tag: bytes, request: ResumeRequest, exported: bytes) -> None:
    if link.mode is not Mode.PREAMBLE:
        return  # the link that asked is gone; nothing has changed
    refused = _judge(link, request, exported)
    if refused is None and allowed is not True:
        served = link.hub.table.served(request.session_id)
        _log.info("RESUME of {session_id!r} refused by the site's veto", session_id=request.session_id)
        link.hub.table.counts["vetoed"] += 1
        if served is not None:
            served.end(b"REFUSED")
        refused = judge(link.hub.table.known(request.session_id), request, exported) or Refused(Refusal.GONE)
    if refused is not None:
        _answer_refused(link, tag, refused)
        return
    _commit(link, tag, request, exported)
    link.pump()


def _commit(link: ServerLink, tag: bytes, request: ResumeRequest, exported: bytes) -> None:
    table = link.hub.table
    served = table.served(request.session_id)
    assert served is not None and served.conduit is not None
    conduit = served.conduit
    answers: list[Resumed] = []

    standing = drains(conduit.session, request)
    old: object = None

    def attach() -> None:
        answers.append(grant(conduit.session, request, exported, link.hub.clock.seconds(), standing))

    link.unbind()
    rest, _ = link.become_framed(served)
    if standing:
        conduit.succeed(link, attach, link.hub.policy.drain, link.hub.policy.drain)
    else:
        old = conduit.exchange(link, attach)
    table.unpark(served)
    table.counts["handovers"] += 1
    link.answer(tag, b"OK", format_resumed(answers[0]) + b" resumed")
    conduit.deliver()
    conduit.flush()
    if rest:
        conduit.link_received(link, rest)
    if isinstance(old, ServerLink):
        old.displaced()
    if conduit.session.state is not State.ENDED:
        table.suspect_siblings(served)


# GRAFT


def _graft(link: ServerLink, command: Extension) -> None:
    wanted = parse_graft(command.arguments[1:])
    served = link.served
    if served is None or not link.preamble.authenticated:
        _refuse(link, command.tag, b"BAD", b"XCONTINUITY GRAFT comes after login")
        return

    def done(answer: tuple[bytes, bytes]) -> None:
        _finish_graft(link, served, command.tag, *answer)

    def failed(failure: Failure) -> None:
        _log.failure("GRAFT failed.", failure)
        _finish_graft(link, served, command.tag, b"NO", b"[SERVERBUG] GRAFT failed; log in and select as usual")

    def write(octets: bytes) -> None:
        link.drain()  # what the mailbox has made the inner protocol say comes before the snapshot
        link.transport.write(octets)

    graft(link.hub.table, served, command.tag, wanted, write).addCallbacks(done, failed)


def _finish_graft(link: ServerLink, served: Served, tag: bytes, condition: bytes, text: bytes) -> None:
    if link.mode is Mode.PREAMBLE and served.link is link:
        link.answer(tag, condition, text)
        link.preamble.proceed()
        link.pump()
