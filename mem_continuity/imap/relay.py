"""
One command at a time between a client and a server: what the preamble on the server's side and the opening on the
client's side have in common.

Commands are not collected but streamed.  The first line of a command goes to the server; if it announces a literal,
its octets and the next line follow (after the server's C{+} when the literal asks for it); what a C{+} invites
otherwise (AUTHENTICATE, IDLE) is one line of the client.  The command is over with the server's tagged answer, and
the next one waits for that in the buffer.

Invariants: no octet is lost, doubled or put out of order in either direction, and none is changed but by the
subclass; the server's octets are looked at when they arrive, the client's when an action is asked for, so a caller
may feed either side while it carries out an action; what is done does not depend on how the octets were split; work
is linear in the octets.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from mem_continuity.imap.actions import Action, ToClient, ToServer
from mem_continuity.imap.lexer import CRLF, CommandLine, literal_suffix, parse_command
from mem_continuity.imap.responses import Piece, ResponseStream, status_of

_ANSWERS = frozenset((b"OK", b"NO", b"BAD"))


class State(Enum):
    """
    What the next octets of the client are, or what they wait for.
    """

    COMMAND = "a new command"
    UNINVITED = "a literal that the server has not yet asked for"
    LITERAL = "a literal"
    LINE = "the line behind a literal"
    ANSWER = "nothing: the command awaits its answer"
    DIALOGUE = "a line that the server asked for"
    STOPPED = "nothing: this machine does not take any now"


class LineTooLong(Exception):
    """
    There is no CRLF where one must be by now.
    """


class LineBuffer:
    """
    Octets that arrived and have not been used, with a search for line ends that never looks twice at an octet.
    """

    def __init__(self, bound: int) -> None:
        """
        @param bound: the longest line in octets without its CRLF.
        """
        self._bound = bound
        self._octets = bytearray()
        self._scanned = 0

    def __len__(self) -> int:
        return len(self._octets)

    def feed(self, octets: bytes) -> None:
        """
        Add octets at the end.
        """
        self._octets += octets

    def peek(self, count: int) -> bytes:
        """
        The first octets, which stay.
        """
        return bytes(self._octets[:count])

    def take(self, count: int) -> bytes:
        """
        The first octets, or fewer if there are no more.
        """
        octets = bytes(self._octets[:count])
        del self._octets[:count]
        self._scanned = 0
        return octets

    def take_line(self) -> bytes | None:
        """
        The first line with its CRLF; C{None} when its end has not arrived.

        @raise LineTooLong: it is longer than the bound.
        """
        end = self._octets.find(CRLF, self._scanned, self._bound + len(CRLF))
        if end >= 0:
            return self.take(end + len(CRLF))
        if len(self._octets) > self._bound + 1 or (len(self._octets) > self._bound and not self._octets.endswith(b"\r")):
            raise LineTooLong
        self._scanned = max(len(self._octets) - 1, 0)
        return None


class CommandRelay:
    """
    The common machine.  A subclass says in C{_begin}, C{_answered}, C{_untagged} and C{_too_long} what is special.

    @ivar current_tag: tag of the command that was forwarded and awaits its answer; C{None} when there is none.
    """

    def __init__(self, line_bound: int) -> None:
        self._client = LineBuffer(line_bound)
        self._responses = ResponseStream(line_bound)
        self._actions: deque[Action] = deque()
        self._to_client = bytearray()
        self._state = State.COMMAND
        self._over = False
        self._starved = True
        self._greeted = False
        self._name = b""
        self._remaining = 0
        self._is_answered = False
        self.current_tag: bytes | None = None

    @property
    def over(self) -> bool:
        """
        From now on everything passes untouched, both ways.
        """
        return self._over

    @property
    def waiting(self) -> bool:
        """
        A command was forwarded and awaits its tagged answer.
        """
        return self.current_tag is not None

    @property
    def server_owes(self) -> bool:
        """
        The next word is the server's: an answer, or its C{+} for a literal.
        """
        return self.waiting and self._state in (State.ANSWER, State.UNINVITED)

    @property
    def server_rests(self) -> bool:
        """
        Nothing of an unfinished response of the server is here, shown or not.
        """
        return self._responses.between and not self._responses.waiting

    def client_data(self, octets: bytes) -> None:
        """
        Take octets of the client.  Never raises.
        """
        if self._over:
            self._push(ToServer(octets))
        else:
            self._client.feed(octets)
            self._starved = False

    def server_data(self, octets: bytes) -> None:
        """
        Take octets of the server.  Never raises.
        """
        if self._over:
            self._to_client += octets
            return
        self._responses.feed(octets)
        while not self._over:
            piece = self._responses.next_piece()
            if piece is None:
                break
            self._piece(piece)

    def next_action(self) -> Action | None:
        """
        What to do next; C{None} when more octets, or C{proceed()}, are needed.
        """
        while True:
            action = self.next_due()
            if action is not None:
                return action
            if self._over or not self._step():
                return None

    def next_due(self) -> Action | None:
        """
        What to do next without going on with the client's octets; C{None} when there is nothing.  For a caller whose
        server writes while it is still being handed octets: what it wrote can go out at once (it may start TLS right
        behind it), without one command being carried out inside another.
        """
        if self._actions:
            return self._actions.popleft()
        if self._to_client:
            octets = bytes(self._to_client)
            self._to_client.clear()
            return ToClient(octets)
        return None

    def _held(self) -> int:
        """
        Octets of the client that wait for something which is not the client.  True after C{next_action} gave C{None}.
        """
        return 0 if self._starved else len(self._client)

    # What a subclass says

    def _begin(self, command: CommandLine | None, line: bytes) -> None:
        """
        The first line of a command arrived: forward it, or do something else.

        @param command: C{None} when the line has no valid tag or no command; nobody waits for an answer then.
        """
        self._forward(command, line)

    def _literal_passes(self, octets: bytes) -> None:
        """
        Some octets of a literal in a forwarded command.
        """

    def _line_passes(self, line: bytes) -> bool:
        """
        Another line of a forwarded command, with its CRLF: one behind a literal, or one that the server asked for.

        @return: whether to forward it; if not, the subclass has done something else.
        """
        return True

    def _answered(self, tag: bytes, name: bytes, condition: bytes, line: bytes) -> None:
        """
        The forwarded command has its answer; C{line} is to be shown to the client, see L{_show}.
        """
        self._show(line)

    def _untagged(self, line: bytes) -> None:
        """
        Any other response; C{line} is to be shown to the client, see L{_show}.
        """
        self._show(line)

    def _continues(self, octets: bytes) -> None:
        """
        More octets of the response whose beginning was given to one of the two above.
        """
        self._show(octets)

    def _too_long(self) -> None:
        """
        The client's line is too long.
        """
        raise NotImplementedError

    # What a subclass uses

    def _push(self, action: Action) -> None:
        """
        Put an action behind everything that was shown to the client before.
        """
        if self._to_client:
            self._actions.append(ToClient(bytes(self._to_client)))
            self._to_client.clear()
        self._actions.append(action)

    def _show(self, octets: bytes) -> None:
        """
        Hand octets to the client.
        """
        self._to_client += octets

    def _forward(self, command: CommandLine | None, line: bytes, before: bytes = b"") -> None:
        """
        Begin to stream a command.

        @param before: octets that go to the server in the same flight.
        """
        self._is_answered = False
        self._name = b"" if command is None else command.name
        self.current_tag = None if command is None else command.tag
        self._push(ToServer(before + line))
        self._line_forwarded(line)

    def _end(self) -> bytes:
        """
        Stop looking: everything that the server sent is shown, and what the client sent is given back.
        """
        self._over = True
        self._show(self._responses.take_rest())
        return self._client.take(len(self._client))

    # The machine

    def _line_forwarded(self, line: bytes) -> None:
        literal = literal_suffix(line[:-2])
        if literal is None:
            self._forwarded_whole()
            return
        self._remaining, without_asking = literal
        if without_asking:
            self._state = State.LITERAL
        elif self.current_tag is None or self._is_answered:
            self._command_ended()
        else:
            self._state = State.UNINVITED

    def _forwarded_whole(self) -> None:
        if self.current_tag is None or self._is_answered:
            self._command_ended()
        else:
            self._state = State.ANSWER

    def _command_ended(self) -> None:
        self.current_tag = None
        self._name = b""
        if self._state is not State.STOPPED:
            self._state = State.COMMAND

    def _step(self) -> bool:
        """
        Go on with the client's octets.

        @return: something was done.
        """
        if self._state is State.LITERAL:
            return self._step_literal()
        if self._state not in (State.COMMAND, State.LINE, State.DIALOGUE):
            return False
        try:
            line = self._client.take_line()
        except LineTooLong:
            self._too_long()
            return True
        if line is None:
            self._starved = True
            return False
        if self._state is State.COMMAND:
            self._begin(parse_command(line[:-2]), line)
        elif self._line_passes(line):
            self._push(ToServer(line))
            if self._state is State.LINE:
                self._line_forwarded(line)
            else:
                self._forwarded_whole()
        return True

    def _step_literal(self) -> bool:
        octets = self._client.take(self._remaining)
        if octets:
            self._push(ToServer(octets))
        elif self._remaining:
            self._starved = True
            return False
        self._remaining -= len(octets)
        self._literal_passes(octets)
        if not self._remaining:
            self._state = State.LINE
        return True

    def _piece(self, piece: Piece) -> None:
        if not piece.first:
            self._continues(piece.octets)
            return
        if piece.octets.startswith(b"+"):
            if self._state is State.UNINVITED:
                self._state = State.LITERAL
            elif self._state is State.ANSWER and self._name in (b"AUTHENTICATE", b"IDLE"):
                self._state = State.DIALOGUE
            self._show(piece.octets)
            return
        status = status_of(piece.octets)
        if status is None or status[0] != self.current_tag or status[1] not in _ANSWERS or self._is_answered:
            self._untagged(piece.octets)
            self._greeted = True
            return
        tag, name = self.current_tag, self._name
        if self._state in (State.LITERAL, State.LINE):
            # The client is in the middle of it and will go on to its end.
            self._is_answered = True
        else:
            self._command_ended()
        self._answered(tag, name, status[1], piece.octets)
