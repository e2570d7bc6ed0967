# SPDX-License-Identifier: Apache-2.0
"""Commands about labs: simulated VMs on this machine."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnsmo.manage import cells
from cnsmo.manage.command import Command, ListCommand
from cnsmo.model.errors import Conflict, InvalidRequest, NotFound

if TYPE_CHECKING:
    from cnsmo.lab.remote import RemoteHub

NAME = "demo"


class LabCommand(Command):
    """Base of commands that need a lab's directory."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--lab", metavar="NAME|PATH", help="which lab; default: the only one that is up"
        )
        return parser

    def directory(self, args: argparse.Namespace) -> Path:
        """The lab that is meant.

        :raises NotFound: when none is up.
        :raises InvalidRequest: when there are several and none was named.
        """
        from cnsmo.lab.lab import labs

        named = args.lab or self.app.env.get("CNSMO_LAB")
        if named:
            return _path(named)
        up = labs()
        if not up:
            raise NotFound("no lab is up: 'cnsmo-manage lab up' raises one")
        if len(up) > 1:
            names = ", ".join(lab.name for lab in up)
            raise InvalidRequest(f"which lab? There are {names}: say --lab NAME")
        return up[0].directory


class Demo(Command):
    """See CNSMO work: a mesh over six simulated VMs, and its promises kept before your eyes.

    Raises a lab of network namespaces on this machine, a core (SQLite, in-process bus) and six
    agents, applies a document, and shows who reaches whom. Then: a VM joins, one is removed, the
    core is killed, a VM reboots without it, the core returns. Everything is cleaned up at the end.
    As root, or as an ordinary user where the machine allows user namespaces.
    """

    examples = """
cnsmo-manage lab demo           # the whole story, nothing is left behind
cnsmo-manage lab demo --keep    # leave it standing: lab list, lab exec, lab down
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--keep", action="store_true", help="leave the lab standing at the end")
        parser.add_argument("--name", default=NAME, help=f"name of the lab ({NAME})")
        parser.add_argument("--document", type=Path, help="apply this one instead of mesh.yaml")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        become_root_of_something()
        from rich.console import Console

        from cnsmo.lab import place
        from cnsmo.lab.demo import Demo as Story
        from cnsmo.lab.lab import Lab
        from cnsmo.lab.narrator import Narrator
        from cnsmo.lab.remote import RemoteHub

        lab = Lab(place.default_directory(parsed_args.name))
        if lab.is_up:
            raise Conflict(
                f"lab {lab.name!r} is up already: 'cnsmo-manage lab down --lab {lab.name}' first, "
                "or --name another one"
            )
        narrator = Narrator(Console(file=self.app.stdout))
        kept = False
        try:
            kept = Story(lab, parsed_args.document or example("mesh.yaml"), narrator).run()
        finally:
            if not parsed_args.keep:
                with narrator.step("cleaning up") as step:
                    RemoteHub(lab.directory).kill()
                    lab.down()
                    step.result = "cleaned up: no namespace, interface, process or file is left"
        verdict = "Every promise was kept" if kept else "NOT every promise was kept"
        narrator.console.print(f"\n[bold]{verdict}[/bold], in {narrator.seconds:.0f} s.")
        if parsed_args.keep:
            self._how_to_go_on()
        return 0 if kept else 1

    def _how_to_go_on(self) -> None:
        from cnsmo.lab import rootless

        self.say(
            "The lab stands. Try:\n"
            "  cnsmo-manage lab list\n"
            "  cnsmo-manage host list\n"
            "  cnsmo-manage lab exec web1 -- ping -c 3 ADDRESS    # one that 'host list' shows\n"
            "  cnsmo-manage vpn show backbone\n"
            "  cnsmo-manage lab down"
        )
        if rootless.keeper() is not None:
            self.say("It lives as long as this shell, which is inside it: leave it with Ctrl-D.")
            os.execvp("sh", ["sh", "-i"])  # nosec B606 B607: a shell is what was asked for


class Up(Command):
    """Raise a lab: VMs, a core, and agents that have joined; no service is declared yet."""

    examples = """
