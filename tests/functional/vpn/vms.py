# SPDX-License-Identifier: Apache-2.0
"""VMs made of namespaces, on one switch, for tests of what really reaches the kernel.

Each has its own network, mounts (a private /run: wireguard-go keeps its sockets there, and they
would be shared otherwise), processes and host name. The file system is the machine's, so that a
driver's state directory has the same path inside and outside. Killing the init ends everything.
"""

import dataclasses
import ipaddress
import json
import os
import re
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from cnsmo.agent.system import LocalSystem

INIT = """
hostname "$1" && mount -t tmpfs -o mode=755 tmpfs /run && mkdir -p /run/lock &&
ip link set lo up && sysctl -qw net.ipv6.conf.default.accept_dad=0 && echo ready || exit 1
while :; do sleep 3600 & wait $!; done
"""
UNDERLAY4 = ipaddress.ip_network("10.9.0.0/24")
UNDERLAY6 = ipaddress.ip_network("fd09::/64")


@dataclasses.dataclass(frozen=True)
class Pings:
    """What ping counted; slowest in milliseconds; under_way: sent just before it was ended."""

    sent: int
    received: int
    slowest: float
    under_way: int = 0

    @property
    def lost(self) -> int:
        return self.sent - self.received - self.under_way


class Vm:
    """One simulated machine; ``system`` runs programs in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._init = subprocess.Popen(
            ["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child",
             "--propagation", "private", "--mount-proc", "sh", "-c", INIT, "init", name],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.system = LocalSystem()
        said = _first_line(self._init)
        if said != "ready":
            self.stop()
            raise RuntimeError(f"VM {name} does not start: {said}")
        children = Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children")
        self.pid = int(children.read_text().split()[0])
        self.system = LocalSystem(
            ("nsenter", "-t", str(self.pid), "-n", "-m", "-p", "-u", "-i", "--")
        )

    def run(self, command: str, ok: tuple[int, ...] = (0,), timeout: float = 30) -> str:
        """Run a command line (split at blanks) in the VM and return what it printed."""
        return self.system.run(*command.split(), ok=ok, timeout=timeout).stdout

    def json(self, command: str) -> Any:
        return json.loads(self.run(command) or "null")

    def spawn(self, command: str) -> "subprocess.Popen[str]":
        """Start a command in the VM; the test ends it (the VM's end does, at the latest)."""
        return subprocess.Popen(
            [*self.system.enter, *command.split()], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def ping(self, address: str, count: int = 5, interval: float = 0.05, wait: int = 2) -> Pings:
        """Send echo requests, interval seconds apart; each may take wait seconds."""
        line = f"ping -n -c {count} -i {interval} -W {wait} {address}"
        return read_pings(self.run(line, ok=(0, 1, 2), timeout=count * interval + wait + 10))

    def reaches(self, address: str, within: float = 8.0) -> bool:
        """Whether an echo comes back, tried again for that many seconds."""
        until = time.monotonic() + within
        while time.monotonic() < until:
            if self.ping(address, count=1, wait=1).received:
                return True
        return False

    def processes(self) -> list[str]:
        """Command lines of everything that runs in it, the init's apart."""
        shown = self.run("ps -e -o args=").splitlines()
        mine = ("sh -c", "sleep 3600", "ps -e")
        shown = [line for line in shown if "<defunct>" not in line]  # nsenter(1) did not look yet
        return sorted(line for line in shown if not line.startswith(mine))

    def picture(self) -> dict[str, Any]:
        """Everything that a driver could leave behind, to be compared before and after."""
        links = self.json("ip -j -d address show")
        return {
            "links": sorted(
                (link["ifname"], link["mtu"], "UP" in link["flags"], link.get("ifalias"),
                 sorted(address["local"] for address in link["addr_info"]))
                for link in links
            ),
            "routes": self._routes("-4") + self._routes("-6"),
            "rules": self.run("ip rule") + self.run("ip -6 rule") + self.run("nft list ruleset"),
            "sysctls": sorted(self.run(
                "grep -rsH . /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf "
                "/proc/sys/net/ipv4/ip_forward --include=*forward* --include=accept_ra "
                "--include=rp_filter --include=disable_ipv6", ok=(0, 1)).splitlines()),
            "processes": self.processes(),
            "run": sorted(self.run("find /run").splitlines()),
        }  # fmt: skip

    def stop(self) -> None:
        self._init.kill()
        self._init.wait()
        for child in self.system._children:  # nsenter(1) stops when its program is stopped
            child.send_signal(signal.SIGCONT)
            child.wait(timeout=10)
        if self._init.stdout:
            self._init.stdout.close()

    def _routes(self, family: str) -> list[str]:
        return sorted(re.sub(r" expires \d+sec", "", line) for line in
                      self.run(f"ip {family} route show table all").splitlines())  # fmt: skip


class Net:
    """VMs on one switch: the n-th has 10.9.0.n/24 and fd09::n/64 on eth0."""

    def __init__(self) -> None:
        self.vms: dict[str, Vm] = {}
        self._others: list[Vm] = []
        self._switch = Vm("switch")
        self._switch.run("ip link add br0 type bridge mcast_snooping 0")
        self._switch.run("ip link set br0 up")

    def add(self, name: str) -> Vm:
        vm = self.vms[name] = Vm(name)
        number = len(self.vms)
        port = f"p{number}"
        self._switch.run(f"ip link add {port} type veth peer name eth0")
        subprocess.run(
            [*_net_of(self._switch), "ip", "link", "set", "eth0", "netns", str(vm.pid)], check=True
        )
        vm.run(f"ip address add {UNDERLAY4[number]}/24 dev eth0")
        vm.run(f"ip address add {UNDERLAY6[number]}/64 dev eth0 nodad")
        vm.run("ip link set eth0 up")
        self._switch.run(f"ip link set {port} master br0 up")
        self._await_forwarding(port)
        return vm

    def lan(self, gateway: Vm, subnets: tuple[str, ...] = ("192.168.7.0/24", "fd77::/64")) -> Vm:
        """A machine without VPN behind lan0 of a VM: that is .1, the machine is .2."""
        machine = Vm(f"behind-{gateway.name}")
        self._others.append(machine)
        gateway.run("ip link add lan0 type veth peer name eth0lan")
        subprocess.run([*_net_of(gateway), "ip", "link", "set", "eth0lan", "netns",
                        str(machine.pid)], check=True)  # fmt: skip
        gateway.run("ip link set lan0 up")
        machine.run("ip link set eth0lan up")
        for subnet in map(ipaddress.ip_network, subnets):
            nodad = " nodad" if subnet.version == 6 else ""
            gateway.run(f"ip address add {subnet[1]}/{subnet.prefixlen} dev lan0{nodad}")
            machine.run(f"ip address add {subnet[2]}/{subnet.prefixlen} dev eth0lan{nodad}")
            machine.run(f"ip -{subnet.version} route add default via {subnet[1]}")
        return machine

    def address(self, name: str, version: int = 4) -> str:
        number = list(self.vms).index(name) + 1
        return str((UNDERLAY4 if version == 4 else UNDERLAY6)[number])

    def _await_forwarding(self, port: str) -> None:
        """The kernel may take a second to let a new port pass packets; a lost first handshake
        message would cost WireGuard five."""
        until = time.monotonic() + 10
        while time.monotonic() < until:
            (seen,) = json.loads(self._switch.run(f"bridge -j link show dev {port}"))
            if seen["state"] == "forwarding":
                return
            time.sleep(0.01)
        raise RuntimeError(f"port {port} of the switch stays {seen['state']}")

    def stop(self) -> None:
        for vm in (*self.vms.values(), *self._others, self._switch):
            vm.stop()


def read_pings(text: str, may_be_under_way: int = 0) -> Pings:
    """Parse what ping(8) printed; of the last echoes so many need not have come back yet."""
    found = re.findall(r"icmp_seq=(\d+) .*time=([0-9.]+) ms", text)
    times = [float(time_) for _sequence, time_ in found]
    last = max((int(sequence) for sequence, _time in found), default=0)
    total = re.search(r"(\d+) packets transmitted", text)
    sent = int(total[1]) if total else 0
    under_way = min(sent - last, may_be_under_way)
    return Pings(sent, len(times), max(times, default=0.0), under_way)


def end_pings(vm: Vm, pings: "subprocess.Popen[str]") -> Pings:
    """Interrupt the ping that runs in a VM; what it counted."""
    vm.run("pkill -INT -x ping")
    return read_pings(pings.communicate(timeout=10)[0], may_be_under_way=3)


def _net_of(vm: Vm) -> list[str]:
    return ["nsenter", "-t", str(vm.pid), "-n", "--"]


def _first_line(process: "subprocess.Popen[bytes]") -> str:
    assert process.stdout
    ready, _, _ = select.select([process.stdout], [], [], 10)
    return os.read(process.stdout.fileno(), 4096).decode().strip() if ready else "nothing"
