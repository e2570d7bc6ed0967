# SPDX-License-Identifier: Apache-2.0
"""Two VMs on a switch and on a pretended VPN; the first has the firewall under test."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

from cnsmo.agent.system import LocalSystem
from cnsmo.model.errors import DriverError
from cnsmo.services.base import System
from cnsmo.services.firewall.desired import (
    Action,
    Direction,
    FirewallDesired,
    Kind,
    Line,
    Part,
)
from cnsmo.services.firewall.drivers import guard
from cnsmo.services.firewall.drivers.nftables import NftablesDriver
from tests.functional.firewall import listing, probe
from tests.functional.vpn.vms import Net, Vm

PORTS = (22, 53, 80, 443, 5671, 8080)
ONE, TWO = "10.9.0.1", "10.9.0.2"
ONE6, TWO6 = "fd09::1", "fd09::2"
VPN_ONE, VPN_TWO = "10.66.0.1", "10.66.0.2"
REALMS = ("", "backbone")
NEIGHBOURS = Line(
    "always/neighbours", Action.ACCEPT, 6, protocol=58, types=(133, 134, 135, 136, 143)
)
TCP, UDP = 6, 17
FOREIGN = """table ip docker-like {
	chain nat {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 172.17.0.0/16 masquerade
	}
}
table inet libvirt-like {
	set guests {
		type ipv4_addr
		elements = { 192.168.122.2 }
	}
	chain guest_input {
		type filter hook forward priority filter; policy accept;
		ip saddr @guests counter accept
	}
}
table ip6 filter {
	chain INPUT {
		type filter hook input priority filter; policy accept;
		tcp dport 9999 counter drop
	}
}
"""


class Scene:
    """The host under test and its neighbour."""

    def __init__(self, net: Net, state: Path) -> None:
        self.one, self.two = net.add("one"), net.add("two")
        self.one.system = LocalSystem(self.one.system.enter, stays=True)  # as an agent's
        self.state_dir = state / "units" / "firewall" / "host" / "nftables"
        subprocess.run(
            ["nsenter", "-t", str(self.one.pid), "-n", "--", "ip", "link", "add", "cn-x", "type",
             "veth", "peer", "name", "cn-x", "netns", str(self.two.pid)], check=True,
        )  # fmt: skip
        for vm, address in ((self.one, VPN_ONE), (self.two, VPN_TWO)):
            vm.run(f"ip address add {address}/24 dev cn-x")
            vm.run("ip link set cn-x up")
            self._serve(vm)
        self.driver = self.fresh()

    def fresh(self, system: System | None = None) -> NftablesDriver:
        """What a new agent process does: another driver object on the same files."""
        self.driver = NftablesDriver(
            system or self.one.system, "host", "shop/one/host", self.state_dir
        )
        return self.driver

    def settle(self, wanted: FirewallDesired) -> None:
        """Apply and confirm."""
        self.driver.apply(wanted)
        self.driver.confirm()

    def ask(self, kind: str, address: str, port: int, vm: Vm | None = None, source: int = 0) -> str:
        """What becomes of a first packet from the neighbour (or another VM)."""
        asker = vm or self.two
        run = asker.system.run(*PROBE, kind, address, str(port), str(source))
        return run.stdout.strip()

    def rules(self) -> str:
        """Our table as nft(8) lists it; empty when there is none."""
        return self.one.run("nft list table inet cnsmo", ok=(0, 1))

    def foreign(self) -> str:
        """All other tables."""
        return listing.split(self.one.run("nft list ruleset"))[1]

    def ruleset(self) -> str:
        """Everything, without what counters say, and whichever slot our names are of."""
        ours, foreign = listing.split(self.one.run("nft list ruleset"))
        return listing.uncounted(foreign + listing.plain(ours))

    def in_force(self) -> str:
        """The same, without what is not in force."""
        ours, foreign = listing.split(self.one.run("nft list ruleset"))
        return listing.uncounted(foreign + listing.plain(ours, listing.slot(ours)))

    def called(self, name: str) -> str:
        """A chain or set as it is called while it is in force."""
        return name + listing.slot(self.rules())

    def talk(self, port: int) -> "subprocess.Popen[str]":
        """A connection from the neighbour, which stays open."""
        return _begin(self.two, "talk", ONE, str(port), first="ok")

    def hear(self, port: int) -> "tuple[subprocess.Popen[str], subprocess.Popen[str]]":
        """A connection to the neighbour, on which the host under test says nothing.

        :return: the neighbour's side, and the host's.
        """
        told = _begin(self.two, "tell", str(port), first="ready")
        return told, _begin(self.one, "hear", TWO, str(port), first="ready")

    def guards(self) -> int:
        """How many guards watch over a trial."""
        idents = [path.name.removeprefix("guard-") for path in self.state_dir.glob("guard-*")]
        return sum(guard.guard_pid(self.state_dir, ident) is not None for ident in idents)

    def hits(self, wanted: FirewallDesired) -> dict[tuple[str, str, str], int]:
        """Packets by realm, part and rule, where there were any."""
        found = self.driver.observe(wanted).detail["rules"]
        return {
            (it["realm"], it["instance"] or it["part"], it["rule"]): it["packets"]
            for it in found
            if it["packets"]
        }

    def handles(self) -> list[str]:
        """What changes whenever a chain is loaded anew."""
        shown = self.one.run("nft -a list chain inet cnsmo input")
        return [line.rpartition("# handle ")[2] for line in shown.splitlines() if "handle" in line]

    def _serve(self, vm: Vm) -> None:
        serving = vm.spawn(" ".join((*PROBE, "serve", *map(str, PORTS))))
        assert serving.stdout
        assert serving.stdout.readline().strip() == "ready"


def _begin(vm: Vm, *words: str, first: str) -> "subprocess.Popen[str]":
    made = subprocess.Popen(
        [*vm.system.enter, *PROBE, *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert made.stdout
    assert made.stdout.readline().strip() == first
    return made


PROBE = (sys.executable, "-I", "-S", probe.__file__)


def desired(
    *inbound: Line,
    vpn: tuple[Line, ...] = (),
    outbound: tuple[Line, ...] = (),
    default: Action = Action.DROP,
    outward: Action = Action.ACCEPT,
    audits: tuple[Part, ...] = (),
    enforced: bool = True,
    **other: Any,
) -> FirewallDesired:
    """An enforced firewall with these lines on the underlay and on the VPN."""
    always = dict.fromkeys(REALMS, (NEIGHBOURS,))
    parts = [Part(Kind.ALWAYS, direction, always) for direction in Direction]
    parts += audits
    if enforced:
        parts.append(Part(Kind.ENFORCE, Direction.INBOUND, {"": inbound, "backbone": vpn}, default))
        parts.append(
            Part(Kind.ENFORCE, Direction.OUTBOUND, dict.fromkeys(REALMS, outbound), outward)
        )
    known = {"interfaces": {"backbone": "cn-x"}, "pools": ("10.66.0.0/24",), "confirm": 30}
    return FirewallDesired("nftables", tuple(parts), **{**known, **other})


def opened(port: int, protocol: int = TCP, **more: Any) -> Line:
    """A line that accepts a port."""
    ports = ((port, port),)
    name = f"perimeter/inbound/{port}"
    return dataclasses.replace(Line(name, Action.ACCEPT, protocol=protocol, ports=ports), **more)


def refused_with(scene: Scene, wanted: FirewallDesired) -> str:
    """What apply() says when it will not."""
    try:
        scene.driver.apply(wanted)
    except DriverError as exc:
        return str(exc)
    return ""
