# SPDX-License-Identifier: Apache-2.0
"""Real processes at a broker with TLS; an agent is told where to join, and nothing else.

Its account at the broker has no password: it logs in with the certificate that it got at the join.
"""

import datetime
import json
import secrets
from pathlib import Path
from typing import Any

from cryptography import x509
from oslo_config import cfg

from cnsmo.agent import identity
from cnsmo.bus.brokers.rabbitmq_api import ManagementApi
from cnsmo.bus.clients import OperatorClient
from cnsmo.files import write_file
from cnsmo.trust import authority, certificates, keys
from tests.beds import TlsRabbitmqBed
from tests.beds.rabbitmq_tls import MANAGER
from tests.integration.fleet import RABBIT, Agent, Fleet
from tests.joining import Door


class TrustedFleet(Fleet):
    """See above."""

    def __init__(
        self, directory: Path, bed: TlsRabbitmqBed, database: str, conf: cfg.ConfigOpts, door: Door
    ) -> None:
        super().__init__(directory, bed.create_vhost(), database, conf, door)
        self.bed = bed
        self.agents_vhost = f"agents-{secrets.token_hex(4)}"
        bundle = str(bed.authority.bundle)
        self.api = ManagementApi(bed.management_url, MANAGER, bed.password, bundle)
        tls = {
            "ssl_ca_file": bundle,
            "ssl_cert_file": bed.client.certificate,
            "ssl_key_file": bed.client.key,
        }
        url = self._operators_url()
        self.core_settings = {
            "bus": self._bus(url, bundle),
            "database": self.settings.pop("database"),
            "join": self.settings.pop("join"),
            RABBIT: {**self.settings[RABBIT], **tls},
        }
        self.settings.pop("bus")
        self._tls = tls
        conf.set_override("url", url, "bus")
        for name, value in tls.items():
            conf.set_override(name, str(value), RABBIT)
        self.operator = OperatorClient(conf, timeout=10)

    def _operators_url(self) -> str:
        account = f"{self.vhost.user}:{self.vhost.password}"
        return f"rabbit://{account}@127.0.0.1:{self.bed.tls_port}/{self.vhost.name}?ssl=true"

    def _bus(self, url: str, bundle: str) -> dict[str, object]:
        key = self.directory / "broker.key"
        write_file(key, secrets.token_hex(32))
        return {
            "url": url,
            "broker": "rabbitmq",
            "agents_url": f"rabbit://127.0.0.1:{self.bed.tls_port}/{self.agents_vhost}?ssl=true",
            "agents_login": "certificate",
            "agents_ca_file": bundle,
            "key_file": key,
            "management_url": self.bed.management_url,
            "management_user": MANAGER,
            "management_password": self.bed.password,
            "management_ca_file": bundle,
        }

    def connections(self, agent: Agent) -> list[dict[str, Any]]:
        """What the broker tells of an agent's connections."""
        account = f"agent-{remembered(agent)['id']}"
        return [found for found in self.api.get("connections") if found.get("user") == account]

    def close(self) -> None:
        """End everything, and leave nothing at the broker."""
        super().close()
        for user in self.api.get("users"):
            if user["name"].startswith("agent-"):
                self.api.delete("users", user["name"])
        self.api.delete("vhosts", self.agents_vhost)
        self.bed.delete_vhost(self.vhost)
        for name in self._tls:
            self.conf.clear_override(name, RABBIT)


def remembered(agent: Agent) -> dict[str, Any]:
    """An agent's identity, as it keeps it."""
    found: dict[str, Any] = json.loads((agent.state_dir / "identity.json").read_text())
    return found


def certificate(agent: Agent) -> x509.Certificate:
    """The certificate that an agent keeps."""
    return x509.load_pem_x509_certificate((agent.state_dir / identity.CERTIFICATE).read_bytes())


def validity(agent: Agent) -> tuple[datetime.datetime, datetime.datetime]:
    """From when to when the certificate that an agent keeps is good."""
    found = certificate(agent)
    return found.not_valid_before_utc, found.not_valid_after_utc


def make_old(agent: Agent, ca_directory: Path, age: datetime.timedelta) -> None:
    """As if its certificate, of ninety days, had come that long ago; it does not run meanwhile."""
    known, began = remembered(agent), datetime.datetime.now(datetime.UTC) - age
    key = keys.load_key((agent.state_dir / identity.KEY).read_text()).public_key()
    life = datetime.timedelta(days=90)
    made = authority.load(ca_directory).sign_host(
        key, known["id"], known["deployment"], known["host"], began, life
    )
    known |= {"certified_at": began.timestamp(), "life": life.total_seconds()}
    (agent.state_dir / "identity.json").write_text(json.dumps(known))
    (agent.state_dir / identity.CERTIFICATE).write_text(certificates.pem(made))
