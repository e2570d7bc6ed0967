# SPDX-License-Identifier: Apache-2.0
"""PEM files of TLS: whether one can be used, for whom it is and until when; pure but for the clock
that is given."""

from __future__ import annotations

import dataclasses
import datetime
import re

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

SOON = datetime.timedelta(days=14)
"""How long before its end an operator is told."""
RSA_BITS = 2048
"""The least that OpenSSL takes by default (security level 2)."""
_KEY = re.compile(
    r"-----BEGIN (?P<kind>[A-Z ]*PRIVATE KEY)-----.*?-----END (?P=kind)-----", re.DOTALL
)


@dataclasses.dataclass(frozen=True)
class Validity:
    """For which names a certificate is, and when."""

    names: tuple[str, ...]
    begins: datetime.datetime
    ends: datetime.datetime

    def doubt(self, now: datetime.datetime) -> str:
        """What is, or soon will be, wrong with it; "" while nothing is."""
        if now < self.begins:
            return f"is not valid before {self.begins:%Y-%m-%d %H:%M} UTC"
        if now >= self.ends:
            return f"expired on {self.ends:%Y-%m-%d %H:%M} UTC"
        if now >= self.ends - SOON:
            return f"expires in {(self.ends - now).days} days, on {self.ends:%Y-%m-%d %H:%M} UTC"
        return ""


def read_chain(text: str) -> Validity:
    """The first certificate of a file.

    :raises ValueError: when there is none that can be read.
    """
    try:
        first = x509.load_pem_x509_certificates(text.encode())[0]
    except (ValueError, IndexError) as exc:
        raise ValueError("has no certificate that can be read") from exc
    return Validity(_names(first), first.not_valid_before_utc, first.not_valid_after_utc)


def check_pair(text: str) -> None:
    """See to it that a file has a certificate and the key that belongs to it.

    :raises ValueError: saying what is wrong.
    """
    read_chain(text)
    found = _KEY.search(text)
    if found is None:
        raise ValueError("has no private key")
    try:
        key = serialization.load_pem_private_key(found[0].encode(), None)
    except TypeError as exc:
        raise ValueError("has a private key with a passphrase") from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ValueError("has no private key that can be read") from exc
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < RSA_BITS:
        raise ValueError(f"has an RSA key of {key.key_size} bits; {RSA_BITS} are needed")
    certificate = x509.load_pem_x509_certificates(text.encode())[0]
    if _public(key.public_key()) != _public(certificate.public_key()):
        raise ValueError("has a private key that does not belong to its first certificate")


def _public(key: object) -> bytes:
    der, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_bytes(der, form))  # type: ignore[attr-defined]


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = [str(it) for it in extension.value.get_values_for_type(x509.DNSName)]
        names += [str(it) for it in extension.value.get_values_for_type(x509.IPAddress)]
    except (x509.ExtensionNotFound, ValueError):
        names = []
    if not names:
        names = [str(it.value) for it in certificate.subject.get_attributes_for_oid(
            NameOID.COMMON_NAME)]  # fmt: skip
    return tuple(names)
