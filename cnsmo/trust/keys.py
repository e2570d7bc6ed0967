# SPDX-License-Identifier: Apache-2.0
"""Keys, the requests that they sign, and how keys and certificates are told apart."""

from __future__ import annotations

import hashlib
import hmac

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AttributeOID, NameOID

from cnsmo.model.errors import InvalidRequest

CURVE = ec.SECP256R1()
PURPOSE = b"cnsmo join "
"""Before what is hashed into a request, so that the digest serves nothing else."""


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key that nobody has had before."""
    return ec.generate_private_key(CURVE)


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """The private key as text."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def load_key(pem: str) -> ec.EllipticCurvePrivateKey:
    """The private key that a text holds.

    :raises ValueError: when it is none of ours; the text says nothing of what it holds.
    """
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("not a private key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != CURVE.name:
        raise ValueError(f"not a key on the curve {CURVE.name}")
    return key


def key_digest(key: ec.EllipticCurvePublicKey) -> str:
    """What tells one key from another: SHA-256 over the SubjectPublicKeyInfo, hexadecimal."""
    info = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(info).hexdigest()


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256, as ``openssl x509 -fingerprint -sha256`` writes it."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def same_fingerprint(one: str, other: str) -> bool:
    """Whether two spellings mean one fingerprint: case and colons do not count."""
    return hmac.compare_digest(_plain(one), _plain(other))


def check_fingerprint(value: str) -> str:
    """Return value when it is a SHA-256 fingerprint.

    :raises ValueError: otherwise.
    """
    plain = _plain(value)
    if len(plain) != 64 or set(plain) - set(b"0123456789abcdef"):
        raise ValueError(
            f"{ascii(value)} is no SHA-256 fingerprint: 64 hexadecimal digits are expected, as "
            "'cnsmo-manage ca show' prints them"
        )
    return value


def request(key: ec.EllipticCurvePrivateKey, nonce: str) -> str:
    """A request for a certificate, signed by the key.

    nonce: what only the key's owner knows. Its digest is signed, too: who overhears the request
    cannot ask with another nonce.
    """
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "host")])
    builder = x509.CertificateSigningRequestBuilder(name).add_attribute(
        AttributeOID.CHALLENGE_PASSWORD, _challenge(nonce)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def requested_key(pem: str, nonce: str) -> ec.EllipticCurvePublicKey:
    """The key that a request proves to have. Nothing else that it says is believed.

    :raises InvalidRequest: when it proves nothing, or not for this nonce.
    """
    try:
        found = x509.load_pem_x509_csr(pem.encode())
        key = found.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != CURVE.name:
            raise InvalidRequest(f"csr: a key on the curve {CURVE.name} is expected")
        challenge = found.attributes.get_attribute_for_oid(AttributeOID.CHALLENGE_PASSWORD)
        if found.is_signature_valid and hmac.compare_digest(challenge.value, _challenge(nonce)):
            return key
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.AttributeNotFound):
        raise InvalidRequest("csr: not a certificate signing request (PKCS #10, PEM)") from None
    raise InvalidRequest("csr: it is not signed by its key for this nonce")


def _challenge(nonce: str) -> bytes:
    return hashlib.sha256(PURPOSE + nonce.encode()).hexdigest().encode()


def _plain(value: str) -> bytes:
    return value.strip().replace(":", "").lower().encode()
