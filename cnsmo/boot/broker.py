# SPDX-License-Identifier: Apache-2.0
"""The broker of a core's own: RabbitMQ that agents enter over TLS, with the certificate of a join.

The core itself talks to it on the loopback address, with an account of its own.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import secrets
from pathlib import Path

from cnsmo.boot.machine import Machine
from cnsmo.conf import STATE_DIR
from cnsmo.trust import authority
from cnsmo.trust import broker as trusted

CONFIG = Path("/etc/rabbitmq/rabbitmq.conf")
ENABLED = Path("/etc/rabbitmq/enabled_plugins")
DEFINITIONS = Path("/etc/rabbitmq/cnsmo.json")
DATA = Path("/var/lib/rabbitmq/mnesia")
"""What it has once it ran."""
PLUGINS = ("rabbitmq_management", "rabbitmq_auth_mechanism_ssl")
ACCOUNT = "rabbitmq"
TLS = Path("/etc/rabbitmq/cnsmo")
"""Its key, certificate, and the authorities that it believes."""
CORE_DIR = STATE_DIR / "core"
AUTHORITIES = "broker-authorities.pem"
"""What agents are told, of the core's own."""
ADDRESS = "broker.address"
"""Where agents find the broker: its certificate says so."""
RENEWAL = "cnsmo-broker.timer"
VHOST, AGENTS = "cnsmo", "cnsmo-agents"
TEXT = """\
# Made by cnsmo-boot. Agents come over TLS, with certificates; the core on this machine without.
load_definitions = {definitions}
listeners.tcp.local = 127.0.0.1:5672
listeners.ssl.default = 5671
ssl_options.cacertfile = {tls}/authorities.pem
ssl_options.certfile = {tls}/broker.pem
ssl_options.keyfile = {tls}/broker.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
ssl_options.versions.1 = tlsv1.3
ssl_options.versions.2 = tlsv1.2
ssl_cert_login_from = common_name
loopback_users.cnsmo = true
loopback_users.cnsmo-answer = true
loopback_users.cnsmo-hint = true
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = AMQPLAIN
auth_mechanisms.3 = EXTERNAL
max_message_size = 67108864
management.tcp.ip = 127.0.0.1
management.tcp.port = 15672
"""


def prepare(address: str, machine: Machine, patience: float) -> dict[str, dict[str, str]]:
    """Configure RabbitMQ, and start it.

    address: where agents reach this machine. patience: seconds in which it has to be up.

    :return: the core's options for it.
    """
    machine.write(CONFIG, TEXT.format(tls=TLS, definitions=DEFINITIONS), ACCOUNT)
    machine.write(CORE_DIR / ADDRESS, address, "cnsmo")
    certify(machine)
    # rabbitmq-plugins would make it root's alone, with the umask that this program has.
    machine.write(ENABLED, f"[{','.join(PLUGINS)}].\n", ACCOUNT)
    password = _secret(CORE_DIR / "broker.password", machine)
    _secret(CORE_DIR / "broker.key", machine)
    machine.write(DEFINITIONS, definitions(password), ACCOUNT)
    ran_before = any(machine.path(DATA).glob("*"))
    machine.run("systemctl", "enable", "rabbitmq-server")
    machine.run("systemctl", "restart", "rabbitmq-server", timeout=patience)
    if ran_before:
        _forget_guest(machine)
    place = f"[{address}]" if ":" in address else address
    return {
        "bus": {
            "url": f"rabbit://cnsmo:{password}@127.0.0.1:5672/{VHOST}",
            "broker": "rabbitmq",
            "agents_url": f"rabbit://{place}:5671/{AGENTS}?ssl=true",
            "cores_url": f"rabbit://127.0.0.1:5672/{AGENTS}",
            "agents_login": "certificate",
            "agents_ca_file": str(CORE_DIR / AUTHORITIES),
            "key_file": str(CORE_DIR / "broker.key"),
            "management_url": "http://127.0.0.1:15672",
            "management_user": "cnsmo",
            "management_password_file": str(CORE_DIR / "broker.password"),
        }
    }


def certify(machine: Machine) -> None:
    """A new certificate for the broker, and the authorities of today."""
    now = datetime.datetime.now(datetime.UTC)
    ca = authority.loads(machine.read(CORE_DIR / "ca" / authority.FILE))
    machine.folder(TLS, ACCOUNT)
    for name, text in trusted.files(ca, machine.read(CORE_DIR / ADDRESS), now).items():
        machine.write(TLS / name, text, ACCOUNT)
    machine.write(CORE_DIR / AUTHORITIES, ca.bundle(now), "cnsmo")


def renew(machine: Machine) -> int:
    """The same while it runs (the timer does so every day).

    :return: the exit code.
    """
    certify(machine)
    machine.run("rabbitmqctl", "eval", "ssl:clear_pem_cache().")
    return 0


def _secret(path: Path, machine: Machine) -> str:
    """Random text in a file of the core's, made once."""
    try:
        return machine.read(path)
    except FileNotFoundError:
        machine.write(path, made := secrets.token_hex(32), "cnsmo")
        return made


def definitions(password: str) -> str:
    """The core's account and the operators' virtual host, as RabbitMQ reads them when it starts.

    Its own guest is not made then. One start costs less than a single call of rabbitmqctl.
    """
    salt = secrets.token_bytes(4)
    digest = salt + hashlib.sha256(salt + password.encode()).digest()
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    account = {
        "name": "cnsmo",
        "password_hash": base64.b64encode(digest).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": "administrator",
    }
    made = {
        "users": [account],
        "vhosts": [{"name": VHOST}],
        "permissions": [{"user": "cnsmo", "vhost": VHOST, **everything}],
    }
    return json.dumps(made, indent=1) + "\n"


def _forget_guest(machine: Machine) -> None:
    """Remove the account that everybody knows, of a start before it was configured."""
    ctl = "rabbitmqctl"
    machine.run(ctl, "await_startup", "--timeout", "120", timeout=150.0)
    if "guest" in machine.run(ctl, "-q", "list_users", "--no-table-headers").split():
        machine.run(ctl, "delete_user", "guest")
