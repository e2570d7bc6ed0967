# SPDX-License-Identifier: Apache-2.0
"""By which key the database's secrets are sealed."""

from oslo_config import cfg

GROUP = "secrets"
OPTS = [
    cfg.StrOpt(
        "key_file",
        default="",
        help="File of the key that seals what the database holds of secrets; left out: "
        "secrets.json beside an SQLite database, else /var/lib/cnsmo/core/secrets.json. Made by "
        "'cnsmo-manage db upgrade' with the database, or by 'cnsmo-manage secrets init'. All cores "
        "need the same. Back it up apart from the database: without it all hosts have to join "
        "anew.",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register them."""
    conf.register_opts(OPTS, group=GROUP)
