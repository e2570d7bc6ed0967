# SPDX-License-Identifier: Apache-2.0
"""Options of the agent."""

from oslo_config import cfg

GROUP = "agent"
OPTS = [
    cfg.StrOpt(
        "state_dir",
        default="/var/lib/cnsmo/agent",
        help="Directory of the agent's identity, keys and replica; made with mode 0700.",
    ),
    cfg.StrOpt(
        "token_file",
        default="/etc/cnsmo/join.token",
        help="File that holds the join token. Read at the first start, and after the certificate "
        "has ended because the host was off for long.",
    ),
    cfg.StrOpt(
        "join_url",
        default="",
        help="Where to join: https://ADDRESS:PORT of cnsmo-core ([join] listen and port there). "
        "Needed until the host has joined, and when it has to join anew.",
    ),
    cfg.StrOpt(
        "ca_fingerprint",
        default="",
        help="SHA-256 fingerprint of the core's certificate authority, as 'cnsmo-manage ca show' "
        "prints it: the token goes only to a core that this authority vouches for.",
    ),
    cfg.ListOpt(
        "services",
        default=[],
        help="Services to run; empty: all that are installed. --service NAME runs one alone. "
        "What a service made that is not run any more is taken down at the next start.",
    ),
    cfg.FloatOpt(
        "heartbeat",
        default=10.0,
        min=0.2,
        max=3600.0,
        help="Seconds between heartbeats, on average; each is drawn from 70 to 130 % of it.",
    ),
    cfg.FloatOpt(
        "resync",
        default=60.0,
        min=0.5,
        max=86400.0,
        help="Seconds between two looks at what is really there; drift is repaired then.",
    ),
    cfg.FloatOpt(
        "rpc_timeout",
        default=15.0,
        min=0.5,
        max=600.0,
        help="Seconds to wait for the core's answer.",
    ),
    cfg.FloatOpt(
        "retry_max",
        default=30.0,
        min=0.1,
        max=3600.0,
        help="Longest pause, in seconds, between two tries to reach the core.",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register them."""
    conf.register_opts(OPTS, group=GROUP)
