# SPDX-License-Identifier: Apache-2.0
"""The units of one service on this host: their drivers, and the directories that tell of them.

A unit's directory is made before its driver makes anything, and deleted after the driver has
removed everything: whatever happens in between, a later process knows what there is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oslo_log import log

from cnsmo.agent.failures import Failures
from cnsmo.agent.identity import StateDir
from cnsmo.model.resource import joined
from cnsmo.services import registry
from cnsmo.services.base import Driver, System
from cnsmo.services.kit.private_files import ensure_directory, remove_tree

LOG = log.getLogger(__name__)


class Units:
    """A unit and a driver's name are a key; the service need not be installed (any more)."""

    def __init__(self, service: str, system: System, state_dir: StateDir, label: str) -> None:
        """label: ``deployment/host``, which every mark of ours begins with."""
        self.where = f"{label} {service}"
        self._service = service
        self._system = system
        self._state_dir = state_dir
        self._label = label
        self._drivers: dict[tuple[str, str], Driver[Any]] = {}

    def directory(self, unit: str, name: str) -> Path:
        """Where a driver keeps the files of a unit."""
        return self._state_dir.unit(self._service, unit, name)

    def driver(self, unit: str, name: str) -> Driver[Any]:
        """The driver of a unit, whether it has made anything or not.

        :raises DriverUnavailable: when it is not installed.
        """
        key = (unit, name)
        if key not in self._drivers:
            self._drivers[key] = registry.make_driver(
                self._service,
                name,
                self._system,
                unit,
                joined(self._label, self._service, unit),
                self.directory(unit, name),
            )
        return self._drivers[key]

    def ready(self, unit: str, name: str) -> Driver[Any]:
        """A driver that has what it needs, and that a later process will know of.

        :raises DriverUnavailable: when it has not.
        :raises DriverError: when the unit's directory cannot be made.
        """
        driver = self.driver(unit, name)
        driver.check()
        ensure_directory(self.directory(unit, name))
        return driver

    def in_use(self) -> list[tuple[str, Driver[Any]]]:
        """The drivers that this process has worked with, by unit."""
        return [(unit, driver) for (unit, _name), driver in self._drivers.items()]

    def made(self) -> set[tuple[str, str]]:
        """What there is, or may be, on this host, whoever made it."""
        return set(self._state_dir.units(self._service))

    def drivers(self, unit: str) -> set[str]:
        """The drivers that made, or may have made, something of a unit."""
        return {driver for name, driver in self.made() if name == unit}

    def remove(self, unit: str, name: str) -> None:
        """Take a driver's part of a unit away, the directory too.

        :raises CnsmoError: when it cannot be; what is left is still known.
        """
        self.driver(unit, name).remove()
        remove_tree(self.directory(unit, name))
        self._drivers.pop((unit, name), None)
        LOG.info("%s %s: removed (%s)", self.where, unit, name)

    def remove_all(self) -> list[str]:
        """Take everything of the service away.

        :return: what could not be taken away.
        """
        failures = Failures(self.where)
        for unit, name in sorted(self.made()):
            with failures.of(unit, "cannot be removed: "):
                self.remove(unit, name)
        return failures.lines
