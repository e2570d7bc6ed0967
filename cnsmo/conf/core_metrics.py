# SPDX-License-Identifier: Apache-2.0
"""Options of where a core says how it is, to Prometheus and other monitoring."""

from oslo_config import cfg

from cnsmo.conf import metrics

GROUP = "core_metrics"
OPTS = metrics.options("the core", " Not that of an agent on the same machine.")


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register them."""
    conf.register_opts(OPTS, group=GROUP)
