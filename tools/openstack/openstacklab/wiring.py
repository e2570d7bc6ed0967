# SPDX-License-Identifier: Apache-2.0
"""What Neutron's agents would do, as far as tests need it: bridges, DHCP, routers, floating IPs.

It follows Neutron's API, in the lab's network namespace, until it is killed. All networks are in
one namespace, so their addresses must differ. Security groups are not enforced; DHCP is for
networks that a router has an address in. usage: python -m openstacklab.wiring DIRECTORY
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from openstacklab.accounts import connect
from openstacklab.place import Place

PAUSE = 0.5
ROUTED = "network:router_interface"
MTU = 1450


class Wiring:
    """Compares what Neutron has with what is there."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.network = connect(place).network
        self.dhcp: dict[str, subprocess.Popen[bytes]] = {}
        self.rules = ""

    def look(self) -> None:
        """Make it equal, once."""
        ports = list(self.network.ports())
        subnets = {subnet.id: subnet for subnet in self.network.subnets()}
        there = _links()
        wanted = {_bridge(port.network_id) for port in ports}
        for name in sorted(wanted - there.keys()):
            _ip("link", "add", name, "type", "bridge")
            _ip("link", "set", name, "up")
        for port in ports:
            tap, bridge = f"tap{port.id[:11]}", _bridge(port.network_id)
            if tap in there and there[tap] != bridge:
                _ip("link", "set", tap, "master", bridge, "up")
        for bridge, address in gateways(ports, subnets):
            if address not in _addresses(bridge):
                _ip("addr", "replace", address, "dev", bridge)
        for name in there.keys() - wanted:
            if name.startswith("br-"):
                self._forget(name)
        self._serve(ports, subnets)
        self._translate(list(self.network.ips()))

    def _serve(self, ports: list[Any], subnets: dict[str, Any]) -> None:
        for bridge, address in gateways(ports, subnets):
            leases = [
                f"{port.mac_address},{fixed['ip_address']}"
                for port in ports
                if _bridge(port.network_id) == bridge
                for fixed in port.fixed_ips
            ]
            folder = self.place.folder("dhcp", bridge)
            hosts = folder / "hosts"
            told = "\n".join([*sorted(leases), ""])
            if not hosts.exists() or hosts.read_text() != told:
                hosts.write_text(told)
                if bridge in self.dhcp:
                    self.dhcp[bridge].send_signal(1)  # SIGHUP: read it again
            if bridge not in self.dhcp:
                self.dhcp[bridge] = _dnsmasq(folder, bridge, address)

    def _translate(self, floating: list[Any]) -> None:
        """Floating IPs, by nftables."""
        pairs = sorted(
            (found.floating_ip_address, found.fixed_ip_address)
            for found in floating
            if found.fixed_ip_address
        )
        there = ", ".join(f"{public} : {fixed}" for public, fixed in pairs)
        rules = ["table ip lab {}", "delete table ip lab", "table ip lab {"]
        rules.append("chain postrouting { type nat hook postrouting priority srcnat;")
        rules.append('iifname "br-*" oifname "br-*" ct status dnat masquerade;')
        rules.append('iifname "br-*" oifname "uplink" ct direction original masquerade; }')
        if pairs:
            for chain, priority in (("prerouting", "dstnat"), ("output", "-100")):
                rules.append(f"chain {chain} {{ type nat hook {chain} priority {priority};")
                rules.append(f"dnat to ip daddr map {{ {there} }}; }}")
        text = "\n".join([*rules, "}", ""])
        if text != self.rules:
            subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)
            self.rules = text

    def _forget(self, bridge: str) -> None:
        if bridge in self.dhcp:
            self.dhcp[bridge].terminate()
            self.dhcp.pop(bridge).wait()
        _ip("link", "del", bridge)


def gateways(ports: list[Any], subnets: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The addresses of routers, by the bridge of their network."""
    for port in ports:
        for fixed in port.fixed_ips if port.device_owner == ROUTED else ():
            length = ipaddress.ip_network(subnets[fixed["subnet_id"]].cidr).prefixlen
            yield _bridge(port.network_id), f"{fixed['ip_address']}/{length}"


def _dnsmasq(folder: Path, bridge: str, address: str) -> subprocess.Popen[bytes]:
    network = ipaddress.ip_interface(address)
    return subprocess.Popen(
        [
            *("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--bind-interfaces"),
            *(f"--interface={bridge}", f"--dhcp-leasefile={folder}/leases", "--dhcp-ignore-names"),
            f"--dhcp-range={network.network.network_address},static,{network.netmask}",
            *(f"--dhcp-hostsfile={folder}/hosts", f"--dhcp-option=option:mtu,{MTU}"),
            *(f"--dhcp-option=3,{network.ip}", "--dhcp-authoritative"),
        ]
    )


def _bridge(network: str) -> str:
    return f"br-{network[:11]}"


def _links() -> dict[str, str]:
    """All interfaces by name, with the bridges that they are in."""
    return {link["ifname"]: link.get("master", "") for link in _told("link", "show")}


def _addresses(bridge: str) -> set[str]:
    found: Iterable[Any] = (
        info for link in _told("addr", "show", "dev", bridge) for info in link["addr_info"]
    )
    return {f"{info['local']}/{info['prefixlen']}" for info in found}


def _told(*words: str) -> list[Any]:
    done = subprocess.run(["ip", "-j", *words], capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout or "[]"))


def _ip(*words: str) -> None:
    # A guest that ends takes its device away at any time.
    subprocess.run(["ip", *words], capture_output=True, check=False)


def main() -> None:
    """Look, again and again."""
    wiring = Wiring(Place(Path(sys.argv[1])))
    while True:
        try:
            wiring.look()
        except Exception as exc:  # noqa: BLE001  # services come and go while tests run
            sys.stderr.write(f"wiring: {exc!r}\n")
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
