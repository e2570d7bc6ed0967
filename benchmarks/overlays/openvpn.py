# SPDX-License-Identifier: Apache-2.0
"""OpenVPN by hand: clients of a hub that passes packets on between them, over UDP, AES-256-GCM."""

from __future__ import annotations

from benchmarks.inside import Inside
from benchmarks.overlays.overlay import Node, Overlay

PORT = 1194
COMMON = """
dev hand-ovpn
dev-type tun
proto udp
topology subnet
data-ciphers AES-256-GCM
persist-key
persist-tun
sndbuf 1048576
rcvbuf 1048576
verb 3
"""
HUB = """
mode server
tls-server
dh none
port {port}
ifconfig {address} 255.255.0.0
push "topology subnet"
client-to-client
client-config-dir {clients}
keepalive 10 60
"""
CLIENT = """
client
nobind
remote {hub} {port}
"""


class Openvpn(Overlay):
    """The first node is the hub."""

    name = "OpenVPN by hand, via hub"
    network = 70

    def prepare(self) -> None:
        prints = {node: self._certificate(node) for node in self.nodes}
        hub, *clients = self.nodes
        (self.directory / "clients").mkdir()
        for node in clients:
            push = f"ifconfig-push {self.address(node)} 255.255.0.0\n"
            self._write(f"clients/{node.name}", push)
        fill = {
            "port": PORT,
            "address": self.address(hub),
            "hub": hub.underlay,
            "clients": self.directory / "clients",
        }
        for node in self.nodes:
            trusted = [prints[other] for other in self.nodes if (other is hub) != (node is hub)]
            own = f"cert {self.directory}/{node.name}.crt\nkey {self.directory}/{node.name}.key\n"
            listed = "<peer-fingerprint>\n" + "\n".join(trusted) + "\n</peer-fingerprint>\n"
            role = HUB if node is hub else CLIENT
            self._write(f"{node.name}.conf", COMMON + role.format(**fill) + own + listed)

    def launch(self, node: Node) -> Inside:
        return self._start(node, "openvpn", "--config", str(self.directory / f"{node.name}.conf"))

    def _certificate(self, node: Node) -> str:
        """A self-signed one; returns its fingerprint."""
        self._run(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-nodes", "-days", "30", "-subj", f"/CN={node.name}",
            "-keyout", f"{node.name}.key", "-out", f"{node.name}.crt",
        )  # fmt: skip
        shown = self._run(
            "openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", f"{node.name}.crt"
        )
        return shown.partition("=")[2].strip()
