# SPDX-License-Identifier: Apache-2.0
"""Certificates for tests."""

import datetime
import functools
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Authority:
    """Signs certificates, its own to begin with."""

    def __init__(self, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._signed(self.name, self.key, (), 3650, authority=True)

    def write(self, path: Path) -> Path:
        """Its own certificate, without the key."""
        path.write_text(_pem(self.certificate))
        return path

    def issue(
        self,
        path: Path,
        *names: str,
        days: float = 365,
        bits: int = 0,
        key: Key | None = None,
    ) -> Path:
        """A file with a certificate and its key; valid for days from now. bits: of an RSA key."""
        key = key or (_rsa(bits) if bits else ec.generate_private_key(ec.SECP256R1()))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        path.write_text(_pem(self._signed(subject, key, names, days)) + private(key))
        return path

    def _signed(
        self,
        subject: x509.Name,
        key: Key,
        names: tuple[str, ...],
        days: float,
        authority: bool = False,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=100))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names:
            alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self.key, hashes.SHA256())


def private(key: Key, passphrase: str = "") -> str:
    """A key as PEM."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    ).decode()


def names_of(pem: str) -> list[str]:
    """For whom a certificate is."""
    found = x509.load_pem_x509_certificate(pem.encode())
    extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [str(it) for it in extension.value.get_values_for_type(x509.DNSName)]


@functools.cache
def _rsa(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
