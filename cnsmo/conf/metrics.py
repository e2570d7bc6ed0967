# SPDX-License-Identifier: Apache-2.0
"""Options of the agent's figures for Prometheus."""

from oslo_config import cfg

GROUP = "metrics"
OPTS = [
    cfg.HostAddressOpt(
        "listen_address",
        default="127.0.0.1",
        help="Where the agent serves its figures in Prometheus' format, at /metrics. They are "
        "neither encrypted nor asked a password for: leave it at loopback, or name an address of "
        "a VPN.",
    ),
    cfg.PortOpt(
        "listen_port",
        default=0,
        min=0,
        help="TCP port of it; 0: no figures are served. Each process of this host that shall "
        "serve some (--service NAME) needs a port of its own.",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register them."""
    conf.register_opts(OPTS, group=GROUP)
