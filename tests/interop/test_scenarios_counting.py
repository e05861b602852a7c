"""
Scenario 17 end to end: COMPRESS inside the layer (RFC 4978), with the servers' own DEFLATE.
"""

from __future__ import annotations

import re
import zlib
from random import Random

from mem_continuity.core.handshake import Resumed
from mem_continuity.core.policy import KIB
from tests.interop.client import Client
from tests.interop.grounds import GroundCase, OnCyrus, OnDovecot, make_mail
from tests.interop.tls_wire import TO_CLIENT, TO_SERVER, Lost


class Compressing:
    """
    What COMPRESS=DEFLATE makes of a client: one stream of DEFLATE each way, whatever becomes of the links.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.text = b""
        self._seen = len(client.stream)
        self._deflate = zlib.compressobj(wbits=-15)
        self._inflate = zlib.decompressobj(wbits=-15)

    def write(self, octets: bytes) -> None:
        self.client.write(self._deflate.compress(octets) + self._deflate.flush(zlib.Z_SYNC_FLUSH))

    def has(self, text: bytes) -> bool:
        """
        Inflate what has come; whether something stands in it.
        """
        self.text += self._inflate.decompress(bytes(self.client.stream[self._seen :]))
        self._seen = len(self.client.stream)
        return text in self.text

    def wait_for(self, text: bytes) -> None:
        self.client.wait_for(lambda: self.has(text))


class Counting(GroundCase):
    """
    For either server.
    """

    def test_scenario_17_compress_inside_the_layer(self) -> None:
        """
        COMPRESS is negotiated inside the layer; the link is cut in the middle of compressed data again and again, in both
        directions: a FETCH inflates to the exact message, and what was deflated in an APPEND is stored exactly.
        """
        chance = Random(17)
        body, mail = make_mail(chance, 200 * KIB), make_mail(chance, 200 * KIB)
        self.deliver(body)
        client = self.new_client().begin(select=b"SELECT INBOX")
        self.assert_ok(client.call(b"COMPRESS DEFLATE"))
        inner = Compressing(client)
        inner.write(b"f FETCH 1 BODY.PEEK[]\r\n")
        self._cut_until(inner, b"\nf OK", TO_CLIENT, chance)
        found = re.search(rb"\{(\d+)\}\r\n", inner.text)
        assert found is not None
        self.assertEqual(inner.text[found.end() :][: int(found[1])], body)
        inner.write(b"a APPEND INBOX {%d+}\r\n%b\r\n" % (len(mail), mail))
        self._cut_until(inner, b"\na OK", TO_SERVER, chance)
        inner.write(b"l LOGOUT\r\n")
        inner.wait_for(b"\nl OK")
        self.assertEqual(inner.text.count(b"\na OK"), 1)
        self.assertEqual(self.stored(), [body, mail])

    def _cut_until(self, inner: Compressing, text: bytes, direction: int, chance: Random) -> None:
        client, cuts = inner.client, 0
        while not inner.has(text):
            client.wire.count_from_now((direction, chance.randrange(20 * KIB, 40 * KIB)))
            try:
                inner.wait_for(text)
            except Lost:
                cuts += 1
                self.assertIsInstance(client.resume(), Resumed)
        client.wire.count_from_now()
        self.assertGreater(cuts, 2)


class CountingOnDovecot(Counting, OnDovecot):
    pass


class CountingOnCyrus(Counting, OnCyrus):
    pass


del Counting
