# SPDX-License-Identifier: Apache-2.0
"""Options of the core."""

from oslo_config import cfg

GROUP = "core"
OPTS = [
    cfg.FloatOpt(
        "hint_interval",
        default=0.05,
        min=0.0,
        max=60.0,
        help="Shortest time between two hints to the agents of one deployment, in seconds; one "
        "millisecond per host is added. Changes in between travel with the next hint.",
    ),
    cfg.FloatOpt(
        "down_after",
        default=60.0,
        min=0.5,
        max=86400.0,
        help="Seconds without a heartbeat after which an agent is said to be down.",
    ),
    cfg.FloatOpt(
        "health_interval",
        default=10.0,
        min=0.1,
        max=3600.0,
        help="Seconds between two looks for silent agents and for tombstones to forget.",
    ),
    cfg.IntOpt(
        "purge_after",
        default=30 * 86400,
        min=1,
        help="Seconds for which deleted rows are remembered; agents that were away for longer "
        "fetch a whole snapshot. Must exceed the quarantine of any VPN's addresses.",
    ),
    cfg.IntOpt(
        "audit_keep",
        default=400 * 86400,
        min=86400,
        help="Seconds for which lines of the audit are kept, in whole days; a checkpoint stands "
        "for older ones. So long is the audit of a deleted deployment kept, too.",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register them."""
    conf.register_opts(OPTS, group=GROUP)
