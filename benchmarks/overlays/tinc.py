# SPDX-License-Identifier: Apache-2.0
"""tinc 1.0: a mesh whose members pass on what they know; two of them are called by all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from benchmarks.inside import Inside
from benchmarks.overlays.overlay import Node, Overlay

PORT = 655
KEY_BITS = 2048
CALLED = 2
"""So many of the first nodes are called by everybody."""
UP = """#!/bin/sh
ip address add {address}/16 dev $INTERFACE
ip link set $INTERFACE up
"""


class Tinc(Overlay):
    """Every node has the host files of all."""

    name = "tinc"
    network = 68

    def prepare(self) -> None:
        (self.directory / "hosts").mkdir()
        for node in self.nodes:
            called = [other for other in self.nodes[:CALLED] if other != node]
            self._write(
                f"{node.name}/tinc.conf",
                f"Name = {node.name}\nInterface = tinc0\nAddressFamily = ipv4\n"
                + "".join(f"ConnectTo = {other.name}\n" for other in called),
            )
            self._write(f"{node.name}/tinc-up", UP.format(address=self.address(node)), mode=0o700)
            (self.directory / node.name / "hosts").symlink_to(self.directory / "hosts")
            self._write(
                f"hosts/{node.name}",
                f"Address = {node.underlay}\nPort = {PORT}\nSubnet = {self.address(node)}/32\n"
                "Cipher = aes-256-cbc\nDigest = sha256\n",
            )
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self._make_key, self.nodes))

    def launch(self, node: Node) -> Inside:
        place = str(self.directory / node.name)
        return self._start(node, "tincd", "-c", place, "-D", "--pidfile=/run/tinc.pid")

    def _make_key(self, node: Node) -> None:
        """It writes the public half into the node's host file."""
        self._run("tincd", "-c", str(self.directory / node.name), f"-K{KEY_BITS}")
