# SPDX-License-Identifier: Apache-2.0
"""All options of CNSMO: one module per group, registered here, found by the sample generator."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from oslo_config import cfg
from oslo_db import options as db_options
from oslo_log import log

from cnsmo import __version__
from cnsmo.conf import agent, bus, cloud, core, core_metrics, host, join, logs, metrics, secrets

CONF = cfg.CONF
MODULES = (core, core_metrics, agent, host, metrics, bus, join, secrets, cloud)
STATE_DIR = Path("/var/lib/cnsmo")

QUIET = [
    "amqp=ERROR",
    "kombu=ERROR",
    "sqlalchemy=WARN",
    "alembic=WARN",
    "oslo.messaging=WARN",
    "oslo_messaging=WARN",
    "oslo.messaging._drivers.impl_rabbit=ERROR",
    "stevedore=WARN",
    "futurist=WARN",
    "cotyledon=INFO",
]
"""Libraries that would drown our own lines."""


def register(conf: cfg.ConfigOpts = CONF) -> None:
    """Register every option; doing so twice is fine."""
    for module in MODULES:
        module.register_opts(conf)
    set_defaults()
    conf.register_opts(db_options.database_opts, "database")


def set_defaults() -> None:
    """Our defaults for options of libraries; the sample generator asks for them too."""
    cfg.set_defaults(
        db_options.database_opts, connection=f"sqlite:///{STATE_DIR}/core/state.sqlite"
    )
    log.set_defaults(default_log_levels=QUIET)


def load(argv: Sequence[str] | None = None, program: str = "cnsmo") -> None:
    """Read the command line and the files /etc/cnsmo/cnsmo.conf and cnsmo.conf.d/*.conf."""
    register()
    log.register_options(CONF)
    CONF(
        list(sys.argv[1:] if argv is None else argv),
        project="cnsmo",
        prog=program,
        version=__version__,
    )
    log.setup(CONF, "cnsmo")
    logs.guard()
