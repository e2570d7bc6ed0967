# SPDX-License-Identifier: Apache-2.0
"""A balancer in the kernel, three servers and a client on one switch; a fourth behind the balancer.

The VMs are made once; each test has files of its own, and leaves the VMs as it found them. Test
modules name this one in ``pytest_plugins``, after they imported it: PYTEST_DONT_REWRITE.
"""

import collections
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cnsmo.services.base import System
from cnsmo.services.kit import boot
from cnsmo.services.loadbalancer.desired import (
    Bind,
    Check,
    Checking,
    LoadBalancerDesired,
    Mode,
    Pool,
    Server,
)
from cnsmo.services.loadbalancer.drivers.nftables import NftablesDriver
from tests.eventually import eventually
from tests.functional.loadbalancer import nft_probe
from tests.functional.vpn.vms import Net, Vm

PROBE = (sys.executable, "-I", "-S", nft_probe.__file__)
PORT, BALANCED = 8080, 80
NAMES = ("a", "b", "c")
LB, LB6 = "10.9.0.2", "fd09::2"
SOURCES = tuple(f"10.9.0.{number}" for number in range(100, 140))
"""Addresses of the client, beside its first."""
ADDRESSES = {
    "a": "10.9.0.3", "b": "10.9.0.4", "c": "10.9.0.5", "lb": LB, "inside": "192.168.7.2",
}  # fmt: skip
"""Of the servers; the last is behind the balancer."""
FAST = Check(interval=0.2, timeout=0.5, rise=2, fall=3)
NONE = Check(Checking.NONE)


@dataclasses.dataclass
class Bed:
    """The VMs, and the servers' processes by name."""

    net: Net
    inside: Vm
    running: dict[str, "subprocess.Popen[str]"] = dataclasses.field(default_factory=dict)

    def vm(self, name: str) -> Vm:
        return self.inside if name == "inside" else self.net.vms[name]

    def serve(self, name: str) -> None:
        """Start a server, unless it runs."""
        running = self.running.get(name)
        if running is not None and running.poll() is None:
            return
        made = self.vm(name).spawn(" ".join((*PROBE, "serve", name, str(PORT), str(BALANCED))))
        assert made.stdout
        assert made.stdout.readline().strip() == "ready"
        self.running[name] = made

    @contextlib.contextmanager
    def deaf(self, name: str) -> Iterator[None]:
        """A server hears nothing, and says nothing."""
        rule = "type filter hook input priority 0; policy drop;"
        rules = f"table inet deaf {{\nchain ears {{\n{rule}\n}}\n}}\n"
        self.vm(name).system.run("nft", "-f", "-", stdin=rules)
        try:
            yield
        finally:
            self.vm(name).run("nft flush ruleset")

    def kill(self, name: str) -> None:
        """End a server with -9."""
        self.vm(name).run("pkill -KILL -f nft_probe.py")
        self.running.pop(name).wait()


