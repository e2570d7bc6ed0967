# SPDX-License-Identifier: Apache-2.0
"""Which VM a host is, and what its cloud knows of it that it cannot know itself; pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

from cnsmo.cloud.deployer import Server
from cnsmo.model.host import MOST_PUBLIC, CloudFacts, HostFacts

INSTANCE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclasses.dataclass(frozen=True)
class Found:
    """A host, and the VM that it is; None: the cloud shows none."""

    host: str
    server: Server | None

    @property
    def facts(self) -> CloudFacts:
        """What the cloud knows."""
        if self.server is None:
            return CloudFacts()
        known = self.server.id if INSTANCE_ID.fullmatch(self.server.id) else ""
        return CloudFacts(public=self.server.public[:MOST_PUBLIC], instance_id=known)


def match(
    hosts: Mapping[str, HostFacts], servers: Iterable[Server], deployment: str
) -> list[Found]:
    """The VM of each host: by its id, else by its name among those of the deployment."""
    servers = list(servers)
    by_id = {server.id: server for server in servers}
    by_name = {server.name: server for server in servers if server.deployment == deployment}
    found = []
    for name, facts in sorted(hosts.items()):
        server = by_id.get(facts.instance_id)
        if server is None and not facts.instance_id:
            server = by_name.get(name)
        found.append(Found(name, server))
    return found
