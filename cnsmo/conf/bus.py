# SPDX-License-Identifier: Apache-2.0
"""The bus: oslo.messaging's own options with our defaults, and the agents' part of the broker."""

import oslo_messaging
from oslo_config import cfg

GROUP = "bus"
IN_PROCESS = "kombu+cnsmo://localhost/"
"""The embedded default: everything in one process (see bus/inprocess.py)."""
MIB = 1024 * 1024
OPTS = [
    cfg.StrOpt(
        "url",
        default=IN_PROCESS,
        secret=True,
        help="Where the broker is, in oslo.messaging's form, as "
        "rabbit://user:password@host:5671/vhost; of a cluster, all hosts, each with the account, "
        "with commas between. The default lives within one process: for the "
        "lab and for tests. [oslo_messaging_rabbit] holds all else (TLS, quorum queues, ...). "
        "Where [bus] broker makes the agents' accounts, this is the operators' virtual host.",
    ),
    cfg.BoolOpt(
        "quorum_queues",
        default=False,
        help="Whether the queues in which calls wait for a core are quorum queues, as they should "
        "be at a cluster: a node that dies takes none of them with it. The same for all cores, and "
        "for operators and agents that share [bus] url. What is there cannot be changed: see "
        "doc/operator.md.",
    ),
    cfg.DictOpt(
        "upgrade_levels",
        default={},
        help="The newest version to speak to cores while some of them are older, by topic, as "
        "cnsmo-core:1.1,cnsmo-operator:1.4; for agents and operators. Left out: who speaks finds "
        "out, and an older core costs a call more now and then.",
    ),
    cfg.StrOpt(
        "broker",
        default="none",
        help="Who makes the agents' accounts at the broker: 'rabbitmq' through its management "
        "API, each agent apart from all others; 'none' where all share [bus] url. For cores.",
    ),
    cfg.BoolOpt(
        "shared_account",
        default=False,
        help="With broker = none: start although all agents share the account in [bus] url, so "
        "that whoever has one VM can do what the operator can. For cores.",
    ),
    cfg.StrOpt(
        "agents_url",
        default="",
        help="Where agents find the broker, without an account: "
        "rabbit://host:5671/cnsmo-agents?ssl=true. The virtual host is made, and must be the "
        "agents' alone.",
    ),
    cfg.StrOpt(
        "cores_url",
        default="",
        help="Where this core itself reaches the virtual host in agents_url, when not there: as "
        "rabbit://127.0.0.1:5672/cnsmo-agents beside a broker of its own.",
    ),
    cfg.StrOpt(
        "agents_login",
        default="password",
        choices=[
            ("password", "each agent's account has a password of its own"),
            ("certificate", "no password; the certificate's common name is the account (EXTERNAL)"),
        ],
        help="How agents log in to the broker.",
    ),
    cfg.StrOpt(
        "agents_ca_file",
        default="",
        help="Certificates (PEM) by which the broker proves itself to agents, who are told them "
        "when they join; empty: each VM has [oslo_messaging_rabbit] ssl_ca_file.",
    ),
    cfg.StrOpt(
        "key_file",
        default="/etc/cnsmo/broker.key",
        help="File of 32 or more random characters from which the passwords of the accounts are "
        "derived; the same on every core, mode 0600.",
    ),
    cfg.StrOpt(
        "management_url",
        default="",
        help="The management API of the broker, as https://host:15671.",
    ),
    cfg.StrOpt(
        "management_user",
        default="cnsmo",
        help="An account of the broker with the tag 'administrator'.",
    ),
    cfg.StrOpt(
        "management_password",
        secret=True,
        help="Its password; or leave it out and name management_password_file.",
    ),
    cfg.StrOpt(
        "management_password_file",
        default="/etc/cnsmo/broker.password",
        help="File that holds the password of management_user, where management_password is unset.",
    ),
    cfg.StrOpt(
        "management_ca_file",
        default="",
        help="Certificates (PEM) by which the management API proves itself; empty: the system's.",
    ),
    cfg.FloatOpt(
        "farewell",
        default=5.0,
        min=0.0,
        max=3600.0,
        help="Seconds for which a removed host keeps its account at the broker, to hear that it "
        "was removed and take everything down. Its secret is worthless at once.",
    ),
    cfg.FloatOpt(
        "audit_interval",
        default=60.0,
        min=0.0,
        max=86400.0,
        help="Seconds after which a core looks again whether the broker has what it should have, "
        "and puts it right; at [core] health_interval at the earliest.",
    ),
    cfg.IntOpt(
        "core_queue_messages",
        default=10_000,
        min=100,
        help="Calls of agents that may wait for a core; the broker refuses what is more.",
    ),
    cfg.IntOpt(
        "core_queue_bytes",
        default=64 * MIB,
        min=MIB,
        help="Bytes of the calls that may wait for a core; a larger call is refused.",
    ),
    cfg.IntOpt(
        "agent_queue_messages",
        default=1_000,
        min=10,
        help="Messages that may wait in one queue of an agent; the broker drops the oldest.",
    ),
    cfg.IntOpt(
        "agent_queue_bytes",
        default=32 * MIB,
        min=MIB,
        help="Bytes that may wait in one queue of an agent. The answer to a sync must fit: about "
        "1 KiB for each row of its deployment.",
    ),
    cfg.IntOpt(
        "agent_connections",
        default=60,
        min=8,
        help="Connections that one agent's account may have open at a time.",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register them."""
    conf.register_opts(OPTS, group=GROUP)
    oslo_messaging.set_transport_defaults("cnsmo")
