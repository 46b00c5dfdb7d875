"""Certificates for a TLS endpoint: a good one, and one for each reason to refuse it."""

import ssl
import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sharegram_simulator.clock import utc_now

CertificateKind = Literal["good", "expired", "wrong_host", "self_signed", "unknown_ca"]

LIFE = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Issuer:
    """A certificate authority that lives as long as this object."""

    name: x509.Name
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        """The certificate that a client has to trust."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def new_issuer(name: str = "Simulator CA") -> Issuer:
    """Make an authority."""
    key, subject, now = ec.generate_private_key(ec.SECP256R1()), _name(name), utc_now()
    builder = _builder(subject, subject, key, now - LIFE, now + LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return Issuer(subject, key, builder.sign(key, hashes.SHA256()))


@dataclass(frozen=True, slots=True)
class CertificatePem:
    """A certificate and its key."""

    certificate: bytes
    key: bytes


def new_certificate(kind: CertificateKind, issuer: Issuer, common_name: str = "127.0.0.1") -> CertificatePem:
    """Make a certificate of this kind for 127.0.0.1."""
    key, now = ec.generate_private_key(ec.SECP256R1()), utc_now()
    subject = _name(common_name)
    signing = new_issuer("Another CA") if kind == "unknown_ca" else issuer
    until = now - timedelta(days=1) if kind == "expired" else now + LIFE
    names = [x509.DNSName("other.example")] if kind == "wrong_host" else [x509.IPAddress(ip_address("127.0.0.1"))]
    signed_by = subject if kind == "self_signed" else signing.name
    builder = _builder(subject, signed_by, key, now - LIFE, until)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(key if kind == "self_signed" else signing.key, hashes.SHA256())
    return CertificatePem(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def server_context(kind: CertificateKind, issuer: Issuer) -> ssl.SSLContext:
    """The TLS settings of a server at 127.0.0.1 whose certificate is of this kind."""
    pem = new_certificate(kind, issuer)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.TemporaryDirectory() as folder:  # OpenSSL reads keys from files only
        path = Path(folder, "server.pem")
        path.write_bytes(pem.certificate + pem.key)
        context.load_cert_chain(path)
    return context


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, since: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
    )
