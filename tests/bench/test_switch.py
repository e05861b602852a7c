"""
What L{bench.switch} makes of what it measures, and the parts of it that need no networks.
"""

from __future__ import annotations

import io
import socket
import sys
import threading

from twisted.trial.unittest import SynchronousTestCase

from bench._command import Options, Size, parse
from bench._mail_program import Load, Program
from bench._moving import Case
from bench._mptcp import available, fell_back
from bench._report import Report
from bench._ride import Way, longest_wait
from bench._switch_server import IPPROTO_MPTCP
from bench.switch import Figures, chosen, goal, kinds


def pair(protocol: int = 0) -> tuple[socket.socket, socket.socket]:
    """
    Two ends of a connection on loopback.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        near = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
        near.connect(listening.getsockname())
        return near, listening.accept()[0]


class WaitTests(SynchronousTestCase):
    """
    L{longest_wait}.
    """

    def test_only_what_lies_after_it(self) -> None:
        """
        What was before does not count, and of the wait in which it happened only the rest.
        """
        self.assertEqual(longest_wait(10.0, [1.0, 9.0, 12.0, 13.0]), 2.0)
        self.assertEqual(longest_wait(10.0, [9.0, 10.5, 14.5, 15.0]), 4.0)

    def test_never(self) -> None:
        """
        Nothing came after it.
        """
        self.assertEqual(longest_wait(10.0, [9.0]), float("inf"))


class GoalTests(SynchronousTestCase):
    """
    L{goal}.
    """

    def test_goals(self) -> None:
        """
        In milliseconds: the gap, what a silence adds to it, and the command's own round trip.
        """
        for load, case, way, wanted in (
            (Load.FETCH, Case.PLANNED, Way.AGENT, 20.0),
            (Load.NOOP, Case.PLANNED, Way.AGENT, 120.0),
            (Load.FETCH, Case.GONE, Way.AGENT, 310.0),
            (Load.APPEND, Case.REPLACED, Way.AGENT, 310.0),
            (Load.NOOP, Case.GONE, Way.PREPARED, 105.0),
            (Load.FETCH, Case.SILENT, Way.AGENT, 810.0),
            (Load.IDLE, Case.SILENT, Way.PREPARED, 605.0),
            (Load.IDLE, Case.GONE, Way.AGENT, None),
            (Load.FETCH, Case.SILENT, Way.MPTCP, None),
        ):
            self.assertEqual(goal(100, load, case, way), wanted, (load, case, way))
        self.assertEqual(goal(300, Load.FETCH, Case.SILENT, Way.AGENT), 900 + 910)


class FiguresTests(SynchronousTestCase):
    """
    L{Figures}.
    """

    def test_told(self) -> None:
        """
        The median, with its goal, and in parts of the others; what did not get on at all is told as well.
        """
        figures = Figures()
        for seconds in (0.1, 0.3, 0.2):
            figures.add((100, Load.FETCH, Case.GONE, Way.AGENT), seconds)
        figures.add((100, Load.FETCH, Case.GONE, Way.MPTCP), 0.4)
        figures.add((100, Load.FETCH, None, None), 0.8)
        figures.add((100, Load.FETCH, Case.SILENT, Way.AGENT), float("inf"))
        report = Report("title")
        figures.tell(report)
        agent, mptcp, again, never = report.figures
        self.assertEqual((agent.what, round(agent.value), agent.met), ("gone, FETCH, RTT 100: agent", 200, True))
        self.assertEqual(agent.note, "2.00 RTT, 0.50 x MPTCP, 0.25 x reconnect")
        self.assertEqual((mptcp.goal, again.what), (None, "once noticed, FETCH, RTT 100: reconnect"))
        self.assertEqual(again.note, "8.00 RTT; when nothing tells, 20.8 s")
        self.assertEqual((never.value, never.verdict), (45000, "MISSED"))


class ChoiceTests(SynchronousTestCase):
    """
    C{--only}.
    """

    def test_chosen(self) -> None:
        """
        What is named of one kind leaves the others as they are.
        """
        options = Options(Size.SHORT, ("silent", "20"))
        self.assertEqual(chosen(options, Case, list(Case)), [Case.SILENT])
        self.assertEqual(chosen(options, (20, 60), [60]), [20])
        self.assertEqual(chosen(options, Load, [Load.NOOP]), [Load.NOOP])

    def test_only_what_there_is(self) -> None:
        """
        Anything else is refused; benches without a choice have no such option.
        """
        self.assertEqual(parse("switch", "", ["--only", "gone", "--only", "MPTCP"], kinds()).only, ["gone", "MPTCP"])
        for arguments, offered in ((["--only", "nonsense"], kinds()), (["--only", "gone"], [])):
            self.patch(sys, "stderr", io.StringIO())
            self.assertRaises(SystemExit, parse, "switch", "", arguments, offered)


class ProgramTests(SynchronousTestCase):
    """
    L{Program}.
    """

    timeout = 30

    def test_a_command(self) -> None:
        """
        Its answer is found wherever the octets are cut, behind whatever else is said.
        """
        near, far = pair()
        self.addCleanup(far.close)
        program = Program(near)
        self.addCleanup(program.close)
        heard = []

        def serve() -> None:
            far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            far.sendall(b"* OK hello\r\n")
            for answer in ((b"* 3 EXISTS\r\nt1 O", b"K done\r\n"), (b"t1 OK again\r\n* t2 OK\r", b"\nt2 OK\r\n")):
                heard.append(far.recv(100))
                for piece in answer:
                    far.sendall(piece)

        serving = threading.Thread(target=serve)
        serving.start()
        program.greeted()
        program.ask(b"SELECT INBOX")
        program.work(Load.NOOP, lambda: bool(program.times))
        serving.join()
        self.assertEqual(heard, [b"t1 SELECT INBOX\r\n", b"t2 NOOP\r\n"])
        self.assertEqual(len(program.times), 1)

    def test_the_server_closes(self) -> None:
        """
        That is an error, not a wait.
        """
        near, far = pair()
        program = Program(near)
        self.addCleanup(program.close)
        far.close()
        self.assertRaises(EOFError, program.greeted)


class MptcpTests(SynchronousTestCase):
    """
    Is it?
    """

    def test_plain_tcp(self) -> None:
        """
        It is not.
        """
        near, far = pair()
        self.addCleanup(near.close)
        self.addCleanup(far.close)
        self.assertTrue(fell_back(near))

    def test_mptcp(self) -> None:
        """
        It is where the kernel has it.
        """
        near, far = pair(IPPROTO_MPTCP if available() else 0)
        self.addCleanup(near.close)
        self.addCleanup(far.close)
        self.assertEqual(fell_back(near), not available())
