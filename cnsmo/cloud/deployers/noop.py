# SPDX-License-Identifier: Apache-2.0
"""A deployer whose VMs are lines in a file: for trials, and for tests of what is above it."""

from __future__ import annotations

import dataclasses
import json
import threading
import uuid
from pathlib import Path

from oslo_config import cfg

from cnsmo.cloud.deployer import Deployer, Order, Server, Status
from cnsmo.files import write_file
from cnsmo.model.errors import NotFound


class NoopDeployer(Deployer):
    """The file is ``cloud.json`` in the agent's state directory."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        super().__init__(conf)
        self._file = Path(conf.agent.state_dir) / "cloud.json"
        self._lock = threading.Lock()

    def check(self, order: Order) -> None:
        """There is nothing that it could lack."""

    def boot(self, order: Order) -> Server:
        """Write it down."""
        made = Server(
            id=str(uuid.uuid4()),
            name=order.name,
            status=Status.RUNNING,
            deployment=order.deployment,
            groups=order.groups,
        )
        with self._lock:
            self._keep({**self._known(), made.id: made})
        return made

    def servers(self) -> list[Server]:
        """Those that were written down."""
        return sorted(self._known().values(), key=lambda server: server.name)

    def refresh(self, server: Server) -> Server:
        """Nothing happens to it by itself."""
        try:
            return self._known()[server.id]
        except KeyError:
            raise NotFound(f"the VM {server.name} is gone") from None

    def mark(self, server: Server, deployment: str, groups: tuple[str, ...]) -> Server:
        """Write that down, too."""
        made = dataclasses.replace(server, deployment=deployment, groups=groups)
        with self._lock:
            self._keep({**self._known(), made.id: made})
        return made

    def remove(self, server: Server) -> None:
        """Strike it out."""
        with self._lock:
            self._keep({ident: one for ident, one in self._known().items() if ident != server.id})

    def _known(self) -> dict[str, Server]:
        if not self._file.exists():
            return {}
        return {item["id"]: _read(item) for item in json.loads(self._file.read_text())}

    def _keep(self, servers: dict[str, Server]) -> None:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(self._file, json.dumps([dataclasses.asdict(one) for one in servers.values()]))


def _read(item: dict[str, object]) -> Server:
    lists = {key: tuple(value) for key, value in item.items() if isinstance(value, list)}
    return Server(**{**item, **lists, "status": Status(str(item["status"]))})  # type: ignore[arg-type]
