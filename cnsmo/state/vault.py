# SPDX-License-Identifier: Apache-2.0
"""Seals what the database holds of secrets, with a key that the database does not have.

A sealed value can neither be read nor made without the key, and it says what it is for: who can
write the database cannot move it to another row. The key is in a file (Fernet: AES-128 in CBC mode
with HMAC-SHA-256). A running core notices when the file is another one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from oslo_config import cfg
from oslo_log import log
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cnsmo.files import OpenToOthers, alone, read_secret, write_file
from cnsmo.model.errors import CnsmoError, Conflict, InvalidRequest, NotFound
from cnsmo.state.secrets import digest, new_secret

LOG = log.getLogger(__name__)
Stamp = tuple[int, int]
DIRECTORY = Path("/var/lib/cnsmo/core")


class NotSealed(Exception):
    """A value was not sealed by any key that we have, or for something else."""


class Kept(BaseModel):
    """What the file holds. ``former`` open what was sealed before a rotation that is under way;
    ``next`` is to be known by all cores before one seals with it. ``used``: a database is sealed
    with it, and a database that is not is not believed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    current: str = Field(repr=False)
    former: tuple[str, ...] = Field((), repr=False)
    next: str | None = Field(None, repr=False)
    used: bool = False

    @classmethod
    def new(cls) -> Kept:
        """A key that nobody has had before."""
        return cls(current=new_key())

    def all(self) -> list[Fernet]:
        """Every key, the one that seals first."""
        last = () if self.next is None else (self.next,)
        return [Fernet(key) for key in (self.current, *self.former, *last)]


class Vault:
    """Seals and opens; reads its file when it is first needed, and when it was replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._stamp: Stamp | None = None
        self._first: Fernet
        self._all: MultiFernet
        self._decoy: str

    def seal(self, purpose: str, text: str) -> str:
        """The text as the database may hold it.

        :raises NotFound: when there is no key.
        """
        return self._keys()[0].encrypt(_labelled(purpose, text)).decode()

    def open(self, purpose: str, sealed: str) -> str:
        """The text that was sealed for this purpose.

        :raises NotSealed: when it was not.
        :raises NotFound: when there is no key.
        """
        try:
            label, _line, text = self._keys()[1].decrypt(sealed).decode().partition("\n")
        except InvalidToken:
            raise NotSealed from None
        if label != purpose:
            raise NotSealed
        return text

    def digest(self, purpose: str, sealed: str) -> str:
        """The digest that was sealed for this purpose; if none was, "", which matches nothing."""
        try:
            return self.open(purpose, sealed)
        except NotSealed:
            if purpose:
                LOG.error("the database holds a value for %r that was not sealed for it", purpose)
            return ""

    def is_current(self, sealed: str) -> bool:
        """Whether a value is sealed by the key that seals now."""
        try:
            self._keys()[0].decrypt(sealed)
        except InvalidToken:
            return False
        return True

    def anew(self, sealed: str) -> str:
        """What was sealed by any key, sealed by the one that seals now.

        :raises NotSealed: when it was sealed by none of ours.
        """
        try:
            return self._keys()[1].rotate(sealed).decode()
        except InvalidToken:
            raise NotSealed from None

    def decoy(self) -> str:
        """A digest that matches nothing, sealed for the purpose "": opening it takes as long."""
        self._keys()
        return self._decoy

    def load(self) -> Kept:
        """What the file holds.

        :raises NotFound: when there is none; the text says how to make it.
        :raises InvalidRequest: when it cannot be read, is damaged, or others can read it.
        """
        try:
            kept = Kept.model_validate_json(read_secret(self.path))
            kept.all()
        except FileNotFoundError:
            raise NotFound(
                f"there is no key for the database's secrets in {self.path}: restore it from the "
                "backup; for a database that never had one, 'cnsmo-manage secrets init' makes it "
                "([secrets] key_file names another place). Is it lost for good, 'cnsmo-manage "
                "secrets reset' says what that costs"
            ) from None
        except OpenToOthers:
            raise InvalidRequest(
                f"{self.path} can be read by others than its owner: 'chmod 600 {self.path}'; and "
                "if others could, 'cnsmo-manage secrets rotate'"
            ) from None
        except OSError as exc:
            raise InvalidRequest(
                f"{self.path} cannot be read: {exc.strerror}. Run this as the user that runs "
                "cnsmo-core"
            ) from exc
        except (ValidationError, ValueError):
            raise InvalidRequest(f"{self.path} is damaged: restore it from the backup") from None
        return kept

    def save(self, kept: Kept) -> None:
        """Write the file, 0600, in one step."""
        write_file(self.path, kept.model_dump_json())

    def change(self, work: Callable[[Kept], Kept]) -> Kept:
        """Replace what the file holds by what is made of it, alone; returns what it holds then."""
        with alone(self.path):
            kept = self.load()
            changed = work(kept)
            if changed != kept:
                self.save(changed)
        return changed

    def create(self) -> None:
        """Make the key.

        :raises Conflict: when there is a file.
        """
        with alone(self.path):
            if self.path.exists():
                raise Conflict(self.taken())
            self.save(Kept.new())

    def taken(self) -> str:
        """What is told to who would make a second key."""
        return f"{self.path} holds a key already: 'cnsmo-manage secrets rotate' replaces it"

    def _keys(self) -> tuple[Fernet, MultiFernet]:
        with self._lock:
            stamp = self._now()
            if self._stamp is None or stamp not in (self._stamp, None):
                self._take(stamp)
            return self._first, self._all

    def _take(self, stamp: Stamp | None) -> None:
        """Use what the file holds now; what cannot be used does not replace what could."""
        try:
            keys = self.load().all()
        except CnsmoError as exc:
            if self._stamp is None:
                raise
            LOG.error("the key of the database's secrets stays the one in use: %s", exc)
        else:
            self._first, self._all = keys[0], MultiFernet(keys)
            self._decoy = keys[0].encrypt(_labelled("", digest(new_secret()))).decode()
        self._stamp = stamp

    def _now(self) -> Stamp | None:
        """Tells whether the file is another one."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return (found.st_ino, found.st_mtime_ns)


def vault_of(conf: cfg.ConfigOpts) -> Vault:
    """The vault of the database that is configured; nothing is read yet."""
    if conf.secrets.key_file:
        return Vault(Path(conf.secrets.key_file))
    url = sa.make_url(conf.database.connection)
    beside = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
    return Vault((Path(str(url.database)).parent if beside else DIRECTORY) / "secrets.json")


def new_key() -> str:
    """A key that nobody has had before."""
    return Fernet.generate_key().decode()


def _labelled(purpose: str, text: str) -> bytes:
    return f"{purpose}\n{text}".encode()
