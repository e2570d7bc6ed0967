# SPDX-License-Identifier: Apache-2.0
"""Options of where an agent's process says how it is, to Prometheus and other monitoring."""

from oslo_config import cfg

GROUP = "metrics"


def options(who: str, port: str) -> list[cfg.Opt]:
    """Options of one kind of process. port: what else there is to say of it."""
    return [
        cfg.HostAddressOpt(
            "listen_address",
            default="127.0.0.1",
            help=f"Where {who} serves its figures in Prometheus' format, at /metrics, and how it "
            "is, at /healthz. They are neither encrypted nor asked a password for: leave it at "
            "loopback, or name an address of a VPN.",
        ),
        cfg.PortOpt(
            "listen_port", default=0, min=0, help=f"TCP port of it; 0: nothing is served.{port}"
        ),
    ]


OPTS = options(
    "the agent",
    " Each process of this host that shall serve something (--service NAME) needs a port of its "
    "own.",
)


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register them."""
    conf.register_opts(OPTS, group=GROUP)
