# SPDX-License-Identifier: Apache-2.0
"""The broker of a core's own: RabbitMQ that agents enter over TLS, with the certificate of a join.

The core itself talks to it on the loopback address, with an account of its own.
"""

from __future__ import annotations

import datetime
import secrets
from pathlib import Path

from cnsmo.boot.machine import Machine
from cnsmo.conf import STATE_DIR
from cnsmo.trust import authority

CONFIG = Path("/etc/rabbitmq/rabbitmq.conf")
ENABLED = Path("/etc/rabbitmq/enabled_plugins")
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


def prepare(address: str, machine: Machine) -> dict[str, dict[str, str]]:
    """Configure RabbitMQ, and start it.

    address: where agents reach this machine.

    :return: the core's options for it.
    """
    machine.write(CONFIG, TEXT.format(tls=TLS), ACCOUNT)
    machine.write(CORE_DIR / ADDRESS, address, "cnsmo")
    certify(machine)
    # rabbitmq-plugins would make it root's alone, with the umask that this program has.
    machine.write(ENABLED, f"[{','.join(PLUGINS)}].\n", ACCOUNT)
    machine.run("systemctl", "enable", "rabbitmq-server")
    machine.run("systemctl", "restart", "rabbitmq-server", timeout=300.0)
    password = _secret(CORE_DIR / "broker.password", machine)
    _secret(CORE_DIR / "broker.key", machine)
    _account(password, machine)
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
    ca = authority.load(machine.path(CORE_DIR / "ca"))
    chain = ca.broker_chain(machine.path(CORE_DIR / ADDRESS).read_text(), now)
    machine.folder(TLS, ACCOUNT)
    machine.write(TLS / "authorities.pem", ca.bundle(now), ACCOUNT)
    machine.write(CORE_DIR / AUTHORITIES, ca.bundle(now), "cnsmo")
    machine.write(TLS / "broker.key", chain.key, ACCOUNT)
    machine.write(TLS / "broker.pem", chain.certificates, ACCOUNT)


def renew(machine: Machine) -> int:
    """The same while it runs (the timer does so every day).

    :return: the exit code.
    """
    certify(machine)
    machine.run("rabbitmqctl", "eval", "ssl:clear_pem_cache().")
    return 0


def _secret(path: Path, machine: Machine) -> str:
    """Random text in a file of the core's, made once."""
    there = machine.path(path)
    if not there.exists():
        machine.write(path, secrets.token_hex(32), "cnsmo")
    return there.read_text()


def _account(password: str, machine: Machine) -> None:
    """The core's account, and the operators' virtual host."""
    ctl = "rabbitmqctl"
    machine.run(ctl, "await_startup", "--timeout", "120", timeout=150.0)
    accounts = machine.run(ctl, "-q", "list_users", "--no-table-headers").split()
    # The password goes through stdin: arguments can be read by everybody.
    verb = "change_password" if "cnsmo" in accounts else "add_user"
    machine.run(ctl, verb, "cnsmo", stdin=f"{password}\n")
    machine.run(ctl, "set_user_tags", "cnsmo", "administrator")
    if VHOST not in machine.run(ctl, "-q", "list_vhosts", "--no-table-headers").split():
        machine.run(ctl, "add_vhost", VHOST)
    machine.run(ctl, "set_permissions", "-p", VHOST, "cnsmo", ".*", ".*", ".*")
    if "guest" in accounts:
        machine.run(ctl, "delete_user", "guest")
