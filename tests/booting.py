# SPDX-License-Identifier: Apache-2.0
"""What whole machines boot with: wheels of this tree, and a core that did."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.beds.cloud import METADATA, Machine

TOP = Path(__file__).parents[1]
MANAGE = ("runuser", "-u", "cnsmo", "--", "/opt/cnsmo/bin/cnsmo-manage")


def wheelhouse(folder: Path, versions: Sequence[str] = ()) -> tuple[Path, str]:
    """Wheels of this tree for some versions of Python, and the digest of their requirements."""
    given = os.environ.get("CNSMO_WHEELHOUSE")
    place = Path(given) if given else folder
    words = [TOP / "tools" / "wheelhouse.sh", place, *versions]
    python = {"CNSMO_PYTHON": sys.executable, **os.environ}
    made = subprocess.run(words, capture_output=True, text=True, check=False, env=python)
    assert made.returncode == 0, made.stderr
    return place, made.stdout.split()[-1]


def source_of(wheels: tuple[Path, str]) -> dict[str, str]:
    """The parameters that say what to install; the metadata service has it."""
    place = f"http://{METADATA}/wheels/"
    return {
        "cnsmo_requirements": f"{place}requirements.txt",
        "cnsmo_requirements_sha256": wheels[1],
        "cnsmo_wheelhouse": place,
    }


class Core:
    """A core that booted from user-data, and what it told."""

    def __init__(self, machine: Machine, told: dict[str, Any]) -> None:
        self.machine = machine
        self.url = str(told["core"])
        self.ca = str(told["ca"])
        self.tokens: dict[str, str] = told["tokens"]

    def joining(self, token: str, services: str) -> dict[str, str]:
        """The parameters of a machine that joins it."""
        named = {"core": self.url, "ca": self.ca, "token": token, "services": services}
        return {f"cnsmo_{name}": value for name, value in named.items()}

    def manage(self, *words: str) -> str:
        """Run cnsmo-manage there."""
        return self.machine.run(*MANAGE, *words)

    def rows(self, *words: str) -> list[dict[str, Any]]:
        """What a list of cnsmo-manage holds."""
        return list(json.loads(self.manage(*words, "-f", "json")))

    def renew_broker(self) -> bool:
        """Have its unit give the broker a new certificate; whether there is one."""
        before = self.machine.run("cat", "/etc/rabbitmq/cnsmo/broker.pem")
        self.machine.run("systemctl", "start", "cnsmo-broker.service")
        return self.machine.run("cat", "/etc/rabbitmq/cnsmo/broker.pem") != before

    def state(self, host: str) -> set[str]:
        """The states of a host's agents."""
        return {row["state"] for row in self.rows("agent", "list") if row["host"] == host}

    def endpoint(self, host: str) -> str:
        """Where others call a host."""
        (found,) = (row["endpoint"] for row in self.rows("host", "list") if row["name"] == host)
        return str(found)

    def addresses(self) -> dict[str, str]:
        """Of each host in the VPN "backbone"."""
        rows = self.rows("host", "list")
        return {row["name"]: row["vpn_addresses"]["backbone"][0] for row in rows}

    def token(self, *words: str) -> str:
        """A new token, for one host."""
        return self.manage("token", "create", *words, "-f", "value", "-c", "token").strip()

    def token_status(self, token: str) -> str:
        """Whether it can be used."""
        ident = token.partition(".")[0]
        (found,) = (row["status"] for row in self.rows("token", "list") if row["id"] == ident)
        return str(found)
