# SPDX-License-Identifier: Apache-2.0
"""What our certificates look like (RFC 5280): authorities, cores, hosts."""

from __future__ import annotations

import datetime
import ipaddress
import re

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cnsmo.model.errors import InvalidRequest
from cnsmo.trust import keys

CORE_NAME = "cnsmo-core"
"""The name in every core's certificate: that it is a core is proven, not at which address."""
BROKER_NAME = "cnsmo-broker"
"""In a broker's: it is no core, and proves its address."""
DNS_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")
BACKDATED = datetime.timedelta(days=1)
"""A certificate begins before it was made: clocks of VMs may be slow."""


def self_signed(
    key: ec.EllipticCurvePrivateKey, now: datetime.datetime, life: datetime.timedelta
) -> x509.Certificate:
    """An authority's own certificate."""
    name = authority_name(key.public_key())
    return _signed(_authority(name, key.public_key()), name, key, now, life)


def cross_signed(
    subject: x509.Certificate, issuer: x509.Certificate, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    """A new authority's certificate by the old one: who trusts the old one can trust the new."""
    builder = _authority(subject.subject, public_key(subject))
    begin = max(subject.not_valid_before_utc, issuer.not_valid_before_utc) + BACKDATED
    life = min(subject.not_valid_after_utc, issuer.not_valid_after_utc) - begin
    return _signed(builder, issuer.subject, issuer_key, begin, life)


def of_core(
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    life: datetime.timedelta,
) -> x509.Certificate:
    """A certificate by which a core proves to be one."""
    builder = _leaf(_name(CORE_NAME), key, ExtendedKeyUsageOID.SERVER_AUTH, x509.DNSName(CORE_NAME))
    return _signed(builder, issuer.subject, issuer_key, now, life)


def of_broker(
    key: ec.EllipticCurvePublicKey,
    address: str,
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    life: datetime.timedelta,
) -> x509.Certificate:
    """A certificate by which a broker proves to be the one at an address, or of a name.

    :raises InvalidRequest: when that is neither, or would make it a core.
    """
    alt: x509.GeneralName
    try:
        alt = x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        alt = x509.DNSName(_broker_name(address))
    builder = _leaf(_name(BROKER_NAME), key, ExtendedKeyUsageOID.SERVER_AUTH, alt)
    return _signed(builder, issuer.subject, issuer_key, now, life)


def _broker_name(name: str) -> str:
    """A broker's name, which no core has: hosts that join believe whoever proves to be a core."""
    if not DNS_NAME.fullmatch(name) or name.lower() == CORE_NAME:
        raise InvalidRequest(
            f"{ascii(name)[:80]} is neither an address nor a name that a broker can have"
        )
    return name


def of_host(
    key: ec.EllipticCurvePublicKey,
    ident: str,
    deployment: str,
    host: str,
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    life: datetime.timedelta,
) -> x509.Certificate:
    """A certificate by which a host proves who it is; its common name is ``agent-ID``."""
    builder = _leaf(
        _name(f"agent-{ident}"),
        key,
        ExtendedKeyUsageOID.CLIENT_AUTH,
        x509.UniformResourceIdentifier(f"cnsmo://{deployment}/{host}"),
    )
    return _signed(builder, issuer.subject, issuer_key, now, life)


def authority_name(key: ec.EllipticCurvePublicKey) -> x509.Name:
    """Each authority has a name of its own, so that chains are found by names."""
    return _name(f"CNSMO CA {keys.key_digest(key)[:16]}")


def pem(*certificates: x509.Certificate) -> str:
    """Certificates as text."""
    return "".join(it.public_bytes(serialization.Encoding.PEM).decode() for it in certificates)


def public_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """The key of a certificate of ours.

    :raises ValueError: when it is of another kind.
    """
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("not a certificate of ours")
    return key


def _authority(name: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    return (
        _subject(name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(authority=True), critical=True)
    )


def _leaf(
    name: x509.Name,
    key: ec.EllipticCurvePublicKey,
    use: x509.ObjectIdentifier,
    alt: x509.GeneralName,
) -> x509.CertificateBuilder:
    return (
        _subject(name, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .add_extension(x509.SubjectAlternativeName([alt]), critical=False)
    )


def _subject(name: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _signed(
    builder: x509.CertificateBuilder,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    life: datetime.timedelta,
) -> x509.Certificate:
    known = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return (
        builder.issuer_name(issuer)
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
        .add_extension(known, critical=False)
        .sign(key, hashes.SHA256())
    )


def _usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
