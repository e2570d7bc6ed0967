# SPDX-License-Identifier: Apache-2.0
"""A host's WireGuard keys: made here, kept here, replaced in two steps.

The next key is made and announced ahead; when everybody has heard of it, it takes over.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from oslo_log import log
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from cnsmo.services.kit.private_files import read_private, write_private
from cnsmo.services.kit.rotation import Ageing
from cnsmo.services.vpn.spec import check_key

LOG = log.getLogger(__name__)


class Key(Ageing):
    """A key pair. ``created``: seconds since the epoch; ``generation``: the operator's command."""

    private: Annotated[str, AfterValidator(check_key)] = Field(repr=False)

    @classmethod
    def new(cls, generation: int, now: float) -> Key:
        """A key that nobody has had before."""
        raw = X25519PrivateKey.generate().private_bytes_raw()
        return cls(private=base64.b64encode(raw).decode(), created=now, generation=generation)

    @property
    def public(self) -> str:
        """The half that others may know, as ``wg pubkey`` writes it."""
        private = X25519PrivateKey.from_private_bytes(base64.b64decode(self.private))
        return base64.b64encode(private.public_key().public_bytes_raw()).decode()

    def mark(self) -> str:
        return self.public


class KeyPair(BaseModel):
    """What the file holds: the key in force, and the one that will follow it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    current: Key
    next: Key | None = None


class KeyRing:
    """The file ``keys.json`` of a unit."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "keys.json"

    def load(self) -> KeyPair | None:
        """The keys; None when there are none yet, or what is there cannot be used.

        :raises DriverError: when the file cannot be read.
        """
        text = read_private(self._path)
        if text is None:
            return None
        try:
            return KeyPair.model_validate_json(text)
        except ValidationError as exc:
            LOG.warning("%s is damaged, new keys will be made: %s", self._path, exc)
            return None

    def save(self, pair: KeyPair) -> KeyPair:
        """Put the keys on the disk.

        :raises DriverError: when that fails; the earlier ones stand then.
        """
        write_private(self._path, pair.model_dump_json())
        return pair

    def ensure(self, generation: int, now: float) -> KeyPair:
        """The keys, made on first use. now: seconds since the epoch."""
        return self.load() or self.save(KeyPair(current=Key.new(generation, now)))
