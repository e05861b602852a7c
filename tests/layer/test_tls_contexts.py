"""
Contexts for TLS on the descriptor: L{mem_continuity.layer.tls_contexts}.
"""

from __future__ import annotations

import contextlib

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from mem_continuity.layer.tls_contexts import ContextError, client_context, server_context
from tests.support.certificates import certificate_pem


def key_pem(password: bytes | None = None) -> bytes:
    how = serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def shake_hands(server: SSL.Context, client: SSL.Context) -> tuple[SSL.Connection, SSL.Connection]:
    """
    A handshake in memory.
    """
    ends = SSL.Connection(server, None), SSL.Connection(client, None)
    ends[0].set_accept_state()
    ends[1].set_connect_state()
    for _ in range(6):
        for one, other in (ends, ends[::-1]):
            with contextlib.suppress(SSL.WantReadError):
                one.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                other.bio_write(one.bio_read(65536))
    return ends


class ContextTests(SynchronousTestCase):
    """
    What is agreed upon.
    """

    def setUp(self) -> None:
        self.client = client_context(certificate_pem())

    def test_the_fastest_suite(self) -> None:
        ends = shake_hands(server_context(certificate_pem()), self.client)
        for end in ends:
            self.assertEqual(end.get_cipher_name(), "TLS_AES_128_GCM_SHA256")
            self.assertEqual(end.get_protocol_version_name(), "TLSv1.3")

    def test_our_choice_against_a_client_that_likes_another(self) -> None:
        other = SSL.Context(SSL.TLS_METHOD)
        ends = shake_hands(server_context(certificate_pem()), other)
        self.assertEqual(ends[0].get_cipher_name(), "TLS_AES_128_GCM_SHA256")

    def test_tls_1_2_and_nothing_older(self) -> None:
        old = SSL.Context(SSL.TLS_METHOD)
        old.set_max_proto_version(SSL.TLS1_2_VERSION)
        ends = shake_hands(server_context(certificate_pem()), old)
        self.assertEqual(ends[0].get_protocol_version_name(), "TLSv1.2")
        self.assertIn("GCM", str(ends[0].get_cipher_name()))
        with self.assertRaises(SSL.Error):
            ends[1].renegotiate()
            shake = ends[1]
            shake.do_handshake()
            ends[0].bio_write(shake.bio_read(65536))
            ends[0].recv(1)
            shake.bio_write(ends[0].bio_read(65536))
            shake.do_handshake()
        older = SSL.Context(SSL.TLS_METHOD)
        older.set_cipher_list(b"ALL:@SECLEVEL=0")
        older.set_min_proto_version(SSL.TLS1_VERSION)
        older.set_max_proto_version(SSL.TLS1_1_VERSION)
        with self.assertRaises(SSL.Error):
            shake_hands(server_context(certificate_pem()), older)

    def test_a_chain(self) -> None:
        pem = certificate_pem()
        certificate = pem[pem.index(b"-----BEGIN CERT") :]
        ends = shake_hands(server_context(pem + certificate), self.client)
        chain = ends[1].get_peer_cert_chain()
        assert chain is not None
        self.assertEqual(len(chain), 2)

    def test_the_client_verifies(self) -> None:
        self.assertTrue(self.client.get_verify_mode() & SSL.VERIFY_PEER)
        with self.assertRaises(SSL.Error):
            shake_hands(server_context(certificate_pem()), client_context())

    def test_what_cannot_be_used(self) -> None:
        pem = certificate_pem()
        certificate = pem[pem.index(b"-----BEGIN CERT") :]
        for wrong, said in (
            (b"", "have to be"),
            (certificate, "have to be"),
            (key_pem(), "have to be"),
            (key_pem() + certificate, "does not belong"),
            (key_pem(b"secret") + certificate, "encrypted"),
            (b"\xff\xfe", "have to be"),
        ):
            with self.assertRaisesRegex(ContextError, said):
                server_context(wrong)
        for wrong in (b"", b"nothing"):
            with self.assertRaisesRegex(ContextError, "certificate"):
                client_context(wrong)
