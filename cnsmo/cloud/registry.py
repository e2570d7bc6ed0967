# SPDX-License-Identifier: Apache-2.0
"""Finds deployers by their entry points."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from oslo_config import cfg
from stevedore import DriverManager
from stevedore.exception import NoMatches
from stevedore.extension import error_on_conflict

from cnsmo.cloud.deployer import Deployer
from cnsmo.model.errors import DriverUnavailable

DEPLOYERS = "cnsmo.deployers"


def load(conf: cfg.ConfigOpts, name: str = "") -> Deployer:
    """The deployer of that name, or of ``[cloud] deployer``; only this one is imported.

    :raises DriverUnavailable: when none of that name is installed, or it lacks something.
    """
    wanted = name or conf.cloud.deployer
    try:
        manager: DriverManager[Any] = DriverManager(
            DEPLOYERS, wanted, conflict_resolver=error_on_conflict
        )
    except NoMatches as exc:
        known = sorted({entry.name for entry in importlib.metadata.entry_points(group=DEPLOYERS)})
        raise DriverUnavailable(
            f"no deployer {ascii(wanted)} is installed; there are: {', '.join(known)}"
        ) from exc
    made = manager.driver(conf)
    if not isinstance(made, Deployer):
        raise DriverUnavailable(f"the deployer {wanted} is none: {type(made).__name__}")
    return made
