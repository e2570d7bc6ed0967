# SPDX-License-Identifier: Apache-2.0
"""Servers on their way out: who, and how far they are.

On the disk, so that the next agent process goes on with it. After a reboot it means nothing, but
then there is no connection left to keep either.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from oslo_log import log
from pydantic import BaseModel, ConfigDict, ValidationError

from cnsmo.services.kit import boot
from cnsmo.services.kit.private_files import read_private, write_private
from cnsmo.services.loadbalancer.drivers.hap_server import HapServer
from cnsmo.services.loadbalancer.drivers.leave import Leave

LOG = log.getLogger(__name__)


class Leaver(BaseModel):
    """``leave``: by the time since the host was started, see kit.boot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: HapServer
    leave: Leave

    @property
    def over(self) -> bool:
        """Whether it has no time left."""
        return self.leave.over(boot.now())


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    boot_id: str = ""
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
            record = _Record.model_validate_json(text)
        except ValidationError as exc:
            LOG.warning("%s is damaged, servers that leave begin anew: %s", self._path, exc)
            return {}
        found = record.leavers if record.boot_id == boot.boot_id() else ()
        return {leaver.server.key: leaver for leaver in found}

    def save(self, leavers: Iterable[Leaver]) -> None:
        """Remember these and no others; nothing is written where nothing changed.

        :raises DriverError: when the file cannot be written.
        """
        record = _Record(boot_id=boot.boot_id(), leavers=tuple(leavers))
        if record.leavers and tuple(self.load().values()) == record.leavers:
            return
        if record.leavers:
            write_private(self._path, record.model_dump_json())
        else:
            self._path.unlink(missing_ok=True)
