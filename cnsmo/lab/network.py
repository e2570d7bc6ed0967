# SPDX-License-Identifier: Apache-2.0
"""The underlay of a lab: namespaces, cables, the router between the sites, NAT boxes.

One namespace holds a bridge for each site and routes between them. A cable is a veth pair from
that router to a VM's eth0, or to the wan0 of its NAT box, whose lan0 goes on to the VM. Nothing is
made outside the lab's own namespaces, so that nothing is left when they are deleted.

``ip -batch`` does it with few processes: one for all namespaces, one for all cables, one for each
VM's inside.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from ipaddress import IPv4Interface
from pathlib import Path

from cnsmo.agent.system import LocalSystem
from cnsmo.lab.topology import (
    CORE,
    MTU,
    ROUTER,
    Plan,
    Seat,
    core_address,
    mac,
    site_gateway,
)

NETNS = Path("/run/netns")
"""Where iproute2 keeps namespaces by name."""

PIN_ABOVE = 20
"""With more VMs than this, neighbours are pinned.

``net.ipv4.neigh.default.gc_thresh3`` (1024 entries) is one limit for all namespaces of a machine
together; a full mesh of 33 VMs overflows it. Permanent entries are not counted.
"""

SECONDS = 60.0
"""Time limit of one batch; a hundred VMs take one second on an idle machine."""

SYSCTL = (
    "net.ipv4.ip_forward=1",
    "net.bridge.bridge-nf-call-iptables=0",  # what is bridged is none of the router's rules
    "net.ipv6.conf.all.disable_ipv6=1",
)

NAT_RULES = """
table ip cnsmo_lab {
  chain nat { type nat hook postrouting priority srcnat; oifname "wan0" masquerade
  }
  chain forward { type filter hook forward priority filter; policy drop
    iifname "lan0" accept
    ct state established,related accept
  }
}
"""


class Network:
    """The underlay of one lab, as its plan has it."""

    def __init__(self, lab: str, plan: Plan) -> None:
        self.lab = lab
        self.plan = plan
        self._host = LocalSystem()

    def namespace(self, name: str) -> str:
        """The namespace of a VM, of the router or of the core."""
        return f"{self.lab}-{name}"

    def system(self, name: str) -> LocalSystem:
        """Runs programs in a namespace of the lab, by the name of a VM, ``router`` or ``core``."""
        net = f"--net={NETNS / self.namespace(name)}"
        # Its own process namespace changes nothing, but nsenter forks then, as for a VM.
        return LocalSystem(("nsenter", net, "--pid=/proc/self/ns/pid", "--"))

    def namespaces(self) -> list[str]:
        """All namespaces of the lab."""
        own = (ROUTER, CORE) if self.plan.core else (ROUTER,)
        return [
            *map(self.namespace, own),
            *(self.namespace(name) for seat in self.plan.seats for name in _names(seat)),
        ]

    def present(self) -> dict[str, int]:
        """Those of the lab's namespaces that exist, with their inode numbers."""
        there = set(os.listdir(NETNS)) if NETNS.is_dir() else set()
        return {name: (NETNS / name).stat().st_ino for name in self.namespaces() if name in there}

    def build(self) -> None:
        """Make everything. Raises ProgramError with the first line that failed."""
        self._ip(f"netns add {name}" for name in self.namespaces())
        _forward(self.system(ROUTER))
        lines = ["link set lo up"]
        for number in range(0 if self.plan.core else 1, len(self.plan.sites) + 1):
            gateway, bridge = site_gateway(number), f"br{number}"
            lines += [
                f"link add {bridge} address {mac(gateway)} mtu {MTU} type bridge mcast_snooping 0",
                *_up(bridge, gateway),
            ]
        if self.plan.core:
            lines += self._cable("core", "br0", CORE, "eth0", core_address())
        for seat in self.plan.seats:
            lines += self._uplink(seat)
        self._ip(lines, ROUTER)
        if self.plan.core:
            self._ip(_inside("eth0", core_address(), site_gateway(0)), CORE)
        for seat in self.plan.seats:
            if seat.inner is not None:
                self._set_up_nat(seat)
            self._set_up_vm(seat)
        if self._pins:
            self._pin(self.plan.seats, self.plan.seats)

    def plug(self, seat: Seat, firewalls: Iterable[Path] = ()) -> None:
        """Make what one VM of the plan needs. Its NAT box may be there, the VM must not.

        firewalls: rulesets of nft(8) that are in force before the VM is reached by anybody.
        """
        box = self._nat_box_is_there(seat)
        names = _names(seat)[:1] if box else _names(seat)
        self._ip(f"netns add {self.namespace(name)}" for name in names)
        for rules in firewalls:
            self.system(seat.name).run("nft", "-f", str(rules))
        if not box:
            self._ip(self._uplink(seat), ROUTER)
            if seat.inner is not None:
                self._set_up_nat(seat)
        self._set_up_vm(seat)
        if self._pins:
            self._pin([seat], self.plan.seats)

    def introduce(self, seat: Seat) -> None:
        """Make the others know a VM that is new in the plan, where neighbours are pinned."""
        if len(self.plan.seats) == PIN_ABOVE + 1:
            self._pin(self.plan.seats, self.plan.seats)
        elif self._pins:
            self._pin(self.plan.seats, [seat])

    def unplug(self, seat: Seat, *, box: bool = False) -> None:
        """Take away a VM's namespace with all that is in it; with box, its NAT box too.

        Cables first: the kernel takes its time with a namespace, and the port must be free at once.
        """
        present = self.present()
        if self._nat_box_is_there(seat):
            self._ip(["link del lan0"], _end(seat)[0], force=True)
        if (box or seat.inner is None) and self.namespace(ROUTER) in present:
            self._ip([f"link del {seat.port}"], ROUTER, force=True)
        gone = [self.namespace(name) for name in (_names(seat) if box else _names(seat)[:1])]
        self._ip(f"netns del {name}" for name in gone if name in present)

    def destroy(self) -> None:
        """Delete all namespaces of the lab that there are."""
        self._ip(f"netns del {name}" for name in self.present())

    def _uplink(self, seat: Seat) -> list[str]:
        return self._cable(seat.port, f"br{seat.site}", *_end(seat), seat.outer)

    def _cable(
        self, port: str, bridge: str, name: str, device: str, address: IPv4Interface
    ) -> list[str]:
        far = f"name {device} address {mac(address)} mtu {MTU} netns {self.namespace(name)}"
        return [
            f"link add {port} mtu {MTU} type veth peer {far}",
            f"link set {port} master {bridge}",
            f"link set {port} up",
        ]

    def _set_up_nat(self, seat: Seat) -> None:
        name, device = _end(seat)
        self._ip(_inside(device, seat.outer, site_gateway(seat.site)), name)
        box = self.system(name)
        _forward(box)
        box.run("nft", "-f", "-", stdin=NAT_RULES)

    def _set_up_vm(self, seat: Seat) -> None:
        if seat.inner is not None:
            near = f"lan0 address {mac(seat.gateway)} mtu {MTU}"
            far = f"eth0 address {mac(seat.address)} mtu {MTU} netns {self.namespace(seat.name)}"
            lines = [f"link add {near} type veth peer name {far}", *_up("lan0", seat.gateway)]
            self._ip(lines, _end(seat)[0])
        self._ip(_inside("eth0", seat.address, seat.gateway), seat.name)

    def _nat_box_is_there(self, seat: Seat) -> bool:
        return seat.inner is not None and self.namespace(_end(seat)[0]) in self.present()

    @property
    def _pins(self) -> bool:
        return len(self.plan.seats) > PIN_ABOVE

    def _pin(self, seats: Iterable[Seat], known: Collection[Seat]) -> None:
        """Make the router and these seats know those of their site, and the router."""
        self._ip((_neighbour(seat.outer, f"br{seat.site}") for seat in known), ROUTER)
        for seat in seats:
            name, device = _end(seat)
            there = [other.outer for other in known if other.site == seat.site and other != seat]
            there.append(site_gateway(seat.site))
            self._ip((_neighbour(address, device) for address in there), name)

    def _ip(self, lines: Iterable[str], name: str | None = None, *, force: bool = False) -> None:
        batch = "".join(f"{line}\n" for line in lines)
        if batch:
            where = ("-netns", self.namespace(name)) if name else ()
            how, ok = (("-force",), (0, 1, 2)) if force else ((), (0,))
            self._host.run("ip", *how, *where, "-batch", "-", stdin=batch, timeout=SECONDS, ok=ok)


def _end(seat: Seat) -> tuple[str, str]:
    """Where the cable from the router ends: name of a namespace, and the device there."""
    return (seat.name, "eth0") if seat.inner is None else (f"{seat.name}.nat", "wan0")


def _names(seat: Seat) -> list[str]:
    """The VM's namespace, and that of its NAT box when it has one (a VM's name has no dot)."""
    return [seat.name] if seat.inner is None else [seat.name, _end(seat)[0]]


def _inside(device: str, address: IPv4Interface, gateway: IPv4Interface) -> list[str]:
    return ["link set lo up", *_up(device, address), f"route add default via {gateway.ip}"]


def _up(device: str, address: IPv4Interface) -> list[str]:
    return [f"addr add {address} dev {device}", f"link set {device} up"]


def _neighbour(address: IPv4Interface, device: str) -> str:
    return f"neigh replace {address.ip} lladdr {mac(address)} dev {device} nud permanent"


def _forward(system: LocalSystem) -> None:
    system.run("sysctl", "-e", "-q", "-w", *SYSCTL)
