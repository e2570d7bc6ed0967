# SPDX-License-Identifier: Apache-2.0
"""Options of the cloud that VMs come from."""

from oslo_config import cfg

GROUP = "cloud"
OPTS = [
    cfg.StrOpt(
        "name",
        default="",
        help="Name of the cloud in clouds.yaml. Empty: what the variables OS_CLOUD, OS_AUTH_URL "
        "and so on say.",
    ),
    cfg.StrOpt(
        "deployer",
        default="openstack",
        help="What makes VMs, of the entry points cnsmo.deployers: openstack, lab or noop.",
    ),
    cfg.FloatOpt(
        "interval",
        default=30.0,
        min=0.1,
        max=3600.0,
        help="Seconds between two looks at what provider drivers (security_group, octavia) keep in "
        "the cloud; what is declared is brought about at once.",
    ),
    cfg.IntOpt(
        "workers",
        default=4,
        min=1,
        max=64,
        help="How many instances a core works on in the cloud at the same time.",
    ),
    cfg.FloatOpt(
        "timeout",
        default=30.0,
        min=1.0,
        max=600.0,
        help="Seconds for which an API of the cloud may take to answer.",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register them."""
    conf.register_opts(OPTS, group=GROUP)
