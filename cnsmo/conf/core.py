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
        "late_after",
        default=30.0,
        min=0.5,
        max=86400.0,
        mutable=True,
        help="Seconds without a heartbeat after which an agent is said to be late. Nothing is done "
        "about that but to show it. When down_after is less, late is what is down.",
    ),
    cfg.FloatOpt(
        "down_after",
        default=60.0,
        min=0.5,
        max=86400.0,
        mutable=True,
        help="Seconds without a heartbeat after which an agent is said to be down: others call its "
        "host last, and take it out of pools.",
    ),
    cfg.FloatOpt(
        "grace",
        default=0.0,
        min=0.0,
        max=86400.0,
        mutable=True,
        help="Seconds for which nobody is said to be down after a core has started, could not look "
        "for a while, or last suspected itself. 0: as many as down_after.",
    ),
    cfg.FloatOpt(
        "suspect_share",
        default=1 / 3,
        min=0.0,
        max=1.0,
        mutable=True,
        help="When more than this share of a deployment's hosts is silent at once, it is rather "
        "the core that hears nobody: it says so, and says of nobody that he is down. 1: never.",
    ),
    cfg.IntOpt(
        "suspect_hosts",
        default=3,
        min=1,
        mutable=True,
        help="As many hosts must be silent for that; or all, where there are two or more.",
    ),
    cfg.IntOpt(
        "flaps",
        default=3,
        min=1,
        mutable=True,
        help="How often an agent may be down within flap_window. From then on it is taken back "
        "only after it was heard without a gap: for down_after, and twice as long each time more.",
    ),
    cfg.FloatOpt(
        "flap_window",
        default=1800.0,
        min=1.0,
        max=7 * 86400.0,
        mutable=True,
        help="Seconds after which it is forgotten how often an agent was down, and the longest "
        "time for which one that comes and goes is not taken back.",
    ),
    cfg.FloatOpt(
        "gone_after",
        default=600.0,
        min=1.0,
        max=30 * 86400.0,
        help="Seconds without a heartbeat after which a host that comes and goes ([host] "
        "ephemeral) is removed. Only while others of its deployment were heard all the time: else "
        "it may be the core that is cut off.",
    ),
    cfg.FloatOpt(
        "health_interval",
        default=10.0,
        min=0.1,
        max=3600.0,
        help="Seconds between two looks at a deployment for silent agents, by whichever core.",
    ),
    cfg.FloatOpt(
        "purge_interval",
        default=600.0,
        min=0.1,
        max=86400.0,
        help="Seconds between two looks at a deployment for tombstones and lines of the audit to "
        "forget, by whichever core.",
    ),
    cfg.FloatOpt(
        "claim_life",
        default=60.0,
        min=0.5,
        max=3600.0,
        help="Seconds after which the periodic work that a core has claimed passes on to another, "
        "when it has not finished it: it may have died.",
    ),
    cfg.FloatOpt(
        "database_connect_timeout",
        default=5.0,
        min=2.0,
        max=600.0,
        help="Seconds to wait for a connection to the database, for each of its addresses.",
    ),
    cfg.FloatOpt(
        "database_statement_timeout",
        default=30.0,
        min=1.0,
        max=3600.0,
        help="Seconds that one statement may take, and that a transaction may stand still, before "
        "the database ends it. Not for SQLite, and not for 'cnsmo-manage db upgrade'.",
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
