# SPDX-License-Identifier: Apache-2.0
"""What the WireGuard driver must remember, because the device cannot tell: ``memory.json``."""

from __future__ import annotations

from pathlib import Path

from oslo_log import log
from pydantic import BaseModel, ConfigDict, ValidationError

from cnsmo.services.kit.private_files import read_private, write_private

LOG = log.getLogger(__name__)


class PeerMemory(BaseModel):
    """What was last applied for a host's peer.

    ``seen``: where a peer that calls us called from; ``next_since``: seconds since the epoch.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    endpoint: str | None = None
    seen: str | None = None
    next_key: str = ""
    next_since: float = 0.0


class Memory(BaseModel):
    """``creating``: an interface without a mark is one that we had no time to mark."""

    model_config = ConfigDict(frozen=True)

    creating: bool = False
    peers: dict[str, PeerMemory] = {}


def load_memory(state_dir: Path) -> Memory:
    """What was remembered; nothing, when the file is missing or damaged."""
    path = _path(state_dir)
    text = read_private(path)
    if text is None:
        return Memory()
    try:
        return Memory.model_validate_json(text)
    except ValidationError as exc:
        LOG.warning("%s is damaged and not used: %s", path, exc)
        return Memory()


def save_memory(state_dir: Path, memory: Memory) -> None:
    """Remember it, unless that is what was remembered already.

    :raises DriverError: when it cannot be written.
    """
    if load_memory(state_dir) != memory:
        write_private(_path(state_dir), memory.model_dump_json())


def _path(state_dir: Path) -> Path:
    return state_dir / "memory.json"
