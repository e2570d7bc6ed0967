# SPDX-License-Identifier: Apache-2.0
"""A host's OpenVPN certificates: made here, known to others by their fingerprint alone.

The hub's OpenVPN wants a certificate to be issued by somebody that it knows (see openvpn_config).
Trust comes from the fingerprint, so the issuer is a formality: everybody signs in the name of
``ISSUER``, whose private key is the number 1, and so no secret at all. That a certificate has this
issuer proves nothing, and nothing relies on it.
"""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from oslo_log import log
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cnsmo.model.names import check_label
from cnsmo.services.kit.private_files import read_private, write_private
from cnsmo.services.kit.rotation import Ageing

LOG = log.getLogger(__name__)

ISSUER = "CNSMO: anybody can sign as this issuer"
CURVE = ec.SECP256R1()
BEGINNING = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
"""Before any clock that is merely wrong: age is judged by rotation, not by the certificate."""
END = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
"""No well-defined expiration date (RFC 5280, 4.1.2.5)."""


class Certificate(Ageing):
    """A private key with its certificate, both as PEM.

    ``created``: seconds since the epoch; ``generation``: the operator's command it answers.
    """

    key: str = Field(repr=False)
    certificate: str

    @classmethod
    def new(cls, host: str, generation: int, now: float) -> Certificate:
        """A certificate in the name of a host, with a key that nobody has had before.

        :raises ValueError: when the host's name is no name.
        """
        key = ec.generate_private_key(CURVE)
        made = _sign(check_label(host), key.public_key())
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return cls(key=private.decode(), certificate=_pem(made), created=now, generation=generation)

    @property
    def fingerprint(self) -> str:
        """SHA-256, as ``openssl x509 -fingerprint -sha256`` writes it."""
        parsed = x509.load_pem_x509_certificate(self.certificate.encode())
        return parsed.fingerprint(hashes.SHA256()).hex(":").upper()

    @property
    def host(self) -> str:
        """The name that it was made for."""
        parsed = x509.load_pem_x509_certificate(self.certificate.encode())
        return str(parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)

    @property
    def pem(self) -> str:
        """Key and certificate in one file, which can be replaced in one step."""
        return self.key + self.certificate

    def mark(self) -> str:
        return self.certificate


class Certificates(BaseModel):
    """The certificate in force, and the one that will follow it.

    ``promoting``: everybody knows the next one; apply() may change over.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    current: Certificate
    next: Certificate | None = None
    promoting: bool = False

    @property
    def wanted(self) -> Certificate:
        """The one that the daemon shall use."""
        return self.next if self.promoting and self.next else self.current

    def advanced(
        self, generation: int, rotate_after: float, confirmed: bool, now: float
    ) -> Certificates:
        """What an announcement finds due: a next certificate, or the leave to use it; pure but
        for the key that it makes. Seconds.

        ``confirmed`` speaks of what was announced before, so never of a certificate made just now.
        """
        pending = self.next
        if pending is None or (pending.generation < generation and not self.promoting):
            if pending is None and not self.current.due(generation, rotate_after, now):
                return self
            made = Certificate.new(self.current.host, generation, now)
            return Certificates(current=self.current, next=made)
        return self.model_copy(update={"promoting": True}) if confirmed else self

    def promoted(self) -> Certificates:
        """After the change-over: the old key is gone."""
        return Certificates(current=self.wanted)


class CertificateFile:
    """The file ``certificates.json`` of a unit."""

    def __init__(self, state_dir: Path, host: str) -> None:
        self._path = state_dir / "certificates.json"
        self._host = host

    def load(self) -> Certificates | None:
        """The certificates; None when there are none that this host can use.

        :raises DriverError: when the file cannot be read.
        """
        text = read_private(self._path)
        if text is None:
            return None
        try:
            found = Certificates.model_validate_json(text)
            ours = found.wanted.host == found.current.host == self._host
        except (ValidationError, ValueError) as exc:
            LOG.warning("%s is damaged, a new certificate will be made: %s", self._path, exc)
            return None
        return found if ours else None

    def save(self, certificates: Certificates) -> Certificates:
        """Put them on the disk.

        :raises DriverError: when that fails; the earlier ones stand then.
        """
        write_private(self._path, certificates.model_dump_json())
        return certificates

    def ensure(self, generation: int, now: float) -> Certificates:
        """The certificates, made on first use. now: seconds since the epoch."""
        found = self.load()
        if found is None:
            found = self.save(Certificates(current=Certificate.new(self._host, generation, now)))
        return found


def issuer_pem() -> str:
    """The formal issuer's certificate; it differs from call to call, its name and key do not."""
    return _pem(_sign(ISSUER, _issuer_key().public_key(), issuer=True))


def _issuer_key() -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(1, CURVE)


def _sign(subject: str, key: ec.EllipticCurvePublicKey, issuer: bool = False) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(ISSUER))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(BEGINNING)
        .not_valid_after(END)
        .add_extension(x509.BasicConstraints(ca=issuer, path_length=None), critical=True)
    )
    return builder.sign(_issuer_key(), hashes.SHA256())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
