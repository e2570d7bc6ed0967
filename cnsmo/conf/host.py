# SPDX-License-Identifier: Apache-2.0
"""What a host cannot find out about itself, or should not guess."""

from oslo_config import cfg

GROUP = "host"
OPTS = [
    cfg.StrOpt("name", help="Name in the deployment; left out: the host name up to its first dot."),
    cfg.StrOpt(
        "site",
        help="Site: hosts of one site reach each other's private addresses. Left out: the "
        "availability zone that cloud-init knows, else 'default'.",
    ),
    cfg.ListOpt(
        "private_addresses",
        default=[],
        help="Addresses with prefix lengths, as 10.1.0.5/24; left out: those of the interface "
        "that holds the default route.",
    ),
    cfg.ListOpt(
        "public_addresses",
        default=[],
        help="Addresses under which other sites reach this host; left out: what cloud-init knows, "
        "else those of the interface's own addresses that are global.",
    ),
    cfg.BoolOpt(
        "ephemeral",
        default=False,
        help="This host comes and goes: when nothing was heard of it for [core] gone_after "
        "seconds, the core removes it; others stay 'down' until an operator does.",
    ),
    cfg.BoolOpt(
        "behind_nat",
        default=False,
        help="Nobody outside this host's own subnet can call it: it always calls first.",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register them."""
    conf.register_opts(OPTS, group=GROUP)
