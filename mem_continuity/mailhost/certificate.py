"""
A self-signed certificate for a first start.

P-256, as the fastest in a handshake; for C{localhost} and the loopback addresses only.  Key and certificate are in one
PEM file that only its owner can read.
"""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mem_continuity.mailhost.index import replace_file

_DAYS = 3650


def make_certificate(path: Path, now: datetime.datetime) -> None:
    """
    Make a key and a certificate.

    @param path: the PEM file.
    @param now: it is valid from a day before; with a time zone.
    @raise OSError: the file cannot be written.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    names += [x509.IPAddress(ipaddress.ip_address(one)) for one in ("127.0.0.1", "::1")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    replace_file(path, private + certificate.public_bytes(serialization.Encoding.PEM))


def check_certificate(path: Path) -> str:
    """
    Look whether a PEM file has a key and a certificate.

    @return: the certificate's SHA-256 fingerprint, as mail programs show it.
    @raise OSError: the file cannot be read.
    @raise ValueError: it lacks one of them, or they do not belong together.
    """
    pem = path.read_bytes()
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise ValueError(f"{path} has no certificate in PEM format") from None
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        raise ValueError(f"{path} has no private key in PEM format, or one with a passphrase") from None
    if key.public_key() != certificates[0].public_key():
        raise ValueError(f"in {path} the first certificate does not belong to the private key")
    return certificates[0].fingerprint(hashes.SHA256()).hex(":").upper()
