"""
A login that is cut in the middle (scenario 24).
"""

from __future__ import annotations

import base64
import secrets

from twisted.mail.imap4 import PLAINCredentials
from twisted.trial.unittest import SynchronousTestCase

from tests.support.comebacks import CLIENT_ID
from tests.support.memory_search import anywhere
from tests.support.site import Server, Site


class AuthenticatingServer(Server):
    """
    With SASL PLAIN.
    """

    def connectionMade(self) -> None:
        self.challengers = {b"PLAIN": PLAINCredentials}
        super().connectionMade()


class HalfALogin(SynchronousTestCase):
    """
    With all ways of saying a password.
    """

    def test_scenario_24_link_lost_in_the_middle_of_a_login(self) -> None:
        """
        There is nothing to resume, and the password is nowhere in this process any more.
        """
        ways = {
            "initial response": (b"a1 AUTHENTICATE PLAIN ", b""),
            "challenge": (b"a1 AUTHENTICATE PLAIN\r\n", b""),
            "login": (b"", b"a1 LOGIN joe "),
            "synchronizing literal": (b"a1 LOGIN joe {100}\r\n", b"+"),
            "literal": (b"", b"a1 LOGIN joe {100+}\r\n"),
        }
        for opening, prefix in ways.values():
            site = Site()
            site.protocol_class = AuthenticatingServer
            mirrored = self.half_a_login(site, opening, prefix)
            self.assertTrue(anywhere(mirrored), "the search finds nothing at all")
            site.wires[0].reset()
            site.settle()
            self.assertEqual((len(site.factory.table), site.factory.table.parked), (0, 0))
            self.assertEqual((len(site.servers[0].losses), site.logins), (1, []))
            site.servers.clear()  # what the test itself keeps for looking at
            site.wires.clear()
            site.trace.clear()
            self.assertEqual(anywhere(mirrored), [])
            self.assertEqual(site.clock.getDelayedCalls(), [])

    @staticmethod
    def half_a_login(site: Site, opening: bytes, prefix: bytes) -> bytes:
        wire = site.connect()
        wire.send(b"c1 CLIENTID " + CLIENT_ID + b"\r\n")
        secret = secrets.token_hex(30).encode()
        if prefix:
            said = prefix.lstrip(b"+") + secret
        else:
            secret = base64.b64encode(b"\0joe\0" + secret)
            said = secret
        wire.send(opening)
        site.settle()
        wire.send(said)
        site.settle()
        return secret[:40][::-1]
