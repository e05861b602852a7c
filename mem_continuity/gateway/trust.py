"""
Whom the gateway takes for an upstream: the TLS terms of one, made once from its description.

Invariants: TLS 1.2 at least; the certificate and its name are verified, unless a pin alone is to do; a pin is compared in
constant time, right after the handshake and before an octet of ours is sent.
"""

from __future__ import annotations

import binascii
import hmac
import re
from base64 import b64decode
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    TLSVersion,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from zope.interface import implementer

from mem_continuity.gateway.errors import Trouble, UpstreamError

_HEX = re.compile(r"[0-9A-Fa-f]{64}")
_VERIFY_FAILED = "certificate verify failed"


def parse_pin(text: str) -> bytes:
    """
    The SHA-256 of a SubjectPublicKeyInfo, given in hexadecimal digits or base64 (with or without padding).

    @return: 32 octets.
    @raise ValueError: it is neither.
    """
    digest = b""
    if _HEX.fullmatch(text):
        digest = bytes.fromhex(text)
    else:
        try:
            digest = b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (ValueError, binascii.Error):
            digest = b""
    if len(digest) != sha256().digest_size:
        raise ValueError(f"pin is the SHA-256 of a public key, 64 hexadecimal digits or 44 of base64, not {text!r}")
    return digest


def read_authority(path: str) -> bytes:
    """
    Read the file of an own certificate authority.

    @return: its octets, PEM, with at least one certificate that can be read.
    @raise ValueError: the file cannot be read or has no certificate.
    """
    try:
        with open(path, "rb") as file:
            pem = file.read()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "this is no name of a file"
        raise ValueError(f"the authority file {path!r} cannot be read: {why}") from None
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError:
        found = []
    if not found:
        raise ValueError(f"the authority file {path!r} has no certificate in PEM form")
    return pem


def is_address(host: str) -> bool:
    """
    Whether this is an IPv4 or IPv6 address and no name.
    """
    return bool(isIPAddress(host) or isIPv6Address(host))


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    """
    TLS for an upstream that is known by its pin alone.
    """

    def __init__(self, options: CertificateOptions, name: str) -> None:
        self._options = options
        self._name = None if is_address(name) else name.encode("idna")

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """
        @see: L{IOpenSSLClientConnectionCreator}
        """
        connection: SSL.Connection = self._options.clientConnectionForTLS(tlsProtocol)
        if self._name is not None:
            connection.set_tlsext_host_name(self._name)
        return connection


def make_creator(name: str, authority: bytes | None, pin_only: bool) -> IOpenSSLClientConnectionCreator:
    """
    Make what all connections to one upstream are made from; it keeps one context.

    @param name: verified, and asked for by SNI unless it is an address.
    @param authority: PEM; C{None} for what the platform trusts.
    @param pin_only: the certificate is not verified.
    @raise ValueError: the name can be no name of a host.
    """
    least = {"raiseMinimumTo": TLSVersion.TLSv1_2}
    try:
        if pin_only:
            return _Unverified(CertificateOptions(**least), name)
        root = platformTrust()
        if authority is not None:
            found = x509.load_pem_x509_certificates(authority)
            root = trustRootFromCertificates([Certificate.load(one.public_bytes(Encoding.DER)) for one in found])
        creator: IOpenSSLClientConnectionCreator = optionsForClientTLS(name, root, extraCertificateOptions=least)
    except UnicodeError:
        raise ValueError(f"{name!r} can be no name of a host") from None
    return creator


def is_pinned(transport: Any, pins: tuple[bytes, ...]) -> bool:
    """
    Does a peer have one of these keys?

    @param transport: has TLS, its handshake is done.
    """
    certificate = transport.getPeerCertificate()
    if certificate is None:
        return False
    key = certificate.to_cryptography().public_key()
    digest = sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    matches = [hmac.compare_digest(digest, pin) for pin in pins]
    return any(matches)


def handshake_error(reason: BaseException | None) -> UpstreamError:
    """
    What it means that a connection ended before TLS stood.
    """
    if isinstance(reason, VerificationError):
        return Trouble.CERTIFICATE.error("its certificate is for another name; name= says which one is to be expected")
    if isinstance(reason, SSL.Error):
        entries = reason.args[0] if reason.args and isinstance(reason.args[0], list) else []
        said = "; ".join(sorted({str(entry[-1]) for entry in entries})) or "the handshake failed"
        if _VERIFY_FAILED in said:
            return Trouble.CERTIFICATE.error("its certificate is from no authority that is trusted; authority= names another one")
        return Trouble.INSECURE.error(f"TLS cannot be begun: {said}")
    return Trouble.INSECURE.error(f"the connection ended before TLS stood: {reason}")
