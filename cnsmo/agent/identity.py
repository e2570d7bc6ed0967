# SPDX-License-Identifier: Apache-2.0
"""Who this host is: the identity that join gave it, on disk, readable by root only."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import BaseModel, ValidationError

from cnsmo.agent.notice import EVERY_SERVICE, Notice, place
from cnsmo.bus.transport import TlsFiles
from cnsmo.files import sync_folder, write_file
from cnsmo.model.errors import Conflict, InvalidRequest
from cnsmo.model.messages import Certified
from cnsmo.trust import keys

KEY, CERTIFICATE, AUTHORITIES = "host.key", "host.pem", "authorities.pem"
BROKER_AUTHORITIES = "broker-authorities.pem"


class HostIdentity(BaseModel):
    """The answer to the join, kept.

    ``token``: the digest of the one that it joined with. ``certified_at``: when the certificate
    came, in seconds since the epoch by this host's clock; ``life``: for how many seconds it counts.
    """

    id: str
    secret: str
    deployment: str
    host: str
    bus_url: str = ""
    """By which this host uses the bus, with its own account; empty: ``[bus] url``."""
    token: str = ""
    certified_at: float = 0.0
    life: float = 0.0


def token_digest(token: str) -> str:
    """By which a token is known again."""
    return hashlib.sha256(token.encode()).hexdigest()


class StateDir:
    """The agent's directory (0700). One process per service works in it at a time, or one for all.

    Processes that start together for the first time join as one host: they share the nonce.
    """

    def __init__(self, path: Path, role: str) -> None:
        """role: EVERY_SERVICE, or the one service that this process hosts."""
        self.path = path
        self.role = role
        self._locks: list[int] = []

    def open(self) -> None:
        """Make the directory if need be, and take this role's locks.

        :raises Conflict: when another agent process has the role, or a part of it.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        try:
            self._take("agents", fcntl.LOCK_EX if self.role == EVERY_SERVICE else fcntl.LOCK_SH)
            self._take(self.role, fcntl.LOCK_EX)
        except BlockingIOError:
            self.close()
            raise Conflict(
                f"another cnsmo-agent works in {self.path}, and has the role {self.role!r} or a "
                "part of it: stop it first, or give this one a directory of its own "
                "([agent] state_dir)"
            ) from None

    def _take(self, name: str, how: int) -> None:
        self._locks.append(os.open(self.path / f"{name}.lock", os.O_CREAT | os.O_RDWR, 0o600))
        fcntl.flock(self._locks[-1], how | fcntl.LOCK_NB)

    def close(self) -> None:
        """Give the locks back."""
        while self._locks:
            os.close(self._locks.pop())

    def notice(self) -> Notice:
        """Where this process says how it stands."""
        return Notice(place(self.path, self.role))

    def replica(self) -> Path:
        """Where this process keeps its replica."""
        return self.path / f"replica-{self.role}.json"

    def unit(self, service: str, unit: str, driver: str) -> Path:
        """The directory of a driver's unit."""
        return self.path / "units" / service / unit / driver

    def units(self, service: str) -> list[tuple[str, str]]:
        """Units of a service that have a directory, with the driver that made it."""
        base = self.path / "units" / service
        return sorted((path.parent.name, path.name) for path in base.glob("*/*") if path.is_dir())

    def services(self) -> list[str]:
        """Services that have units here, whichever process made them."""
        return sorted(path.name for path in self.path.glob("units/*") if self.units(path.name))

    def strays(self, services: Iterable[str]) -> list[str]:
        """Services that have units here, and that no process runs (any more).

        services: that this process runs. If it has the role EVERY_SERVICE, the directory is its
        alone; otherwise each of the others may have a process of its own.
        """
        if self.role != EVERY_SERVICE:
            return []
        return [name for name in self.services() if name not in set(services)]

    def identity(self) -> HostIdentity | None:
        """The identity, if this host has joined.

        :raises InvalidRequest: when the file is damaged; the text says what to do.
        """
        path = self.path / "identity.json"
        try:
            return HostIdentity.model_validate_json(path.read_text())
        except FileNotFoundError:
            return None
        except (UnicodeDecodeError, ValidationError):
            raise InvalidRequest(
                f"{path} is damaged: restore it from a backup; or remove this host from its "
                "deployment, delete the file, and let it join again with a new token"
            ) from None

    def keep(self, identity: HostIdentity, certified: Certified) -> None:
        """Store the identity with its certificate, for programs that present it.

        The nonce stays: another process of this host may be joining.
        """
        if certified.bus_authorities:
            self._write(BROKER_AUTHORITIES, certified.bus_authorities)
        else:
            (self.path / BROKER_AUTHORITIES).unlink(missing_ok=True)
        self._write(CERTIFICATE, certified.certificate)
        self._write(AUTHORITIES, certified.authorities)
        self._write("identity.json", identity.model_dump_json())

    def nonce(self) -> str:
        """What makes repetitions of this host's join recognisable; made once, then kept."""
        return self._once("join.nonce", lambda: secrets.token_urlsafe(32))

    def key(self) -> str:
        """The host's private key, as PEM; made once, then kept."""
        return self._once(KEY, lambda: keys.key_pem(keys.new_key()))

    def tls(self) -> TlsFiles:
        """With what this host proves itself at the broker, and the broker to it."""
        broker = self.path / BROKER_AUTHORITIES
        return TlsFiles(
            certificate=str(self.path / CERTIFICATE),
            key=str(self.path / KEY),
            authorities=str(broker) if broker.exists() else "",
        )

    def _once(self, name: str, make: Callable[[], str]) -> str:
        """A file that all of the host's processes share, whichever makes it first."""
        path = self.path / name
        if not path.exists():
            mine = self.path / f"{name}.{self.role}"
            write_file(mine, make())
            with contextlib.suppress(FileExistsError):
                os.link(mine, path)
            mine.unlink()
            sync_folder(self.path)
        return path.read_text()

    def mark_removed(self, token: str) -> None:
        """Remember durably that this host was removed, and which token it must not use again."""
        self._write("removed", token_digest(token))

    def is_removed(self, token: str) -> bool:
        """Whether this host was removed, and has got no other token since; empty: it has none."""
        path = self.path / "removed"
        try:
            used = path.read_text()
        except FileNotFoundError:
            return False
        given = token_digest(token)
        if not token or given == used or self.identity() is not None:
            return True
        path.unlink(missing_ok=True)
        return False

    def forget(self) -> None:
        """Delete all that this directory holds of the deployment: the host was removed.

        Not while units of another process are there: it must know who it was to take them down.
        """
        if self.services():
            return
        kept = ("identity.json", "join.nonce", KEY, CERTIFICATE, AUTHORITIES, BROKER_AUTHORITIES)
        for name in kept:
            (self.path / name).unlink(missing_ok=True)
        for pattern in ("replica-*", "notice-*"):
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)

    def _write(self, name: str, text: str) -> None:
        """Write a file that all of the host's processes share."""
        write_file(self.path / name, text, writer=f".{self.role}")
