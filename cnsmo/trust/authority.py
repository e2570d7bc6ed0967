# SPDX-License-Identifier: Apache-2.0
"""The certificate authority: made once, in a file of its own, replaced with an overlap.

After a rotation the new authority signs, and the old one is believed until the overlap is over. Its
last act is to sign the new one, so that hosts that were told the old fingerprint still find the
core. Its key is gone then.
"""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cnsmo.files import OpenToOthers, alone, read_secret, write_file
from cnsmo.model.errors import Conflict, InvalidRequest, NotFound
from cnsmo.trust import certificates, keys

FILE = "authority.json"
LIFE = datetime.timedelta(days=3650)
CORE_LIFE = datetime.timedelta(days=30)


class Former(BaseModel):
    """An authority that signs no more. ``cross``: its signature under its successor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    certificate: str
    cross: str
    trusted_until: datetime.datetime


class Kept(BaseModel):
    """What the file holds: one text, so that a rotation is one step."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    key: str = Field(repr=False)
    certificate: str
    former: tuple[Former, ...] = ()
    """The newest first."""


@dataclasses.dataclass(frozen=True)
class Chain:
    """What a TLS server needs: its key and the chain that begins with its certificate, as PEM."""

    key: str = dataclasses.field(repr=False)
    certificates: str
    renew_at: datetime.datetime


class Authority:
    """Signs for cores and hosts; says whom to believe."""

    def __init__(self, kept: Kept) -> None:
        """:raises ValueError: when what was kept is damaged."""
        self._kept = kept
        self._key = keys.load_key(kept.key)
        self.certificate = x509.load_pem_x509_certificate(kept.certificate.encode())
        if keys.key_digest(self._key.public_key()) != keys.key_digest(
            certificates.public_key(self.certificate)
        ):
            raise ValueError("key and certificate do not belong together")

    @classmethod
    def new(cls, now: datetime.datetime) -> Authority:
        """An authority with a key of its own, without a past."""
        key = keys.new_key()
        certificate = certificates.self_signed(key, now, LIFE)
        return cls(Kept(key=keys.key_pem(key), certificate=certificates.pem(certificate)))

    def successor(self, now: datetime.datetime, overlap: datetime.timedelta) -> Authority:
        """The authority that follows this one, which is believed for the overlap still."""
        fresh = Authority.new(now)
        cross = certificates.cross_signed(fresh.certificate, self.certificate, self._key)
        mine = Former(
            certificate=self._kept.certificate,
            cross=certificates.pem(cross),
            trusted_until=min(now + overlap, self.certificate.not_valid_after_utc),
        )
        # An older one leads here by way of this one, so it is believed no longer than this one.
        older = [
            it.model_copy(update={"trusted_until": min(it.trusted_until, mine.trusted_until)})
            for it in self._kept.former
        ]
        past = tuple(it for it in (mine, *older) if it.trusted_until > now)
        return Authority(fresh._kept.model_copy(update={"former": past}))

    @property
    def fingerprint(self) -> str:
        """What user-data pins."""
        return keys.fingerprint(self.certificate)

    def former(self, now: datetime.datetime) -> list[tuple[str, datetime.datetime]]:
        """Fingerprints of former authorities that are believed still, and until when."""
        return [
            (keys.fingerprint(x509.load_pem_x509_certificate(it.certificate.encode())),
             it.trusted_until)
            for it in self._kept.former if it.trusted_until > now
        ]  # fmt: skip

    def bundle(self, now: datetime.datetime) -> str:
        """All authorities that are believed, as PEM, the one that signs first."""
        past = [it.certificate for it in self._kept.former if it.trusted_until > now]
        return "".join([self._kept.certificate, *past])

    def core_chain(self, now: datetime.datetime) -> Chain:
        """A new key and certificate for a core, good with every authority that is believed."""
        key = keys.new_key()
        made = certificates.of_core(key.public_key(), self.certificate, self._key, now, CORE_LIFE)
        return self._chain(key, made, now)

    def broker_chain(self, address: str, now: datetime.datetime) -> Chain:
        """The same for a broker that hosts find at that address, or under that name."""
        key = keys.new_key()
        public = key.public_key()
        made = certificates.of_broker(public, address, self.certificate, self._key, now, CORE_LIFE)
        return self._chain(key, made, now)

    def _chain(
        self, key: ec.EllipticCurvePrivateKey, made: x509.Certificate, now: datetime.datetime
    ) -> Chain:
        past = [it.cross for it in self._kept.former if it.trusted_until > now]
        return Chain(
            keys.key_pem(key),
            "".join([certificates.pem(made), *past]),
            now + CORE_LIFE * 2 / 3,
        )

    def sign_host(
        self,
        key: ec.EllipticCurvePublicKey,
        ident: str,
        deployment: str,
        host: str,
        now: datetime.datetime,
        life: datetime.timedelta,
    ) -> x509.Certificate:
        """A certificate for a host's key. It never outlives the authority."""
        life = min(life, self.certificate.not_valid_after_utc - now)
        return certificates.of_host(
            key, ident, deployment, host, self.certificate, self._key, now, life
        )

    def dumps(self) -> str:
        """What its file holds."""
        return self._kept.model_dump_json()

    def save(self, directory: Path) -> None:
        """Write it to its file, 0600, in one step."""
        write_file(directory / FILE, self.dumps())


def loads(text: str) -> Authority:
    """The authority that such a text is of.

    :raises InvalidRequest: when it is of none.
    """
    try:
        return Authority(Kept.model_validate_json(text))
    except (ValidationError, ValueError):
        raise InvalidRequest(
            f"{FILE} is damaged: restore it from a backup; or delete it and make a new authority "
            "('cnsmo-manage ca init'), whose fingerprint VMs must be told anew"
        ) from None


def load(directory: Path) -> Authority:
    """The authority that a directory holds.

    :raises NotFound: when there is none; the text says how to make it.
    :raises InvalidRequest: when the file cannot be read or is damaged.
    """
    path = directory / FILE
    try:
        return loads(read_secret(path))
    except FileNotFoundError:
        raise NotFound(
            f"there is no certificate authority in {directory} yet: 'cnsmo-manage ca init' makes "
            "it ([join] ca_directory names another place)"
        ) from None
    except OpenToOthers:
        raise InvalidRequest(
            f"{path} can be read by others than its owner: 'chmod 600 {path}'; and if others "
            "could, 'cnsmo-manage ca rotate --overlap 0s'"
        ) from None
    except OSError as exc:
        raise InvalidRequest(
            f"{path} cannot be read: {exc.strerror}. Run this as the user that runs cnsmo-core"
        ) from exc
    except UnicodeDecodeError:
        return loads("")


def create(directory: Path, now: datetime.datetime) -> Authority:
    """Make the authority of a directory that has none.

    :raises Conflict: when it has one.
    """
    with alone(directory / FILE):
        if (directory / FILE).exists():
            raise Conflict(taken(directory))
        made = Authority.new(now)
        made.save(directory)
    return made


def rotate(directory: Path, now: datetime.datetime, overlap: datetime.timedelta) -> Authority:
    """Replace the authority of a directory by its successor.

    :raises NotFound: when there is none.
    """
    with alone(directory / FILE):
        made = load(directory).successor(now, overlap)
        made.save(directory)
    return made


def taken(directory: Path) -> str:
    """What is told to who would make a second authority."""
    return (
        f"{directory} holds a certificate authority already: 'cnsmo-manage ca show' shows it, "
        "'cnsmo-manage ca rotate' replaces it"
    )
