# SPDX-License-Identifier: Apache-2.0
"""Nebula: a mesh whose members find each other through a lighthouse."""

from __future__ import annotations

import json

from benchmarks.inside import Inside
from benchmarks.overlays.overlay import Node, Overlay

PORT = 4242
MTU = 1300
"""Its default; bytes."""


class Nebula(Overlay):
    """The first node is the lighthouse. Configuration as in the example that it comes with."""

    name = "nebula"
    network = 67

    def prepare(self) -> None:
        self._run("nebula-cert", "ca", "-name", "bench")
        for node in self.nodes:
            self._run("nebula-cert", "sign", "-name", node.name, "-ip", f"{self.address(node)}/16")
            # JSON is YAML too
            self._write(f"{node.name}.yml", json.dumps(self._config(node)))

    def launch(self, node: Node) -> Inside:
        return self._start(node, "nebula", "-config", str(self.directory / f"{node.name}.yml"))

    def _config(self, node: Node) -> dict[str, object]:
        lighthouse = self.nodes[0]
        is_lighthouse = node is lighthouse
        anything = [{"port": "any", "proto": "any", "host": "any"}]
        return {
            "pki": {
                "ca": f"{self.directory}/ca.crt",
                "cert": f"{self.directory}/{node.name}.crt",
                "key": f"{self.directory}/{node.name}.key",
            },
            "static_host_map": {self.address(lighthouse): [f"{lighthouse.underlay}:{PORT}"]},
            "lighthouse": {
                "am_lighthouse": is_lighthouse,
                "interval": 60,
                "hosts": [] if is_lighthouse else [self.address(lighthouse)],
            },
            "listen": {"host": "0.0.0.0", "port": PORT},
            "punchy": {"punch": True},
            "cipher": "aes",
            "tun": {"dev": "nebula1", "mtu": MTU, "tx_queue": 500},
            "firewall": {"outbound": anything, "inbound": anything},
        }
