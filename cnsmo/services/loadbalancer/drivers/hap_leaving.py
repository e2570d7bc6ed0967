# SPDX-License-Identifier: Apache-2.0
"""Servers on their way out: who, and until when they keep the connections that they have.

On the disk, so that the next agent process goes on with it. Times are of the monotonic clock; they
mean nothing after a reboot, but then there is no connection left to keep either.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from oslo_log import log
from pydantic import BaseModel, ConfigDict, ValidationError

from cnsmo.services.kit.private_files import read_private, write_private
from cnsmo.services.loadbalancer.drivers.hap_server import HapServer

LOG = log.getLogger(__name__)


class Leaver(BaseModel):
    """``until``: on the monotonic clock, in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: HapServer
    until: float

    @property
    def left(self) -> float:
        """Seconds for which it keeps its connections."""
        return max(0.0, self.until - time.monotonic())


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    leavers: tuple[Leaver, ...] = ()


class Leaving:
    """The file ``leaving.json`` of a unit."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "leaving.json"

    def load(self) -> dict[tuple[str, str], Leaver]:
        """All of them, by pool and name.

        :raises DriverError: when the file cannot be read.
        """
        text = read_private(self._path)
        if text is None:
            return {}
        try:
            found = _Record.model_validate_json(text).leavers
        except ValidationError as exc:
            LOG.warning("%s is damaged, servers that leave begin anew: %s", self._path, exc)
            return {}
        return {leaver.server.key: leaver for leaver in found}

    def save(self, leavers: Iterable[Leaver]) -> None:
        """Remember these and no others; nothing is written where nothing changed.

        :raises DriverError: when the file cannot be written.
        """
        record = _Record(leavers=tuple(leavers))
        if tuple(self.load().values()) == record.leavers:
            return
        if record.leavers:
            write_private(self._path, record.model_dump_json())
        else:
            self._path.unlink(missing_ok=True)
