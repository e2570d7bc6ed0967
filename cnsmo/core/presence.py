# SPDX-License-Identifier: Apache-2.0
"""What a core says of itself when all are asked who is there."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import socket
import time
from pathlib import Path

import sqlalchemy as sa
from oslo_config import cfg

from cnsmo import __version__
from cnsmo.core.context import Core
from cnsmo.model.errors import CnsmoError
from cnsmo.model.presence import Presence
from cnsmo.services import registry
from cnsmo.state import schema
from cnsmo.state.engine import transaction
from cnsmo.state.tables import VAULT
from cnsmo.trust import authority

ALIKE = {
    "core": ("down_after", "health_interval", "hint_interval", "purge_after", "audit_keep"),
    "join": ("certificate_life",),
    "bus": (
        "broker",
        "agents_url",
        "agents_login",
        "farewell",
        "core_queue_messages",
        "core_queue_bytes",
        "agent_queue_messages",
        "agent_queue_bytes",
        "agent_connections",
    ),
}
"""Options that all cores of a site should have alike, by group."""
PURPOSE = b"cnsmo doctor"
DIGITS = 16
NONE = "none"


class Present:
    """Answers for one core process."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._ident = secrets.token_hex(4)

    def __call__(self) -> Presence:
        """What there is to say now."""
        return Presence(
            core=self._ident,
            host=socket.gethostname(),
            pid=os.getpid(),
            release=__version__,
            clock=time.time(),
            database=database_mark(self._core.store.engine),
            settings=settings(self._core.conf),
            agents=self._core.sightings.lately(),
        )


def database_mark(engine: sa.Engine) -> str:
    """What tells one database from another: a digest of the probe, which chance made."""
    try:
        with transaction(engine) as connection:
            probe = connection.scalar(sa.select(VAULT.c.probe))
    except CnsmoError:
        return "unknown"
    return _digest(str(probe)) if probe else NONE


def settings(conf: cfg.ConfigOpts) -> dict[str, str]:
    """What all cores should have alike, in words."""
    options = {
        f"[{group}] {name}": str(conf[group][name]) for group, names in ALIKE.items()
        for name in names
    }  # fmt: skip
    services = ", ".join(
        f"{name} ({' '.join(registry.driver_names(name))})" for name in registry.services()
    )
    return {
        **options,
        "[bus] key_file": _broker_key(conf),
        "the certificate authority in [join] ca_directory": _authority(conf),
        "the schema of the release": schema.newest(),
        "services and drivers": services,
    }


def _broker_key(conf: cfg.ConfigOpts) -> str:
    """Of a key of chance, which nobody guesses from this."""
    if conf.bus.broker == NONE:
        return NONE
    try:
        key = Path(conf.bus.key_file).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return "cannot be read"
    return hmac.new(key.encode(), PURPOSE, hashlib.sha256).hexdigest()[:DIGITS]


def _authority(conf: cfg.ConfigOpts) -> str:
    """Which one; a core that lets nobody join needs it, too: agents renew at any."""
    try:
        return authority.load(Path(conf.join.ca_directory)).fingerprint
    except CnsmoError:
        return "cannot be read"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