cnsmo-manage lab up                     # the demo's six VMs
cnsmo-manage lab up --vms 20            # a mesh of twenty at two sites
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--name", default=NAME, help=f"name of the lab ({NAME})")
        parser.add_argument("--vms", type=int, metavar="N", help="that many equal VMs")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        from cnsmo.lab import place, topology
        from cnsmo.lab.lab import Lab
        from cnsmo.lab.remote import RemoteHub

        if os.geteuid() != 0:
            raise InvalidRequest(
                "a lab that stays needs root: run this with sudo (without root, 'cnsmo-manage lab "
                "demo --keep' opens a shell inside its lab)"
            )
        lab = Lab(place.default_directory(parsed_args.name))
        lab.up(topology.mesh(parsed_args.vms) if parsed_args.vms else topology.demo())
        hub = RemoteHub(lab.directory)
        try:
            hub.start()
            for vm in lab.vms():
                hub.ask("agent-start", [vm.name])
        except BaseException:
            hub.kill()
            lab.down()
            raise
        self.say(f"Lab {lab.name} is up: {len(lab.vms())} VMs. 'cnsmo-manage lab list' shows them.")
        return 0


class List(ListCommand, LabCommand):
    """List the VMs of a lab."""

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        from cnsmo.lab.lab import Lab

        lab = Lab.load(self.directory(parsed_args))
        titles = ("Name", "Site", "Groups", "Address", "NAT", "Running", "PID")
        return titles, [
            (
                vm.name,
                vm.seat.spec.site,
                cells.Names(vm.seat.spec.groups),
                str(vm.seat.address),
                "yes" if vm.seat.spec.nat else "no",
                "yes" if vm.is_running else "no",
                vm.pid if vm.is_running else cells.Cell(None),
            )
            for vm in lab.vms()
        ]


class Exec(LabCommand):
    """Run a program inside a VM of a lab; its exit code is this command's."""

    examples = """
cnsmo-manage lab exec web1 -- ping -c 3 10.66.0.2
cnsmo-manage lab exec web1 -- wg show
cnsmo-manage lab exec web1              # a shell
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("vm", help="name of the VM")
        parser.add_argument("argv", nargs="*", metavar="-- PROGRAM", help="default: a shell")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        from cnsmo.lab.lab import Lab

        vm = Lab.load(self.directory(parsed_args)).vm(parsed_args.vm)
        command = [*vm.system().enter, *(parsed_args.argv or ["sh", "-i"])]
        self.app.stdout.flush()
        os.execvp(command[0], command)  # nosec B606: a list, and what was asked for


class Down(LabCommand):
    """Take a lab down: no namespace, interface, process or file is left."""

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        from cnsmo.lab.lab import Lab
        from cnsmo.lab.remote import RemoteHub

        directory = self.directory(parsed_args)
        RemoteHub(directory).kill()
        Lab(directory).down()
        self.say(f"Lab {directory.name} is down.")
        return 0


def standing_hub(env: Mapping[str, str]) -> RemoteHub | None:
    """The hub of the lab that $CNSMO_LAB names, or of the only one that is up.

    None where a broker is configured: then commands are for the core behind it.
    """
    from cnsmo.lab.lab import Lab, labs
    from cnsmo.lab.remote import RemoteHub

    named = env.get("CNSMO_LAB", "")
    labs_up = [Lab(_path(named))] if named else labs()
    hubs = [RemoteHub(lab.directory) for lab in labs_up]
    running = [hub for hub in hubs if hub.process is not None]
    if not running:
        return None
    from cnsmo.bus import transport
    from cnsmo.manage.session import Session

    if not transport.is_in_process(Session((), embed=False).conf):
        return None
    if len(running) > 1:
        names = ", ".join(hub.directory.name for hub in running)
        raise InvalidRequest(f"which lab? There are {names}: say it with export CNSMO_LAB=NAME")
    return running[0]


def _path(name: str) -> Path:
    from cnsmo.lab import place

    return Path(name) if "/" in name else place.default_directory(name)


def become_root_of_something() -> None:
    """Go on as root: who is not moves into a user namespace, where the machine allows it."""
    from cnsmo.lab import rootless

    if os.geteuid() != 0 and rootless.keeper() is None:
        rootless.reexec_in_user_namespace([sys.executable, *sys.orig_argv[1:]])


def example(name: str) -> Path:
    """An example document: of the source tree, or as installed.

    :raises NotFound: when the installation has none.
    """
    for base in (Path(__file__).parents[2], Path(sys.prefix, "share", "cnsmo")):
        path = base / "examples" / name
        if path.exists():
            return path
    raise NotFound(f"the example {name} is not installed: name a document with --document")
