# SPDX-License-Identifier: Apache-2.0
"""The bus: oslo.messaging's own options with our defaults."""

import oslo_messaging
from oslo_config import cfg

GROUP = "bus"
IN_PROCESS = "kombu+cnsmo://localhost/"
"""The embedded default: everything in one process (see bus/inprocess.py)."""
OPTS = [
    cfg.StrOpt(
        "url",
        default=IN_PROCESS,
        secret=True,
        help="Where the broker is, in oslo.messaging's form, as "
        "rabbit://user:password@host:5671/vhost. The default lives within one process: for the "
        "lab and for tests. [oslo_messaging_rabbit] holds all else (TLS, quorum queues, ...).",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register them."""
    conf.register_opts(OPTS, group=GROUP)
    oslo_messaging.set_transport_defaults("cnsmo")
