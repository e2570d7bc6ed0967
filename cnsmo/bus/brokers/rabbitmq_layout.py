# SPDX-License-Identifier: Apache-2.0
"""Who may do what at RabbitMQ, and by which names: nothing here talks to it.

The agents have a virtual host of their own. In it, an agent publishes into an exchange of its own,
which the core bound to its own exchange with the key of its own topic: what an agent writes arrives
at the core or nowhere. oslo.messaging declares what it uses, each time; so an account may configure
what it uses, and no name of one agent matches the permissions of another.

https://www.rabbitmq.com/access-control.html
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from typing import Any

from oslo_config import cfg

from cnsmo.bus.transport import AGENTS_TOPIC, EXCHANGE, agent_topic

ANSWER, HINT = "cnsmo-answer", "cnsmo-hint"
"""The core's accounts: one can do no more than answer, the other no more than hint."""
CORE_NAMES = rf"^{EXCHANGE}$|^{AGENTS_TOPIC}(\.core|_fanout.*)?$"
NOTHING = "^$"
Permission = dict[str, str]
IDENT = re.compile(r"[a-z]-[0-9a-f]+")
MINUTE = 60_000
"""Milliseconds."""
SALT_BYTES = 4


def account(ident: str) -> str:
    """The account of an agent."""
    return f"agent-{ident}"


def agent_of(name: str) -> str | None:
    """The id of the agent to which an account, an exchange or a queue belongs by its name."""
    found = re.match(rf"(?:agent-|cnsmo-agent\.|reply_)({IDENT.pattern})(?![0-9a-z-])", name)
    return found[1] if found else None


def agent_permission(ident: str) -> Permission:
    """An agent may use what bears its own name; into its reply queues it cannot write."""
    own = rf"cnsmo-agent\.{ident}(\..*|_fanout.*)?"
    return {
        "configure": rf"^({own}|reply_{ident}:.*)$",
        "write": rf"^{own}$",
        "read": rf"^({own}|reply_{ident}:.*)$",
    }


def core_permissions() -> dict[str, Permission]:
    """What the core's own accounts may do.

    Answers go through the default exchange, to whatever queue the caller named: the broker cannot
    narrow that. But no queue of anybody but agents is in this virtual host.
    """
    hints = r"^cnsmo-agent\.[a-z]-[0-9a-f]+_fanout$"
    return {
        ANSWER: {
            "configure": CORE_NAMES,
            "write": rf"^amq\.default$|^{AGENTS_TOPIC}(\.core|_fanout.*)?$",
            "read": CORE_NAMES,
        },
        HINT: {"configure": hints, "write": hints, "read": NOTHING},
    }


def policies(options: cfg.ConfigOpts) -> dict[str, dict[str, Any]]:
    """Bounds of all queues. What an agent abandoned expires, whatever the agent asked for.

    options: the group ``[bus]``.
    """
    return {
        "cnsmo-core": {
            "pattern": rf"^{AGENTS_TOPIC}([._]|$)",
            "apply-to": "queues",
            "priority": 10,
            "definition": {
                "max-length": options.core_queue_messages,
                "max-length-bytes": options.core_queue_bytes,
                "message-ttl": MINUTE,
                "overflow": "reject-publish",
            },
        },
        "cnsmo-agents": {
            "pattern": "^(cnsmo-agent|reply_)",
            "apply-to": "queues",
            "priority": 10,
            "definition": {
                "max-length": options.agent_queue_messages,
                "max-length-bytes": options.agent_queue_bytes,
                "message-ttl": 10 * MINUTE,
                "expires": 10 * MINUTE,
                "overflow": "drop-head",
            },
        },
    }


def agent_exchange() -> dict[str, Any]:
    """What the exchanges are through which agents reach the core, and the core's own: they last."""
    return {"type": "topic", "durable": True, "auto_delete": False, "internal": False}


def into_core(ident: str) -> tuple[str, str, str]:
    """The one binding that an agent's exchange has: source, destination, key."""
    return agent_topic(ident), EXCHANGE, AGENTS_TOPIC


def derived_password(key: str, name: str) -> str:
    """The password of an account; nothing of it has to be stored."""
    return hmac.new(key.encode(), f"cnsmo broker {name}".encode(), hashlib.sha256).hexdigest()


def password_hash(password: str) -> str:
    """What the broker stores of a password.

    https://www.rabbitmq.com/passwords.html#computing-password-hash
    """
    return _salted(os.urandom(SALT_BYTES), password)


def is_hash_of(stored: str, password: str) -> bool:
    """Whether the broker knows an account by that password."""
    try:
        salt = base64.b64decode(stored, validate=True)[:SALT_BYTES]
    except ValueError:
        return False
    return hmac.compare_digest(stored, _salted(salt, password))


def _salted(salt: bytes, password: str) -> str:
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