@pytest.fixture(scope="session")
def nft_bed() -> Iterator[Bed]:
    """The VMs of all tests."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces with nftables")
    net = Net()
    try:
        for name in ("client", "lb", *NAMES):
            net.add(name)
        bed = Bed(net, net.lan(net.vms["lb"]))
        lines = "".join(f"address add {source}/24 dev eth0\n" for source in SOURCES)
        lines += f"route add 192.168.7.0/24 via {LB}\n"
        net.vms["client"].system.run("ip", "-batch", "-", stdin=lines)
        yield bed
    finally:
        net.stop()


@pytest.fixture
def nft_scene(nft_bed: Bed, tmp_path: Path) -> Iterator["Scene"]:
    """All servers run; nothing has been applied."""
    for name in (*NAMES, "inside"):
        nft_bed.serve(name)
    scene = Scene(nft_bed, tmp_path)
    try:
        yield scene
    finally:
        scene.end()


class Scene:
    """The balancer under test."""

    def __init__(self, bed: Bed, tmp_path: Path) -> None:
        self.bed = bed
        self.lb, self.client = bed.vm("lb"), bed.vm("client")
        self.state_dir = tmp_path / "units" / "loadbalancer" / "www" / "nftables"
        self.driver = self.fresh()
        self._others: list[NftablesDriver] = []
        self._talks: list[subprocess.Popen[str]] = []

    def fresh(self, system: System | None = None) -> NftablesDriver:
        """What a new agent process does: another driver object on the same files."""
        self.driver = NftablesDriver(system or self.lb.system, "www", "shop/lb/www", self.state_dir)
        return self.driver

    def forge(self, sender: str, source: str, near: int, far: int, seq: int, ack: int) -> None:
        """A VM sends the carrier a TCP packet."""
        words = (source, str(near), LB, str(far), str(seq), str(ack))
        self.bed.vm(sender).system.run(*PROBE, "forge", *words)

    def beside(self, unit: str, wanted: LoadBalancerDesired) -> NftablesDriver:
        """Another balancer on the same carrier."""
        state_dir = self.state_dir.parents[1] / unit / "nftables"
        made = NftablesDriver(self.lb.system, unit, f"shop/lb/{unit}", state_dir)
        self._others.append(made)
        made.apply(wanted)
        return made

    def end(self) -> None:
        """Leave the VMs as they were."""
        for talk in self._talks:
            talk.kill()
            talk.communicate()
        for driver in (self.fresh(), *self._others):
            driver.remove()
        self.lb.run("nft flush ruleset")
        self.lb.run("conntrack -F")
        shutil.rmtree(self.state_dir.parents[3], ignore_errors=True)

    # --- the balancer -----------------------------------------------------------------------

    def settle(self, wanted: LoadBalancerDesired, used: int | None = None) -> list[str]:
        """Apply, and wait until that many servers (else: all) are in use; what was changed."""
        changes = self.driver.apply(wanted)
        servers = wanted.pools[0].servers
        self.await_used(len(servers) if used is None else used)
        return changes

    def calm(self) -> None:
        """Wait until the checker has tidied up."""
        eventually(lambda: not self.driver._files.loaded().spare, 5, "no chain is spare")

    def await_used(self, count: int, timeout: float = 10.0) -> None:
        """Wait until so many servers are in use, and nobody who leaves."""
        eventually(
            lambda: len(self.used()) == count and not self.serving_on(),
            timeout,
            f"{count} servers in use",
        )

    def serving_on(self) -> list[str]:
        """Those who leave and are in use still: nobody else is well yet."""
        wanted = self.driver._files.wanted()
        leavers = [it.key for it in wanted.targets if it.leaving] if wanted else []
        return [key for key in leavers if key in self.used()]

    def used(self) -> tuple[str, ...]:
        """Servers that new flows may go to, by address and port."""
        return self.driver._files.loaded().usable

    def leaving(self) -> list[float]:
        """When the time of those is over who were stopped, since the host was started."""
        leaves = self.driver._files.loaded().leaving.values()
        return [it.until for it in leaves if it.until and not it.over(boot.now())]

    def states(self, wanted: LoadBalancerDesired) -> dict[str, str]:
        """The state of each server."""
        servers = self.driver.observe(wanted).detail["servers"]["web"]
        return {name: it["state"] for name, it in servers.items()}

    def health(self, name: str) -> bool:
        """Whether the checker found a server well."""
        return self.driver._files.health()[f"{ADDRESSES[name]} {PORT}"].up

    def answer_with(self, name: str, status: int) -> None:
        """Let a server answer HTTP with that status from now on."""
        self.bed.vm(name).system.run(*PROBE, "set", ADDRESSES[name], str(PORT), str(status))

    def checkers(self) -> list[int]:
        """Process ids, in the VM, of checkers."""
        return [int(it) for it in self.lb.run("pgrep -f nfl_checker.py", ok=(0, 1)).split()]

    def table(self) -> str:
        """Ours, as nft(8) lists it; empty when there is none."""
        return self.lb.run("nft list table inet cnsmo-lb-www", ok=(0, 1))

    def handles(self) -> dict[str, list[str]]:
        """What changes whenever a chain is loaded anew, by chain."""
        shown = json.loads(self.lb.run("nft -j -a list table inet cnsmo-lb-www"))["nftables"]
        found: dict[str, list[str]] = {}
        for rule in (it["rule"] for it in shown if "rule" in it):
            found.setdefault(rule["chain"], []).append(rule["handle"])
        return found

    # --- clients ----------------------------------------------------------------------------

    def ask(
        self,
        count: int = 1,
        kind: str = "tcp",
        address: str = LB,
        port: int = BALANCED,
        vm: Vm | None = None,
    ) -> list[str]:
        """Who answers so many new flows, in their order."""
        asker = vm or self.client
        words = (kind, address, str(port), str(count))
        shown = asker.system.run(*PROBE, "ask", *words, timeout=60).stdout
        return list(json.loads(shown)[""])

    def shares(self, count: int, **how: Any) -> dict[str, int]:
        """How often each answers."""
        return dict(collections.Counter(self.ask(count, **how)))

    def of_sources(self, sources: tuple[str, ...] = SOURCES) -> dict[str, str]:
        """Who answers each of the client's addresses."""
        words = ("tcp", LB, str(BALANCED), "1", *sources)
        shown = self.client.system.run(*PROBE, "ask", *words, timeout=60).stdout
        return {source: names[0] for source, names in json.loads(shown).items()}

    def talk(
        self, kind: str = "tcp", address: str = LB, port: int = BALANCED, vm: Vm | None = None
    ) -> "Talk":
        """One flow, which stays."""
        words = (*PROBE, "talk", kind, address, str(port))
        made = self._start((vm or self.client).system.enter, words)
        return Talk(made)

    def load(self, threads: int = 2) -> "Load":
        """New connections without end."""
        words = (*PROBE, "load", LB, str(BALANCED), str(threads), *SOURCES[:10])
        made = self._start(self.client.system.enter, words)
        assert made.stdout
        assert made.stdout.readline().strip() == "ready"
        return Load(made)

    def _start(self, enter: tuple[str, ...], words: tuple[str, ...]) -> "subprocess.Popen[str]":
        made = subprocess.Popen(
            [*enter, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._talks.append(made)
        return made


@dataclasses.dataclass
class Talk:
    """One flow."""

    process: "subprocess.Popen[str]"

    def where(self) -> tuple[int, int, int]:
        """Its port, and the numbers that the client sends and expects next."""
        port, sent, received = json.loads(self.say("where"))
        return port, sent, received

    def say(self, word: str = "x") -> str:
        """Who answers on it now; or what went wrong."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@dataclasses.dataclass
class Load:
    """New connections without end."""

    process: "subprocess.Popen[str]"

    def end(self) -> tuple[dict[str, int], list[str]]:
        """How often each answered; what went wrong."""
        shown, _ = self.process.communicate(timeout=30)
        counts = json.loads(shown)
        failures = [said for said in counts if said.startswith("failed")]
        return {said: it for said, it in counts.items() if said in (*NAMES, "inside")}, failures


def server(name: str, **more: Any) -> Server:
    """One of the VMs as a server."""
    return Server(**{"name": name, "address": ADDRESSES[name], "port": PORT, **more})


def server6(name: str, **more: Any) -> Server:
    """The same by its IPv6 address."""
    return server(name, address={"a": "fd09::3", "b": "fd09::4", "c": "fd09::5"}[name], **more)


def balancer(*servers: Server | str, **changed: Any) -> LoadBalancerDesired:
    """A balancer of these servers; changed: of the pool or of the whole."""
    fields = {it.name for it in dataclasses.fields(Pool)}
    pool = {"check": FAST, **{key: changed.pop(key) for key in fields & set(changed)}}
    made = tuple(it if isinstance(it, Server) else server(it) for it in servers)
    whole: dict[str, Any] = {"mode": Mode.TCP, "binds": (Bind("", BALANCED),), "drain": 30.0}
    return LoadBalancerDesired(
        "nftables", pools=(Pool("web", made, **pool),), **{**whole, **changed}
    )


def kill(vm: Vm, pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to a process of a VM."""
    vm.run(f"kill -{number} {pid}")
