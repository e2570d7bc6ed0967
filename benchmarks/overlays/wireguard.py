# SPDX-License-Identifier: Apache-2.0
"""WireGuard by hand: the same wireguard-go, set up with wg and ip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.inside import Inside
from benchmarks.overlays.overlay import Node, Overlay

DEVICE = "hand0"
PORT = 51900
SCRIPT = """
wireguard-go -f {device} & daemon=$!
until wg setconf {device} {config} 2>/dev/null; do sleep 0.02; done
ip address add {address}/16 dev {device} && ip link set {device} mtu {mtu} up
wait $daemon
"""


class Wireguard(Overlay):
    """A full mesh. mtu: bytes, as on the interfaces that it is compared with."""

    name = "WireGuard by hand"
    network = 69

    def __init__(self, directory: Path, nodes: Sequence[Node], mtu: int) -> None:
        super().__init__(directory, nodes)
        self._mtu = mtu

    def prepare(self) -> None:
        private = {node: self._run("wg", "genkey").strip() for node in self.nodes}
        public = {node: self._run("wg", "pubkey", stdin=private[node]).strip() for node in private}
        for node in self.nodes:
            text = f"[Interface]\nPrivateKey = {private[node]}\nListenPort = {PORT}\n"
            for other in self.nodes:
                if other != node:
                    text += (
                        f"[Peer]\nPublicKey = {public[other]}\n"
                        f"Endpoint = {other.underlay}:{PORT}\n"
                        f"AllowedIPs = {self.address(other)}/32\n"
                    )
            self._write(f"{node.name}.conf", text)

    def launch(self, node: Node) -> Inside:
        script = SCRIPT.format(
            device=DEVICE,
            config=self.directory / f"{node.name}.conf",
            address=self.address(node),
            mtu=self._mtu,
        )
        return self._start(node, "sh", "-c", script)
