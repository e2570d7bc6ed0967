# SPDX-License-Identifier: Apache-2.0
"""Where hosts join: the core's HTTPS port, and the certificate authority behind it."""

from oslo_config import cfg

GROUP = "join"
DAY = 86400
OPTS = [
    cfg.StrOpt(
        "listen",
        default="0.0.0.0",  # nosec B104: VMs come from outside
        help="Address on which cnsmo-core lets hosts join, over HTTPS; '::' for IPv6 and IPv4. "
        "Empty: this core lets nobody join, others do.",
    ),
    cfg.PortOpt("port", default=8743, help="TCP port for it; 0: one that is free."),
    cfg.StrOpt(
        "ca_directory",
        default="/var/lib/cnsmo/core/ca",
        help="Directory of the certificate authority ('cnsmo-manage ca init' makes it); its file "
        "holds the key. All cores need the same.",
    ),
    cfg.IntOpt(
        "certificate_life",
        default=90 * DAY,
        min=60,
        max=3650 * DAY,
        help="Seconds for which a host's certificate is good. Agents renew it after two thirds of "
        "that; one that was off for longer needs a fresh token.",
    ),
    cfg.FloatOpt(
        "rate",
        default=5.0,
        min=0.01,
        max=100000.0,
        help="Requests per second that one source address may make for long; of IPv6, one /64. "
        "Joining takes two.",
    ),
    cfg.IntOpt(
        "burst",
        default=60,
        min=1,
        max=1000000,
        help="Requests that one source address may make at once, before the rate counts.",
    ),
    cfg.IntOpt(
        "connections_per_source",
        default=8,
        min=1,
        max=10000,
        help="Connections that one source address may have open at a time; more are closed.",
    ),
    cfg.IntOpt(
        "threads",
        default=16,
        min=1,
        max=1000,
        help="Connections that are served at a time; as many again wait.",
    ),
    cfg.FloatOpt(
        "deadline",
        default=10.0,
        min=0.1,
        max=600.0,
        help="Seconds after which a connection is closed, however busy its client seems.",
    ),
    cfg.IntOpt(
        "max_body",
        default=65536,
        min=4096,
        max=16 * 1024 * 1024,
        help="Bytes of a request, at most.",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register them."""
    conf.register_opts(OPTS, group=GROUP)
