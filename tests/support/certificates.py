"""
One self-signed certificate for C{localhost}, made once per process: key exchange is under test in no test, so P-256 will do.
"""

from __future__ import annotations

import datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet.ssl import Certificate, CertificateOptions, PrivateCertificate, optionsForClientTLS


@cache
def certificate_pem() -> bytes:
    """
    Key and certificate, one behind the other.
    """
    return named_pem("localhost")


def named_pem(*names: str, authority: bool = False) -> bytes:
    """
    The same for other names.

    @param authority: say that it may be trusted as one; there are programs that want that.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), False)
    )
    if authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
    made = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private + made.public_bytes(serialization.Encoding.PEM)


@cache
def server_context() -> CertificateOptions:
    """
    For C{listenSSL} and C{startTLS} of a server.
    """
    options: CertificateOptions = PrivateCertificate.loadPEM(certificate_pem()).options()
    return options


def client_context() -> object:
    """
    For a client that checks the certificate and the name C{localhost}.
    """
    return optionsForClientTLS("localhost", trustRoot=Certificate.loadPEM(certificate_pem()))
