# SPDX-License-Identifier: Apache-2.0
"""Another driver takes a unit over: the old one goes and the new one comes, or the old one returns.

Both use the same names and ports, so they cannot stand side by side. What returns is the last
desired state with the old driver's own files: with other keys, nobody would talk to it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from oslo_log import log

from cnsmo.agent.failures import in_words
from cnsmo.agent.units import Units
from cnsmo.model.errors import CnsmoError, DriverError
from cnsmo.services.base import Desired
from cnsmo.services.kit.private_files import read_tree, write_tree

LOG = log.getLogger(__name__)


def hand_over(
    units: Units, name: str, replaced: Collection[str], before: Desired | None, wanted: Desired
) -> list[str]:
    """Let the driver of ``wanted`` take a unit over from those that are replaced.

    before: what was in force last, as far as this process knows.

    :return: what was changed, one line each.
    :raises DriverError: when that failed; its text says what is in force now.
    """
    files: dict[Path, bytes] = {}
    for driver in (*replaced, wanted.driver):
        files |= read_tree(units.directory(name, driver))
    try:
        for driver in sorted(replaced):
            units.remove(name, driver)
        return units.driver(name, wanted.driver).apply(wanted)
    except Exception as exc:
        if not isinstance(exc, CnsmoError):
            LOG.exception("%s %s", units.where, name)
        known = before if before is not None and before.driver in replaced else None
        now = _go_back(units, name, known, wanted.driver, files)
        raise DriverError(f"{wanted.driver} cannot take over: {in_words(exc)}; {now}") from exc


def _go_back(
    units: Units, name: str, before: Desired | None, failed: str, files: Mapping[Path, bytes]
) -> str:
    """Bring what was in force before in force again; what came of it, in words."""
    if before is None:
        return "what was in force before does not return: it is not known since the agent started"
    try:
        units.remove(name, failed)  # what it did half way is in the way
        write_tree(files)
        units.ready(name, before.driver).apply(before)
    except Exception as exc:
        LOG.exception("%s %s: %s cannot return", units.where, name, before.driver)
        return f"{before.driver} cannot return either: {in_words(exc)}"
    return f"{before.driver} is in force again"
