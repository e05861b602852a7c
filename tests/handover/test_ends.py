"""
When there is nothing to come back to, the protocol above is told so once, and what can be known.
"""

from __future__ import annotations

from tests.handover.programs import BIG, MIDDLE, HandoverTestCase


class EndTests(HandoverTestCase):
    """
    Sessions that are really gone.
    """

    def test_the_server_was_started_anew(self) -> None:
        self.start_server()
        client = self.start_client()
        self.server.stop()
        self.start_server()
        lost = client.wait("lost")
        self.assertEqual((lost["error"], lost["why"], lost["received"]), ("ContinuityLost", "GONE", None))
        self.check_nothing_left()

    def test_the_grace_period_is_over(self) -> None:
        server = self.start_server(grace=1.0)
        client = self.start_client()
        client.ask("noop")
        written = client.ask("state")["stream"]["written"]
        self.wlan.silence()
        self.xg.silence()
        client.ask("hint", what="link_is_dead")
        server.ask("cut")
        self.eventually(server, sessions=0)
        self.xg.restore()
        client.ask("hint", what="network_changed")
        lost = client.wait("lost")
        self.assertEqual((lost["error"], lost["why"]), ("ContinuityLost", "ENDED"))
        self.assertEqual((lost["received"], lost["written"]), (written, written))
        self.assertEqual(server.ask("state")["logouts"], 1)
        self.check_nothing_left()

    def test_nobody_can_be_reached(self) -> None:
        self.start_server()
        client = self.start_client(give_up=1.0)
        self.wlan.silence()
        self.xg.silence()
        client.ask("hint", what="link_is_dead")
        lost = client.wait("lost")
        self.assertEqual((lost["error"], lost["why"], lost["received"]), ("ContinuityLost", "UNREACHABLE", None))
        self.assertLess(abs(lost["at"] - client.wait("away")["at"] - 1.0), 0.3)
        self.check_nothing_left()

    def test_closed_while_away(self) -> None:
        """
        What was written before is delivered, then the session is over on both sides.
        """
        server = self.start_server()
        client = self.start_client()
        self.wlan.silence()
        self.xg.silence()
        client.ask("hint", what="link_is_dead")
        client.begin("append")
        client.ask("close")
        self.xg.restore()
        client.ask("hint", what="network_changed")
        lost = client.wait("lost")
        self.assertEqual(lost["error"], "ConnectionDone")
        self.eventually(server, sessions=0, links=0, logouts=1)
        self.check_nothing_left()

    def test_logout(self) -> None:
        server = self.start_server()
        client = self.start_client(prepare=True)
        self.eventually(client, prepared="xg")
        client.ask("logout")
        self.assertEqual(client.wait("lost")["error"], "ConnectionDone")
        self.eventually(server, sessions=0, links=0, logouts=1)
        self.check_nothing_left()

    def check_nothing_left(self) -> None:
        """
        No timer and no connection of the client, a closing one apart.
        """
        self.eventually(self.client, phase="ENDED", path=None, prepared=None, timers=0, sockets=0)


class StartTLSTests(HandoverTestCase):
    """
    A session in which the protocol itself has begun TLS.
    """

    tls = False

    def test_it_resumes_under_tls(self) -> None:
        self.start_server()
        client = self.start_client(prepare=True)
        self.eventually(client, prepared="xg")
        fetching = client.begin("fetch", marks=[MIDDLE])
        client.wait("progress")
        self.wlan.silence()
        client.ask("hint", what="link_is_dead")
        self.assertEqual(client.answer(fetching), BIG)
        self.check_streams()
        self.wlan.restore()
        client.ask("switch", path="wlan")
        self.assertEqual(client.ask("state")["path"], "wlan")
        self.assertEqual(self.server.ask("state")["counts"]["handovers"], 2)
