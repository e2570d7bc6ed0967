# SPDX-License-Identifier: Apache-2.0
"""The demo: a mesh between six VMs from one document, and promises kept before your eyes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.box import SIMPLE
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from cnsmo.lab import reach, topology
from cnsmo.lab.fleet import Fleet, Seen, ready
from cnsmo.lab.lab import Lab
from cnsmo.lab.narrator import Narrator
from cnsmo.lab.remote import RemoteHub
from cnsmo.lab.topology import VmSpec
from cnsmo.lab.vm import Vm

SEVENTH = VmSpec("web3", "west", ("web",))
SECONDS = 30.0
"""How long any promise may take before the demo says that it was not kept."""


class Demo:
    """One run, in a lab that is not up yet."""

    def __init__(self, lab: Lab, document: Path, narrator: Narrator) -> None:
        self._lab = lab
        self._document = document
        self._tell = narrator
        self._hub = RemoteHub(lab.directory)
        self._fleet = Fleet(self._hub)

    def run(self) -> bool:
        """The whole story.

        :return: whether every promise was kept.
        """
        self._raise()
        self._apply()
        self._show()
        self._tell.title("The promises")
        for promise in (
            self._one_joins,
            self._one_leaves,
            self._core_dies,
            self._reboot_without_core,
            self._core_returns,
        ):
            promise()
        return not self._tell.failures

    def _raise(self) -> None:
        plan = topology.demo()
        self._tell.title("A lab of simulated VMs (network namespaces on this machine)")
        with self._tell.step("raising VMs, sites and router") as step:
            self._lab.up(plan)
            nat = [vm.name for vm in self._lab.vms() if vm.seat.spec.nat]
            step.result = (
                f"{len(plan.vms)} VMs at the sites {' and '.join(plan.sites)}, joined by a router; "
                f"{', '.join(nat)} behind NAT"
            )
        with self._tell.step("starting the core") as step:
            self._hub.start()
            self._fleet.listen()
            step.result = "core up: System State in SQLite, bus in-process"
        with self._tell.step("starting the agents") as step:
            for vm in self._lab.vms():
                self._hub.ask("agent-start", [vm.name])
            self._fleet.wait(lambda hosts: len(hosts) == len(plan.vms), SECONDS)
            step.result = f"{len(plan.vms)} agents joined with a token each"

    def _apply(self) -> None:
        self._tell.title(f"cnsmo-manage apply {self._shown_document()}")
        text = self._document.read_text()
        said = self._hub.manage("apply", "-", stdin=text)
        for line in said.strip().splitlines():
            self._tell.say(line)
        names = [vm.name for vm in self._lab.vms()]
        with self._tell.step("bringing up the mesh") as step, self._bar(len(names)) as progress:
            self._fleet.wait(ready(names, self._fleet.head()), SECONDS, progress)
            step.result = (
                f"{len(names)} of {len(names)} agents ready: each saw its tunnels in force"
            )

    def _show(self) -> None:
        addresses = self._addresses()
        with self._tell.step("every VM pings every other over the VPN") as step:
            found = reach.matrix(self._lab.vms(), addresses)
            bad = reach.silent(found)
            step.check(not bad, "no answer: " + ", ".join(bad))
            step.result = f"{len(found)} of {len(found)} pairs answer over the VPN"
        self._tell.console.print(_table(found, addresses))
        self._tell.title("cnsmo-manage host list --look")
        listed = self._hub.manage("host", "list", "--look").rstrip()
        self._tell.console.print(listed, highlight=False, markup=False, soft_wrap=True)

    def _one_joins(self) -> None:
        with self._tell.step("a seventh VM joins") as step:
            vm = self._lab.add(SEVENTH)
            self._hub.ask("agent-start", [vm.name])
            self._fleet.wait(ready(vm.name for vm in self._lab.vms()), SECONDS)
            bad = self._unreached(self._addresses())
            step.check(not bad, "not reached: " + ", ".join(bad))
            step.result = f"a seventh VM joined: {vm.name}, all 42 pairs answer"

    def _one_leaves(self) -> None:
        gone = self._lab.vm("app2")
        with self._tell.step(f"{gone.name} is removed") as step:
            key = _public_keys(gone)[0]
            self._hub.manage("host", "remove", gone.name)
            rest = [vm for vm in self._lab.vms() if vm.name != gone.name]
            self._fleet.wait(ready((vm.name for vm in rest), self._fleet.head()), SECONDS)
            holders = [vm.name for vm in rest if key in _peers(vm)]
            step.check(not holders, f"still a peer of {', '.join(holders)}")
            step.check(not _public_keys(gone), f"{gone.name} still has its interface")
            step.result = (
                f"{gone.name} removed: a peer of none of the other {len(rest)}, "
                "and it has taken its own interface down"
            )
        self._lab.remove(gone.name)

    def _core_dies(self) -> None:
        with self._tell.step("the core and all agents are killed") as step:
            addresses = self._addresses()
            self._hub.kill()
            bad = self._unreached(addresses)
            step.check(not bad, "no answer: " + ", ".join(bad))
            step.result = "core and agents killed with SIGKILL: all 30 pairs still answer"

    def _reboot_without_core(self) -> None:
        vm = self._lab.vm("web1")
        with self._tell.step(f"{vm.name} reboots while the core is away") as step:
            before = len(_peers(vm))
            addresses = self._known
            vm.reboot()
            step.check(not _peers(vm), f"{vm.name} did not lose its tunnels in the reboot")
            self._agent = own_agent(vm)
            bad = self._unreached(addresses, seconds=int(SECONDS))
            step.check(not bad, "no answer: " + ", ".join(bad))
            step.check(len(_peers(vm)) == before, "some peers are missing")
            step.result = (
                f"{vm.name} rebooted while the core is away: back from its own disk, "
                f"{before} peers, all reachable"
            )

    def _core_returns(self) -> None:
        with self._tell.step("the core returns") as step:
            self._lab.vm("web1").system().stop(self._agent, sys.executable)
            self._hub.start()
            self._fleet.listen()
            names = [vm.name for vm in self._lab.vms()]
            head = self._fleet.head()
            hosts = self._fleet.wait(ready(names, head), SECONDS)
            agreed = {host.revision for host in hosts.values()}
            step.check(min(agreed) >= head, f"revisions differ: {sorted(agreed)}")
            step.result = f"core back: all {len(names)} agents ready, agreed on revision {head}"

    def _addresses(self) -> dict[str, str]:
        self._known = {name: host.address for name, host in self._fleet.hosts().items()}
        return self._known

    def _unreached(self, addresses: dict[str, str], seconds: int = 5) -> list[str]:
        vms = [vm for vm in self._lab.vms() if vm.is_running]
        return reach.silent(reach.matrix(vms, addresses, seconds))

    @contextlib.contextmanager
    def _bar(self, total: int) -> Iterator[Callable[[dict[str, Seen]], None]]:
        """A progress bar of ready agents, on a terminal."""
        bar = Progress(
            TextColumn("    agents ready"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            console=self._tell.console,
            transient=True,
            disable=not self._tell.console.is_terminal,
        )
        with bar:
            task = bar.add_task("ready", total=total)
            yield lambda hosts: bar.update(
                task, completed=sum(host.ready for host in hosts.values())
            )

    def _shown_document(self) -> str:
        try:
            return str(self._document.relative_to(Path.cwd()))
        except ValueError:
            return str(self._document)


def own_agent(vm: Vm) -> int:
    """Start a cnsmo-agent of its own inside a VM, as its init system would after a boot.

    :return: its process id, as the VM sees it.
    """
    facts = vm.seat.facts()
    config = vm.disk / "cnsmo.conf"
    config.write_text(
        f"[agent]\nstate_dir = {vm.disk / 'agent'}\nheartbeat = 2\nrpc_timeout = 2\n"
        f"[host]\nname = {vm.name}\nsite = {facts.site}\n"
        f"private_addresses = {','.join(facts.private)}\n"
        f"public_addresses = {','.join(facts.public)}\nbehind_nat = {facts.behind_nat}\n"
    )
    return vm.system().start(
        sys.executable, "-m", "cnsmo.cmd.agent", "--config-file", str(config),
        log=vm.disk / "agent.log",
    )  # fmt: skip


def _peers(vm: Vm) -> list[str]:
    """Public keys of all WireGuard peers of a VM."""
    return [line.split()[1] for line in _wg(vm, "peers") if len(line.split()) > 1]


def _public_keys(vm: Vm) -> list[str]:
    """Public keys of all WireGuard interfaces of a VM."""
    return [line.split()[1] for line in _wg(vm, "public-key")]


def _wg(vm: Vm, what: str) -> list[str]:
    return vm.system().run("wg", "show", "all", what).stdout.splitlines()


def _table(found: reach.Matrix, addresses: dict[str, str]) -> Table:
    """The matrix as a person reads it: from the row's VM to the column's, in milliseconds."""
    table = Table(title="round trip over the VPN, ms", title_justify="left", box=SIMPLE)
    table.add_column("from \\ to", justify="left")
    for name in addresses:
        table.add_column(name, justify="right")
    for one in addresses:
        cells = ["·" if one == other else _cell(found[one, other]) for other in addresses]
        table.add_row(one, *cells)
    return table


def _cell(milliseconds: float | None) -> str:
    return "[red]-[/red]" if milliseconds is None else f"[green]{milliseconds:.1f}[/green]"
