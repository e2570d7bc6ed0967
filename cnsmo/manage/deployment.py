# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage deployment: the units of tenancy."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from cnsmo.manage.cells import Cell, Moment
from cnsmo.manage.command import Command, ListCommand, ShowCommand
from cnsmo.model.errors import Conflict, InvalidRequest

Named = tuple[tuple[str, ...], tuple[Any, ...]]
_COLUMNS = "Name", "Revision", "Hosts", "Services", "Created"


class Create(Command):
    """Make an empty deployment.

    Next: 'token create' for its VMs, and 'apply' for its services.
    """

    writes = True
    examples = """
cnsmo-manage deployment create shop
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="1 to 63 of a-z, 0-9 and '-'")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from cnsmo.model.names import check_label

        name = parsed_args.name
        try:
            check_label(name)
        except ValueError as exc:
            raise InvalidRequest(str(exc)) from exc
        if parsed_args.dry_run:
            if name in {found.name for found in self.session.client.deployment_list()}:
                raise Conflict(f"a deployment {name!r} exists already")
            self.dry(f"make the deployment {name}")
            return
        self.session.client.deployment_create(name)
        self.say(f"Deployment {name} made.")


class List(ListCommand):
    """List all deployments."""

    examples = """
cnsmo-manage deployment list
cnsmo-manage deployment list -f value -c name
"""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Any]]:
        rows = [
            (found.name, found.revision, found.hosts, found.services, Moment(found.created_at))
            for found in self.session.client.deployment_list()
        ]
        return _COLUMNS, rows

    def empty(self, args: argparse.Namespace) -> str:
        return "There is no deployment yet: 'cnsmo-manage deployment create NAME' makes one."


class Show(ShowCommand):
    """Show one deployment: its revision, in which states its agents are, and how many are late.

    'Core suspects itself since': so many hosts are silent at once that it is rather the core, the
    broker or the network. As long as that lasts, no host is said to be down.
    """

    examples = """
cnsmo-manage deployment show shop
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_name(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Named:
        name = self.deployment(parsed_args)
        client = self.session.client
        found = client.deployment_show(name)
        agents = [agent for host in client.host_list(name) for agent in host.agents]
        states = Counter(str(agent.state) for agent in agents)
        behind = sum(agent.applied_revision < found.revision for agent in agents)
        late = sum(agent.late for agent in agents)
        columns = (
            *_COLUMNS,
            "Agents",
            "Agents behind",
            "Agents late",
            "Core suspects itself since",
        )
        return columns, (
            found.name,
            found.revision,
            found.hosts,
            found.services,
            Moment(found.created_at),
            _Counts(dict(sorted(states.items()))),
            behind,
            late,
            Moment(found.suspected_since),
        )


class Delete(Command):
    """Delete a deployment that has no hosts any more.

    Remove its hosts first ('host remove'): they take their services down when they learn of it.
    """

    writes = True
    examples = """
cnsmo-manage deployment delete shop --dry-run
cnsmo-manage deployment delete shop
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="the deployment")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        name, client = parsed_args.name, self.session.client
        if parsed_args.dry_run:
            found = client.deployment_show(name)
            if found.hosts:
                raise Conflict(
                    f"deployment {name!r} still has {found.hosts} hosts: remove them first "
                    "('cnsmo-manage host remove')"
                )
            self.dry(f"delete the deployment {name} and its {found.services} declared services")
            return
        client.deployment_delete(name)
        self.say(f"Deployment {name} deleted.")


class Export(Command):
    """Print the document that is in force, ready for 'apply'.

    Values that equal a default are left out.
    """

    examples = """
cnsmo-manage deployment export shop > shop.yaml
cnsmo-manage deployment export shop | cnsmo-manage plan -    # no changes
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_name(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        text = self.session.client.deployment_export(self.deployment(parsed_args))
        self.app.stdout.write(text)


class _Counts(Cell):
    def human_readable(self) -> str:
        return ", ".join(f"{count} {state}" for state, count in self._value.items()) or "none"


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "deployment",
        nargs="?",
        metavar="NAME",
        help="the deployment; default: $CNSMO_DEPLOYMENT, or the only one that there is",
    )
