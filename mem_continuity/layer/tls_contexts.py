"""
OpenSSL contexts for TLS on the descriptor: one for all connections of a port, or of an upstream.

Invariants: TLS 1.2 at least, no compression, no renegotiation; an idle connection has no record buffers
(SSL_MODE_RELEASE_BUFFERS).  That writes may be partial and come again from another place (SSL_MODE_ENABLE_PARTIAL_WRITE,
SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER), which the transport needs, is set by pyOpenSSL in every context it makes.
"""

from __future__ import annotations

import secrets
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

_NO_RENEGOTIATION = 0x40000000
"""SSL_OP_NO_RENEGOTIATION, by its number: not every pyOpenSSL that will do has the name."""
_OPTIONS = SSL.OP_NO_COMPRESSION | _NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE
_SUITES = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""Of TLS 1.3; the first is the fastest where the processor has AES, and none is known to be weaker than needed."""
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL"
"""Of TLS 1.2: forward secrecy and authenticated encryption only."""


class ContextError(ValueError):
    """
    A context cannot be made of what was given, or cannot be used here; the text says why.
    """


def _context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(_OPTIONS)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_cipher_list(_CIPHERS)
    context.set_tls13_ciphersuites(_SUITES)
    return context


def server_context(pem: bytes, *, tickets: bool = False) -> SSL.Context:
    """
    @param pem: a private key and certificates, the server's own first, in any order besides.
    @param tickets: whether clients may come back with a session ticket; off by default, as Twisted has it.
    @raise ContextError: there is no key in it, no certificate, or they do not belong together.
    """
    try:
        key: Any = load_pem_private_key(pem, None)
        chain: list[Any] = x509.load_pem_x509_certificates(pem)
    except TypeError:
        raise ContextError("the private key is encrypted; give one without a passphrase") from None
    except ValueError:
        raise ContextError("there have to be a private key and a certificate in PEM") from None
    context = _context()
    context.use_privatekey(key)
    try:
        context.use_certificate(chain[0])
        context.check_privatekey()
    except SSL.Error:
        raise ContextError("the private key does not belong to the first certificate") from None
    for one in chain[1:]:
        context.add_extra_chain_cert(one)
    context.set_session_id(secrets.token_bytes(16))
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    if not tickets:
        context.set_options(SSL.OP_NO_TICKET)
    return context


def client_context(authorities: bytes | None = None) -> SSL.Context:
    """
    @param authorities: PEM certificates of those who are believed; None for those of the system.
    @raise ContextError: there is no certificate in it.
    """
    context = _context()
    if authorities is None:
        context.set_default_verify_paths()
    else:
        try:
            found = x509.load_pem_x509_certificates(authorities)
        except ValueError:
            raise ContextError("there has to be a certificate in PEM") from None
        store = context.get_cert_store()
        assert store is not None  # a context always has one
        for one in found:
            store.add_cert(X509.from_cryptography(one))
    context.set_verify(SSL.VERIFY_PEER)
    return context


@implementer(IOpenSSLServerConnectionCreator)
class ContextFactory:
    """
    A context factory, as Twisted's C{startTLS} takes one, of a context that is there; for whoever serves.
    """

    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    def getContext(self) -> SSL.Context:
        """
        @see: L{IOpenSSLContextFactory<twisted.internet.interfaces.IOpenSSLContextFactory>}
        """
        return self._context

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """
        @see: L{IOpenSSLServerConnectionCreator<twisted.internet.interfaces.IOpenSSLServerConnectionCreator>}
        """
        return SSL.Connection(self._context, None)


def context_of(given: object) -> SSL.Context:
    """
    The context of an C{OpenSSL.SSL.Context}, or of a context factory such as Twisted's C{CertificateOptions}.

    @raise ContextError: it has none; a connection creator that makes connections of its own is for Twisted's TLS.
    """
    if isinstance(given, SSL.Context):
        return given
    found = getattr(given, "getContext", lambda: None)()
    if not isinstance(found, SSL.Context):
        raise ContextError(f"TLS on the descriptor needs an OpenSSL context or a context factory, not {given!r}")
    return found
